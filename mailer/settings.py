"""Everything that can be configured: one frozen value, made from the environment and `.env`.

The only place that knows names of variables. `load` checks all of them and reports every fault
at once; each field carries its documentation, which README, `mailer config` and tests read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dotenv import dotenv_values
from email_validator import EmailNotValidError, validate_email

from mailer.errors import SettingFault, SettingsError
from mailer.vocabulary import UncertainPolicy

JWT_SECRET_MIN_BYTES: Final = 32
SES_VARIABLE: Final = "AWS_SES_FROM_EMAIL"


@dataclass(frozen=True, slots=True)
class Variable:
    """How one setting is named, read and explained."""

    names: tuple[str, ...]
    parse: Callable[[str], Any]
    accepted: str
    doc: str
    secret: bool


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _database_path(value: str) -> Path:
    prefix, sep, path = value.partition("://")
    if prefix != "sqlite" or not sep or path in {"", "/"} or path.startswith(":memory"):
        raise ValueError("not a SQLite URL")
    return Path("/" + path.lstrip("/") if path.startswith("/") else path)


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not low <= int(value) <= high:
            raise ValueError(f"not a whole number from {low} to {high}")
        return int(value)

    return parse


def _rate(value: str) -> float | None:
    if value == "unlimited":
        return None
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", value) or float(value) <= 0:
        raise ValueError("not a rate")
    return float(value)


def _share(value: str) -> float:
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", value)
    if not match or float(match[1]) > 100:
        raise ValueError("not a percentage")
    return float(match[1]) / 100


_SECONDS_IN: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration_s(value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd]?)", value)
    if not match:
        raise ValueError("not a length of time")
    return int(match[1]) * _SECONDS_IN[match[2]]


def _switch(value: str) -> bool:
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("neither on nor off")


def _bind(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host:
        raise ValueError("not host:port")
    address = ip_address(host.removeprefix("[").removesuffix("]"))
    return str(address), _integer(1, 65535)(port)


def _topic_arns(value: str) -> tuple[str, ...]:
    arns = tuple(arn.strip() for arn in value.split(",") if arn.strip())
    if not all(
        re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[\w.-]{1,256}", a) for a in arns
    ):
        raise ValueError("not a list of SNS topic ARNs")
    return arns


def _secret_key(value: str) -> str:
    if len(value.encode()) < JWT_SECRET_MIN_BYTES:
        raise ValueError(
            f"{len(value.encode())} bytes long, too short to be safe; make one with"
            " `openssl rand -base64 48`"
        )
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not a base URL")
    return value.rstrip("/")


def _smtp_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in {"smtp", "smtps"} and parts.hostname and parts.port != 0
    except ValueError:
        whole = False  # the library's own words would quote the password
    if not whole:
        raise ValueError("not an SMTP URL")
    return value


def _mail_address(value: str) -> str:
    name, bracket, address = value.rpartition("<")
    if bracket:
        address = address.removesuffix(">")
    if re.search(r"[\x00-\x1f\x7f<>]", name + address):
        raise ValueError("not a mail address")
    try:
        checked = validate_email(
            address.strip(), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if checked.ascii_email is None:
        raise ValueError("not an address that every server takes: it is not ASCII before the @")
    return f"{name.strip()} <{checked.ascii_email}>" if bracket else checked.ascii_email


def _log_level(value: str) -> str:
    if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("not a level")
    return value.upper()


def _one_of(kind: type[UncertainPolicy]) -> Callable[[str], UncertainPolicy]:
    return lambda value: kind(value)


def _setting(
    *names: str,
    parse: Callable[[str], Any],
    accepted: str,
    doc: str,
    default: Any = MISSING,
    secret: bool = False,
) -> Any:
    variable = Variable(names, parse, accepted, doc, secret)
    return field(default=default, metadata={"variable": variable})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one installation is told. Absent variables have the defaults given here."""

    database_path: Path = _setting(
        "DATABASE_URL",
        default=Path("sqlite3.db"),
        parse=_database_path,
        accepted="sqlite://file.db (relative to the working directory) or sqlite:///abs/file.db",
        doc="The one file of state. Its directory must be on a local disk.",
    )
    server_port: int = _setting(
        "SERVER_PORT",
        default=3000,
        parse=_integer(1, 65535),
        accepted="a port, 1 to 65535",
        doc="The port of the API.",
    )
    bind: tuple[str, int] | None = _setting(
        "BIND",
        default=None,
        parse=_bind,
        accepted="address:port, as 127.0.0.1:3000 or [::1]:3000",
        doc="Where the API listens; 127.0.0.1 and SERVER_PORT when unset.",
    )
    server_url: str | None = _setting(
        "SERVER_URL",
        default=None,
        parse=_base_url,
        accepted="http://host or https://host, with a path if need be",
        doc="The public base of links in mails: pixel, clicks, unsubscribe."
        " When unset, http://127.0.0.1:SERVER_PORT.",
    )
    api_workers: int = _setting(
        "API_WORKERS",
        default=2,
        parse=_integer(1, 64),
        accepted="1 to 64",
        doc="API processes.",
    )
    senders: int = _setting(
        "SENDERS", default=2, parse=_integer(1, 32), accepted="1 to 32", doc="Sender processes."
    )
    jwt_secret: str | None = _setting(
        "JWT_SECRET",
        default=None,
        secret=True,
        parse=_secret_key,
        accepted=f"at least {JWT_SECRET_MIN_BYTES} bytes",
        doc="Key of the HS256 tokens callers send as `Authorization: Bearer`;"
        " `mailer token` makes them.",
    )
    api_key: str | None = _setting(
        "API_KEY",
        default=None,
        secret=True,
        parse=_secret_key,
        accepted=f"at least {JWT_SECRET_MIN_BYTES} bytes",
        doc="A key callers may send as `X-API-KEY` instead of a token.",
    )
    allow_unauthenticated: bool = _setting(
        "ALLOW_UNAUTHENTICATED",
        default=False,
        parse=_switch,
        accepted="1 or 0",
        doc="With neither JWT_SECRET nor API_KEY set, serve others than this machine too.",
    )
    transport: str | None = _setting(
        "TRANSPORT",
        default=None,
        parse=_text,
        accepted="the name of a transport: maildir, smtp, ses, or a plugin's",
        doc="How mail leaves. When unset: ses if AWS_SES_FROM_EMAIL is set, else maildir,"
        " which keeps everything on this machine.",
    )
    maildir_path: Path = _setting(
        "MAILDIR_PATH",
        default=Path("maildir"),
        parse=_path,
        accepted="a directory",
        doc="Where the maildir transport puts mail.",
    )
    smtp_url: str | None = _setting(
        "SMTP_URL",
        default=None,
        secret=True,
        parse=_smtp_url,
        accepted="smtp://[user:password@]host[:port] (STARTTLS) or smtps://… (TLS);"
        " ?starttls=off (a server on this machine only), ?cafile=PATH, ?ehlo=NAME, ?timeout_s=N",
        doc="The server the smtp transport hands mail to.",
    )
    from_email: str | None = _setting(
        "FROM_EMAIL",
        SES_VARIABLE,
        default=None,
        parse=_mail_address,
        accepted="address@domain or Name <address@domain>",
        doc="The From of mails that name none.",
    )
    max_send_per_second: float | None = _setting(
        "MAX_SEND_PER_SECOND",
        default=12.0,
        parse=_rate,
        accepted="a number above 0, or unlimited",
        doc="Recipients handed over in any one second, over all senders."
        " The provider's own limit holds where it is lower.",
    )
    interactive_reserve: float = _setting(
        "INTERACTIVE_RESERVE",
        default=0.05,
        parse=_share,
        accepted="a percentage, as 5%",
        doc="The share of the provider's 24-hour quota that bulk mail leaves for interactive mail.",
    )
    max_body_bytes: int = _setting(
        "MAX_BODY_BYTES",
        default=25_000_000,
        parse=_integer(1_000, 1_000_000_000),
        accepted="1000 to 1000000000",
        doc="The largest request body.",
    )
    max_queued: int = _setting(
        "MAX_QUEUED",
        default=5_000_000,
        parse=_integer(1, 10**12),
        accepted="a whole number above 0",
        doc="Above so many waiting mails the API answers 429.",
    )
    max_age_s: int = _setting(
        "MAX_AGE",
        default=48 * 3600,
        parse=_duration_s,
        accepted="a length of time, as 48h, 90m, 2d",
        doc="How long after it was due a deferred mail is tried.",
    )
    uncertain_grace_s: int = _setting(
        "UNCERTAIN_GRACE_S",
        default=900,
        parse=_integer(0, 7 * 86400),
        accepted="0 to 604800",
        doc="How long an uncertain mail waits for the provider's word before the policy decides.",
    )
    uncertain_policy: UncertainPolicy = _setting(
        "UNCERTAIN_POLICY",
        default=UncertainPolicy.RESEND,
        parse=_one_of(UncertainPolicy),
        accepted="resend or give_up",
        doc="What becomes of a mail of which nobody knows whether the transport took it.",
    )
    retention_days: int = _setting(
        "RETENTION_DAYS",
        default=30,
        parse=_integer(1, 3650),
        accepted="1 to 3650",
        doc="How long finished mails and their events are kept.",
    )
    track_opens: bool = _setting(
        "TRACK_OPENS",
        default=True,
        parse=_switch,
        accepted="1 or 0",
        doc="Put the open pixel at the end of HTML bodies; a message's `track_opens` overrides it.",
    )
    plugin_memory_mb: int = _setting(
        "PLUGIN_MEMORY_MB",
        default=512,
        parse=_integer(64, 1_000_000),
        accepted="64 to 1000000",
        doc="Memory (MiB) that each process of a plugin may take: event plugins and workers.",
    )
    log_level: str = _setting(
        "LOG_LEVEL",
        default="INFO",
        parse=_log_level,
        accepted="DEBUG, INFO, WARNING or ERROR",
        doc="What is logged. Addresses appear at DEBUG only.",
    )
    sentry_dsn: str | None = _setting(
        "SENTRY_DSN",
        default=None,
        secret=True,
        parse=_text,
        accepted="a Sentry DSN",
        doc="Where errors of every process are reported, without mail data.",
    )
    aws_region: str | None = _setting(
        "AWS_REGION",
        default=None,
        parse=_text,
        accepted="a region, as eu-central-1",
        doc="For the ses transport.",
    )
    aws_access_key_id: str | None = _setting(
        "AWS_ACCESS_KEY_ID",
        default=None,
        secret=True,
        parse=_text,
        accepted="an access key id",
        doc="For the ses transport.",
    )
    aws_secret_access_key: str | None = _setting(
        "AWS_SECRET_ACCESS_KEY",
        default=None,
        secret=True,
        parse=_text,
        accepted="a secret access key",
        doc="For the ses transport.",
    )
    ses_configuration_set: str | None = _setting(
        "SES_CONFIGURATION_SET",
        default=None,
        parse=_text,
        accepted="the name of a configuration set",
        doc="For the ses transport: the set that publishes its events.",
    )
    ses_bulk: bool = _setting(
        "SES_BULK",
        default=True,
        parse=_switch,
        accepted="1 or 0",
        doc="For the ses transport: send up to 50 mails in one call where their content allows.",
    )
    sns_topic_arns: tuple[str, ...] = _setting(
        "SNS_TOPIC_ARNS",
        default=(),
        parse=_topic_arns,
        accepted="arn:aws:sns:REGION:ACCOUNT:NAME, several separated by commas",
        doc="The SNS topics by which SES tells what became of mail; no other is believed.",
    )
    sns_cert_dir: Path | None = _setting(
        "SNS_CERT_DIR",
        default=None,
        parse=_path,
        accepted="a directory of PEM files",
        doc="Certificates to check SNS messages with, instead of those fetched from AWS:"
        " for tests and closed networks.",
    )
    asks_for_ses: bool = False
    """AWS_SES_FROM_EMAIL is set, by which the reference's clients choose SES."""
    chosen_because: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Field name → where its value came from; for `mailer config`."""

    @property
    def transport_name(self) -> str:
        """The transport of mails that name none."""
        return self.transport or ("ses" if self.asks_for_ses else "maildir")

    @property
    def listen(self) -> tuple[str, int]:
        return self.bind or ("127.0.0.1", self.server_port)

    @property
    def public_url(self) -> str:
        return self.server_url or f"http://127.0.0.1:{self.listen[1]}"

    @property
    def authenticates(self) -> bool:
        return bool(self.jwt_secret or self.api_key)

    @property
    def default_from(self) -> str:
        return self.from_email or "mailer@localhost.localdomain"


def variables() -> dict[str, Variable]:
    """Field name → its variable, in the order of the documentation."""
    return {f.name: f.metadata["variable"] for f in fields(Settings) if "variable" in f.metadata}


def load(environ: Mapping[str, str], dotenv_path: Path | None = None) -> Settings:
    """Read and check all settings. The environment wins over `.env`; empty means unset.

    Raises SettingsError naming every fault.
    """
    in_file = _dotenv(dotenv_path)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults: list[SettingFault] = []
    for field_name, variable in variables().items():
        for source, place in ((environ, "environment"), (in_file, str(dotenv_path))):
            name = next((n for n in variable.names if source.get(n)), None)
            if name is None or field_name in origins:
                continue
            origins[field_name] = f"{name} in {place}"
            try:
                values[field_name] = variable.parse((source[name] or "").strip())
            except ValueError as error:
                faults.append(SettingFault(name, _problem(variable, error), variable.accepted))
    if faults:
        raise SettingsError(faults)
    asks_for_ses = bool(environ.get(SES_VARIABLE) or in_file.get(SES_VARIABLE))
    return Settings(**values, asks_for_ses=asks_for_ses, chosen_because=origins)


def _dotenv(path: Path | None) -> Mapping[str, str | None]:
    if path is None or not path.is_file():
        return {}
    try:
        return dotenv_values(path, interpolate=False)  # a secret may well hold ${
    except (OSError, UnicodeDecodeError) as error:
        fault = SettingFault(str(path), f"can't be read: {error}", "UTF-8 lines NAME=value")
        raise SettingsError([fault]) from None


def _problem(variable: Variable, error: ValueError) -> str:
    return f"its value is {error}" if variable.secret else f"{error}"
