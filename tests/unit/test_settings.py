"""Settings: every fault at once, the forms accepted, what is set where, and no secret ever told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailer.errors import SettingsError
from mailer.settings import Settings, load
from mailer.vocabulary import UncertainPolicy

LONG = "x" * 32


def faults(**environ: str) -> dict[str, str]:
    """Variable → what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        load(environ)
    return {fault.name: fault.problem for fault in caught.value.faults}


def test_with_nothing_set_everything_has_its_default() -> None:
    settings = load({})
    assert settings == Settings()
    assert settings.transport_name == "maildir"
    assert settings.listen == ("127.0.0.1", 3000)
    assert settings.public_url == "http://127.0.0.1:3000"
    assert not settings.authenticates
    assert settings.chosen_because == {}


GOOD: tuple[tuple[str, str, str, Any], ...] = (
    ("DATABASE_URL", "sqlite://mail.db", "database_path", Path("mail.db")),
    ("DATABASE_URL", "sqlite:///var/mail.db", "database_path", Path("/var/mail.db")),
    ("DATABASE_URL", "sqlite:////var/mail.db", "database_path", Path("/var/mail.db")),
    ("SERVER_PORT", " 8080 ", "server_port", 8080),
    ("BIND", "0.0.0.0:80", "bind", ("0.0.0.0", 80)),
    ("BIND", "[::1]:3000", "bind", ("::1", 3000)),
    ("SERVER_URL", "https://mail.example.org/m/", "server_url", "https://mail.example.org/m"),
    ("SENDERS", "32", "senders", 32),
    ("JWT_SECRET", LONG, "jwt_secret", LONG),
    ("ALLOW_UNAUTHENTICATED", "Yes", "allow_unauthenticated", True),
    ("TRACK_OPENS", "0", "track_opens", False),
    ("FROM_EMAIL", "Shop <a@x.org>", "from_email", "Shop <a@x.org>"),
    ("AWS_SES_FROM_EMAIL", "a@x.org", "from_email", "a@x.org"),
    ("MAX_SEND_PER_SECOND", "0.5", "max_send_per_second", 0.5),
    ("MAX_SEND_PER_SECOND", "unlimited", "max_send_per_second", None),
    ("INTERACTIVE_RESERVE", "7.5 %", "interactive_reserve", 0.075),
    ("MAX_AGE", "90m", "max_age_s", 5400),
    ("MAX_AGE", "2d", "max_age_s", 172800),
    ("UNCERTAIN_POLICY", "give_up", "uncertain_policy", UncertainPolicy.GIVE_UP),
    ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
)


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD)
def test_good_forms(name: str, value: str, field: str, expected: object) -> None:
    settings = load({name: value})
    assert getattr(settings, field) == expected
    assert list(settings.chosen_because.values()) == [f"{name} in environment"]


