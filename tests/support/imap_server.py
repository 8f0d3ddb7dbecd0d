"""An IMAP server that does what no good one does: refuses tokens, and mails that it has."""

import base64
import re
import socket
from dataclasses import dataclass, field, replace

from tests.support.mailbox import Place
from tests.support.raw_server import RawServer
from worker.bootstrap.mailbox import way_to_mailbox
from worker.handlers.intake.read_mailbox import ReadMailbox

USER, TOKEN = "help@acme.example", "ya29.token"
_GOOD = f"user={USER}\1auth=Bearer {TOKEN}\1\1"


@dataclass
class OddImap:
    """Serves one folder. `refused`: UIDs of mails whose bytes it does not give."""

    mails: dict[int, bytes] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    """What clients authenticated with."""
    logins: int = 0

    def __call__(self, conn: socket.socket, _server: RawServer) -> None:
        with conn.makefile("rwb", buffering=0) as wire:
            wire.write(b"* OK odd\r\n")
            while line := wire.readline():
                tag, command = line.decode().strip().split(" ", 1)
                if command.upper().startswith("AUTHENTICATE"):
                    status = self._authenticated(wire)
                else:
                    for one in self._answers(command):
                        wire.write(one + b"\r\n")
                    status = "NO" if self._is_refused(command) else "OK"
                wire.write(f"{tag} {status} done for {USER}\r\n".encode())

    def _authenticated(self, wire: socket.SocketIO) -> str:
        wire.write(b"+ \r\n")
        self.told.append(base64.b64decode(wire.readline()).decode())
        if self.told[-1] == _GOOD:
            self.logins += 1
            return "OK"
        wire.write(b"+ eyJzdGF0dXMiOiI0MDEifQ==\r\n")
        assert wire.readline() == b"\r\n"
        return "NO"

    def _answers(self, command: str) -> list[bytes]:
        match command.upper().split():
            case ["CAPABILITY"]:
                return [b"* CAPABILITY IMAP4REV1 AUTH=XOAUTH2"]
            case ["SELECT", _]:
                following = max(self.mails, default=0) + 1
                exists = f"* {len(self.mails)} EXISTS".encode()
                return [exists, b"* OK [UIDVALIDITY 7]", f"* OK [UIDNEXT {following}]".encode()]
            case ["UID", "SEARCH", *_]:
                first = int(re.findall(r"UID (\d+)", command)[0])
                exact = re.search(r"UID (\d+):\1\b", command) is not None
                found = [uid for uid in self.mails if uid == first or (uid > first and not exact)]
                return [f"* SEARCH {' '.join(map(str, found))}".encode()]
            case ["UID", "FETCH", uid, *what]:
                raw = self.mails[int(uid)]
                if "BODY" not in what[-1]:
                    date = b'INTERNALDATE "01-Nov-2026 10:00:00 +0000"'
                    # As others' changes are told, in between.
                    about = b"* 1 FETCH (UID %s %s RFC822.SIZE %d)"
                    return [b"* 9 FETCH (FLAGS ())", about % (uid.encode(), date, len(raw))]
                if int(uid) in self.refused:
                    return []
                return [b"* 1 FETCH (BODY[] {%d}\r\n%s UID %s)" % (len(raw), raw, uid.encode())]
        return []

    def _is_refused(self, command: str) -> bool:
        found = re.match(r"UID FETCH (\d+) .*BODY", command, re.IGNORECASE)
        return found is not None and int(found[1]) in self.refused


def by_token(place: Place, port: int, command: str, **changes: object) -> ReadMailbox:
    """A poller that logs in there with a token."""
    url = f"imap://{USER.replace('@', '%40')}@127.0.0.1:{port}/INBOX?plain=true"
    settings = replace(place.world.settings(), imap_url=url, imap_token_command=command)
    return place.reader(connect=way_to_mailbox(settings)[1], **changes)
