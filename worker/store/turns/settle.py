"""Settles a turn: one statement for each plan, and the fence inside it.

Each statement first updates the user's row if the token still fits. If it does not, the rest of the
statement changes nothing and no row is returned.
"""

import json
from datetime import timedelta

from worker.domain.people.drafts import ASK_FOR_REVIEW, NOT_SENT, HeldFor, why_held
from worker.domain.reasons import DeadLetterReason
from worker.domain.screening.consents import OPTED_OUT
from worker.domain.states import MessageState, ReplySource, TurnState
from worker.domain.turns.claim import Claimed
from worker.domain.turns.plan import (
    Diverge,
    GiveUp,
    HandedOver,
    Later,
    OptedOut,
    Plan,
    Recorded,
    Replace,
    Reply,
    Split,
)
from worker.store.consents import stopped
from worker.store.rows import PENDING, reply_with_delivery
from worker.store.sql import Statement, sql
from worker.store.turns.calls import SET_END_OF_CALL

_UNLEASED = "lease_owner = NULL, lease_until = NULL"
_RELEASED = _UNLEASED + ", open_turn_id = NULL, due_at = waiting_due_at, superseding_since = NULL"
# A reply is held back while newer messages wait, for at most :max_wait in a row. `waiting_since`
# alone does not prove that one waits: a skipped or repeated message sets it, too.
_SUPERSEDING = (
    _UNLEASED
    + f""", open_turn_id = NULL, due_at = waiting_due_at,
        superseding_since = CASE WHEN :supersede AND waiting_since IS NOT NULL
            AND EXISTS (SELECT FROM messages newer
                WHERE newer.channel_user_id = :user_id AND {PENDING})
            AND coalesce(superseding_since, service_now()) > service_now() - :max_wait
            THEN coalesce(superseding_since, service_now()) END"""
)
_NO_DELIVERY = " SELECT NULL AS delivery_state, due_in_s FROM fenced"

# A draft. A user is new until a reply of the model has reached them, or somebody has approved one.
# The thread has the reply all the same, whatever becomes of it: so the model is told.
_HOLDING = (
    _SUPERSEDING
    + f""",
        note = nullif(concat_ws(chr(10), note,
            CASE WHEN draft.held_for IS NOT NULL THEN '{NOT_SENT}' END), '')
    FROM (SELECT CASE WHEN CAST(:held_for AS text) <> '{HeldFor.NEW_USER}' OR NOT EXISTS (
        SELECT FROM turns t JOIN replies r ON r.turn_id = t.id
            JOIN deliveries d ON d.reply_id = r.id
        WHERE t.channel_user_id = :user_id AND r.source IN ('call', 'adopted', 'edited')
          AND (d.state IN ('sent', 'unknown')
            OR d.reviewed_at IS NOT NULL AND d.state <> 'rejected')
    ) THEN CAST(:held_for AS text) END AS held_for) AS draft"""
)


# The fence, the end of the call and the release of the user in one round trip. Every other CTE must
# read `fenced`, or what reads it: one that does not would also write with a stale token.
def _ends(release: str, *, held_for: str = "NULL") -> str:
    """Return the start of a statement that ends a call; both are SQL, see `_HOLDING`."""
    return f"""
WITH fenced AS (
    UPDATE channel_users SET {release}
    WHERE id = :user_id AND lease_token = :token
    RETURNING id, paused_at, superseding_since,
        CASE WHEN diverged_at IS NULL THEN extract(epoch FROM due_at - service_now()) END
            AS due_in_s, CAST({held_for} AS text) AS held_for
), ended AS ({SET_END_OF_CALL} FROM fenced WHERE calls.id = :call_id
)"""


