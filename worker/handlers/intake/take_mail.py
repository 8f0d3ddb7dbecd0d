"""Takes a mail: parsed, screened, put into its thread and stored, with its envelope if it has one.

    hard verdict    a row in `mails`, and nobody becomes a channel user
    soft verdict    its envelope has the outcome as a signal, so no model answers it
    none            a model answers it
    a bounce        the delivery that it is about has failed; a hard one stops further mails

The mailbox, the gateway and `worker mail-in` call it. Taking a mail twice changes nothing. Mail has
queues of its own: while Postgres is away, the error goes to the caller, which keeps the mail.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final
from uuid import UUID

from worker.channels.email.bounces import bounced_delivery, failure_of
from worker.channels.email.new_text import VERSION
from worker.channels.email.received import (
    Opened,
    Received,
    envelope_of,
    is_reply,
    new_part,
    open_mail,
)
from worker.domain.email.mail import SmtpEnvelope
from worker.domain.email.marks import delivery_of_id, is_bounce_address
from worker.domain.email.person import addressed, own_address
from worker.domain.email.threads import Thread, candidates, references_out, thread_key, thread_of
from worker.domain.errors import SettingsError
from worker.domain.ids import DeliveryId, given_id
from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelPolicy, Routing
from worker.domain.screening.consents import LedgerEntry
from worker.domain.screening.mail.rules import Circumstances
from worker.domain.sms.receipts import Receipt
from worker.domain.states import ConsentSource
from worker.domain.text.normal_forms import normalized
from worker.domain.ways_out import MailDelivery
from worker.handlers.intake.route import address_in
from worker.handlers.telemetry.deliveries import record_receipt
from worker.handlers.telemetry.intake import record_consent, record_mail
from worker.store.delivery.receipts import ReceiptStore
from worker.store.intake.mails import MailStore, MailToKeep

MAX_MAIL_BYTES: Final = 30 * 1024 * 1024
"""Of those ways in that can refuse one: what mail servers take is less, about 25 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A mail that is stored."""

    mail: int | None
    """Its row in `mails`; None = it was there before."""
    rule: str | None
    """The rule of screening that fits; None = a model answers it."""
    task: UUID | None
    """The id under which its message is found, see `given_id`; None = it has none."""


@dataclass(frozen=True, kw_only=True)
class TakeMail:
    """The use case behind all ways in for mail."""

    mails: MailStore
    receipts: ReceiptStore
    routing: Callable[[], Routing]
    namespace: UUID

    def take(self, raw: bytes, smtp: SmtpEnvelope) -> Taken:
        """Store a mail; it is committed on return.

        Raises `RetryableError`: keep the mail. Raises `SettingsError` without a channel of e-mail.
        """
        policy, options = mail_channel(self.routing())
        opened = open_mail(raw, policy, smtp)
        delivery = bounced_delivery(opened.mail, self.mails.key)
        bounce = None if delivery is None else self._bounce(raw, opened, policy, delivery)
        taken = bounce or self._mail(raw, opened, policy, options)
        record_mail(taken.mail, taken.rule, task=taken.task)
        return taken

    def take_for(self, raw: bytes, *, sender: str | None, recipients: Sequence[str]) -> Taken:
        """Take a mail that its server has for several recipients: once, for one that is ours.

        None and no recipients = no server has said.
        """
        _, options = mail_channel(self.routing())
        marked = (one for one in recipients if is_bounce_address(one))
        ours = (one for one in recipients if own_address(one, options.addresses))
        recipient = next(chain(marked, ours, recipients), None)
        return self.take(raw, SmtpEnvelope(sender=sender, recipient=recipient))

    def _mail(
        self, raw: bytes, opened: Opened, policy: ChannelPolicy, options: MailDelivery
    ) -> Taken:
        who, thread = self._thread(opened, policy, options)
        received = self._judged(opened, who, thread)
        verdict = received.verdict
        row = _row(received, who, thread.root, raw=raw if options.keep_raw else None)
        if not who.address or (verdict is not None and verdict.tier == "hard"):
            mail, _ = self.mails.keep(row)
            return Taken(mail=mail, rule=row.verdict, task=None)
        names = (who.channel, who.recipient, who.address, who.thread, row.message_id)
        task = given_id(self.namespace, *(normalized("NFC", name) for name in names))
        back = None
        if verdict is None:
            # A mail from an address that bounced shows that the address works again.
            start = self._change(who, policy, stopped=False, source=ConsentSource.SIGNAL)
            back = start if self.mails.only_bounced(start.person) else None
        document = envelope_of(received, recipient=who.recipient, thread=who.thread)
        envelope = json.dumps({"channel": policy.name, **document})
        mail, _ = self.mails.keep(row, entry=(task, envelope), change=back)
        if back is not None and mail is not None:
            record_consent(back)
        return Taken(mail=mail, rule=row.verdict, task=task)

    def _thread(
        self, opened: Opened, policy: ChannelPolicy, options: MailDelivery
    ) -> tuple[ChannelAddress, Thread]:
        mail, key = opened.mail, self.mails.key
        ours = addressed(mail, options.addresses) or options.addresses[0]
        person = ""
        if opened.person is not None:
            # As the channel user's row has it.
            person = normalized("NFC", address_in(policy, opened.person.who.address))
        who = ChannelAddress(channel=policy.name, recipient=ours, address=person, thread="")
        found = candidates(mail, key) if person else ()
        by_id, by_delivery = self.mails.known(who, found)
        # We may have answered from another address than the one they wrote to.
        sent = (by_delivery.get(one.delivery) for one in found if one.delivery is not None)
        ours = next((one.ours for one in sent if one is not None), ours)
        thread = thread_of(
            mail, ours=ours, person=person, key=key, by_id=by_id, by_delivery=by_delivery
        )
        return replace(who, recipient=ours, thread=thread.key), thread

    def _judged(self, opened: Opened, who: ChannelAddress, thread: Thread) -> Received:
        subject = opened.mail.subject if is_reply(opened.mail) else None
        name = opened.mail.message_id
        before = self.mails.before(
            who,
            name,
            answers=thread.answers,
            loop_subject=subject,
            arrived=opened.mail.smtp.arrived,
        )
        facts = Circumstances(
            own_id=delivery_of_id(name, self.mails.key) is not None,
            since_reply_s=before.since_reply_s,
            replies_to_address=before.replies_to_address,
            replies_to_domain=before.replies_to_domain,
        )
        last = new_part(before.last_text, before.last_left_out)
        return opened.judged(before.parent, facts, last=last)

    def _bounce(
        self, raw: bytes, opened: Opened, policy: ChannelPolicy, delivery: DeliveryId
    ) -> Taken | None:
        """Take a bounce of a mail of ours; None = it is none."""
        received = opened.judged()
        verdict = received.verdict
        if verdict is None or verdict.tier != "hard":
            return None
        # What a responder sends to the envelope sender is no bounce: our mail has arrived.
        status = failure_of(raw, opened.mail) if verdict.outcome == "bounce" else None
        to, change, recorded = self.mails.of_delivery(delivery), None, None
        if status is not None:
            receipt = Receipt(delivery=delivery, status="bounced", error=status)
            recorded = self.receipts.record(receipt)
            if to is not None and status.startswith("5"):
                change = self._change(to, policy, stopped=True, source=ConsentSource.BOUNCE)
        # Of the person, so that it is erased with them; nobody answers its thread.
        ours, person = (to.recipient, to.address) if to else ("", "")
        key = thread_key(ours, person, opened.mail.message_id)
        who = ChannelAddress(channel=policy.name, recipient=ours, address=person, thread=key)
        row = _row(received, who, opened.mail.message_id, raw=None)
        mail, turned = self.mails.keep(row, change=change)
        if recorded is not None:
            record_receipt(recorded)
        if change is not None and turned is not None and turned.before != turned.after:
            record_consent(change, user_id=recorded.user_id if recorded else None)
        return Taken(mail=mail, rule=verdict.rule, task=None)

    def _change(
        self, who: ChannelAddress, policy: ChannelPolicy, *, stopped: bool, source: ConsentSource
    ) -> LedgerEntry:
        return LedgerEntry(
            person=self.routing().person(policy.scope, who.address),
            stopped=stopped,
            source=source,
            channel=who.channel,
            recipient=who.recipient,
        )


def mail_channel(routing: Routing) -> tuple[ChannelPolicy, MailDelivery]:
    """Return the channel of e-mail, and its options. Raises `SettingsError`."""
    if routing.mail_channel is None:
        raise SettingsError('AGENTS_FILE: give a channel driver = "smtp" or "telnyx_email"')
    return routing.mail_channel


def _row(received: Received, who: ChannelAddress, root: str, *, raw: bytes | None) -> MailToKeep:
    mail, person, verdict = received.mail, received.person, received.verdict
    return MailToKeep(
        who=who,
        root=root,
        message_id=mail.message_id,
        refs=references_out(mail),
        subject=mail.subject,
        reply_to=person.answer_to.address if person else None,
        from_name=person.answer_to.name if person else "",
        smtp_sender=mail.smtp.sender,
        smtp_recipient=mail.smtp.recipient,
        dmarc=received.dmarc,
        verdict=None if verdict is None else verdict.rule,
        extraction_version=VERSION,
        left_out=received.new.left_out,
        original=mail.plain,
        raw=raw,
    )
