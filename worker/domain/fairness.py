"""Fairness inside an agent: which turns wait behind those of other senders.

One address may write on many threads, and many addresses may belong to one sender. So the turns of
one address, and of one group of addresses, that are due at the same time are counted. Beyond a
number they are surplus: they start when no others wait, and get a small share of the slots while
others do.

    +1 312 555 0042          the number's block: without its last four digits
    ann@mail.shop.example    the domain that somebody registered: shop.example
    anything else            the address itself
"""

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

_NUMBER: Final = re.compile(r"\+[0-9]+")
_MAX_SECOND_LEVEL: Final = 3
"""Length up to which a label before the last is part of a suffix, such as co.uk and com.au."""


class Share(NamedTuple):
    """The share of the slots that a turn uses: its agent's, or what the agent has for surplus."""

    agent: str
    surplus: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """How many turns of one sender may be due before the others are surplus."""

    turns_per_address: int = 3
    turns_per_group: int = 20
    group_digits: int = 4
    """Numbers that differ only in this many last digits are one group."""

    def group_of(self, channel: str, address: str) -> int:
        """Return the key of the group that an address belongs to, of 64 bits with a sign."""
        name = f"{channel}\0{self._group_name(address)}"
        # A hash, because a name may be long, and is a part of somebody's address.
        digest = blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, signed=True)

    def _group_name(self, address: str) -> str:
        if _NUMBER.fullmatch(address):
            return address[: max(1, len(address) - self.group_digits)]
        local, _, domain = address.rpartition("@")
        return f"@{_registered(domain)}" if local and domain else address


def _registered(domain: str) -> str:
    """Return the part of a domain below which its owner may make up any names; a guess."""
    labels = domain.lower().rstrip(".").split(".")
    wide = len(labels) > 2 and len(labels[-2]) <= _MAX_SECOND_LEVEL  # noqa: PLR2004 - a.co.uk
    return ".".join(labels[-3 if wide else -2 :])
