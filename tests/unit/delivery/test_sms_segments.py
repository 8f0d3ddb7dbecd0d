"""Parts of a text message: the cases in which carriers, pages and calculators differ."""

import pytest

from worker.domain.sms.segments import (
    GSM_BASIC,
    GSM_EXTENSION,
    UNCERTAIN,
    Segments,
    segments,
)

EMOJI = "\N{PILE OF POO}"
GSM, ASCII, UCS = "GSM-7", "ASCII-7", "UCS-2"

CASES = {
    "an empty text, as of a picture": ("", GSM, 1),
    "all of one part": ("a" * 160, GSM, 1),
    "a header takes seven septets of each part": ("a" * 161, GSM, 2),
    "two full parts": ("a" * 306, GSM, 2),
    "three parts": ("a" * 307, GSM, 3),
    "the most that Telnyx takes": ("a" * 1530, GSM, 10),
    "an extension counts two": ("€" * 80, GSM, 1),
    "one extension too many": ("€" * 81, GSM, 2),
    "an escape and its septet stay together": ("a" * 152 + "€" + "a" * 152, GSM, 3),
    "the same, moved by one, is full": ("a" * 151 + "€" + "a" * 153, GSM, 2),
    "all of one part in UCS-2": ("\u2019" + "a" * 69, UCS, 1),
    "a header takes three units": ("\u2019" + "a" * 70, UCS, 2),
    "two full parts in UCS-2": ("\u2019" + "a" * 133, UCS, 2),
    "three parts in UCS-2": ("\u2019" + "a" * 134, UCS, 3),
    "in UCS-2 an extension counts one": ("\u2019" + "[]{}~^\\|€" + "a" * 60, UCS, 1),
    "an emoji counts two": (EMOJI * 35, UCS, 1),
    "one emoji too many": (EMOJI * 36, UCS, 2),
    "a surrogate pair stays together": ("a" * 66 + EMOJI + "a" * 66, UCS, 3),
    "the same, moved by one, is full in UCS-2": ("a" * 65 + EMOJI + "a" * 67, UCS, 2),
    "CRLF counts two": ("\r\n" * 80, GSM, 1),
    "one CRLF too many": ("\r\n" * 80 + "a", GSM, 2),
    "a letter with a mark is UCS-2 unless composed": ("cafe\u0301", UCS, 1),
    "the same, composed": ("café", GSM, 1),
    "a tab is in no table": ("\t", UCS, 1),
}


@pytest.mark.parametrize(("text", "encoding", "parts"), CASES.values(), ids=CASES)
def test_parts_are_counted_as_carriers_do(text: str, encoding: str, parts: int) -> None:
    assert segments(text) == Segments(encoding=encoding, parts=parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("letter", sorted(UNCERTAIN))
def test_what_telnyx_does_not_list_counts_as_ucs_2(letter: str) -> None:
    assert segments(letter).encoding == UCS


def test_the_tables_are_those_of_the_standard() -> None:
    assert (len(GSM_BASIC), len(GSM_EXTENSION), len(UNCERTAIN)) == (127, 10, 13)
    assert UNCERTAIN < GSM_BASIC | GSM_EXTENSION
    assert {segments(letter).encoding for letter in (GSM_BASIC | GSM_EXTENSION) - UNCERTAIN} == {
        GSM
    }


@pytest.mark.parametrize(
    ("text", "encoding", "parts"),
    [
        ("[]{}~^\\|" * 20, ASCII, 1),
        ("[" * 161, ASCII, 2),
        ("`", ASCII, 1),
        ("é" * 70, UCS, 1),
        ("é" * 71, UCS, 2),
        ("€", UCS, 1),
    ],
)
def test_a_short_code_sends_ascii_or_ucs_2(text: str, encoding: str, parts: int) -> None:
    counted = segments(text, short_code=True)
    assert counted == Segments(encoding=encoding, parts=parts)  # type: ignore[arg-type]
