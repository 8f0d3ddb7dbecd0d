"""Changes that operators make to one channel user: take the user, then write in one transaction.

    take ──▶ free: the fencing token has grown, and an earlier holder can write nothing
         └─▶ not free: nothing was changed

No lock is held between `take` and the write. A claim in between raises the token again, and the
write fails with `StaleLeaseError`.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.domain.errors import ConflictError, NotFoundError
from worker.domain.ids import ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress
from worker.domain.turns.records import Lease, OpenConversation, OpenTurn
from worker.store.database import Database, Store
from worker.store.rows import CONVERSATION, IS_ERASING, address_of, value_of
from worker.store.sql import Connection, sql
from worker.store.turns.conversations import ATTACH
from worker.store.turns.lease import check_lease
from worker.store.turns.snapshot import close_conversation, read_turn

_LOCK = sql(f"""
SELECT channel, recipient, address, thread, lease_token, open_turn_id,
    diverged_at IS NOT NULL AS diverged, {IS_ERASING} AS erasing, service_now() AS now,
    CASE WHEN EXISTS (SELECT FROM workers w
        WHERE w.id = u.lease_owner AND w.alive_until >= service_now())
        AND lease_until > service_now() THEN lease_until END AS held_until
FROM channel_users u WHERE id = :user_id FOR UPDATE
""")
# An ended turn counts only if its user item may still appear in a thread.
_DOUBT = sql("""
SELECT max(until) FROM turns t JOIN calls c ON c.turn_id = t.id, LATERAL (
    SELECT greatest(c.intent_at, (SELECT jumped_at FROM cluster WHERE one))
        + CASE WHEN c.state = 'refused' THEN :settle ELSE :quiet END AS until) AS one
WHERE t.channel_user_id = :user_id AND c.state IN ('intended', 'unknown', 'refused')
  AND until > service_now()
  AND (t.state = 'open' OR (t.landed IS NULL AND c.conversation_id IS NOT NULL))
""")
_OPEN = sql(f"""
SELECT {CONVERSATION} FROM conversations
WHERE channel_user_id = :user_id AND closed_at IS NULL ORDER BY id
""")
_TAKE = sql("""
UPDATE channel_users SET lease_token = lease_token + 1, lease_owner = NULL, lease_until = NULL
WHERE id = :user_id RETURNING lease_token
""")
# `woken_at` NULL: a wake that was published before the change must not hold the sweepers off.
_GO_ON = sql("""
UPDATE channel_users SET woken_at = NULL, diverged_at = NULL,
    due_at = CASE WHEN open_turn_id IS NOT NULL AND (:has_turn OR due_at IS NULL)
        THEN service_now() ELSE due_at END
WHERE id = :user_id
""")
_NOTE = sql("""
INSERT INTO attempt_log (event, channel_user_id, turn_id, token, facts)
VALUES (:event, :user_id, :turn_id, :token, CAST(:facts AS jsonb))
""")
_OWNER = sql("""
SELECT id, channel_user_id AS user_id, agent, base_user_messages, owes_outputs
FROM conversations WHERE telnyx_conversation_id = :telnyx_id
""")
# The Telnyx conversation moves to another row: turns of this one no longer count as landed in it.
_GIVE_UP = sql("""
UPDATE conversations SET telnyx_conversation_id = NULL,
    closed_at = coalesce(closed_at, service_now()), close_reason = coalesce(close_reason, 'adopted')
WHERE id = :was
""")
_ADOPT = sql("""
INSERT INTO conversations (channel_user_id, agent, telnyx_conversation_id, base_user_messages)
VALUES (:user_id, :agent, :telnyx_id, :base)
ON CONFLICT (telnyx_conversation_id) DO NOTHING RETURNING id
""")
_MOVE_CALLS = sql("""
UPDATE calls SET conversation_id = :conversation_id
WHERE turn_id = :turn_id AND conversation_id = :was
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedUser:
    """A channel user as an operator takes them."""

    lease: Lease
    """Valid for one write if the user `is_free`."""
    who: ChannelAddress
    now: datetime
    turn: OpenTurn | None
    open: tuple[OpenConversation, ...]
    """At most one for each agent."""
    diverged: bool
    erasing: bool
    """An erasure has started and has not finished."""
    held_until: datetime | None
    """A living worker holds the lease until then; None = no worker does."""
    doubt_until: datetime | None
    """Telnyx may still execute a call until then; None = no call is in doubt."""

    @property
    def is_free(self) -> bool:
        """Whether the user was taken."""
        return self.held_until is None and self.doubt_until is None

    def conversation(self, agent: str) -> OpenConversation | None:
        """Return the open mapping of an agent."""
        return next((one for one in self.open if one.agent == agent), None)

    def turn_of(self, agent: str) -> OpenTurn | None:
        """Return the open turn if it is this agent's."""
        return self.turn if self.turn and self.turn.agent == agent else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationOwner:
    """The mapping of a Telnyx conversation, open or closed."""

    id: ConversationId
    user_id: ChannelUserId
    agent: str
    base_user_messages: int
    owes_outputs: bool
    """The thread lacks outputs of tools."""


