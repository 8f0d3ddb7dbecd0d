"""What Telnyx's messaging webhooks are about."""

from typing import Any
from uuid import UUID

import pytest

from message_worker_client.envelope import parse_envelope
from tests.support.telnyx_events import OURS, PERSON, event, inbound, outbound, whatsapp
from worker.channels.sms.events import Echo, Ignored, Inbound, event_id, read_event
from worker.domain.sms.receipts import Receipt

KEY = UUID("11111111-2222-4333-8444-000000000001")


def envelope(payload: object) -> dict[str, Any]:
    found = read_event(event("message.received", payload), None)
    assert isinstance(found, Inbound)
    made = {"channel": "sms", **found.envelope}
    parse_envelope(made)
    return made


def test_a_text_message_becomes_an_envelope() -> None:
    payload = inbound()
    assert envelope(payload) == {
        "version": 1,
        "channel": "sms",
        "user": PERSON,
        "recipient": OURS,
        "message_id": payload["id"],
        "text": "Are you open on Sunday?",
        "sent_at": "2026-10-21T20:16:07.503+00:00",
        "metadata": {"type": "SMS"},
    }


def test_a_recipient_may_be_a_string_and_a_sender_too() -> None:
    made = envelope(inbound(to=OURS, **{"from": PERSON}))
    assert (made["user"], made["recipient"]) == (PERSON, OURS)


@pytest.mark.parametrize(
    ("answered", "signal"),
    [
        ("STOP", "opt_out"),
        ("stop", "opt_out"),
        ("UNSUBSCRIBE", "opt_out"),
        ("START", "opt_in"),
        ("HELP", "help"),
        ("WE_ARE_OPEN", "help"),
    ],
)
def test_whatever_telnyx_has_answered_itself_gets_a_signal(answered: str, signal: str) -> None:
    assert envelope(inbound(autoresponse_type=answered))["signals"] == [signal]


@pytest.mark.parametrize("sender", ["72345", "PIZZA", "+0123"])
def test_short_codes_and_letters_are_machines(sender: str) -> None:
    assert envelope(inbound(**{"from": {"phone_number": sender}}))["signals"] == ["auto_reply"]


def test_a_number_without_its_plus_is_the_same_number() -> None:
    made = envelope(inbound(to=[{"phone_number": OURS[1:]}], **{"from": PERSON[1:]}))
    assert (made["user"], made["recipient"]) == (PERSON, OURS)
    assert "signals" not in made


@pytest.mark.parametrize(
    "cc", [["+13125550009"], [{"phone_number": "+13125550009"}], ["+13125550009", 7]]
)
def test_a_group_has_others_in_copy_as_strings_or_objects(cc: object) -> None:
    assert envelope(inbound(type="MMS", cc=cc))["signals"] == ["group"]


def test_two_recipients_are_a_group_and_a_copy_for_ourselves_is_none() -> None:
    both = [{"phone_number": OURS}, {"phone_number": "+13125550009"}]
    assert envelope(inbound(to=both))["signals"] == ["group"]
    assert "signals" not in envelope(inbound(cc=[OURS, {"phone_number": PERSON}]))


def test_media_become_attachments_and_no_more_than_an_envelope_has() -> None:
    media: list[object] = [
        {"url": f"https://media.telnyx.com/{number}.png", "content_type": "image/png"}
        for number in range(20)
    ]
    made = envelope(inbound(type="MMS", text=None, media=media))
    assert len(made["attachments"]) == 16
    assert made["attachments"][0] == {
        "content_type": "image/png",
        "url": "https://media.telnyx.com/0.png",
    }
    assert made["text"] == ""
    assert "signals" not in made


def test_media_that_are_no_links_leave_a_message_without_any() -> None:
    media = [None, "x", {"url": "file:///etc/passwd"}, {"url": 7}, {"content_type": "image/png"}]
    made = envelope(inbound(text="", media=media))
    assert "attachments" not in made
    assert made["text"] == " "


WHATSAPP = {"type": "text", "text": {"body": "Hola"}, "id": "w1", "from": PERSON}


def test_whatsapp_has_its_text_in_the_body() -> None:
    found = read_event(event("message.received", whatsapp(WHATSAPP)), None)
    assert isinstance(found, Inbound)
    assert found.whatsapp
    assert (found.envelope["text"], found.envelope["recipient"]) == ("Hola", OURS)


def test_whatsapp_users_who_hide_their_number_are_known_by_their_id() -> None:
    body = {**WHATSAPP, "from": "", "from_user_id": "US.13491208655302741918"}
    made = envelope(whatsapp(body, **{"from": {"phone_number": ""}}))
    assert made["user"] == "US.13491208655302741918"
    assert "signals" not in made


@pytest.mark.parametrize(
    ("body", "text", "signal"),
    [
        (
            {
                "type": "edit",
                "edit": {
                    "original_message_id": "o",
                    "message": {"type": "text", "text": {"body": "New"}},
                },
            },
            "New",
            ["edit"],
        ),
        (
            {"type": "revoke", "revoke": {"original_message_id": "o"}},
            " ",
            ["revoke"],
        ),
        (
            {"type": "reaction", "reaction": {"message_id": "o", "emoji": "\U0001f44d"}},
            " ",
            ["reaction"],
        ),
        # The person has taken it back.
        ({"type": "reaction", "reaction": {"message_id": "o"}}, " ", ["reaction"]),
    ],
)
def test_edits_revocations_and_reactions_are_no_new_messages(
    body: object, text: str, signal: list[str]
) -> None:
    made = envelope(whatsapp(body))
    assert (made["text"], made["signals"]) == (text, signal)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"text": "Ciao"}, "Ciao"),
        ({"suggestion_response": {"text": "Yes", "postback_data": "y"}}, "Yes"),
        ({"location": {"latitude": 41.9, "longitude": -87.6}}, "(location: 41.9, -87.6)"),
        ({"type": "button", "button": {"text": "Confirm"}}, "Confirm"),
        ({"type": "interactive", "interactive": {"list_reply": {"title": "At 5"}}}, "At 5"),
    ],
)
def test_rcs_and_buttons_have_their_text_elsewhere(body: object, text: str) -> None:
    assert envelope(inbound(type="RCS", text=None, body=body))["text"] == text


