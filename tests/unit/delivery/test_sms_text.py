"""A reply as text for a phone: plain, cut or split."""

import re
from itertools import pairwise
from time import thread_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.sms.segments import segments
from worker.domain.sms.text import MARK, MAX_PIECES, cut, prepare, split, within_parts
from worker.domain.text.graphemes import cluster_ends

FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
GERMANY = "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}"
SCOTLAND = "\N{WAVING BLACK FLAG}\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
THUMB = "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}"
CLUSTERS = (
    FAMILY,
    GERMANY,
    SCOTLAND,
    THUMB,
    "x\u0323\u0307",
    "1\ufe0f\u20e3",
    "क्षि",
    "\u1100\u1161",
)

PLAIN = {
    "emphasis": (
        "**Yes**, *we* _are_ __open__ ***now***, ~~closed~~.",
        "Yes, we are open now, closed.",
    ),
    "emphasis of Chinese": ("这是**重点**内容", "这是重点内容"),
    "no emphasis": ("2*3*4 = 24, a_b_c, 5 * 3 * 2, *args", "2*3*4 = 24, a_b_c, 5 * 3 * 2, *args"),
    "nested": ("**a _b_ [c](https://x.io)**", "a b c (https://x.io)"),
    "link": ('See [our page](https://x.io/a_(b) "T").', "See our page (https://x.io/a_(b))."),
    "link that is its address": ("[x.io/a](https://x.io/a/)", "https://x.io/a/"),
    "link to write to": ("[Ann](mailto:ann@x.io)", "Ann (ann@x.io)"),
    "link without an address": ("[x]()", "x"),
    "picture": ("![map](https://x.io/m.png)", "map (https://x.io/m.png)"),
    "address in brackets": ("<https://x.io> <ann@x.io>", "https://x.io ann@x.io"),
    "address with underscores": ("https://x.io/_a_/*b*", "https://x.io/_a_/*b*"),
    "code": ("Say `hello` or ``bye``.", "Say hello or bye."),
    "fence": ("Run\n```sh\nmake demo\n```\nthen", "Run\nmake demo\nthen"),
    "headings": ("# Hours\n### Today ###\n#1 shop", "Hours\nToday ###\n#1 shop"),
    "bullets": ("* a\n  + b\n• c\n1. d", "- a\n  - b\n- c\n1. d"),
    "quote": ("> > said\nso", "said\nso"),
    "rule": ("a\n\n---\n\n* * *\nb", "a\n\nb"),
    "table": (
        "| Plan | Price | Users |\n|:---|---:|---|\n| **S** | 5 € | 1 |\n| M | | 2 |\nend",
        "Plan: Price, Users\nS: 5 €, 1\nM: 2\nend",
    ),
    "pipes without a table": ("a | b", "a | b"),
    "line break": ("a<br>b<BR/> c", "a\nb\nc"),
    "escaped": (r"1\. 3 \* 4", "1. 3 * 4"),
    "typography": ("“It\u2019s” \u2013 9—5… «ok» \u00d7 → ™", '"It\'s" - 9-5... "ok" x -> (TM)'),
    "fraction after a number": ("2½ cups, ¾ full", "2 1/2 cups, 3/4 full"),
    "spaces": ("a\u00a0b\tc\u2009d   e  \n\n\n\nf ", "a b c d e\n\nf"),
    "lines": ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
    "composed": ("cafe\u0301", "café"),
    "invisible": ("\ufeffa\u200bb\u2060c\u00add\x00\u200d\u200e", "abcd"),
    "variant of no emoji": ("©\ufe0f", "(C)"),
    "emoji keep their joiners": (FAMILY + GERMANY + "❤\ufe0f1\ufe0f\u20e3", ...),
    "Hebrew keeps its directions": ("\u05d0\u200f!", ...),
    "Persian keeps its joiners": ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", ...),
    "nothing": (" \u200b\n---\n\x00", ""),
}


@pytest.mark.parametrize(("text", "plain"), PLAIN.values(), ids=PLAIN)
def test_a_reply_becomes_plain_text(text: str, plain: str) -> None:
    assert prepare(text) == (text if plain is ... else plain)


WORDS = st.sampled_from(
    [
        *"[]()*_`#-|>\\",
        "**",
        "~~",
        "|--|--|",
        "<br>",
        "![",
        "](",
        "https://x.io/a_b",
        "- ",
        "> ",
        *"a9é€“½",
        "word",
        "end.",
        "What?",
        "日本語。",
        "Привет",
        "\u0301",
        "\u200b",
        "\u200d",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        *CLUSTERS,
    ]
)
TEXTS = st.lists(WORDS, max_size=250).map("".join)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_is_prepared_stays_as_it_is(text: str) -> None:
    prepared = prepare(text)
    assert prepare(prepared) == prepared


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def is_whole(text: str, end: int) -> bool:
    return end in set(cluster_ends(text))


