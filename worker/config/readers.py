"""Readers of settings: text to value. Their `ValueError` names the fix, and not the value."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final
from uuid import UUID

from worker.domain.email.server import IMAP_PORTS, SMTP_PORTS, parse_server

LEAST_TOKEN: Final = 16
"""Least number of characters of a token to log in with: a shorter one could be guessed."""


def key(text: str) -> str:
    """Return a key as it is."""
    if not all("!" <= one <= "~" for one in text):
        raise ValueError("it has a blank, or a character that no key has: give the key alone")
    return text


def postgres(text: str) -> str:
    """Return an address of Postgres in the form that its driver takes."""
    scheme, _, rest = text.partition("://")
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not rest:
        raise ValueError("give postgresql://user:password@host/database")
    from message_worker_client.postgres import Address  # noqa: PLC0415 - a sender by broker needs no driver

    return Address(f"postgresql://{rest}").url


def broker(text: str) -> str:
    """Return an address of Redis or RabbitMQ as it is."""
    from message_worker_client.broker_url import read_broker_url  # noqa: PLC0415 - `health` asks Postgres alone

    read_broker_url(text)
    return text


def address_of(server: str) -> Callable[[str], str]:
    """Return a reader of the base of an HTTP address."""

    def read(text: str) -> str:
        if not text.startswith(("https://", "http://")) or "?" in text or "#" in text:
            raise ValueError(f"give {server}: https://host or with a path")
        return text.rstrip("/")

    return read


def namespace(text: str) -> UUID:
    """Return a UUID."""
    with suppress(ValueError):
        return UUID(text)
    # Unchained: Python quotes what it cannot read.
    raise ValueError("give a UUID, such as `uuidgen` prints")


def smtp(text: str) -> str:
    """Return an address of SMTP as it is."""
    parse_server(text, SMTP_PORTS)
    return text


def imap(text: str) -> str:
    """Return an address of IMAP as it is."""
    if parse_server(text, IMAP_PORTS).user is None:
        raise ValueError("give the user, too: imaps://user:password@host/INBOX")
    return text


def tokens(text: str) -> Mapping[str, str]:
    """Return the tokens of people, by name."""
    found: dict[str, str] = {}
    for one in text.split():
        name, _, token = one.partition(":")
        if not name or len(token) < LEAST_TOKEN or name in found:
            raise ValueError(
                "give NAME:TOKEN for each person, with blanks between them, each name once;"
                f" a token has at least {LEAST_TOKEN} characters"
            )
        found[name] = token
    return found


def header(text: str) -> str:
    """Return the name of an HTTP header."""
    if re.fullmatch(r"[A-Za-z0-9-]+", text, re.ASCII) is None:
        raise ValueError("give the name of a header, such as X-Forwarded-User")
    return text


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers within these limits."""

    def read(text: str) -> int:
        with suppress(ValueError):
            if least <= (number := int(text)) <= (number if most is None else most):
                return number
        raise ValueError(f"give a whole number from {least}" + (f" to {most}" if most else ""))

    return read


def flag(text: str) -> bool:
    """Return a truth value."""
    known = {"true": True, "1": True, "yes": True, "on": True}
    known |= {"false": False, "0": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError("give true or false")
    return known[text.lower()]


def level(text: str) -> str:
    """Return a level of logging."""
    if text.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ValueError("give DEBUG, INFO, WARNING or ERROR")
    return text.upper()
