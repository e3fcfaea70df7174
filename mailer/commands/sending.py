"""Sending from a shell: a token to call the API with, and a file of recipients posted to it.

`send` may be stopped, killed and repeated: each request carries an idempotency key, so that the
API answers a repeated one as it did the first time and sends nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mailer.clock import SystemClock
from mailer.commands import recipients as csv_file
from mailer.commands.client import Api
from mailer.endpoints import Scope
from mailer.errors import ApiError, SettingFault, SettingsError
from mailer.settings import Settings

MAILS_PER_REQUEST: Final = 1_000
"""The API takes 10,000; smaller requests show progress and repeat less."""
OWN_TOKEN_LIFETIME_S: Final = 3600

_SECONDS_IN: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


class Lifetime(click.ParamType[int]):
    """A length of time with its unit, as 30d; seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,7})([smhd])", str(value))
        if not match:
            self.fail("must be a number with a unit: 90s, 15m, 12h or 30d", param, ctx)
        return int(match[1]) * _SECONDS_IN[match[2]]


@click.command(
    epilog="\b\nExample:\n"
    "  TOKEN=$(mailer token --subject newsletter --scope send --scope read --lifetime 30d)"
)
@click.option("--subject", required=True, help="Whom the token is for; stands in logs.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows; repeat for several. Without it: everything.",
)
@click.option("--lifetime", type=Lifetime(), default="30d", show_default=True, help="How long.")
@click.pass_obj
def token(
    load: Callable[[], Settings], /, subject: str, scopes: tuple[str, ...], lifetime: int
) -> None:
    """Make a token for a caller of the API.

    It is signed with JWT_SECRET, and only the token is printed.
    """
    click.echo(_mint(load(), subject, scopes, lifetime))


@click.command(
    epilog="\b\nExample:\n"
    '  mailer send people.csv news.html --subject "News" --topic news/2030-01 --text news.txt'
)
@click.argument("csv", type=_FILE)
@click.argument("html", type=_FILE)
@click.option("--subject", required=True, help="The mails' subject.")
@click.option("--text", type=_FILE, help="A file with the plain-text form.")
@click.option("--topic", help="The topic_id: counters, pause and cancel go by it.")
@click.option("--from", "from_", help="The sender; FROM_EMAIL when not given.")
@click.option("--reply-to", help="Where answers go.")
@click.option("--at", help="When, as 2030-01-31T09:00:00+01:00; now when not given.")
@click.option(
    "--on-error",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="What a wrong address does: refuse its whole request, or be left out.",
)
@click.option("--key", help="Names this campaign; with another key the same mails go out again.")
@click.option("--url", help="The API; SERVER_URL, else this machine, when not given.")
@click.option(
    "--token",
    "bearer",
    envvar="MAILER_TOKEN",
    show_envvar=True,
    help="Made by `mailer token`. Not needed where JWT_SECRET or API_KEY is set.",
)
@click.option(
    "--patience",
    type=Lifetime(),
    default="60s",
    show_default=True,
    help="How long to try when the API does not answer, or is full.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def send(
    load: Callable[[], Settings],
    /,
    csv: Path,
    key: str | None,
    url: str | None,
    bearer: str | None,
    patience: int,
    as_json: bool,
    **content: Any,
) -> None:
    """Post the HTML file to every recipient in the CSV file.

    The CSV's first line names its columns: email, perhaps name, and any others. Where there are
    others, {{ column }} in subject, HTML and text is filled in for each recipient; without them
    the files go out byte for byte.

    Repeating the same command within 48 hours sends nothing twice: what was accepted is not
    accepted again, what was not is. To send the same mails to the same people again, give another
    --key.
    """
    addressed = csv_file.read(csv)
    request = _request(**content)
    if not addressed.has_data and "{{" in json.dumps(request):
        text = f"Note: {csv} has no columns beside email and name, so {{{{ … }}}} is sent as it is."
        click.echo(text, err=True)
    parts = list(_parts(addressed.rows, request, key))
    sent = _Sent(addressed.duplicates)
    api = own_api(load(), url, bearer)
    with _progress() as progress:
        bar = progress.add_task("accepted", total=len(addressed.rows))
        for number, part in enumerate(parts, 1):
            try:
                answer = api.post_messages(
                    part.body, part.key, patience_s=patience, waiting=progress.console.print
                )
                sent.add(answer.json(), replayed="idempotency-replayed" in answer.headers)
            except ApiError as error:
                raise ApiError(_stopped(error, number, len(parts), part, sent)) from error
            progress.advance(bar, len(part.rows))
    click.echo(json.dumps(sent.as_json()) if as_json else sent.sentence())


@dataclass(frozen=True, slots=True)
class _Part:
    """One request: its rows, its body, and the key under which it may be repeated."""

    rows: Sequence[csv_file.Row]
    body: bytes
    key: str


