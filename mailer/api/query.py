"""Query strings, read strictly: whole numbers are ASCII digits, nothing is given twice, nothing
unknown is overlooked. All faults are named at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from mailer.api import addresses
from mailer.errors import Fault, InvalidRequest

E = TypeVar("E", bound=StrEnum)


class Query:
    """The parameters of one request; call `end` when all have been taken."""

    def __init__(self, query_string: str, known: Collection[str], *, strict: bool = True) -> None:
        """With `strict` unknown parameters are faults."""
        self._values: dict[str, str] = {}
        self._faults: list[Fault] = []
        for pair in filter(None, query_string.split("&")):
            name, _, value = pair.partition("=")
            self._take(name, value, known, strict)

    def _take(self, name: str, value: str, known: Collection[str], strict: bool) -> None:
        try:
            name, value = _decoded(name), _decoded(value)
        except UnicodeDecodeError:
            self._fault(name[:80], "parameter_invalid", "not UTF-8")
            return
        if name not in known:
            if strict:
                there_are = f"there is: {', '.join(known)}" if known else "there are none here"
                self._fault(name[:80], "parameter_unknown", there_are)
        elif name in self._values:
            self._fault(name, "parameter_twice", "is given twice")
        else:
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """None when absent or empty."""
        return self._values.get(name) or None

    def given(self, name: str) -> str | None:
        """None when absent; an empty one is an answer too."""
        return self._values.get(name)

    def address(self, name: str, *, required: bool = False) -> str | None:
        """A mail address, as it is stored."""
        value = self.text(name)
        if value is None:
            if required:
                self._fault(name, "missing", "is required")
            return None
        try:
            return addresses.normalized(value)
        except addresses.AddressError as error:
            self._fault(name, error.code, str(error))
            return None

    def integer(self, name: str, low: int, high: int, default: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", value, re.ASCII) or not low <= int(value) <= high:
            self._fault(name, "parameter_invalid", f"a whole number, {low} to {high}")
            return default
        return int(value)

    def choice(self, name: str, kind: type[E]) -> E | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return kind(value)
        except ValueError:
            self._fault(name, "parameter_invalid", f"one of: {', '.join(kind)}")
            return None

    def end(self) -> None:
        """Raises InvalidRequest with all faults."""
        if self._faults:
            raise InvalidRequest(self._faults)

    def _fault(self, path: str, code: str, message: str) -> None:
        self._faults.append(Fault(path, code, message))


def _decoded(part: str) -> str:
    return unquote_to_bytes(part.replace("+", " ")).decode()
