"""A real IMAP server, Debian's Dovecot, without system users: each test has accounts of its own."""

import grp
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from shutil import which

from imap_tools import BaseMailBox, MailBoxUnencrypted

from tests.support.bad_servers import Certificate
from worker.net.child_process import ChildProcess

PASSWORD = "secret"
_CONFIG = """
base_dir = {folder}/run
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate.cert}
ssl_key = <{certificate.key}
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
disable_plaintext_auth = no
auth_failure_delay = 0
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_max_userip_connections = 100
maildir_very_dirty_syncs = no
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service stats {{
  chroot =
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}/home/%u
}}
"""


@dataclass
class Account:
    """A mailbox on the server."""

    server: "Dovecot"
    user: str
    folder: str = "INBOX"

    @property
    def url(self) -> str:
        return self.through(self.server.port)

    def through(self, port: int) -> str:
        """Return the URL by way of a proxy."""
        return f"imap://{self.user}:{PASSWORD}@127.0.0.1:{port}/{self.folder}?plain=true"

    @contextmanager
    def opened(self) -> Iterator[BaseMailBox]:
        """As a person opens it."""
        box = MailBoxUnencrypted("127.0.0.1", self.server.port).login(
            self.user, PASSWORD, initial_folder=None
        )
        if not box.folder.exists(self.folder):
            box.folder.create(self.folder)
        box.folder.set(self.folder)
        try:
            yield box
        finally:
            box.logout()

    def append(self, *mails: bytes) -> None:
        with self.opened() as box:
            for mail in mails:
                box.append(mail, self.folder)

    def seen(self) -> list[bool]:
        """Of each mail, whether it is marked as read."""
        with self.opened() as box:
            unseen = box.uids("UNSEEN")
            return [uid not in unseen for uid in box.uids()]

    def plant(self, mails: dict[str, bytes]) -> None:
        """Put mails into the inbox without IMAP, thousands in a moment; by their file names."""
        home = self.server.folder / "home" / self.user
        for name in ("cur", "new", "tmp"):
            (home / "Maildir" / name).mkdir(parents=True, exist_ok=True)
        for name, mail in mails.items():
            (home / "Maildir" / "new" / name).write_bytes(mail)
        self.server.own(home)


@dataclass
class Dovecot:
    """The server while it runs."""

    folder: Path
    port: int
    tls_port: int
    owner: pwd.struct_passwd
    process: ChildProcess
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def account(self, folder: str = "INBOX") -> Account:
        """A new one."""
        return Account(self, f"help{next(self._numbers)}", folder)

    def own(self, top: Path) -> None:
        """Let the server write there."""
        for one in (top, *top.rglob("*")):
            os.chown(one, self.owner.pw_uid, self.owner.pw_gid)


@contextmanager
def dovecot(folder: Path, certificate: Certificate) -> Iterator[Dovecot]:
    """Run it. `folder`: short, and one that any user may enter."""
    # Root's mail is never read; without root there is no other user to become.
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    for one in (folder, folder / "home"):
        one.mkdir(exist_ok=True)
        os.chown(one, owner.pw_uid, owner.pw_gid)
    port, tls_port = _free_ports(2)
    config = folder / "dovecot.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            certificate=certificate,
            user=owner.pw_name,
            group=grp.getgrgid(owner.pw_gid).gr_name,
            port=port,
            tls_port=tls_port,
            password=PASSWORD,
        )
    )
    program = which("dovecot") or "/usr/sbin/dovecot"
    process = ChildProcess([program, "-F", "-c", config], log=folder / "output")
    try:
        if not process.wait_until(lambda: _answers(port), 20):
            text = "".join(p.read_text() for p in (folder / "output", folder / "log") if p.exists())
            raise AssertionError(f"dovecot does not start: {text}")
        yield Dovecot(folder, port, tls_port, owner, process)
    finally:
        process.stop()


def by_tls(server: Dovecot, user: str) -> str:
    """Return the URL with TLS."""
    return f"imaps://{user}:{PASSWORD}@localhost:{server.tls_port}/"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            return sock.recv(4) == b"* OK"
    except OSError:
        return False


def _free_ports(number: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