BAD = (
    ("DATABASE_URL", "mail.db"),
    ("DATABASE_URL", "postgres://host/db"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///"),
    ("DATABASE_URL", "sqlite://:memory:"),
    ("SERVER_PORT", "0"),
    ("SERVER_PORT", "65536"),
    ("SERVER_PORT", "3000.0"),
    ("SERVER_PORT", "+3000"),
    ("SERVER_PORT", "\u0663\u0660\u0660\u0660"),
    ("BIND", "3000"),
    ("BIND", "localhost:3000"),
    ("BIND", "127.0.0.1:"),
    ("SERVER_URL", "mail.example.org"),
    ("SERVER_URL", "https://mail.example.org/?a=b"),
    ("SERVER_URL", "ftp://mail.example.org"),
    ("SENDERS", "0"),
    ("SENDERS", "-1"),
    ("JWT_SECRET", "x" * 31),
    ("API_KEY", "short"),
    ("ALLOW_UNAUTHENTICATED", "maybe"),
    ("FROM_EMAIL", "nobody"),
    ("FROM_EMAIL", "a@x.org\nBcc: b@x.org"),
    ("FROM_EMAIL", "a@x.org, b@x.org"),
    ("MAX_SEND_PER_SECOND", "0"),
    ("MAX_SEND_PER_SECOND", "-5"),
    ("MAX_SEND_PER_SECOND", "nan"),
    ("MAX_SEND_PER_SECOND", "1e3"),
    ("INTERACTIVE_RESERVE", "5"),
    ("INTERACTIVE_RESERVE", "101%"),
    ("MAX_AGE", "2 weeks"),
    ("UNCERTAIN_POLICY", "ask"),
    ("RETENTION_DAYS", "0"),
    ("LOG_LEVEL", "loud"),
)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_forms_are_named_with_what_would_be_right(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    (fault,) = caught.value.faults
    assert fault.name == name
    assert fault.problem
    assert fault.accepted in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    wrong = {name: "wrong \x00" for name, _ in BAD}
    assert set(faults(**wrong)) == set(wrong)


@pytest.mark.parametrize("name", ["JWT_SECRET", "API_KEY"])
def test_what_is_wrong_with_a_secret_is_told_without_it(name: str) -> None:
    assert "hunter2" not in faults(**{name: "hunter2", "SENDERS": "none"})[name]


def dotenv(directory: Path, text: str) -> Path:
    path = directory / ".env"
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = dotenv(tmp_path, "SENDERS=3\nAPI_WORKERS=4\n")
    settings = load({"SENDERS": "5"}, path)
    assert (settings.senders, settings.api_workers) == (5, 4)
    assert settings.chosen_because == {
        "SENDERS": "SENDERS in environment",
        "API_WORKERS": f"API_WORKERS in {path}",
    }


def test_empty_means_unset(tmp_path: Path) -> None:
    path = dotenv(tmp_path, "SENDERS=3\nAPI_WORKERS=\nFROM_EMAIL\n")
    settings = load({"SENDERS": ""}, path)
    assert (settings.senders, settings.api_workers, settings.from_email) == (3, 2, None)


def test_a_fault_in_the_file_is_told_unless_the_environment_is_right(tmp_path: Path) -> None:
    path = dotenv(tmp_path, "SENDERS=many\n")
    with pytest.raises(SettingsError, match="SENDERS"):
        load({}, path)
    assert load({"SENDERS": "1"}, path).senders == 1


def test_a_file_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env") == Settings()


def test_the_references_name_of_the_sender_is_an_alias(tmp_path: Path) -> None:
    path = dotenv(tmp_path, "FROM_EMAIL=file@x.org\n")
    settings = load({"AWS_SES_FROM_EMAIL": "env@x.org"}, path)
    assert settings.from_email == "env@x.org"
    both = {"AWS_SES_FROM_EMAIL": "ses@x.org", "FROM_EMAIL": "own@x.org"}
    assert load(both).from_email == "own@x.org"
    assert load(both).transport_name == "ses"


def test_a_file_that_is_no_text_is_a_fault_and_secrets_are_taken_as_they_are(
    tmp_path: Path,
) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"FROM_EMAIL=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env.*UTF-8"):
        load({}, path)
    secret = "${HOME}" + LONG
    path.write_text(f"API_KEY='{secret}'\n")
    assert load({}, path).api_key == secret


@pytest.mark.parametrize(
    ("environ", "transport"),
    [
        ({}, "maildir"),
        ({"FROM_EMAIL": "a@x.org"}, "maildir"),
        ({"AWS_SES_FROM_EMAIL": "a@x.org"}, "ses"),
        ({"AWS_SES_FROM_EMAIL": "a@x.org", "TRANSPORT": "smtp"}, "smtp"),
        ({"SMTP_URL": "smtp://host"}, "maildir"),
    ],
)
def test_how_mail_leaves_when_it_is_not_said(environ: dict[str, str], transport: str) -> None:
    assert load(environ).transport_name == transport


def test_the_chosen_address_is_where_the_api_listens() -> None:
    assert load({"SERVER_PORT": "8080"}).listen == ("127.0.0.1", 8080)
    assert load({"SERVER_PORT": "8080", "BIND": "0.0.0.0:80"}).listen == ("0.0.0.0", 80)
    assert load({"API_KEY": LONG}).authenticates


def test_credentials_stand_between_the_environment_and_the_file(tmp_path: Path) -> None:
    """What systemd's LoadCredential= puts into a directory, a file for each variable."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, value in {"JWT_SECRET": LONG + "\n", "API_KEY": "k" * 32, "SENTRY_DSN": ""}.items():
        (credentials / name).write_text(value)
    dotenv = tmp_path / ".env"
    dotenv.write_text("API_KEY=file\nSENTRY_DSN=https://file\nSENDERS=3\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "JWT_SECRET": "e" * 32}
    settings = load(environ, dotenv)
    assert (settings.jwt_secret, settings.api_key) == ("e" * 32, "k" * 32)
    assert (settings.sentry_dsn, settings.senders) == ("https://file", 3)
    assert settings.chosen_because == {
        "JWT_SECRET": "JWT_SECRET in environment",
        "API_KEY": "API_KEY in credentials",
        "SENTRY_DSN": f"SENTRY_DSN in {dotenv}",
        "SENDERS": f"SENDERS in {dotenv}",
    }


def test_a_directory_of_no_credentials_need_not_exist(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "none"), "SENDERS": "3"}
    assert load(environ).senders == 3


def test_a_credential_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "JWT_SECRET").write_bytes(b"\xff" * 32)
    assert "can't be read" in faults(CREDENTIALS_DIRECTORY=str(tmp_path))["JWT_SECRET"]
