"""Sends a message of our staff to a channel user: the use case behind `worker say`."""

from dataclasses import dataclass
from uuid import UUID

from message_worker_client.envelope import VERSION, parse_envelope
from message_worker_client.envelope.wire import MAX_TEXT_BYTES
from worker.domain.ids import ChannelUserId
from worker.domain.routing import Routing
from worker.handlers.intake.route import channel_address
from worker.handlers.operators.take_user import (
    NotNowError,
    NotPossibleError,
    agent_of,
    take_for_changes,
)
from worker.observability.logs import log
from worker.store.operators.consents import ConsentStore
from worker.store.operators.interventions import InterventionStore, LockedUser
from worker.store.operators.say import Said, SayingStore
from worker.store.operators.users import UserStore


@dataclass(frozen=True, kw_only=True)
class SayToUser:
    """Commits a message as a turn with its reply and delivery.

    Workers deliver it, and add it to Telnyx's log before the next turn: so it is never half sent.
    """

    store: InterventionStore
    users: UserStore
    saying: SayingStore
    consents: ConsentStore
    routing: Routing

    def __call__(
        self,
        user_id: ChannelUserId,
        text: str,
        agent: str | None = None,
        *,
        key: UUID,
        deliver_only: bool = False,
    ) -> Said:
        """Commit it, once for each `key`.

        `deliver_only`: do not add it to Telnyx's log, and do not wait for an open turn. Raises
        `NotNowError`, `NotPossibleError` and `StaleLeaseError`: nothing was committed.
        """
        check_text(text)
        # Before the user is taken: a repeated command must succeed even while they are busy.
        before = self.saying.find(user_id, key)
        if before is not None:
            return before
        user = take_for_changes(self.store, user_id)
        if user.turn is not None and not deliver_only:
            raise NotNowError(
                f"turn {user.turn.id} has not ended: try again in a minute, or leave the message"
                " out of the thread with `worker say --deliver-only`"
            )
        policy = self.routing.channel(user.who.channel)
        ledger = self.consents.history(self.routing.person(policy.scope, user.who.address))
        if ledger and ledger[-1].stopped:
            raise NotPossibleError("this person has opted out, see `worker consent show`")
        name = agent or self._speaker(user)
        conversation = user.conversation(name) if policy.persist and not deliver_only else None
        said = self.saying.say(
            user.lease,
            text,
            key=key,
            agent=self.routing.agent(name),
            policy=policy,
            conversation=conversation.id if conversation else None,
        )
        log.info("staff_message.committed", user=user_id, turn=said.turn, delivery=said.delivery)
        return said

    def meet(self, *, channel: str, address: str, recipient: str) -> None:
        """Add a channel user who has never written.

        Raises `EnvelopeError` for an address that does not fit the channel, and `NotPossibleError`
        if our staff may not write first on it.
        """
        policy = self.routing.channel(channel)
        if not policy.say_first:
            raise NotPossibleError(
                "there is no such channel user; to write to people who have never written, set"
                " say_first = true for the channel in the agents file"
            )
        # The same rules as for those who write.
        who = {"channel": channel, "user": address, "recipient": recipient}
        envelope = parse_envelope({"version": VERSION, **who, "message_id": "-", "text": "-"})
        self.users.meet(channel_address(envelope, policy))

    def _speaker(self, user: LockedUser) -> str:
        """Return the open conversation's agent, else the next one's. Raises `NotPossibleError`."""
        if user.open or user.turn:
            return agent_of(user, None)
        channel, recipient = user.who.channel, user.who.recipient
        return self.routing.agent_for(channel=channel, recipient=recipient, named=None).name


def check_text(text: str) -> None:
    """Raise `NotPossibleError` for a text that cannot be sent."""
    if not text.strip():
        raise NotPossibleError("TEXT is empty: say something")
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise NotPossibleError("TEXT is not valid UTF-8") from None
    if size_bytes > MAX_TEXT_BYTES or "\0" in text:
        raise NotPossibleError(f"TEXT: at most {MAX_TEXT_BYTES} bytes, and no NUL")
