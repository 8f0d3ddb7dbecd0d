"""Ben writes anything, and knows all ids of Ada's thread: none of Ben's mails gets into it."""

from collections.abc import Iterator
from itertools import count
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.mails import ADA, mail_of
from tests.support.post import Post, post_in
from tests.support.world import World
from worker.domain.email import marks

BEN: Final = "ben@example.com"
_SENDERS = st.sampled_from(
    (
        BEN,
        f'"{ADA}" <{BEN}>',
        f"{ADA} <{BEN}>",
        f"{BEN}, {ADA}",
        f"=?utf-8?q?ada=40example.org?= <{BEN}>",
        f"({ADA}) {BEN}",
        f'"{ADA}"@example.com',
        f"{ADA}.example.com",
        f"Team: {BEN}, {ADA};",
        "\u0430da@example.org",
        "ada@example.org\u200b",
        "ada+ben@example.org",
    )
)
_NAMES = ("hers", "ours", "forged", "other", "<>", "")
"""Ids that exist only when the test runs."""
_WAYS = ("{}", "<{}>", " < {} > ", "<<{}>>", "<{}>x", "{}>", "<{}", "<{}> <{}>", '"<{}>"', "{}\0")
_CHANGES = (str, str.upper, str.swapcase, lambda one: one[:-1], lambda one: f"x{one}")
_IDS = st.tuples(st.sampled_from(_NAMES), st.sampled_from(_WAYS), st.sampled_from(_CHANGES))
_MAILS = st.fixed_dictionaries(
    {
        "sender": _SENDERS,
        "subject": st.sampled_from(("Order", "Re: Order", "Other", "")),
        "message_id": _IDS,
        "in_reply_to": st.lists(_IDS, max_size=2),
        "references": st.lists(_IDS, max_size=4),
    }
)


@pytest.fixture
def post(world: World) -> Iterator[Post]:
    with post_in(world) as made:
        yield made


@pytest.mark.parametrize(
    "examples", [25, pytest.param(1500, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_no_id_in_a_mail_leads_into_the_thread_of_another_person(post: Post, examples: int) -> None:
    post.comes(mail_of())
    delivery = post.answered()
    hers = set(post.threads())
    numbers, value = count(1), post.world.database.value
    ids = {
        "hers": "one@example.org",
        "ours": post.our_id(delivery).strip("<>"),
        "forged": marks.message_id(delivery, "acme.example", b"guessed").strip("<>"),
        "other": post.our_id(delivery).strip("<>").replace(str(delivery), f"{delivery}0", 1),
    }

    def written(one: tuple[str, str, object]) -> str:
        name, way, change = one
        return way.replace("{}", change(ids.get(name, name)))  # type: ignore[operator]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_MAILS)
    @example(
        {
            "sender": BEN,
            "subject": "Re: Order",
            "message_id": ("hers", "<{}>", str),
            "in_reply_to": [("ours", "<{}>", str)],
            "references": [("hers", "<{}>", str), ("ours", "<{}>", str)],
        }
    )
    def check(mail: dict[str, object]) -> None:
        raw = mail_of(
            f"Text {next(numbers)} of Ben",
            sender=mail["sender"],
            subject=mail["subject"],
            message_id=written(mail["message_id"]),
            In_Reply_To=" ".join(map(written, mail["in_reply_to"])),
            References=" ".join(map(written, mail["references"])),
        )
        post.comes(raw, BEN)
        found = value(
            "SELECT count(*) FROM mails WHERE smtp_sender = %s"
            " AND (thread = ANY(%s) OR address = %s)",
            BEN,
            list(hers),
            ADA,
        )
        assert found == 0

    check()
    assert value("SELECT count(*) FROM mails WHERE smtp_sender = %s AND verdict IS NULL", BEN) > 0
    found = post.world.database.rows("SELECT DISTINCT thread, recipient, address FROM mails")
    assert len(found) == len({row["thread"] for row in found})
    post.comes(mail_of("Thanks", message_id="<two@x>", In_Reply_To=f"<{ids['ours']}>"))
    assert set(post.threads()[-1:]) == hers
