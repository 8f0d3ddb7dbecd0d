"""Which addresses are one group of senders: pure, for any address that an envelope may have."""

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.fairness import Fairness

DIGITS = st.text("0123456789", min_size=4, max_size=4)
LABEL = st.from_regex(r"[a-z][a-z0-9-]{3,15}", fullmatch=True)
LOCAL = st.text(min_size=1, max_size=20)


def same(first: str, second: str, fairness: Fairness | None = None) -> bool:
    fairness = fairness or Fairness()
    return fairness.group_of("sms", first) == fairness.group_of("sms", second)


@given(st.text(), st.text(max_size=600))
def test_any_address_has_one_key_that_a_bigint_holds(channel: str, address: str) -> None:
    key = Fairness().group_of(channel, address)
    assert key == Fairness().group_of(channel, address)
    assert -(2**63) <= key < 2**63


@given(DIGITS, DIGITS)
def test_a_block_of_numbers_is_one_group(first: str, second: str) -> None:
    assert same(f"+1312555{first}", f"+1312555{second}")
    assert not same(f"+1312555{first}", f"+1312556{second}")


@given(DIGITS, st.integers(0, 10))
def test_the_number_of_last_digits_is_a_setting(digits: str, free: int) -> None:
    fairness = Fairness(group_digits=free)
    number = f"+13125{digits}"
    for place in range(1, len(number)):
        digit = "1" if number[place] == "0" else "0"
        other = number[:place] + digit + number[place + 1 :]
        assert same(number, other, fairness) == (place >= len(number) - free)


@given(LOCAL, LOCAL, LABEL, LABEL, LABEL)
def test_all_below_a_domain_are_one_group(one: str, two: str, a: str, b: str, name: str) -> None:
    assert same(f"{one}@{name}.example", f"{two}@{a}.{b}.{name.upper()}.example.")
    assert same(f"{one}@{name}.co.uk", f"{two}@{a}.{name}.co.uk")
    assert not same(f"{one}@{name}.co.uk", f"{two}@x{name}.co.uk")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_other_address_is_a_group_of_its_own(first: str, second: str) -> None:
    one, two = f"u{first.replace('@', '')}", f"u{second.replace('@', '')}"
    assert same(one, two) == (one == two)


@given(st.text(), st.text(), st.text())
def test_channels_have_groups_of_their_own(first: str, second: str, address: str) -> None:
    group = Fairness().group_of
    assert (group(first, address) == group(second, address)) == (first == second)
