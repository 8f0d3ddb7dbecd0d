"""Decides whether an address is public: a request to another one could reach internal services.

IPv4: all but the special ones. IPv6: only global unicast, without the ranges that carry an IPv4
address inside (6to4, Teredo; mapped and NAT64 addresses are no global unicast). The source is
IANA's registries of special-purpose addresses.
"""

from ipaddress import ip_address, ip_network
from typing import Final

# Not `ip_address(...).is_global`: its answers differ between releases of Python.
_NOT_PUBLIC: Final = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, with the clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocols, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
_GLOBAL_UNICAST: Final = ip_network("2000::/3")


def is_public(text: str) -> bool:
    """Return whether an address, as text, belongs to the public internet."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    # A network never contains an address of the other version.
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.version == 4 or address in _GLOBAL_UNICAST  # noqa: PLR2004 IPv4
