"""Fills `{{ name }}` in subject, HTML and text from a recipient's own data, and nothing else.

The language is Jinja2's, cut down to what writes letters: values, a few filters, `if` and `for`.
No calls, no arithmetic, no assignments, no Python attributes: a name is looked up in the data.
So a rendering's work is bounded by the template's length, a budget of loop turns and the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any, Final

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailer.errors import MailerError
from mailer.mail import Content, Recipient

MAX_TOKENS: Final = 2_000
"""Longest template, in Jinja2 tokens; plain text between tags counts as one."""
MAX_LOOP_TURNS: Final = 1_000
"""Turns of all `for` loops of one rendering together."""
MAX_RENDERED_CHARS: Final = 10_000_000
MAX_SUBJECT_BYTES: Final = 998

FILTERS: Final = frozenset(
    {
        "capitalize", "d", "default", "e", "escape", "first", "float", "int", "last", "length",
        "lower", "safe", "string", "title", "trim", "truncate", "upper", "urlencode",
    }
)  # fmt: skip
"""Those whose output can't be much longer than their input: neither replace, join nor center."""
TESTS: Final = frozenset(
    {
        "defined", "undefined", "none", "true", "false", "string", "number", "mapping", "sequence",
    }
)  # fmt: skip

_ALLOWED: Final = (
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Filter,
    nodes.Test,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Keyword,
)
_TURNS: Final = "loop turns"
"""Where a rendering's budget stands in its context; a template can't spell it."""


class FillError(MailerError):
    """A template can't be filled in; `code` says which kind of fault this is:

    template_invalid, template_undefined, template_failed, template_too_long, subject_invalid.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class TemplateFault:
    """Why a template can't be filled for a recipient; `recipient` is None: for nobody."""

    recipient: int | None
    part: str
    """`subject`, `html` or `text`."""
    code: str
    message: str


def fill(source: str, data: Mapping[str, Any] | None, *, html: bool = False) -> str:
    """Render one part for one recipient; in HTML values are escaped.

    Values that are null are written as nothing, line ends as LF. Raises FillError.
    """
    pieces, length = [], 0
    for piece in _rendered(compiled(source, html), {**(data or {}), _TURNS: count(1)}):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_RENDERED_CHARS:
            raise FillError(
                "template_too_long", f"is over {MAX_RENDERED_CHARS} characters when filled in"
            )
    return "".join(pieces)


def fill_subject(source: str, data: Mapping[str, Any] | None) -> str:
    """Render a subject. Raises FillError, also for what no subject can hold."""
    subject = fill(source, data)
    if any(char in subject for char in "\r\n\0"):
        raise FillError("subject_invalid", "has a line break or NUL when filled in")
    if len(subject.encode()) > MAX_SUBJECT_BYTES:
        raise FillError("subject_invalid", f"is over {MAX_SUBJECT_BYTES} bytes when filled in")
    return subject


def faults(content: Content, recipients: Sequence[Recipient]) -> Iterator[TemplateFault]:
    """Fill in every part for every recipient, and tell what can't be. For acceptance."""
    parts = (("subject", content.subject), ("html", content.html), ("text", content.text))
    usable = []
    for part, source in parts:
        if source is None:
            continue
        try:
            compiled(source, part == "html")
            usable.append((part, source))
        except FillError as failed:
            yield TemplateFault(None, part, failed.code, f"the {part} {failed}")
    for index, recipient in enumerate(recipients):
        for part, source in usable:
            try:
                if part == "subject":
                    fill_subject(source, recipient.data)
                else:
                    fill(source, recipient.data, html=part == "html")
            except FillError as failed:
                yield TemplateFault(index, part, failed.code, f"the {part} {failed}")


@lru_cache(maxsize=24)
def compiled(source: str, html: bool) -> Template:
    """Check and compile. Raises FillError when it is no template, or not an allowed one."""
    environment = _HTML if html else _PLAIN
    try:
        _check_length(environment.lex(source))
        tree = environment.parse(source)
        for node in list(tree.find_all(nodes.Node)):
            _check(node)
            if isinstance(node, nodes.For):
                node.iter = nodes.Filter(node.iter, "counted", [], [], None, None)
        return environment.from_string(tree)
    except TemplateError as error:
        message = f"is no template: {error.message}"
        if isinstance(error, TemplateSyntaxError):
            message += f" (line {error.lineno})"
        raise FillError("template_invalid", message) from None
    except FillError:
        raise
    except Exception:  # Python's compiler has its own limits, and many ways to say so
        message = "is no template: nested too deeply, or with too long a number"
        raise FillError("template_invalid", message) from None


def _rendered(template: Template, values: Mapping[str, Any]) -> Iterator[str]:
    try:
        yield from template.generate(values)
    except FillError:
        raise
    except UndefinedError as error:
        raise FillError("template_undefined", f"needs what isn't there: {error}") from None
    except Exception as error:  # filters raise what they like, AssertionError included
        raise FillError("template_failed", f"can't be filled in: {error}") from None


def _check_length(tokens: Iterator[tuple[int, str, str]]) -> None:
    """The lexer is lazy: what is too long is found out before it costs anything."""
    if next(islice(tokens, MAX_TOKENS, None), None):
        raise FillError("template_invalid", f"has more than {MAX_TOKENS} tokens")


def _check(node: nodes.Node) -> None:
    if not isinstance(node, _ALLOWED):
        raise FillError(
            "template_invalid",
            f"uses {type(node).__name__.lower()} (line {node.lineno}), which mail templates don't"
            " have: only values, filters, if and for",
        )
    if isinstance(node, nodes.Filter) and node.name not in FILTERS:
        raise FillError("template_invalid", f"uses the filter {node.name}, which isn't there")
    if isinstance(node, nodes.Test) and node.name not in TESTS:
        raise FillError("template_invalid", f"uses the test {node.name}, which isn't there")
    if isinstance(node, nodes.Name) and node.name == "self":
        raise FillError("template_invalid", "uses the name self, which Jinja2 keeps for itself")
    if isinstance(node, nodes.For) and node.recursive:
        raise FillError("template_invalid", "has a recursive loop")


class _DataOnly(ImmutableSandboxedEnvironment):
    """`a.b` and `a['b']` both mean the entry `b` of `a`: no attribute of Python's is in reach."""

    def getattr(self, obj: object, attribute: str) -> object:
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: object, argument: object) -> object:
        try:
            return obj[argument]  # type: ignore[index]
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=str(argument))


@pass_context
def _counted(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    turns = context[_TURNS]
    for item in items:
        if next(turns) > MAX_LOOP_TURNS:
            raise FillError("template_too_long", f"loops more than {MAX_LOOP_TURNS} times")
        yield item


def _environment(autoescape: bool) -> _DataOnly:
    environment = _DataOnly(
        autoescape=autoescape,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
    environment.globals.clear()
    environment.filters["counted"] = _counted
    return environment


_HTML: Final = _environment(autoescape=True)
_PLAIN: Final = _environment(autoescape=False)