_LATER = sql(
    _ends(_UNLEASED + ", due_at = service_now() + :wait")
    + """
, excused AS (
    UPDATE calls SET reason = 'account' FROM fenced WHERE calls.id = :excused
)"""
    + _NO_DELIVERY
)
_TURN_ENDS = f"""
, turn AS (
    UPDATE turns SET state = :turn_state, landed = :landed, failure = :failure,
        finished_at = service_now()
    FROM fenced WHERE turns.id = :turn_id
    RETURNING turns.id, turns.conversation_id, {stopped()} AS opted_out
), told AS (
    UPDATE conversations c SET instructions_hash = sent.instructions_hash
    FROM turn JOIN calls sent ON sent.turn_id = turn.id
    WHERE :landed AND c.id = turn.conversation_id AND sent.conversation_id = c.id
      AND sent.instructions_hash IS NOT NULL
), messages_ended AS (
    UPDATE messages SET state = :message_state, finished_at = service_now(),
        outcome = CASE WHEN turn.opted_out AND CAST(:message_state AS text) = 'answered'
            THEN 'opted_out' ELSE :outcome END
    FROM turn WHERE messages.turn_id = turn.id RETURNING messages.id
)"""
# What of a turn survives a loss of commits. A reply that is adopted then has the key it had before,
# and receivers drop the repetition. Only turns that landed are counted: of two, none has the same.
_KEY = """coalesce((SELECT CAST(md5(concat_ws(' ', c.telnyx_conversation_id,
        c.base_user_messages + (SELECT count(*) FROM turns before
            WHERE before.conversation_id = c.id AND before.landed AND before.id < turn.id),
        (SELECT message_id FROM messages m WHERE m.turn_id = turn.id
            ORDER BY order_at DESC, seq DESC LIMIT 1))) AS uuid)
    FROM conversations c WHERE c.id = turn.conversation_id AND :source <> 'fallback'),
    gen_random_uuid())"""
_WITH_REPLY = (
    reply_with_delivery(
        key=_KEY,
        beside=", fenced, turn",
        first_state="""CASE
            WHEN turn.opted_out THEN 'opted_out'
            WHEN fenced.paused_at IS NOT NULL THEN 'withheld'
            WHEN fenced.superseding_since IS NOT NULL THEN 'superseded'
            WHEN fenced.held_for IS NOT NULL THEN 'held'
            ELSE :delivery_state END""",
        held_for="fenced.held_for",
        held_until="service_now() + CAST(:draft_max_age AS interval)",
        approved_state=":delivery_state",
    )
    + " SELECT delivery.state AS delivery_state, fenced.due_in_s FROM fenced, delivery"
)
_ANSWERED = sql(_ends(_SUPERSEDING) + _TURN_ENDS + _WITH_REPLY)
_DRAFTED = sql(_ends(_HOLDING, held_for="draft.held_for") + _TURN_ENDS + _WITH_REPLY)
_LETTERS = """
, letters AS (
    INSERT INTO dead_letters (kind, message_row_id, reason, created_at)
    SELECT 'message', id, :failure, service_now() FROM messages_ended
)"""
_DIED = sql(_ends(_RELEASED) + _TURN_ENDS + _LETTERS + _NO_DELIVERY)
_DIED_WITH_TEXT = sql(_ends(_SUPERSEDING) + _TURN_ENDS + _LETTERS + _WITH_REPLY)

_RECORDED = sql(_ends(_RELEASED) + _TURN_ENDS + _NO_DELIVERY)
_REPLACED = sql(
    _ends(_UNLEASED + ", due_at = service_now()")
    + """
, turn AS (
    UPDATE turns t SET conversation_id = NULL FROM fenced, turns was
    WHERE t.id = :turn_id AND was.id = t.id RETURNING was.conversation_id
), closed AS (
    UPDATE conversations c SET closed_at = service_now(), close_reason = :reason
    FROM turn WHERE c.id = turn.conversation_id RETURNING c.id
), noted AS (
    INSERT INTO attempt_log (event, channel_user_id, turn_id, token, facts)
    SELECT 'conversation.replaced', :user_id, :turn_id, :token,
        jsonb_build_object('conversation', id, 'reason', CAST(:reason AS text)) FROM closed
)"""
    + _NO_DELIVERY
)
_SPLIT = sql(
    _ends(
        _UNLEASED
        + """, open_turn_id = NULL, due_at = service_now(), waiting_due_at = service_now(),
        waiting_since = coalesce(waiting_since, service_now())"""
    )
    + """
, turn AS (
    UPDATE turns SET state = 'failed', landed = false, failure = 'split',
        finished_at = service_now()
    FROM fenced WHERE turns.id = :turn_id RETURNING turns.id
), back AS (
    UPDATE messages SET state = 'pending', turn_id = NULL, alone = true
    FROM turn WHERE messages.turn_id = turn.id
)"""
    + _NO_DELIVERY
)
_DIVERGED = sql(
    _ends(_UNLEASED + ", due_at = coalesce(due_at, service_now()), diverged_at = service_now()")
    + """
, noted AS (
    INSERT INTO attempt_log (event, channel_user_id, turn_id, token, facts)
    SELECT 'diverged', :user_id, :turn_id, :token, CAST(:facts AS jsonb) FROM fenced
)"""
    + _NO_DELIVERY
)


