"""Mails, from their bytes to rows: a person's becomes a message, a machine's does not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.support.mails import ADA, AGENTS, mail_of, smtp, take_mail
from tests.support.post import Post, post_in
from tests.support.world import World
from worker.domain.email.mail import SmtpEnvelope
from worker.store.database import Database


@pytest.fixture
def post(world: World) -> Iterator[Post]:
    with post_in(world) as made:
        yield made


def test_a_mail_is_a_message_with_its_row_and_the_same_mail_again_changes_nothing(
    post: Post,
) -> None:
    raw = mail_of(Date="Mon, 30 Nov 2026 10:00:00 +0100")
    taken = post.comes(raw, recipient="help+orders@acme.example")
    again = post.comes(raw, sender=None, recipient=None)  # from the mailbox
    assert (again.mail, again.task) == (None, taken.task)
    assert post.world.database.value("SELECT count(*) FROM inbox") == 1
    post.drained()
    (message,) = post.world.database.rows("SELECT message_id, task_id, envelope FROM messages")
    assert (message["message_id"], message["task_id"]) == ("<one@example.org>", taken.task)
    assert message["envelope"]["text"] == "Subject: Order\n\nWhere is my order?"
    assert message["envelope"]["sent_at"] == "2026-11-30T10:00:00+01:00"
    (row,) = post.world.database.rows("SELECT * FROM mails")
    (user,) = post.world.database.rows(
        "SELECT channel, recipient, address, thread FROM channel_users"
    )
    assert {name: row[name] for name in user} == user
    assert (row["root"], row["refs"], row["smtp_sender"]) == (
        *("<one@example.org>", ["<one@example.org>"]),
        ADA,
    )
    assert (row["original"].strip(), row["raw"], row["verdict"]) == (
        *("Where is my order?", None),
        None,
    )


def test_an_address_is_stored_as_its_channel_user_has_it(post: Post) -> None:
    post.comes(mail_of(sender="Ze\u0301@Example.ORG"))
    post.drained()
    stored = post.world.database.value("SELECT address FROM mails")
    assert stored == post.world.database.value("SELECT address FROM channel_users")
    assert stored == "Z\u00e9@example.org"


def test_two_processes_that_take_one_mail_at_once_make_one_message(post: Post) -> None:
    raw = mail_of()
    with ThreadPoolExecutor(4) as threads:
        taken = [one.result() for one in [threads.submit(post.comes, raw) for _ in range(8)]]
    assert sum(one.mail is not None for one in taken) == 1
    assert post.world.database.value("SELECT count(*) FROM inbox") == 1


def test_an_answer_continues_its_thread_and_our_quoted_reply_is_left_out(post: Post) -> None:
    post.comes(mail_of())
    ours = post.our_id(post.answered("It left yesterday, and comes on Friday at noon."))
    post.world.clock.advance(60)
    said = (
        "Thank you! Can it come on Monday?\r\n\r\n> It left yesterday, and comes on Friday at noon."
    )
    reply = {"subject": "Re: Order", "In_Reply_To": ours, "References": f"<one@example.org> {ours}"}
    taken = post.comes(mail_of(said, message_id="<two@example.org>", **reply))
    assert taken.rule is None
    assert len(set(post.threads())) == 1
    post.drained()
    text = post.world.messages()[1]["text"]
    assert text.startswith("Thank you! Can it come on Monday?\n")
    assert "Friday" not in text
    row = post.world.database.rows("SELECT * FROM mails WHERE message_id = '<two@example.org>'")[0]
    assert (row["left_out"], row["root"]) == (1, "<one@example.org>")
    assert "Friday" in row["original"]


@pytest.mark.parametrize(
    ("raw", "sender", "rule"),
    [
        (mail_of(Auto_Submitted="auto-replied"), ADA, "auto_submitted"),
        (mail_of(), "", "null_path"),
        (mail_of(sender="help@acme.example"), ADA, "own_mail"),
        (mail_of(sender=""), ADA, "no_sender"),
    ],
)
def test_a_machine_gets_a_row_in_mails_and_nobody_becomes_a_channel_user(
    post: Post, raw: bytes, sender: str, rule: str
) -> None:
    taken = post.comes(raw, sender)
    assert (taken.rule, taken.task) == (rule, None)
    assert post.world.database.value("SELECT verdict FROM mails") == rule
    assert post.world.database.value("SELECT count(*) FROM inbox") == 0


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (mail_of(List_Id="<news.example.org>"), "bulk"),
        (mail_of(sender="noreply@example.org"), "no_reply"),
        (mail_of(to="others@example.org"), "not_addressed"),
        (mail_of(X_Spam_Flag="YES"), "spam"),
        (mail_of(subject="Out of office: away"), "auto_reply"),
        (mail_of(""), "empty"),
        (mail_of(Content_Type="text/calendar; method=REQUEST"), "calendar"),
        (mail_of("-----BEGIN PGP MESSAGE-----"), "encrypted"),
    ],
)
def test_what_may_be_a_machine_is_visible_and_not_answered(
    post: Post, raw: bytes, outcome: str
) -> None:
    post.comes(raw, recipient=None)
    post.drained()
    assert post.outcomes() == [("skipped", outcome)]
    assert post.world.database.value("SELECT count(*) FROM dead_letters") == 0


def test_the_configuration_allows_senders_and_keeps_raw_mails(world: World) -> None:
    database = Database(world.database.url)
    more = 'allow = ["shop.example"]\nkeep_raw = true\nauthserv_id = "mx.acme.example"\n'
    take = take_mail(world, database, AGENTS + more)
    results = "mx.acme.example; dmarc=pass header.from=shop.example"
    raw = mail_of(sender="noreply@shop.example", Authentication_Results=results)
    assert take.take(raw, smtp()).rule is None
    (row,) = world.database.rows("SELECT raw, dmarc FROM mails")
    assert (row["raw"], row["dmarc"]) == (raw, "pass")
    database.close()


def test_unsubscribe_me_is_an_opt_out_and_later_mails_are_not_answered(post: Post) -> None:
    post.comes(mail_of("Please unsubscribe me."))
    post.comes(mail_of("Where is my order?", message_id="<two@example.org>"))
    post.drained()
    assert [outcome for _, outcome in post.outcomes()] == ["opt_out", "opted_out"]
    (entry,) = post.world.database.rows("SELECT scope, source, stopped FROM consents")
    assert entry == {"scope": "email", "source": "natural", "stopped": True}


def test_one_text_twice_and_an_answer_at_once_are_a_loop(post: Post) -> None:
    post.comes(mail_of())
    ours = post.our_id(post.answered())
    at_once = {"subject": "Re: Order", "In_Reply_To": ours}
    assert post.comes(mail_of("I am away.", message_id="<two@x>", **at_once)).rule == "repeated"
    post.world.clock.advance(600)
    assert post.comes(mail_of("I am away.", message_id="<three@x>")).rule == "repeated"
    assert post.comes(mail_of("It left yesterday.", message_id="<four@x>")).rule is None
    back = post.comes(mail_of("It left yesterday.", message_id="<five@x>", **at_once))
    assert back.rule == "repeated"


def test_many_mails_of_one_address_or_of_a_domain_in_a_loop_end_for_an_hour(post: Post) -> None:
    for number in range(10):
        raw = mail_of(f"Text {number}", message_id=f"<{number}@x>", subject=f"Topic {number}")
        assert post.comes(raw).rule is None
    # Those that waited while the service was stopped answer none of ours.
    stopped_at = post.world.database.value("SELECT service_now()") - timedelta(days=3)
    backlog = SmtpEnvelope(arrived=stopped_at)
    waited = mail_of("Anybody there?", message_id="<waited@x>")
    assert post.take.take(waited, backlog).rule is None
    at_once = SmtpEnvelope(arrived=stopped_at + timedelta(days=3, minutes=-9))
    flood = mail_of("Hello?", message_id="<flood@x>")
    assert post.take.take(flood, at_once).rule == "rate"
    eleventh = mail_of("One more", message_id="<11@x>")
    assert post.comes(eleventh).rule == "rate"
    post.world.clock.advance(3700)
    assert post.comes(mail_of("One more", message_id="<12@x>")).rule is None
    again = {"subject": "Re: Loop", "In_Reply_To": "<any@x>"}
    for number in range(101):
        raw = mail_of(f"Hm {number}", sender=f"m{number}@example.net", **again)
        rule = post.comes(raw).rule
        assert rule == ("rate" if number == 100 else None)
    waited = mail_of("Hm", sender="m0@example.net", message_id="<waited too@x>", **again)
    assert post.take.take(waited, backlog).rule is None
    # A new topic of somebody else at that provider is no loop.
    assert post.comes(mail_of("Hello", sender="eve@example.net")).rule is None
