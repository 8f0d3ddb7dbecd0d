"""The broker's URL, read once for every part that connects: workers, commands, producers.

Celery, kombu, redis-py and py-amqp each read a URL of their own kind: an option that one takes is
an error for another, and without options `rediss://` is not verified at all by some of them. So
they get what is read here: a URL without options, and the options of TLS apart.

TLS is verified by default: certificate and host name, against the system's authorities (or
SSL_CERT_FILE). `?ssl_ca_certs=/path` names another file, `?ssl_cert_reqs=none` switches it off.

`?prefix=staging-` keeps installations on one Redis apart: each key and channel of the queues begins
with it. RabbitMQ has virtual hosts for that.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_SCHEMES: Final = ("redis", "rediss", "amqp", "amqps")
_UNSUPPORTED: Final = {
    "sentinel": "Redis Sentinel is not supported, use an address that follows the master: ",
    "cluster": "Redis Cluster is not supported, use one Redis: ",
    "socket": "a unix socket is not supported, use a port: ",
    "unix": "a unix socket is not supported, use a port: ",
    "valkey": "Valkey speaks Redis' protocol, write redis://: ",
}
"""Part of a scheme -> what is said of it, see docs/reference/versions.md."""
_WITH_TLS: Final = ("rediss", "amqps")
_VERIFY: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_REQUIRED,  # for a client the two are the same
    "none": ssl.CERT_NONE,
}
_PREFIX: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FILES: Final = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
_SET_BY_EACH_PART: Final = frozenset(
    {
        *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout"),
        *("health_check_interval", "max_connections", "protocol", "client_name", "heartbeat"),
    }
)
"""Options of redis-py and kombu that each part sets for itself: they are passed over."""

_ENCODE: Final = (
    "in its user and password write @ as %40, / as %2F, # as %23, ? as %3F, [ as %5B, ; as %3B"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to verify a broker, and how to identify to it."""

    verify: ssl.VerifyMode = ssl.CERT_REQUIRED
    check_hostname: bool = True
    files: Mapping[str, str] = field(default_factory=dict)
    """Paths by `ca_certs` (None = the system's authorities), `certfile` and `keyfile`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUrl:
    """What a URL says. Its `repr` shows no password."""

    is_amqp: bool
    host: str
    port: int | None
    """None = the usual one."""
    user: str | None
    password: str | None = field(repr=False)
    database: int
    """The number of a Redis database; 0 for RabbitMQ."""
    prefix: str
    """What each key of the queues begins with; kombu's `global_keyprefix`."""
    tls: Tls | None
    """None = a plain connection."""
    bare: str = field(repr=False)
    """The URL without options, and with all alternatives, for Celery and kombu."""

    @property
    def use_ssl(self) -> dict[str, Any] | bool:
        """Return the value of Celery's `broker_use_ssl` and of kombu's `ssl`."""
        if self.tls is None:
            return False
        if not self.is_amqp:
            return self.redis_tls
        # Without it, py-amqp compares no name.
        named = {"server_hostname": self.host} if self.tls.check_hostname else {}
        return {"cert_reqs": self.tls.verify, **self.tls.files, **named}

    @property
    def redis_tls(self) -> dict[str, Any]:
        """Return the options of redis-py's `SSLConnection`; empty without TLS."""
        if self.tls is None:
            return {}
        files = {f"ssl_{name}": path for name, path in self.tls.files.items()}
        verify, check = self.tls.verify, self.tls.check_hostname
        return {"ssl_cert_reqs": verify, "ssl_check_hostname": check, **files}


