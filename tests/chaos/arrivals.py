"""What reached telephones and mailboxes: each reply once at most, and to whom it belongs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.load import Group
from tests.chaos.mix import OUR_MAIL, OUR_NUMBER, OUTSIDE
from tests.chaos.parts import Looker
from tests.support.oracle import Delivered, MessageKey, Violation
from tests.support.smtp_server import Mailbox
from worker.sandbox.simulator import Entry
from worker.sandbox.simulator.record.events import RequestReceived, SmsStored

_REPLIES = """
SELECT d.id, d.channel_user_id, d.idempotency_key, d.state, d.channel, u.address, r.text
FROM deliveries d JOIN replies r ON r.id = d.reply_id
    JOIN channel_users u ON u.id = d.channel_user_id
WHERE d.channel = ANY(%s)
"""
_THREADS = "SELECT message_id, thread FROM mails WHERE delivery_id IS NULL"
_NOBODY = {"id": 0, "channel_user_id": 0, "idempotency_key": "", "address": "", "text": ""}


def keys(plan: Mapping[str, Sequence[Group]], looker: Looker) -> list[MessageKey]:
    """Name what was written as the service has it. A mail's thread is the service's choice."""
    threads = {row["message_id"]: row["thread"] for row in looker.rows(_THREADS)}
    recipients = {"sms": OUR_NUMBER, "mail": OUR_MAIL}
    return [
        MessageKey(
            channel=one.channel,
            recipient=recipients.get(one.channel, ""),
            address=one.address,
            thread=threads.get(one.message_id, ""),
            message_id=one.message_id,
        )
        for groups in plan.values()
        for group in groups
        for one in group.messages
    ]


def arrived(looker: Looker, log: Sequence[Entry], box: Mailbox) -> list[tuple[Delivered, str]]:
    """Return what arrived, in order, and with whom. What no delivery explains has the number 0."""
    rows = looker.rows(_REPLIES, list(OUTSIDE))
    by_key = {str(row["idempotency_key"]): row for row in rows}
    by_id = {str(row["id"]): row for row in rows}
    found = [(by_key.get(key, _NOBODY), text, to) for key, text, to in _text_messages(log)]
    for envelope, mail in zip(box.mails, box.parsed(), strict=True):
        number = mail["Message-ID"].strip("<").partition(".")[0]
        body = mail.get_body(("plain",))
        text = body.get_content().strip() if body is not None else ""
        found.append((by_id.get(number, _NOBODY), text, envelope.rcpt_tos[0]))
    return [(_delivered(row, text), to if to != row["address"] else "") for row, text, to in found]


def check_arrivals(found: Sequence[tuple[Delivered, str]]) -> Iterator[Violation]:
    """Find replies that arrived twice, with somebody else, or that nobody has written."""
    for number, times in Counter(one.delivery_id for one, _ in found).items():
        if number == 0:
            yield Violation("arrivals", f"{times} replies arrived that no delivery explains")
        elif times > 1:
            yield Violation("arrivals", f"delivery {number} arrived {times} times")
    for one, stranger in found:
        if stranger and one.delivery_id:
            yield Violation("arrivals", f"delivery {one.delivery_id} arrived at {stranger}")


def check_machines(looker: Looker) -> Iterator[Violation]:
    """Find automatic mails that became a message."""
    rows = looker.rows("SELECT id FROM messages WHERE message_id LIKE '<auto-%%'")
    yield from (Violation("machines", f"message {row['id']} is of a machine") for row in rows)


def _text_messages(log: Sequence[Entry]) -> Iterator[tuple[str, str, str]]:
    """Each that Telnyx took: the key of its request, its text, its recipient."""
    asked: dict[int | None, str] = {}
    seen: set[str] = set()
    for entry in log:
        match entry.event:
            case RequestReceived(headers=headers):
                asked[entry.seq] = headers.get("idempotency-key", "")
            case SmsStored(request=request, sms=sms) if sms.id not in seen:
                seen.add(sms.id)
                yield asked.get(request, ""), sms.text, sms.recipient
            case _:
                pass


def _delivered(row: Mapping[str, Any], text: str) -> Delivered:
    return Delivered(
        user_id=row["channel_user_id"],
        delivery_id=row["id"],
        key=str(row["idempotency_key"]),
        text=row["text"] if row["text"].strip() == text else text,
    )
