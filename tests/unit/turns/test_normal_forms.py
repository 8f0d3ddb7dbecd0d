"""Texts with thousands of marks on a letter: comparing them must not hold a process up."""

import sys
import unicodedata
from time import thread_time

import pytest

from worker.domain.text.normal_forms import BECOME_MARKS, MAX_MARKS, normalized, same_text

PAIRS = ("\u0301\u0316", "\u0f73", "\uff9e\u0301", "\u0f75\u0f81")
"""Each makes marks of different classes, which have to be sorted."""


@pytest.mark.parametrize("pair", PAIRS)
def test_a_message_of_marks_is_compared_at_once(pair: str) -> None:
    text = "a" + pair * (65_536 // len(pair.encode()))
    began = thread_time()
    assert same_text(text, text + " ")
    # Without the limit it takes seconds, for the work grows with the square of the length.
    assert thread_time() - began < 0.5


def test_every_character_that_becomes_a_mark_is_known() -> None:
    found = {
        chr(code)
        for code in range(sys.maxunicode + 1)
        if not 0xD800 <= code < 0xE000
        and not unicodedata.combining(chr(code))
        and unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0])
    }
    assert found == set(BECOME_MARKS)


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_what_people_write_is_normalised_as_ever(form: str) -> None:
    text = "Crème brûlée, Việt Nam, नमस्ते, ｶﾞ, e\u0301, ﬁ, 각 " * 40
    assert normalized(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]
    most = "x" * 300 + "a" + "\u0301\u0316" * (MAX_MARKS // 2) + "b"
    assert normalized(form, most) == unicodedata.normalize(form, most)  # type: ignore[arg-type]
