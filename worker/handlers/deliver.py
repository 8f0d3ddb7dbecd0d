"""Delivers replies: in order per channel user, each attempt committed before it is made."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from worker.channels.channel import Channel, ComposingChannel, TwoPhaseChannel
from worker.channels.zones import Zones
from worker.domain.deliveries import (
    ClaimedDelivery,
    DeliveryOutcome,
    NotDelivered,
    Rejected,
    Sent,
    Unclear,
    opening,
    refusal_of,
    state_after,
    wait_after,
)
from worker.domain.errors import RetryableError, StaleLeaseError, named
from worker.domain.ids import ChannelUserId
from worker.domain.people.disclosure import disclosure_text
from worker.domain.routing import ChannelPolicy, Routing
from worker.domain.screening.consents import LedgerEntry
from worker.domain.states import ConsentSource, DeliveryState, attempt_result
from worker.domain.ways_out import MailDelivery, TaskDelivery, TelnyxDelivery, WebhookDelivery
from worker.handlers.telemetry.deliveries import (
    deliver_span,
    record_delivered,
    record_stale_delivery,
)
from worker.handlers.telemetry.intake import record_consent
from worker.net.clock import boottime
from worker.net.elsewhere import ELSEWHERE
from worker.observability import traces
from worker.observability.logs import log
from worker.store.delivery.deliveries import DeliveryStore
from worker.store.delivery.gates import GateStore
from worker.store.delivery.pacing import PacingStore

PATIENCE_S = 2.0
"""A reply whose moment is near is waited for; another look finds the others."""
MAX_DELIVERIES = 50
"""Attempts of one task; another task makes the rest."""


@dataclass(frozen=True, kw_only=True)
class DeliverReplies:
    """The use case behind the task `replies.deliver`."""

    store: DeliveryStore
    gates: GateStore
    pacing: PacingStore
    routing: Callable[[], Routing]
    channels: Mapping[str, Channel]
    """By name of channel or route. A reply for a missing one waits for a worker that has it: that
    worker's configuration was newer, or a section was removed too early."""
    zones: Zones
    """Of a number, as far as they can be known."""
    console_url: str | None = None
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, user_id: ChannelUserId) -> list[str]:
        """Deliver this user's due replies, oldest first; return the result of each attempt."""
        results: list[str] = []
        while len(results) < MAX_DELIVERIES:
            if self.pacing.paced and (wait_s := self.pacing.reserve(user_id)) > 0:
                if wait_s > PATIENCE_S:
                    break
                self.sleep(wait_s)
            routing = self.routing()
            claimed = self.store.claim(user_id, routing)
            if claimed is None:
                break
            configured = routing.channel(claimed.policy_name)
            as_task = isinstance(configured.delivery, TaskDelivery)
            try:
                with deliver_span(claimed, as_task=as_task):
                    state = self._attempt(claimed, configured)
            # Another worker delivers for this user now, and keeps the order.
            except StaleLeaseError:
                record_stale_delivery(claimed)
                break
            results.append(attempt_result(state, claimed.reply.delivery_id))
        return results

    def _attempt(self, claimed: ClaimedDelivery, configured: ChannelPolicy) -> DeliveryState:
        began_s = boottime()
        channel = self.channels.get(claimed.policy_name)
        takes_key = channel is not None and channel.takes_key
        if isinstance(channel, TwoPhaseChannel) and not claimed.may_have_arrived:
            # Its worker died before the other side had anything.
            claimed = replace(claimed, interrupted=False)
        refusal = refusal_of(claimed, configured, takes_key=takes_key)
        if refusal is not None:
            self.store.end(claimed, refusal)
            record_delivered(claimed, refusal, None, began_s=began_s)
            return refusal
        opens = opening(claimed, configured, self.zones)
        if opens is not None:
            self.store.wait(claimed, opens)
            log.info("delivery.waits", delivery=claimed.reply.delivery_id, until=opens.isoformat())
            return DeliveryState.PENDING
        if isinstance(channel, ComposingChannel) and claimed.reply.request is None:
            claimed = self._disclosed(claimed, configured)
            language = configured.disclosure.language if configured.disclosure else ""
            claimed = self.store.compose(claimed, channel.compose(claimed.reply), language)
        outcome = self._deliver(channel, claimed)
        state = state_after(claimed, outcome, configured, takes_key=takes_key)
        blocked = self._blocked(claimed, outcome, state)
        wait_s = wait_after(claimed, outcome, configured)
        self.store.end(claimed, state, outcome, wait_s=wait_s, blocked=blocked)
        if blocked is not None:
            record_consent(blocked, user_id=claimed.reply.user_id)
        record_delivered(claimed, state, outcome, began_s=began_s)
        if isinstance(configured.delivery, WebhookDelivery | TelnyxDelivery | MailDelivery):
            self._update_gates(claimed, outcome, configured.delivery)
        return state

    def _disclosed(self, claimed: ClaimedDelivery, configured: ChannelPolicy) -> ClaimedDelivery:
        """Return the claim with what the person is told of the AI: once, by mail each time."""
        is_mail = isinstance(configured.delivery, MailDelivery)
        if configured.disclosure is None or claimed.agent is None or (claimed.told and not is_mail):
            return claimed
        agent = self.routing().agents.get(claimed.agent)
        text = disclosure_text(configured.disclosure, agent.hand_over if agent else None)
        return replace(claimed, reply=replace(claimed.reply, disclosure=text))

    def _update_gates(
        self,
        claimed: ClaimedDelivery,
        outcome: DeliveryOutcome,
        way: WebhookDelivery | TelnyxDelivery | MailDelivery,
    ) -> None:
        """Hold back other replies that would fail as well, or no longer."""
        channel = claimed.policy_name
        if isinstance(outcome, Sent):
            if claimed.failing:
                self.gates.answered(channel, claimed.reply.to.recipient)
            return
        reason, pause = outcome.reason, outcome.pause
        if isinstance(way, WebhookDelivery):
            rests, asked_s = outcome.throttled, outcome.retry_after_s or 0.0
            if self.gates.failed(channel, reason=reason, rests=rests, asked_s=asked_s):
                log.error("webhook.switched_off", channel=channel, reason=reason)
        elif pause is not None:
            is_smtp = isinstance(way, MailDelivery) and not way.telnyx
            self.gates.pause(claimed, pause, reason, kind="smtp" if is_smtp else "telnyx")
            facts = {"scope": pause.scope, "seconds": pause.seconds, "reason": reason}
            # An operator has to act, or Telnyx asks for it.
            log.error("sending.paused", channel=channel, **facts)

    def _blocked(
        self, claimed: ClaimedDelivery, outcome: DeliveryOutcome, state: DeliveryState
    ) -> LedgerEntry | None:
        """Return the opt-out of a person whom the provider blocks, or who is gone."""
        is_gone = isinstance(outcome, Rejected) and outcome.gone
        if not is_gone and state is not DeliveryState.OPTED_OUT:
            return None
        to = claimed.reply.to
        entry = LedgerEntry.of_block(
            self.routing().person_at(to), channel=to.channel, recipient=to.recipient
        )
        return replace(entry, source=ConsentSource.BOUNCE) if is_gone else entry

    def _deliver(self, channel: Channel | None, claimed: ClaimedDelivery) -> DeliveryOutcome:
        if channel is None:
            return NotDelivered(reason="not in the configuration")
        reply, here = claimed.reply, traces.current_traceparent()
        reply = reply if here is None else replace(reply, traceparent=here)
        if reply.hand_over is not None and self.console_url is not None:
            link = f"{self.console_url}/people/{reply.hand_over.user_id}"
            reply = replace(reply, hand_over=replace(reply.hand_over, link=link))
        try:
            with ELSEWHERE:
                if isinstance(channel, TwoPhaseChannel):
                    note = partial(
                        self.store.note_may_have_arrived, claimed, answer_s=channel.answer_s
                    )
                    return channel.deliver_in_phases(reply, note)
                return channel.deliver(reply)
        # Of the note: the other side has nothing.
        except (StaleLeaseError, RetryableError):
            raise
        # A third party's channel may raise anything, after the reply went out. Only the type is
        # kept: the text may quote the reply.
        except Exception as error:  # noqa: BLE001 - see above
            log.error("delivery.failed", delivery=reply.delivery_id, error=named(error))
            return Unclear(reason=type(error).__name__)