def settle_statement(claimed: Claimed, plan: Plan) -> tuple[Statement, dict[str, object]]:
    """Return the statement of a plan, and the values it takes beside those of the call."""
    match plan:
        case Reply():
            values = _reply_values(claimed, plan.text, plan.source)
            asked = any(one.name == ASK_FOR_REVIEW for one in claimed.turn.tool_calls)
            held_for = why_held(claimed.approve, asked=asked, incomplete=plan.incomplete)
            return (_DRAFTED if held_for else _ANSWERED), values | {"held_for": held_for}
        case GiveUp(fallback_text=str(fallback)):
            values = _reply_values(claimed, fallback, ReplySource.FALLBACK)
            values |= {"failure": plan.reason, "landed": plan.landed}
            if plan.reason is not DeadLetterReason.REFUSED:
                return _ANSWERED, values
            # An operator may find the cause and replay it; the person must not wait for that.
            return _DIED_WITH_TEXT, values | {
                "message_state": MessageState.DEAD,
                "outcome": plan.reason,
            }
        case GiveUp():
            return _DIED, _failed_values(MessageState.DEAD, plan.reason, landed=plan.landed)
        case Recorded() | OptedOut() | HandedOver():
            return _RECORDED, _unanswered_values(plan)
        case Later():
            values = {"wait": timedelta(seconds=plan.wait_s), "excused": plan.excused}
            return _LATER, values
        case Replace():
            return _REPLACED, {"reason": plan.reason}
        case Split():
            return _SPLIT, {}
        case Diverge():
            return _DIVERGED, {"facts": json.dumps({"reason": plan.reason})}


def _reply_values(claimed: Claimed, text_: str, source: ReplySource) -> dict[str, object]:
    fallback = source is ReplySource.FALLBACK
    state = TurnState.FAILED if fallback else TurnState.ANSWERED
    outcome = "fallback" if fallback else "answered"
    return _ended_values(state, MessageState.ANSWERED, outcome, landed=True) | {
        "text": text_,
        "source": source,
        "channel": claimed.delivery_policy.name,
        "delivery_state": claimed.delivery_policy.first_delivery_state,
        "supersede": claimed.channel.supersede,
        "max_wait": timedelta(seconds=claimed.channel.max_wait_s),
        "draft_max_age": timedelta(seconds=claimed.channel.draft_max_age_s),
    }


def _unanswered_values(plan: Recorded | OptedOut | HandedOver) -> dict[str, object]:
    if not isinstance(plan, OptedOut):
        landed = plan.landed if isinstance(plan, Recorded) else True
        return _ended_values(TurnState.ANSWERED, MessageState.HUMAN, "human", landed=landed)
    return _failed_values(MessageState.SKIPPED, OPTED_OUT, landed=plan.landed)


def _failed_values(
    messages: MessageState, reason: str, *, landed: bool | None
) -> dict[str, object]:
    values = _ended_values(TurnState.FAILED, messages, reason, landed=landed)
    return values | {"failure": reason}


def _ended_values(
    turn: TurnState, messages: MessageState, outcome: str, *, landed: bool | None
) -> dict[str, object]:
    return {
        "turn_state": turn,
        "landed": landed,
        "failure": None,
        "message_state": messages,
        "outcome": outcome,
    }