class InterventionStore(Store):
    """Channel users that an operator has taken."""

    def __init__(self, database: Database, *, quiet_s: float, settle_s: float) -> None:
        super().__init__(database)
        self._waits = {"quiet": timedelta(seconds=quiet_s), "settle": timedelta(seconds=settle_s)}

    def take(self, user_id: ChannelUserId) -> LockedUser:
        """Raise the token if the user is free, which fences off workers. Raises `NotFoundError`."""
        values = {"user_id": user_id, **self._waits}
        with self._database.transaction() as connection:
            row = connection.execute(_LOCK, values).one_or_none()
            if row is None:
                raise NotFoundError("there is no such channel user")
            turn_id = row.open_turn_id
            opened = connection.execute(_OPEN, values)
            user = value_of(
                LockedUser,
                row,
                lease=Lease(user_id=user_id, token=row.lease_token),
                who=address_of(row),
                turn=None if turn_id is None else read_turn(connection, turn_id),
                open=tuple(value_of(OpenConversation, one) for one in opened),
                doubt_until=connection.execute(_DOUBT, values).scalar_one(),
            )
            if not user.is_free:
                return user
            token = connection.execute(_TAKE, values).scalar_one()
        return replace(user, lease=Lease(user_id=user_id, token=token))

    def reset(self, user: LockedUser, conversation: OpenConversation) -> TurnId | None:
        """Close a mapping; return the turn that is open on it, which continues with a new one."""
        open_turn = user.turn_of(conversation.agent)
        turn = open_turn.id if open_turn else None
        with self._database.transaction() as connection:
            _go_on(connection, user.lease, turn)
            close_conversation(connection, conversation.id, reason="reset")
            if turn is not None:
                connection.execute(ATTACH, {"turn_id": turn, "conversation_id": None})
            note(connection, "conversation.reset", user.lease, turn, conversation=conversation.id)
        return turn

    def owner(self, telnyx_id: TelnyxConversationId) -> ConversationOwner | None:
        """Return the mapping of a Telnyx conversation."""
        row = self._row(_OWNER, {"telnyx_id": telnyx_id})
        return None if row is None else value_of(ConversationOwner, row)

    def adopt(
        self,
        user: LockedUser,
        telnyx_id: TelnyxConversationId,
        *,
        agent: str,
        base: int,
        was: ConversationId | None,
        turn_may_be_there: bool,
    ) -> ConversationId:
        """Map the user to a Telnyx conversation, always with a new row.

        So `reconcile` counts from `base`, its user messages, alone; turns that landed earlier are
        in it. `was`: the mapping of the same user that had it. The agent's open turn continues
        there; if it may be there, its calls move along, so that `reconcile` looks for it before it
        is sent again.
        """
        lease, closing, open_turn = user.lease, user.conversation(agent), user.turn_of(agent)
        turn = open_turn.id if open_turn else None
        with self._database.transaction() as connection:
            _go_on(connection, lease, turn)
            if closing is not None:
                close_conversation(connection, closing.id, reason="adopted")
            values: dict[str, object] = {"user_id": lease.user_id, "agent": agent}
            values |= {"telnyx_id": telnyx_id, "turn_id": turn, "was": was, "base": base}
            if was is not None:
                connection.execute(_GIVE_UP, values)
            adopted = connection.execute(_ADOPT, values).scalar_one_or_none()
            if adopted is None:
                raise ConflictError(
                    "this conversation has just been mapped to another channel user"
                )
            if turn is not None:
                values["conversation_id"] = adopted if turn_may_be_there else None
                connection.execute(ATTACH, values)
                if turn_may_be_there:
                    connection.execute(_MOVE_CALLS, values)
            facts = {"conversation": adopted, "telnyx": str(telnyx_id), "was": was, "base": base}
            note(connection, "conversation.adopted", lease, turn, **facts)
        return ConversationId(adopted)


def _go_on(connection: Connection, lease: Lease, turn: TurnId | None) -> None:
    """Check the lease, end a divergence, and make the open turn due. Raises `StaleLeaseError`."""
    check_lease(connection, lease, lease_for=None)
    connection.execute(_GO_ON, {"user_id": lease.user_id, "has_turn": turn is not None})


def note(
    connection: Connection, event: str, lease: Lease, turn: TurnId | None, **facts: object
) -> None:
    """Record in the attempt log that an operator stepped in: ids, never texts."""
    values = {"event": event, "user_id": lease.user_id, "turn_id": turn, "token": lease.token}
    connection.execute(_NOTE, {**values, "facts": json.dumps(facts)})
