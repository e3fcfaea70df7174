"""A Debian machine of its own with a real systemd, made by `bed.sh`, and mailer installed on it.

It has a network of its own without a way out. Sockets into it are made from here, and its files
are read from here. It is booted once for all tests that use it.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Final

from tests.waiting import until

ROOT: Final = Path(__file__).parent.parent.parent
BED: Final = Path(__file__).parent / "bed.sh"
DIRECTORY: Final = Path(os.environ.get("BED_DIR", "/var/tmp/mailer-bed"))
SOURCES: Final = "/usr/local/src/mailer"
WHEELHOUSE: Final = "/usr/local/src/wheelhouse"
PORT: Final = 3000
CLONE_NEWNET: Final = 0x40000000


class Machine:
    """What can be done with it from outside."""

    def __init__(self) -> None:
        self.token = ""
        self._read: dict[str, str] = {}
        self._bed("reset")

    def _bed(self, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        ours = {"BED_DIR": str(DIRECTORY), "BED_NET": "private", "BED_PACKAGES": "pipx"}
        environ = {**os.environ, **ours}
        done = subprocess.run(
            [BED, *arguments], env=environ, capture_output=True, text=True, check=False, **kwargs
        )
        assert arguments[0] == "exec" or done.returncode == 0, done.stderr
        return done

    def try_run(self, *command: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """A command inside, as root."""
        return self._bed("exec", *command, **kwargs)

    def run(self, *command: str, **kwargs: Any) -> str:
        """A command that must succeed; what it prints."""
        done = self.try_run(*command, **kwargs)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def push(self, source: Path, destination: str) -> None:
        self._bed("push", str(source), destination)

    def write(self, path: str, text: str) -> None:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            self.push(Path(file.name), path)

    def reboot(self) -> None:
        self._bed("reboot")

    def crash(self) -> None:
        """Every process is killed at once; then it boots again."""
        self._bed("crash")

    def down(self) -> None:
        self._bed("down")

    @property
    def _leader(self) -> int:
        return int((DIRECTORY / "leader").read_text().split()[0])

    def path(self, inside: str) -> Path:
        """Where a file of the machine is, seen from here."""
        return Path(f"/proc/{self._leader}/root{inside}")

    def connect(self, port: int = PORT) -> socket.socket:
        """A connection from the machine itself to a port of its own. Raises OSError."""
        return self._in_its_network(lambda: socket.create_connection(("127.0.0.1", port), 30))

    def listen(self, address: tuple[str, int]) -> socket.socket:
        return self._in_its_network(lambda: socket.create_server(address))

    def _in_its_network(self, make: Callable[[], socket.socket]) -> socket.socket:
        """A socket stays in the network it was made in, whoever uses it then."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(_made_in_network_of, self._leader, make).result()

    # --- mailer on it

    def mailer(self, *arguments: str) -> str:
        """The command as an operator calls it."""
        return self.run("/usr/local/sbin/mailer", *arguments)

    def connection(self, port: int = PORT) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.sock = self.connect(port)
        return connection

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        with closing(self.connection()) as connection:
            connection.request(method, path, json.dumps(body) if body else None, self.headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}

    def post(self, *emails: str, topic_id: str = "machine") -> None:
        """One message to these, accepted."""
        message = {"topic_id": topic_id, "emails": emails, "subject": "Hello", "text": "Hello"}
        status, answer = self.call("POST", "/v1/messages", {"messages": [message]})
        assert status == 200, answer

    def settings(self, **values: str) -> None:
        """Put them into mailer.env, in place of what it says of them, and restart."""
        lines = self.path("/etc/mailer/mailer.env").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in values]
        lines = [*kept, *(f"{name}={value}" for name, value in values.items())]
        self.path("/etc/mailer/mailer.env").write_text("\n".join(lines) + "\n")
        self.run("systemctl", "restart", "mailer-supervisor", "mailer-api")

    def recipients(self) -> list[str]:
        """Whom the maildir transport has put mail for, one entry for each mail."""
        paths = list(self.path("/var/lib/mailer/maildir/new").glob("*"))
        for path in paths:
            if path.name not in self._read:
                mail = message_from_bytes(path.read_bytes(), policy=policy.default)
                self._read[path.name] = str(mail["To"])
        return [self._read[path.name] for path in paths]

    def sent(self, *emails: str, within_s: float = 20) -> None:
        """Wait until all of these have been sent to."""
        until(lambda: set(emails) <= set(self.recipients()), within_s=within_s)

    def query(self, sql: str, database: str = "/var/lib/mailer/mailer.db") -> list[Any]:
        """Rows of the database, or of another on the machine, read there."""
        program = (
            "import json, sqlite3, sys;"
            "database = sqlite3.connect(f'file:{sys.argv[2]}?mode=ro', uri=True);"
            "print(json.dumps(database.execute(sys.argv[1]).fetchall()))"
        )
        rows: list[Any] = json.loads(self.run("python3", "-c", program, sql, database))
        return rows

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def journal(self, *arguments: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", *arguments)


def _made_in_network_of(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """For a thread that ends then, as it stays in that network (setns(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/proc/{pid}/ns/net") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    return make()


def readme_lines(heading: str) -> list[str]:
    """The README's commands under a heading, as they are written there."""
    section = (ROOT / "README.md").read_text().partition(f"\n{heading}\n")[2]
    for block in re.findall(r"\n```bash\n(.*?)```", section.partition("\n#")[0], re.DOTALL):
        return [line for line in block.splitlines() if line]
    raise AssertionError(f"no commands under {heading}")


def copy_sources(directory: Path) -> Path:
    """What git would check out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    return directory
