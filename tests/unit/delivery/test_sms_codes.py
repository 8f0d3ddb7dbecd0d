"""Telnyx's error codes of messages."""

import pytest

from worker.channels.sms.codes import TROUBLES, Trouble, reason_of


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("40300", Trouble.PERSON),
        ("40322", Trouble.TEXT),
        ("40305", Trouble.SETUP),
        ("40333", Trouble.PROFILE),
        ("40318", Trouble.SLOW),
        ("10011", Trouble.RATE),
        ("40320", Trouble.SENDER),
    ],
)
def test_a_code_says_what_it_is_about(code: str, trouble: Trouble) -> None:
    assert TROUBLES[code] is trouble


def test_a_reason_is_a_word_or_the_code() -> None:
    assert reason_of("40300") == "opted_out"
    assert reason_of("40310") == "code 40310"
