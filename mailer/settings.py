"""Everything that can be configured: one frozen value, made from the environment, from systemd's
credentials and `.env`.

Here stand mailer's own variables; each plugin declares its own, which come along in `of`. `load`
checks all of them and reports every fault at once; each field carries its documentation, which
README, `mailer config` and tests read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from mailer.errors import PluginError
from mailer.limits import ACCEPTED_LIMITS, Limits, parse_limits
from mailer.routing import Route, Routes, Ways, route, routes
from mailer.variables import (
    SECRET,
    Variable,
    address_and_port,
    base_url,
    duration_s,
    log_level,
    mail_address,
    network,
    number,
    one_of,
    rate,
    read_all,
    secret_key,
    setting,
    several,
    share,
    sources,
    sqlite_url,
    switch,
    text,
    variables,
    whole_number,
)
from mailer.vocabulary import LogFormat, UncertainPolicy

P = TypeVar("P")

SES_VARIABLE: Final = "AWS_SES_FROM_EMAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one installation is told. Absent variables have the defaults given here."""

    database_path: Path = setting(
        "DATABASE_URL",
        default=Path("sqlite3.db"),
        parse=sqlite_url,
        accepted="sqlite://file.db (relative to the working directory) or sqlite:///abs/file.db",
        doc="The one file of state. Its directory must be on a local disk.",
    )
    server_port: int = setting(
        "SERVER_PORT",
        default=3000,
        parse=whole_number(1, 65535),
        accepted="a port, 1 to 65535",
        doc="The port of the API.",
    )
    bind: tuple[str, int] | None = setting(
        "BIND",
        default=None,
        parse=address_and_port,
        accepted="address:port, as 127.0.0.1:3000 or [::1]:3000",
        doc="Where the API listens; 127.0.0.1 and SERVER_PORT when unset.",
    )
    server_url: str | None = setting(
        "SERVER_URL",
        default=None,
        parse=base_url,
        accepted="http://host or https://host, with a path if need be",
        doc="The public base of links in mails: pixel, clicks, unsubscribe."
        " When unset, http://127.0.0.1:SERVER_PORT.",
    )
    api_workers: int = number("API_WORKERS", 2, 1, 64, doc="API processes.")
    senders: int = number("SENDERS", 2, 1, 32, doc="Sender processes.")
    jwt_secret: str | None = setting(
        "JWT_SECRET",
        default=None,
        secret=True,
        parse=secret_key,
        accepted=SECRET,
        doc="Key of the HS256 tokens callers send as `Authorization: Bearer`;"
        " `mailer token` makes them.",
    )
    api_key: str | None = setting(
        "API_KEY",
        default=None,
        secret=True,
        parse=secret_key,
        accepted=SECRET,
        doc="A key callers may send as `X-API-KEY` instead of a token.",
    )
    allow_unauthenticated: bool = setting(
        "ALLOW_UNAUTHENTICATED",
        default=False,
        parse=switch,
        accepted="1 or 0",
        doc="With neither JWT_SECRET nor API_KEY set, serve others than this machine too.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "TRUSTED_PROXIES",
        default=(),
        parse=several(network),
        accepted="addresses or networks, as 127.0.0.1 or 10.0.0.0/8, several separated by commas",
        doc="The proxies before the API: what they say in X-Forwarded-For is believed.",
    )
    caller_rate: float | None = setting(
        "CALLER_RATE",
        default=None,
        parse=rate,
        accepted="a number above 0, or unlimited",
        doc="Requests a second that one caller (a token's `sub`, or the key) may make to each of"
        " the API's processes; those above it are answered 429.",
    )
    transport: Route = setting(
        "TRANSPORT",
        default=(),
        parse=route,
        accepted="the name of a transport: maildir, smtp, ses, or a plugin's; or several, as"
        " ses,smtp",
        doc="How mail leaves; of several, the next takes over while one is out of service."
        " When unset: ses if AWS_SES_FROM_EMAIL is set, else maildir, which keeps everything on"
        " this machine.",
    )
    routes: Routes = setting(
        "ROUTES",
        default=Routes(),
        parse=routes,
        accepted="topic:GLOB=TRANSPORT or from:DOMAIN-GLOB=TRANSPORT, several separated by ;",
        doc="Mail that goes another way, by its topic or the domain of its From: the first that"
        " matches. Its TRANSPORT may be several, too.",
    )
    fail_over_after_s: int = setting(
        "FAIL_OVER_AFTER",
        default=300,
        parse=duration_s,
        accepted="a length of time, as 5m, 90s",
        doc="How long a transport takes no mail before the next takes over; when one is halted,"
        " that is at once.",
    )
    from_email: str | None = setting(
        "FROM_EMAIL",
        SES_VARIABLE,
        default=None,
        parse=mail_address,
        accepted="address@domain or Name <address@domain>",
        doc="The From of mails that name none.",
    )
    max_send_per_second: float | None = setting(
        "MAX_SEND_PER_SECOND",
        default=12.0,
        parse=rate,
        accepted="a number above 0, or unlimited",
        doc="Recipients that a transport for which LIMITS names no rate a second is handed in any"
        " one second, over all senders. The provider's own limit holds where it is lower.",
    )
    limits: Limits = setting(
        "LIMITS",
        default=Limits(),
        parse=parse_limits,
        accepted=ACCEPTED_LIMITS,
        doc="Recipients handed over in any window of each length, by a transport or by it to a"
        " domain; see [How fast mail goes](#how-fast-mail-goes).",
    )
    interactive_reserve: float = setting(
        "INTERACTIVE_RESERVE",
        default=0.05,
        parse=share,
        accepted="a percentage, as 5%",
        doc="The share of the provider's 24-hour quota, and of each window of LIMITS longer than a"
        " second, that bulk mail leaves for interactive mail.",
    )
    max_body_bytes: int = number(
        "MAX_BODY_BYTES", 25_000_000, 1_000, 1_000_000_000, doc="The largest request body."
    )
    max_queued: int = setting(
        "MAX_QUEUED",
        default=5_000_000,
        parse=whole_number(1, 10**12),
        accepted="a whole number above 0",
        doc="Above so many waiting mails the API answers 429.",
    )
    max_age_s: int = setting(
        "MAX_AGE",
        default=48 * 3600,
        parse=duration_s,
        accepted="a length of time, as 48h, 90m, 2d",
        doc="How long after it was due a deferred mail is tried.",
    )
    uncertain_grace_s: int = number(
        "UNCERTAIN_GRACE_S",
        900,
        0,
        7 * 86400,
        doc="How long an uncertain mail waits for the provider's word before the policy decides.",
    )
    uncertain_policy: UncertainPolicy = setting(
        "UNCERTAIN_POLICY",
        default=UncertainPolicy.RESEND,
        parse=one_of(UncertainPolicy),
        accepted="resend or give_up",
        doc="What becomes of a mail of which nobody knows whether the transport took it.",
    )
    retention_days: int = number(
        "RETENTION_DAYS", 30, 1, 3650, doc="How long finished mails and their events are kept."
    )
    track_opens: bool = setting(
        "TRACK_OPENS",
        default=True,
        parse=switch,
        accepted="1 or 0",
        doc="Put the open pixel at the end of HTML bodies; a message's `track_opens` overrides it.",
    )
    plugin_memory_mb: int = number(
        "PLUGIN_MEMORY_MB",
        512,
        64,
        1_000_000,
        doc="Memory (MiB) that each process of a plugin may take: event plugins and workers.",
    )
    plugin_timeout_s: int = number(
        "PLUGIN_TIMEOUT_S",
        30,
        1,
        3600,
        doc="How long an event plugin may take over one event before its process is ended.",
    )
    plugin_tries: int = number(
        "PLUGIN_TRIES",
        10,
        1,
        1000,
        doc="How often an event plugin is told of an event it fails at before that is put aside.",
    )
    plugin_lag_days: int = number(
        "PLUGIN_LAG_DAYS",
        7,
        0,
        3650,
        doc="How much longer than RETENTION_DAYS events are kept for an event plugin that was not"
        " told of them yet; a warning comes each hour meanwhile.",
    )
    allow_root: bool = setting(
        "ALLOW_ROOT",
        default=False,
        parse=switch,
        accepted="1 or 0",
        doc="Let root run the API and the supervisor, as `--allow-root` does.",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        default="INFO",
        parse=log_level,
        accepted="DEBUG, INFO, WARNING or ERROR",
        doc="What is logged. Addresses and what providers say appear at DEBUG only.",
    )
    log_format: LogFormat | None = setting(
        "LOG_FORMAT",
        default=None,
        parse=one_of(LogFormat),
        accepted="text, logfmt or json",
        doc="How log lines look. When unset: text at a terminal or in the journal, else logfmt.",
    )
    sentry_dsn: str | None = setting(
        "SENTRY_DSN",
        default=None,
        secret=True,
        parse=text,
        accepted="a Sentry DSN",
        doc="Where errors of every process are reported, without mail data.",
    )
    asks_for_ses: bool = False
    """AWS_SES_FROM_EMAIL is set, by which the reference's clients choose SES."""
    of_plugins: Mapping[type, object] = field(default_factory=dict)
    """What the plugins declared, by its class; see `of`."""
    chosen_because: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variable → where its value came from, if not by default; for `mailer config`."""

    def of(self, kind: type[P]) -> P:
        """The settings that a plugin declared in its hook `mailer_settings`."""
        found = self.of_plugins.get(kind)
        if not isinstance(found, kind):
            raise PluginError(
                f"{kind.__module__}.{kind.__qualname__} is not loaded:"
                " the hook mailer_settings has to return it"
            )
        return found

    def listed(self) -> Iterator[tuple[Variable, Any]]:
        """Every variable and its value: mailer's own, then each plugin's."""
        for part in (self, *self.of_plugins.values()):
            for field_name, variable in variables(type(part)).items():
                yield variable, getattr(part, field_name)

    @property
    def ways(self) -> Ways:
        """How mail leaves."""
        default = self.transport or ("ses" if self.asks_for_ses else "maildir",)
        return Ways(default, self.routes)

    @property
    def transport_name(self) -> str:
        """The transport that most mail is to take."""
        return self.ways.default[0]

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


def load(
    environ: Mapping[str, str],
    dotenv_path: Path | None = None,
    *,
    of_plugins: Iterable[type] = (),
) -> Settings:
    """Read and check all settings. The environment wins, then systemd's credentials, then `.env`.

    Empty means unset. `of_plugins` are the classes the plugins declare. Raises SettingsError naming
    every fault.
    """
    places = sources(environ, dotenv_path)
    values, parts, origins = read_all(Settings, of_plugins, places)
    asks_for_ses = any(source.get(SES_VARIABLE) for _, source in places)
    return Settings(**values, asks_for_ses=asks_for_ses, of_plugins=parts, chosen_because=origins)
