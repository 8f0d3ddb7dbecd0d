"""`worker channels try mail.eml`: what becomes of a mail, and the mail that would answer it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from worker.channels.email.outgoing import OutgoingMail, mail_bytes
from worker.channels.email.received import Received, envelope_of, open_mail
from worker.cli.send.dry_run import lines_of, outcome_of, show
from worker.domain.email.mail import Address
from worker.domain.email.marks import message_id
from worker.domain.email.threads import references_out, reply_subject, thread_key
from worker.domain.ids import DeliveryId
from worker.domain.people.disclosure import below, disclosure_text, sender_name
from worker.domain.routing import ChannelPolicy, Routing
from worker.domain.ways_out import MailDelivery

_HEADER: Final = re.compile(rb"[A-Za-z][\w-]{0,100}:[ \t\r\n]|From ")
_NO_DELIVERY: Final = DeliveryId(0)
"""In place of the delivery's number, and its key, in the Message-ID that is shown."""


def is_mail(raw: bytes) -> bool:
    """Whether a file begins as a mail does."""
    return _HEADER.match(raw) is not None


def try_mail(raw: bytes, routing: Routing, *, reply: str | None, as_json: bool) -> None:
    """Show what becomes of a mail on the channel with a driver of e-mail, or on none."""
    policy = routing.mail_channel[0] if routing.mail_channel else routing.channel("email")
    received = open_mail(raw, policy).judged()
    ours = _our_address(received, policy)
    if policy.disclosure is not None:
        agent = routing.agent_for(channel=policy.name, recipient=ours.address, named=None)
        told = disclosure_text(policy.disclosure, agent.hand_over)
        reply, ours = reply and below(reply, told), Address(ours.address, sender_name(ours.name))
    facts = _facts(received, reply, ours)
    verdict = received.verdict
    if received.person is None or (verdict is not None and verdict.tier == "hard"):
        because = f"outcome {facts['why']}, rule {facts['rule']}"
        line = f"verdict       never answered, and nobody becomes a user: {because}"
        show(facts, (line, *_lines(facts)), as_json=as_json)
        return
    document = _envelope(received, policy, ours.address)
    routed, _ = outcome_of(json.dumps(document).encode(), routing)
    # The dry run knows the signal; which rule has set it, the mail does.
    facts = {**routed, **facts}
    show(facts, (*lines_of(facts), *_lines(facts)), as_json=as_json)


def _our_address(received: Received, policy: ChannelPolicy) -> Address:
    """Return whom the mail is to; without a channel, the first recipient."""
    options = policy.delivery if isinstance(policy.delivery, MailDelivery) else None
    ours = options.addresses if options else ()
    to = [one.address for one in received.mail.recipients]
    address = next((one for one in to if one.lower() in ours), (*ours, *to, "")[0])
    return Address(address, options.name if options else "")


def _envelope(received: Received, policy: ChannelPolicy, ours: str) -> dict[str, Any]:
    person = received.person
    thread = thread_key(ours, person.who.address if person else "", received.mail.message_id)
    return {"channel": policy.name, **envelope_of(received, recipient=ours, thread=thread)}


def _facts(received: Received, reply: str | None, ours: Address) -> dict[str, Any]:
    mail, verdict = received.mail, received.verdict
    answered = verdict is None
    return {
        "verdict": "answered" if answered else "skipped",
        "why": verdict and verdict.outcome,
        "rule": verdict and verdict.rule,
        "tier": verdict and verdict.tier,
        "subject": mail.subject,
        "cut": sorted(mail.cut),
        "text": received.text if answered else None,
        "left_out": received.new.left_out,
        "extraction": received.new.how,
        "attachments": [{**asdict(one), "data": one.data is not None} for one in mail.attachments],
        "mail": _answer(received, reply, ours) if answered and reply else None,
    }


def _answer(received: Received, reply: str, ours: Address) -> str | None:
    mail, person = received.mail, received.person
    if person is None:
        return None
    made = OutgoingMail(
        message_id=message_id(_NO_DELIVERY, ours.domain, b""),
        sender=ours,
        to=person.answer_to,
        subject=reply_subject(mail.subject),
        text=reply,
        date=mail.sent_at or datetime.fromtimestamp(0, UTC),
        in_reply_to=mail.message_id,
        references=references_out(mail),
    )
    return mail_bytes(made).decode(errors="replace")


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Label each line, so that none of a mail passes for one of ours."""
    yield f"subject       {facts['subject']}"
    for one in facts["attachments"]:
        sent = "sent to the model" if one["data"] else "mentioned"
        yield f"attachment    {one['name']}, {one['content_type']}, {one['size']} bytes, {sent}"
    if facts["text"] is not None:
        for line in facts["text"].splitlines():
            yield f"model gets    {line}"
        yield f"left out      {facts['left_out']} lines ({facts['extraction']})"
    for line in (facts["mail"] or "").splitlines():
        yield f"mail          {line}"