@settings(max_examples=200, deadline=None)
@given(TEXTS.map(prepare), st.integers(1, 4), st.booleans())
def test_a_cut_text_fits_and_is_a_clean_beginning(text: str, most: int, short: bool) -> None:
    shortened = cut(text, within_parts(most, short_code=short))
    assert segments(shortened, short_code=short).parts <= most
    if shortened != text:
        kept = shortened.removesuffix(MARK)
        kept = kept if text.startswith(kept) else kept.removesuffix(" ")
        assert text.startswith(kept)
        assert is_whole(text, len(kept))
        assert cut(shortened, within_parts(most, short_code=short)) == shortened


@settings(max_examples=200, deadline=None)
@given(TEXTS.map(prepare), st.integers(1, 4))
def test_pieces_fit_and_join_to_the_text(text: str, most: int) -> None:
    pieces = split(text, within_parts(most))
    assert all(segments(piece).parts <= most for piece in pieces)
    assert len(pieces) <= MAX_PIECES
    if len(pieces) == 1:
        assert pieces == (text,)
        return
    bare = [piece.removeprefix(f"({n}/{len(pieces)}) ") for n, piece in enumerate(pieces, 1)]
    joined, wanted = (without_spaces(one) for one in ("".join(bare), text))
    assert joined == wanted or (
        len(pieces) == MAX_PIECES and wanted.startswith(joined.removesuffix(MARK))
    )
    at = 0
    for piece in bare[:-1]:
        start = text.index(piece, at)
        at = start + len(piece)
        assert start == 0 or is_whole(text, start)
        assert is_whole(text, at)


def test_a_cut_ends_after_a_sentence_or_else_after_a_word() -> None:
    sentence, words = "It is open from nine to five. ", "word " * 60
    fits = within_parts(1)
    assert cut(sentence * 8, fits) == (sentence * 5).strip() + " ..."
    assert cut("- an entry of a list\n" * 9, fits) == "- an entry of a list\n" * 6 + (
        "- an entry of a list..."
    )
    assert cut(words, fits) == ("word " * 31).strip() + MARK
    assert cut("Yes. " + "x" * 200, fits) == "Yes. " + "x" * 151 + MARK
    assert cut("Is it 3.5 or 4.5 " * 12, fits).endswith(("or...", "it...", "Is...", "5..."))


def test_a_space_with_a_mark_on_it_is_no_place_to_cut() -> None:
    assert split("x" * 50 + " \u0301" + "y" * 50, within_parts(1)) == (
        "(1/2) " + "x" * 50 + " \u0301" + "y" * 12,
        "(2/2) " + "y" * 38,
    )


def test_pieces_are_numbered() -> None:
    first, second = ("It is open. " * 12).strip(), ("Come into our shop! " * 7).strip()
    assert split(f"{first}\n\n{second}", within_parts(1)) == (f"(1/2) {first}", f"(2/2) {second}")
    assert split(first, within_parts(1)) == (first,)


def test_more_text_than_the_pieces_hold_is_cut() -> None:
    pieces = split("word " * 2000, within_parts(2))
    assert len(pieces) == MAX_PIECES
    assert pieces[-1].startswith("(9/9) word")
    assert pieces[-1].endswith("word" + MARK)


def test_a_letter_with_more_marks_than_fit_is_cut_all_the_same() -> None:
    text = "x" + "\u0323\u0324" * 400
    assert segments(cut(text, within_parts(4))).parts == 4


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_clusters_are_whole(cluster: str) -> None:
    assert list(cluster_ends(f"a{cluster}{cluster}b")) == [
        1,
        1 + len(cluster),
        1 + 2 * len(cluster),
        2 + 2 * len(cluster),
    ]
    assert list(cluster_ends("")) == []


@pytest.mark.parametrize(
    "part", ["*a ", "`a ", "[a](", "[a]( ", "_", "*", "|", "> ", " ", "<", "\\"]
)
def test_hostile_markup_takes_moments(part: str) -> None:
    text = "x" + part * (64_000 // len(part)) + "y"
    started = thread_time()
    cut(prepare(text), within_parts(10))
    assert thread_time() - started < 2


def test_pairs_of_flags_are_counted_from_the_first() -> None:
    ends = [0, *cluster_ends(GERMANY * 3 + GERMANY[0] + "x")]
    assert [b - a for a, b in pairwise(ends)] == [2, 2, 2, 1, 1]
