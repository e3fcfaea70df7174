"""`mailer send`: every recipient of a file once, however often the command is stopped."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

import pytest

from tests.installation import Installation
from tests.waiting import until

SECRET = "a secret of thirty-two bytes, or more"
HTML = "<p>Grüße, {{ name }}</p>\r\n"


@pytest.fixture
def running(installation: Installation) -> Installation:
    installation.environ["MAX_SEND_PER_SECOND"] = "unlimited"
    installation.run()
    return installation


def write(directory: Path, csv: str, html: str = HTML) -> tuple[str, ...]:
    """The files, and the command that sends them."""
    (directory / "people.csv").write_text(csv)
    (directory / "news.html").write_bytes(html.encode())
    return ("send", "people.csv", "news.html", "--subject", "News", "--topic", "news")


def many(count: int, *, more: str = "") -> str:
    return "email\n" + "".join(f"reader{n}@example.com\n" for n in range(count)) + more


def total(installation: Installation) -> int:
    status, topic = installation.call("GET", "/v1/topics/news")
    return int(topic["total"]) if status == 200 else 0


def test_a_list_goes_out_byte_for_byte(running: Installation) -> None:
    command = write(running.directory, "email,name\nann@example.com,Ann Ö\nbob@example.com,\n")
    done = running.mailer(*command, "--from", "Shop <shop@example.com>")
    assert (done.returncode, done.stdout) == (0, "2 mails accepted\n")
    assert "is sent as it is" in done.stderr
    until(lambda: len(running.mails()) == 2)
    _, page = running.call("GET", "/v1/mails?topic_id=news")
    assert [(mail["recipient"], mail["name"], mail["lane"]) for mail in page["mails"]] == [
        ("ann@example.com", "Ann Ö", "bulk"),
        ("bob@example.com", "", "bulk"),
    ]


def test_other_columns_are_filled_in(running: Installation) -> None:
    command = write(
        running.directory, "email,name,town\nann@example.com,Ann,Köln\n", "<p>{{ town }}"
    )
    (running.directory / "news.txt").write_text("Dear {{ name }} of {{ town }}")
    assert running.mailer(*command, "--text", "news.txt").returncode == 0
    (mail,) = until(running.mails)
    message = BytesParser(policy=default).parsebytes(mail.read_bytes())
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().strip() == "Dear Ann of Köln"


def test_repeating_sends_nothing_twice(running: Installation) -> None:
    command = write(running.directory, many(2_500))
    first = running.json(*command)
    assert (first["accepted"], first["accepted_before"], len(first["batch_ids"])) == (2500, 0, 3)
    again = running.json(*command)
    assert (again["accepted"], again["accepted_before"]) == (2500, 2500)
    assert again["batch_ids"] == first["batch_ids"]
    assert total(running) == 2500
    assert running.json(*command, "--key", "second")["accepted_before"] == 0
    assert total(running) == 5000


def test_a_wrong_row_stops_and_the_mended_file_goes_on(running: Installation) -> None:
    command = write(running.directory, many(1_000, more="nobody\nlast@example.com\n"))
    stopped = running.mailer(*command)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "line 1002: an address" in stopped.stderr
    assert "Stopped at request 2 of 2; 1000 mails accepted." in stopped.stderr
    assert "lines before 1002" in stopped.stderr

    write(running.directory, many(1_000, more="last@example.com\n"))
    mended = running.json(*command)
    assert (mended["accepted"], mended["accepted_before"]) == (1001, 1000)
    assert total(running) == 1001


def test_a_key_refuses_what_has_changed(running: Installation) -> None:
    command = (*write(running.directory, many(2)), "--key", "january")
    assert running.mailer(*command).returncode == 0
    write(running.directory, many(3))
    changed = running.mailer(*command)
    assert changed.returncode == 1
    assert "409" in changed.stderr
    assert total(running) == 2


def test_wrong_addresses_can_be_left_out(running: Installation) -> None:
    command = write(running.directory, "email\nann@example.com\nnobody\nANN@example.com\n")
    sent = running.json(*command, "--on-error", "skip")
    assert (sent["accepted"], sent["left_out"], sent["duplicates"]) == (1, 1, 1)


def test_a_token_is_made_or_taken_from_the_environment(installation: Installation) -> None:
    installation.environ["JWT_SECRET"] = SECRET
    installation.run()
    command = write(installation.directory, many(1))
    own = installation.mailer(*command)
    assert (own.returncode, own.stderr.count("Error")) == (0, 0)

    token = installation.mailer("token", "--subject", "me", "--scope", "read").stdout.strip()
    refused = installation.mailer(*command, MAILER_TOKEN=token, JWT_SECRET="")
    assert refused.returncode == 1
    assert "403" in refused.stderr
    assert token not in refused.stderr


def test_nobody_answers(installation: Installation) -> None:
    done = installation.mailer(*write(installation.directory, many(1)), "--patience", "0s")
    assert done.returncode == 1
    assert f"{installation.url} does not answer" in done.stderr
    assert "0 mails accepted" in done.stderr


def test_an_answer_that_is_lost_is_asked_for_again(running: Installation) -> None:
    """The API stored the mail, the connection broke before its answer: no second copy."""
    with swallowing_the_first_answer(running.port) as port:
        command = write(running.directory, many(3))
        done = running.mailer(*command, "--url", f"http://127.0.0.1:{port}", "--json")
    assert done.returncode == 0, done.stderr
    assert "trying again" in done.stderr
    assert json.loads(done.stdout)["accepted_before"] == 3
    assert total(running) == 3


@contextmanager
def swallowing_the_first_answer(port: int) -> Iterator[int]:
    """A proxy that hands requests on, and the first answer to nobody."""
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on(client: socket.socket, *, swallow: bool) -> None:
        with closing(client), socket.create_connection(("127.0.0.1", port)) as server:
            server.sendall(whole_message(client))
            answer = whole_message(server)
            if not swallow:
                client.sendall(answer)

    def serve() -> None:
        for swallow in (True, False):
            hand_on(listener.accept()[0], swallow=swallow)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(listener):
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def whole_message(connection: socket.socket) -> bytes:
    """One HTTP request or answer, whose length its head tells."""
    message = b""
    while b"\r\n\r\n" not in message:
        message += connection.recv(65536)
    head, _, body = message.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("csv", "problem"),
    [
        ("name\nAnn\n", "`email`"),
        ("", "`email`"),
        ("email\n", "no recipients"),
        ("email,email\na@example.com,b@example.com\n", "must differ"),
        ("email,first name\na@example.com,Ann\n", "be words"),
        ("email,town\na@example.com\nb@example.com,Ulm,Bonn\n", "line 2: not 2 values"),
        ("email,town\n,Ulm\n", "line 2: no address"),
        ('email\n"a@example.com\n', "line 2"),
    ],
)
def test_a_file_that_is_no_list(installation: Installation, csv: str, problem: str) -> None:
    done = installation.mailer(*write(installation.directory, csv))
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_utf8(installation: Installation) -> None:
    command = write(installation.directory, "email\n")
    (installation.directory / "people.csv").write_bytes("email,name\nä@x.de,Jörg".encode("latin-1"))
    done = installation.mailer(*command)
    assert (done.returncode, "is not UTF-8" in done.stderr) == (2, True)