def read_broker_url(text: str) -> BrokerUrl:
    """Read a broker's URL, or several with semicolons between: kombu moves on to the next.

    Raises ValueError, which names the fix and quotes nothing of the URL: it may be a password.
    """
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("it has a blank or a line break: leave it out, or write it as %20")
    scheme = text.partition("://")[0]
    if scheme not in _SCHEMES:
        why = next((why for part, why in _UNSUPPORTED.items() if part in scheme.lower()), "")
        raise ValueError(f"{why}give redis://host:6379/0, rediss://…, amqp://… or amqps://…")
    first, *others = [_read_one(part) for part in text.split(";")]
    # kombu takes the options of TLS for all alternatives alike.
    if any(
        (one.is_amqp, one.tls, one.prefix) != (first.is_amqp, first.tls, first.prefix)
        for one in others
    ):
        raise ValueError("all alternatives need the same scheme and the same options")
    if (
        first.is_amqp
        and first.tls
        and first.tls.check_hostname
        and any(one.host != first.host for one in others)
    ):
        # kombu has one set of options for all, and with it one name.
        raise ValueError("alternatives of several hosts need ssl_check_hostname=false")
    bare = ";".join(one.bare for one in (first, *others))
    names = (name for name in BrokerUrl.__slots__ if name != "bare")
    return BrokerUrl(bare=bare, **{name: getattr(first, name) for name in names})


def _read_one(text: str) -> BrokerUrl:
    parts, port = _split(text)
    is_amqp = parts.scheme.startswith("amqp")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    database = 0 if is_amqp else _database(parts.path, options.pop("db", None))
    path = parts.path if is_amqp else f"/{database}"
    return BrokerUrl(
        is_amqp=is_amqp,
        host=unquote(parts.hostname or "") or "localhost",
        port=port,
        user=unquote(parts.username or "") or None,
        password=unquote(parts.password or "") or None,
        database=database,
        prefix=_prefix(options.pop("prefix", ""), is_amqp=is_amqp),
        tls=_tls(parts.scheme, options),
        bare=f"{parts.scheme}://{parts.netloc}{path}",
    )


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    # Behind a stray / # ? or ; the rest of a password would count as path, options or another URL.
    misread = "@" in parts.path + parts.query or "#" in text
    if misread or parts.scheme not in _SCHEMES:
        # Unchained: Python quotes the part that it takes for the port or the host.
        raise ValueError(f"it cannot be read: {_ENCODE}")
    return parts, port


def _database(path: str, option: str | None) -> int:
    number = option if option is not None else unquote(path).strip("/") or "0"
    if not re.fullmatch(r"\d{1,6}", number, re.ASCII):
        raise ValueError("behind the host give the number of a database, such as /0")
    return int(number)


def _prefix(given: str, *, is_amqp: bool) -> str:
    if given and is_amqp:
        raise ValueError("prefix is for Redis: give RabbitMQ a virtual host, amqp://…/NAME")
    if given and _PREFIX.fullmatch(given) is None:
        raise ValueError("prefix: give at most 64 letters, digits, and - _ or :")
    return given


def _tls(scheme: str, options: Mapping[str, str]) -> Tls | None:
    given = {name: value for name, value in options.items() if name not in _SET_BY_EACH_PART}
    known = {"ssl_cert_reqs", "ssl_check_hostname", *_FILES}
    offered = known | ({"prefix"} if scheme.startswith("redis") else set())
    # Only names that look like one: anything else may be part of a password.
    if unknown := sorted(filter(re.compile("[a-z_]{1,32}").fullmatch, given.keys() - known)):
        raise ValueError(f"it has unknown options ({', '.join(unknown)}): give {_list(offered)}")
    if given.keys() - known:
        raise ValueError(f"it cannot be read: {_ENCODE}")
    if scheme not in _WITH_TLS:
        if given:
            raise ValueError(f"options of TLS need {scheme}s://")
        return None
    verify = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    check = given.get("ssl_check_hostname", "true").lower()
    if verify not in _VERIFY:
        raise ValueError("ssl_cert_reqs: give required, or none to verify nothing")
    if check not in _BOOLEANS:
        raise ValueError("ssl_check_hostname: give true or false")
    files = {argument: given[name] for name, argument in _FILES.items() if name in given}
    for name, argument in _FILES.items():
        if argument in files and not Path(files[argument]).is_file():
            raise ValueError(f"{name}: there is no such file")
    # Without a certificate that is verified, its name proves nothing.
    is_verified = _VERIFY[verify] is not ssl.CERT_NONE
    return Tls(verify=_VERIFY[verify], check_hostname=_BOOLEANS[check] and is_verified, files=files)


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))