class _Sent:
    """What the answers add up to."""

    def __init__(self, duplicates: int) -> None:
        self.accepted = 0
        self._accepted_before = 0
        self._left_out = 0
        self._duplicates = duplicates
        self._batch_ids: list[str] = []

    def add(self, answer: Any, *, replayed: bool) -> None:
        """Raises ApiError when it is not what mailer answers."""
        try:
            self._add(answer, replayed=replayed)
        except (KeyError, TypeError):
            raise ApiError("the answer is not that of mailer's API") from None

    def _add(self, answer: Any, *, replayed: bool) -> None:
        self.accepted += answer["success"]
        self._accepted_before += answer["success"] if replayed else 0
        self._left_out += answer["errors"]
        self._duplicates += answer["duplicates"]
        self._batch_ids.append(answer["batch_id"])

    def as_json(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "accepted_before": self._accepted_before,
            "left_out": self._left_out,
            "duplicates": self._duplicates,
            "batch_ids": self._batch_ids,
        }

    def sentence(self) -> str:
        parts = [f"{self.accepted} mails accepted"]
        if self._accepted_before:
            parts.append(f"{self._accepted_before} of them by an earlier run")
        if self._left_out:
            parts.append(f"{self._left_out} wrong addresses left out")
        if self._duplicates:
            parts.append(f"{self._duplicates} duplicates left out")
        return ", ".join(parts)


def _request(
    *,
    html: Path,
    text: Path | None,
    subject: str,
    topic: str | None,
    from_: str | None,
    reply_to: str | None,
    at: str | None,
    on_error: str,
) -> dict[str, Any]:
    """All of a request but its recipients. Always bulk, also a last part with one recipient."""
    message = {
        "subject": subject,
        "content": _read(html),
        "text": _read(text) if text else None,
        "topic_id": topic,
        "from": from_,
        "reply_to": reply_to,
        "lane": "bulk",
    }
    message = {name: value for name, value in message.items() if value is not None}
    when = {"scheduled_at": at} if at else {}
    return {"messages": [message], "on_error": on_error, **when}


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path} is not UTF-8: {error.reason}") from error


def _parts(
    rows: Sequence[csv_file.Row], request: dict[str, Any], key: str | None
) -> Iterator[_Part]:
    """Cut the list into requests, each with its idempotency key.

    Without --key it is the hash of the request itself, so that later rows can be put right and
    the command repeated; with it, it is the key and the request's number, and the API refuses a
    request that has changed since it was accepted.
    """
    (message,) = request["messages"]
    for number, start in enumerate(range(0, len(rows), MAILS_PER_REQUEST)):
        part = rows[start : start + MAILS_PER_REQUEST]
        addressed = {**message, "recipients": [row.recipient for row in part]}
        body = json.dumps({**request, "messages": [addressed]}, sort_keys=True).encode()
        yield _Part(part, body, f"{key}-{number}" if key else hashlib.sha256(body).hexdigest())


def _stopped(error: ApiError, number: int, count: int, part: _Part, sent: _Sent) -> str:
    """What to do about a request that failed; its faults are told by lines of the file."""

    def line_of(match: re.Match[str]) -> str:
        index = int(match[1])
        return f"line {part.rows[index].line}" if index < len(part.rows) else match[0]

    told = re.sub(r"messages\[0\]\.recipients\[(\d+)\]", line_of, str(error))
    sentences = [told, f"Stopped at request {number} of {count}; {sent.accepted} mails accepted."]
    if number > 1:
        sentences.append(
            f"Leave the file's lines before {part.rows[0].line} as they are and repeat the"
            " command: it goes on where it stopped."
        )
    return "\n".join(sentences)


def own_api(settings: Settings, url: str | None = None, bearer: str | None = None) -> Api:
    """Mailer's API, with a token or key that its settings give."""
    base_url = url or settings.public_url
    if not re.match(r"https?://[^/]+", base_url):
        raise click.BadParameter("must begin with http:// or https://", param_hint="--url")
    if bearer is None and settings.jwt_secret:
        bearer = _mint(settings, "mailer", (Scope.SEND, Scope.READ), OWN_TOKEN_LIFETIME_S)
    return Api(base_url, bearer, settings.api_key)


def _mint(settings: Settings, subject: str, scopes: Sequence[str], lifetime_s: int) -> str:
    if settings.jwt_secret is None:
        problem = "not set, so no token can be signed"
        accepted = "a secret, as `openssl rand -base64 48` makes one"
        raise SettingsError([SettingFault("JWT_SECRET", problem, accepted)])
    import jwt  # no process that runs needs it

    now_s = SystemClock().wall_ms() // 1000
    claims: dict[str, Any] = {"sub": subject, "iat": now_s, "exp": now_s + lifetime_s}
    if scopes:
        claims["scope"] = " ".join(scopes)
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")


def _progress() -> Progress:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