def test_files_of_rcs_and_whatsapp_are_attachments() -> None:
    file = {"file_uri": "https://rcs.example/a.pdf", "mime_type": "application/pdf"}
    rcs = envelope(inbound(type="RCS", text=None, body={"user_file": {"payload": file}}))
    assert rcs["attachments"] == [
        {"url": "https://rcs.example/a.pdf", "content_type": "application/pdf"}
    ]
    image = {"link": "https://wa.example/a", "mime_type": "image/jpeg", "caption": "Look"}
    made = envelope(whatsapp({"type": "image", "image": image}))
    assert made["text"] == "Look"
    assert made["attachments"] == [{"url": "https://wa.example/a", "content_type": "image/jpeg"}]


def test_an_unreadable_time_is_left_out() -> None:
    for at in ("yesterday", "2026-10-21", 7, None, "0001-01-01T00:00:00Z"):
        assert "sent_at" not in envelope(inbound(received_at=at))


def test_a_message_without_its_names_is_kept_for_a_dead_letter() -> None:
    found = read_event(event("message.received", {}), None)
    assert isinstance(found, Inbound)
    assert (found.envelope["user"], found.envelope["message_id"]) == ("", "")


@pytest.mark.parametrize(
    ("kind", "evidence", "error", "fails"),
    [
        ("email.delivered", None, None, False),
        ("email.bounced", {"code": 30003, "detail": "ada@example.org is unknown"}, "30003", True),
        ("email.failed", {"code": "ada@example.org"}, None, True),
    ],
)
def test_what_became_of_a_mail_is_a_receipt_under_telnyxs_id(
    kind: str, evidence: object, error: str | None, fails: bool
) -> None:
    payload = {"id": "mail-1", "status": "odd", "error_evidence": evidence}
    found = read_event(event(kind, payload), None)
    status = kind.removeprefix("email.")
    assert found == Receipt(provider_id="mail-1", status=status, error=error)
    assert found.fails is fails
    assert read_event(event("email.opened", payload), None) == Ignored("unknown_type")
    # It has a summary alone: neither the mail's bytes nor a word on who has sent it.
    assert read_event(event("email.received", payload), None) == Ignored("unknown_type")


@pytest.mark.parametrize(
    ("kind", "payload", "status"),
    [
        ("message.sent", outbound("sent"), "sent"),
        ("message.finalized", outbound("delivered"), "delivered"),
        ("message.finalized", outbound("", to=PERSON), "delivery_unconfirmed"),
        ("message.read", {"id": "ac012cbf-5e09-46af-a69a-7c0e2d90993c"}, "read"),
    ],
)
def test_reports_are_receipts(kind: str, payload: dict[str, Any], status: str) -> None:
    found = read_event(event(kind, payload), KEY)
    assert isinstance(found, Receipt)
    assert found.status == status
    assert (found.key, found.provider_id) == (KEY, "ac012cbf-5e09-46af-a69a-7c0e2d90993c")


def test_a_failure_has_its_code_and_may_be_repeatable() -> None:
    errors = [{"code": "40008", "title": "Undeliverable", "detail": "secret"}]
    found = read_event(event("message.finalized", outbound("delivery_failed", errors=errors)), None)
    assert isinstance(found, Receipt)
    assert (found.error, found.parts, found.repeatable) == ("40008", 1, True)
    # There it is a template that waits for its approval.
    payload = outbound("delivery_failed", errors=errors, type="WHATSAPP")
    found = read_event(event("message.finalized", payload), None)
    assert isinstance(found, Receipt)
    assert not found.repeatable


def test_an_echo_is_one_of_our_staff_writing() -> None:
    body = {"id": "1", "foreign_id": "w", "timestamp": "1", "type": "text", "from": PERSON}
    ours = {"phone_number": OURS}
    for to in (PERSON, None):
        payload = {"from": ours, "to": to, "body": body, "origin": "whatsapp_business_app"}
        found = read_event(event("message.echo", payload), None)
        assert found == Echo(user=PERSON, recipient=OURS)
    assert read_event(event("message.echo", {}), None) == Ignored("no_address")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (event("messaging-profile.spend-limit-reached", {"current_cost": "1"}), "spend_limit"),
        (event("message.invented", inbound()), "unknown_type"),
        (None, "no_event"),
        ([], "no_event"),
        ({"data": "x"}, "no_event"),
        ({"data": {"event_type": 7}}, "no_event"),
    ],
)
def test_anything_else_is_ignored_under_a_fixed_word(document: object, reason: str) -> None:
    assert read_event(document, None) == Ignored(reason)


def test_only_an_id_with_the_form_of_one_is_logged() -> None:
    assert event_id(event("message.received", {})) is not None
    for wrong in ("+13125550001", "Hello", 7, "a" * 100):
        assert event_id({"data": {"id": wrong}}) is None
