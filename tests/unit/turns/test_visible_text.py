"""The text of a model without its thoughts and markup, whole and piece by piece."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.turns.visible_text import VisibleStream, is_visible, visible_text

THOUGHT = "nothing but a thought</think>"
"""A stream shows it, until the final text takes it back: its tag comes last."""
HIDDEN = {
    "<think>a</think>Hello": "Hello",
    "  \n<think>\na\n</think>\n\nHello": "Hello",
    "<THINK>a</THINK> Hello": "Hello",
    "<think></think>\n\nHello": "Hello",
    "<think/>Hello": "Hello",
    "<think budget='3'>a</think>Hello": "Hello",
    "<thinking>a</thinking>Hello": "Hello",
    "<thought>a</thought>Hello": "Hello",
    "<reasoning>a</reasoning>Hello": "Hello",
    "[THINK]a[/THINK]Hello": "Hello",
    "\u25c1think\u25b7a\u25c1/think\u25b7Hello": "Hello",
    "<think>a</think>\n<think>b</think>Hello": "Hello",
    "<think>a<think>b</think>c</think>Hello": "Hello",
    "<think>a</think></think>Hello": "Hello",
    "<think>a <b>bold</b> word</think>Hello <b>you</b>": "Hello <b>you</b>",
    "<think>a": "",
    "<think>a\n\nHello": "",
    "</think>Hello": "Hello",
    "</think>\n\nHello": "Hello",
    "a thought\n</think>\n\nHello": "Hello",
    "a thought.</think>Hello": "Hello",
    "one</think>two</think>Hello": "Hello",
    "a thought.</think> Hello": "Hello",
    "a thought\n</think>\n<tool_call>{}</tool_call>Hello": "Hello",
    THOUGHT: "",
    '<tool_call>{"name": "look"}</tool_call>': "",
    '<tool_call>\n{"name": "look"': "",
    "<tool_call>{}</tool_call>\n<tool_call>{}</tool_call>": "",
    "<tool_call>\n{}\n</tool_call>\nHello": "Hello",
    "<think>a</think><tool_call>{}</tool_call>": "",
    "<function=look><parameter=at>1</parameter></function>": "",
    "<minimax:tool_call>a</minimax:tool_call>": "",
    '[TOOL_CALLS][{"name": "look"}]': "",
    "<|tool_calls_section_begin|>a<|tool_calls_section_end|>": "",
    "": "",
    " \n\t": "",
    "\u200b": "",
    "\ufeff\u2060\u00a0\u200d": "",
    "\u3164\u2800\u115f": "",
    "\ufffd\ufffd\ufffc": "",
    "\ufe0f\u034f": "",
    "<think>a</think>\u200b": "",
}
UNTOUCHED = (
    "Hello",
    " Hello\n",
    "\ufeffHello",
    "\u200fshalom",
    "<div>Hello</div>",
    "<b>Hello</b>, <i>you</i>",
    "<!-- a comment -->",
    "<",
    "<th",
    "<thi",
    "<table><tr><th>a</th></tr></table>",
    "<thinker>a</thinker>",
    "2 < 3 and 4 > 3",
    "[link](https://example.org)",
    'Thanks for writing! You said "what does </think> mean in HTML?"',
    "Write `</think>` at the end.",
    "Models close their thoughts with </think>, then they answer.",
    "The block <think>a</think> is a model's.",
    "Like this:\n```\nthoughts\n</think>\nanswer\n```",
    "A <tool_call> is markup.",
    "\U0001f44d",
    "\u0378",  # not assigned yet: perhaps a new emoji
    "...",
)


@pytest.mark.parametrize("text", HIDDEN)
def test_thoughts_and_markup_at_the_head_are_not_shown(text: str) -> None:
    assert visible_text(text) == HIDDEN[text]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_any_other_text_is_shown_as_it_is(text: str) -> None:
    assert visible_text(text) == text


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("text", [one for one in (*HIDDEN, *UNTOUCHED) if one != THOUGHT])
def test_a_stream_shows_nothing_that_the_whole_text_hides(text: str, size: int) -> None:
    stream, shown = VisibleStream(), ""
    for start in range(0, len(text), size):
        piece = stream.feed(text[start : start + size])
        shown = "" if piece is None else shown + piece
    # At the end the whole text is shown, so less is right, and more is not.
    assert visible_text(text).startswith(shown)


@given(st.lists(st.sampled_from([*HIDDEN, *UNTOUCHED, "<think>", "</think>", "```", "a"])))
def test_no_text_is_read_twice(parts: list[str]) -> None:
    text = visible_text("".join(parts))
    assert text in "".join(parts)
    assert is_visible(text) or text == ""


def test_what_is_behind_thousands_of_stray_ends_is_shown() -> None:
    assert visible_text("a thought.</think>" * 3000 + "<think>b</think>Hello") == "Hello"


@pytest.mark.parametrize(
    "piece",
    [
        *("<think>", "</think>", "<think></think>", "`</think> ", "<", "[think", " ", "\u200b"),
        # Thoughts that nobody opened, again and again.
        *("a</think>", "a\n</think>\n", "<think>a</think>b</think>", "a</think>\n```"),
    ],
)
def test_the_work_grows_with_the_text_and_not_faster(piece: str) -> None:
    visible_text(piece * 50_000)
    stream = VisibleStream()
    for _ in range(20_000):
        stream.feed(piece)
