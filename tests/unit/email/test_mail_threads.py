"""Threads: which mail answers which, and that no forged id leads to another person's thread."""

from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.domain.email import marks
from worker.domain.email.mail import Address, Mail
from worker.domain.email.threads import (
    KnownMail,
    candidates,
    canonical_subject,
    references_out,
    reply_subject,
    thread_key,
    thread_of,
)
from worker.domain.ids import DeliveryId

KEY: Final = b"k" * 32
OURS: Final = "support@shop.example"
ADA, EVE = "ada@example.org", "eve@example.net"
FIRST: Final = DeliveryId(4711)


def mail(**changes: object) -> Mail:
    usual: dict[str, object] = {
        "headers": {},
        "message_id": "<new@example.org>",
        "sender": Address(ADA),
        "subject": "Re: Order",
    }
    return Mail(**{**usual, **changes})  # type: ignore[arg-type]


def known(
    person: str = ADA, *, root: str = "<root@example.org>", subject: str = "Order"
) -> KnownMail:
    key = thread_key(OURS, person, root)
    return KnownMail(ours=OURS, person=person, thread=key, root=root, subject=subject)


ROOT: Final = thread_key(OURS, ADA, "<root@example.org>")


def thread(one: Mail, person: str = ADA, **by_id: KnownMail) -> str:
    return thread_of(
        one,
        ours=OURS,
        person=person,
        key=KEY,
        by_id={f"<{name}@example.org>": value for name, value in by_id.items()},
        by_delivery={FIRST: known()},
    ).key


def test_a_reply_to_ours_is_in_the_thread_by_its_id() -> None:
    ours = marks.message_id(FIRST, "shop.example", KEY)
    for reply in (
        mail(in_reply_to=(ours,)),
        mail(references=("<x@y>", ours)),
        mail(in_reply_to=(ours.upper(),)),
    ):
        assert thread(reply) == ROOT


def test_a_mail_that_answers_nothing_known_begins_a_thread() -> None:
    own = thread_key(OURS, ADA, "<new@example.org>")
    for one in (
        mail(),
        mail(in_reply_to=("<>", "< >", "")),
        mail(references=("<gone@example.org>",)),
    ):
        assert thread(one) == own
    assert candidates(mail(in_reply_to=("<>", "")), KEY) == ()


def test_an_older_reference_counts_only_under_the_same_subject() -> None:
    references = ("<old@example.org>", "<gone@example.org>")
    assert thread(mail(references=references), old=known()) == ROOT
    changed = mail(references=references, subject="Another question")
    assert thread(changed, old=known()) != ROOT
    assert thread(mail(references=("<old@example.org>",), subject="Another"), old=known()) == ROOT
    assert thread(mail(in_reply_to=("<old@example.org>",), subject="Another"), old=known()) == ROOT


def test_in_reply_to_comes_before_references() -> None:
    one = mail(in_reply_to=("<a@example.org>",), references=("<b@example.org>",))
    other = known(root="<other@example.org>")
    assert thread(one, a=other, b=known()) == thread_key(OURS, ADA, "<other@example.org>")


def test_no_id_leads_into_the_thread_of_another_person() -> None:
    ours = marks.message_id(FIRST, "shop.example", KEY)
    for one in (
        mail(in_reply_to=(ours,)),
        mail(references=("<adas@example.org>",)),
    ):
        found = thread(one, person=EVE, adas=known())
        assert found == thread_key(OURS, EVE, "<new@example.org>")
        assert found != thread(one, adas=known())


_IDS = st.one_of(
    st.text(max_size=60),
    st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=24, max_size=24).map(
        lambda told: f"<{FIRST}.{told}@shop.example>"
    ),
    st.integers(1, 10**6).map(lambda n: f"<{n}.{'a' * 24}@shop.example>"),
)


@settings(max_examples=100, deadline=None)
@given(_IDS, _IDS, _IDS)
@example(f"<4711.{'a' * 24}@shop.example>", "<4711@shop.example>", "<4711.@shop.example>")
def test_a_forged_id_is_never_ours_and_reaches_nobodys_thread(
    own: str, in_reply_to: str, reference: str
) -> None:
    forged = mail(
        message_id=own,
        in_reply_to=(in_reply_to,),
        references=(reference,),
    )
    assert all(marks.delivery_of_id(one, KEY) is None for one in (own, in_reply_to, reference))
    assert all(one.delivery is None for one in candidates(forged, KEY))
    assert thread(forged) == thread_key(OURS, ADA, own)
    assert thread(forged, person=EVE) != ROOT


@settings(deadline=None)
@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.binary(min_size=1, max_size=40))
def test_a_mark_is_of_one_delivery_one_purpose_and_one_key(
    one: int, other: int, key: bytes
) -> None:
    delivery = DeliveryId(one)
    own = marks.message_id(delivery, "shop.example", key)
    assert marks.delivery_of_id(own, key) == delivery
    assert marks.delivery_of_id(own, key + b"x") is None
    bounce = marks.bounce_address(delivery, "shop.example", key)
    assert marks.delivery_of_bounce(bounce, key) == delivery
    assert marks.delivery_of_bounce(f"bounce+{own.strip('<>')}", key) is None
    if other != one:
        assert marks.delivery_of_id(own.replace(str(one), str(other), 1), key) is None


@pytest.mark.parametrize(
    ("subject", "answer", "canonical"),
    [
        ("Order", "Re: Order", "order"),
        ("Re: Order", "Re: Order", "order"),
        ("RE: AW: Re[2]: SV: Order", "Re: Order", "order"),
        ("回复\uff1a订单", "Re: 订单", "订单"),
        ("Antw: Fwd: Order", "Re: Fwd: Order", "order"),
        ("Re: [list] Order", "Re: [list] Order", "[list] order"),
        ("Return of my order", "Re: Return of my order", "return of my order"),
        ("  Two\n words ", "Re: Two words", "two words"),
        ("Re:", "Re:", ""),
        ("", "Re:", ""),
    ],
)
def test_the_subject_of_an_answer_has_re_once(subject: str, answer: str, canonical: str) -> None:
    assert reply_subject(subject) == answer
    assert reply_subject(answer) == answer
    assert canonical_subject(subject) == canonical


def test_references_are_the_whole_chain_bounded() -> None:
    assert references_out(mail()) == ("<new@example.org>",)
    assert references_out(mail(in_reply_to=("<a@b>",))) == ("<a@b>", "<new@example.org>")
    chain = tuple(f"<{n}@b>" for n in range(50))
    out = references_out(mail(references=chain))
    assert (len(out), out[0], out[1], out[-1]) == (21, "<0@b>", "<31@b>", "<new@example.org>")
    loop = mail(references=("<a@b>", "<new@example.org>", "<a@b>"))
    assert references_out(loop) == ("<a@b>", "<new@example.org>")
