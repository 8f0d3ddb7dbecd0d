"""A server of mail, read from its URL."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

SMTP_PORTS: Final = {"smtp": 587, "smtps": 465}
IMAP_PORTS: Final = {"imap": 143, "imaps": 993}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where it is, and who we are there."""

    host: str
    port: int
    tls: bool
    """From the first byte on; False = by STARTTLS, unless `plain`."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    plain: bool = False
    """Without TLS; only on this machine."""


def parse_server(text: str, ports: Mapping[str, int]) -> MailServer:
    """Read a URL; `ports`: those of its schemes. Raises `ValueError`, which quotes nothing."""
    schemes = " or ".join(f"{scheme}://" for scheme in ports)
    wanted = f"give {schemes} with user:password@host, and a port if it is an unusual one"
    with suppress(ValueError):
        url = urlsplit(text)
        if url.scheme in ports and url.hostname and not url.fragment:
            server = MailServer(
                host=url.hostname,
                port=url.port or ports[url.scheme],
                tls=url.scheme.endswith("s"),
                user=unquote(url.username) if url.username else None,
                password=unquote(url.password) if url.password else None,
                path=unquote(url.path.removeprefix("/")),
                plain=url.query == "plain=true",
            )
            if not url.query or (server.plain and server.host in LOOPBACK and not server.tls):
                return server
            wanted = "the only option is ?plain=true, for a server without TLS on this machine"
    # Unchained: Python quotes what it cannot read.
    raise ValueError(wanted)
