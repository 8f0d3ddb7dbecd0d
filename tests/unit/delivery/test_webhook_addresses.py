"""Which addresses a webhook may go to without being allowed to."""

import pytest

from worker.channels.public_addresses import is_public


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"],
)
def test_the_internets_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1"),  # noqa: S104
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1"),
        *("192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::7f00:1", "fe80::1", "fe80::1%2", "fc00::1", "fd12::1", "fec0::1"),
        *("ff02::1", "100::1", "2001:db8::1", "3fff::1", "2001:20::1"),
    ],
)
def test_private_and_special_addresses_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:8.8.8.8"),  # mapped
        *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"),  # NAT64
        *("2002:7f00:1::1", "2001:0:7f00:1::1", "::8.8.8.8"),  # 6to4, Teredo, compatible
    ],
)
def test_addresses_with_another_inside_are_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["", "localhost", "127.1", "8.8.8.8/32", "2130706433"])
def test_what_is_no_address_is_not(address: str) -> None:
    assert not is_public(address)
