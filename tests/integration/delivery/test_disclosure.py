"""People are told that an AI writes to them: once in a conversation, and in every mail."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.delivery.test_mail_channel import wrote
from tests.integration.delivery.test_sms_channel import again, outbound, texted
from tests.support.smtp_server import Mailbox, smtp_server
from tests.support.world import World
from worker.domain.people.disclosure import LANGUAGES, disclosure_text
from worker.domain.people.policies import Disclosure, HandOver
from worker.domain.sms.segments import segments
from worker.sandbox.simulator.behaviour.model import Script

SMS = '[channels.sms]\ndriver = "telnyx"\n'
SAYS = "You are writing with an AI assistant."
MAIL = """
[agents.default.hand_over]
words = ["HUMAN"]
[channels.email]
driver = "smtp"
disclosure.language = "de"
[channels.email.mail]
addresses = ["help@acme.example"]
name = "Acme"
"""


def told(world: World) -> list[dict[str, Any]]:
    return world.database.rows("SELECT delivery_id, language, text FROM disclosures ORDER BY id")


def said(world: World) -> list[bool]:
    """Whether each text message begins with it."""
    return [one.text.startswith(f"{SAYS}\n") for one in outbound(world)]


def test_the_first_text_message_of_a_conversation_says_it_and_no_other(world: World) -> None:
    mike = world.worker(SMS)
    for text in ("hello", "and again", "once more"):
        texted(world, mike, text)
    assert said(world) == [True, False, False]
    (row,) = told(world)
    assert (row["language"], row["text"]) == ("en", SAYS)


def test_a_new_conversation_says_it_again(world: World) -> None:
    mike = world.worker(f"{SMS}idle_reset_s = 3600\n")
    texted(world, mike)
    world.clock.advance(7200)
    texted(world, mike, "I am back")
    assert said(world) == [True, True]


def test_who_has_not_got_it_is_told_with_the_next_reply(world: World) -> None:
    mike = world.worker(SMS)
    world.simulator.inject("403", endpoint="send", code="40002")
    texted(world, mike)
    texted(world, mike, "are you there?")
    assert said(world) == [True]
    assert len(told(world)) == 2


def test_another_attempt_sends_the_same(world: World) -> None:
    mike = world.worker(SMS)
    world.simulator.inject("stored_then_dropped", endpoint="send")
    texted(world, mike)
    again(world, mike)
    assert said(world) == [True]
    assert len(told(world)) == 1


def test_it_counts_within_the_parts_of_a_message(world: World) -> None:
    mike = world.worker(f"{SMS}[channels.sms.telnyx]\nmax_parts = 2\n")
    world.simulator.script(Script(text="long", reply="word " * 200))
    texted(world, mike, "long")
    assert said(world) == [True]
    (sms,) = outbound(world)
    assert segments(sms.text).parts == 2


def test_what_no_model_wrote_does_not_say_it(world: World) -> None:
    mike = world.worker(f'{SMS}[channels.sms.screening]\nhelp_text = "Acme, call us."\n')
    texted(world, mike, "HELP")
    texted(world, mike, "hello")
    assert outbound(world)[0].text == "Acme, call us."
    assert said(world) == [False, True]


def test_nobody_is_told_if_the_channel_says_so(world: World) -> None:
    mike = world.worker(f'{SMS}disclosure = "none"\n')
    texted(world, mike)
    assert said(world) == [False]
    assert told(world) == []


def test_a_text_of_your_own(world: World) -> None:
    mike = world.worker(f'{SMS}disclosure.text = "Robo, a bot of Acme."\n')
    texted(world, mike)
    assert outbound(world)[0].text.startswith("Robo, a bot of Acme.\n")


def test_every_language_fits_into_gsm_7_and_offers_a_person(world: World) -> None:
    assert {"en", "es", "fr", "de", "pt", "it", "nl"} <= LANGUAGES
    for language in LANGUAGES:
        text = disclosure_text(Disclosure(language=language), HandOver())
        assert segments(text).encoding == "GSM-7"
        assert "HUMAN" in text
        assert "HUMAN" not in disclosure_text(Disclosure(language=language), None)


@pytest.fixture
def box(world: World) -> Iterator[Mailbox]:
    made = Mailbox()
    with smtp_server(made) as port:
        world.smtp_url = f"smtp://127.0.0.1:{port}?plain=true"
        yield made


def test_every_mail_says_it_at_its_end_and_in_the_name_of_its_sender(
    world: World, box: Mailbox
) -> None:
    mike = world.worker(MAIL)
    wrote(world, mike)
    world.clock.advance(60)
    wrote(world, mike, "and again")
    line = "Hier antwortet ein KI-Assistent. HUMAN schreiben, um einen Menschen zu erreichen."
    assert len(box.mails) == 2
    for mail in box.parsed():
        assert str(mail["From"]) == '"Acme (AI assistant)" <help@acme.example>'
        for kind in ("plain", "html"):
            body = mail.get_body((kind,))
            assert body is not None
            assert line in body.get_content()
    assert [row["language"] for row in told(world)] == ["de"], "noted once for a thread"
