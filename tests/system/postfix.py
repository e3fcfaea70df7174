"""A Postfix of the test's own: configuration, queue and mailboxes in one directory, one port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from tests.messages import parse
from tests.waiting import until

# Postfix keeps its programs unprivileged; its own account delivers, so the mailboxes are its own.
_MAIN: Final = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {home}/log/mail.log
maillog_file_prefixes = {home}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
myhostname = mail.example.org
mydestination =
virtual_mailbox_domains = example.com, example.org, example.net
virtual_mailbox_base = {home}/mailboxes
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
message_size_limit = 0
virtual_mailbox_limit = 0
alias_maps =
alias_database =
smtpd_peername_lookup = no
"""

_MASTER: Final = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
virtual unix - n n - - virtual
smtp unix - - n - - smtp
scache unix - - n - 1 scache
pickup unix n - n 60 1 pickup
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Started by `with`; needs root, as Postfix does."""

    def __init__(self, extra: str = "") -> None:
        """`extra` are more lines of main.cf."""
        self._extra = extra
        # Not below pytest's directories, which only root may enter: Postfix becomes others.
        self._directory = tempfile.TemporaryDirectory(prefix="postfix-")
        self._home = Path(self._directory.name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?starttls=off"

    def __enter__(self) -> Postfix:
        for name in ("conf", "queue", "data", "mailboxes", "log"):
            (self._home / name).mkdir()
        self._home.chmod(0o755)
        for name in ("data", "mailboxes"):
            shutil.chown(self._home / name, "postfix", "postfix")
        owner = (self._home / "mailboxes").stat()
        main = _MAIN.format(home=self._home, uid=owner.st_uid, gid=owner.st_gid)
        (self._home / "conf/main.cf").write_text(main + self._extra)
        (self._home / "conf/master.cf").write_text(_MASTER.format(port=self.port))
        self._command("start")
        until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._command("abort")
        self._directory.cleanup()

    def mails(self) -> list[EmailMessage]:
        """What has been delivered, read back from the mailbox."""
        return [parse(path.read_bytes()) for path in (self._home / "mailboxes/all/new").glob("*")]

    def queued(self, queue: str) -> int:
        """How many mails lie in one of its queues."""
        return sum(path.is_file() for path in (self._home / "queue" / queue).rglob("*"))

    def release(self) -> None:
        """Let go, now, what it holds."""
        for command in (["postsuper", "-H", "ALL"], ["postqueue", "-f"]):
            name, *arguments = command
            conf = str(self._home / "conf")
            subprocess.run(
                [f"/usr/sbin/{name}", "-c", conf, *arguments], check=True, capture_output=True
            )

    def log(self) -> str:
        return (self._home / "log/mail.log").read_text()

    def _command(self, what: str) -> None:
        done = subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self._home / "conf"), what],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(3) == b"220"
        except OSError:
            return False
