"""Drafts: listed, read, and decided about once.

A decision locks the user's row first, as whatever opens a turn does: so either the draft goes out,
or a turn over newer messages has superseded it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from worker.domain.ids import ChannelUserId, DeliveryId, ReplyId
from worker.domain.people.drafts import (
    ASK_FOR_REVIEW,
    NOT_SENT,
    Decision,
    Draft,
    DraftMessage,
    WaitingDraft,
    decision_of,
    sent_instead,
    share_changed,
)
from worker.domain.states import DeliveryState, ReplySource
from worker.store.consents import STOPPED_USER, values_of_users
from worker.store.database import Store
from worker.store.rows import IS_ERASING, PENDING, value_of
from worker.store.sql import sql

_DRAFT = """
FROM deliveries d JOIN replies r ON r.id = d.reply_id JOIN turns t ON t.id = r.turn_id
    JOIN channel_users u ON u.id = d.channel_user_id
"""
_SHOWN = """r.id, u.id AS "user", u.channel, t.agent, d.held_for, d.created_at,
    d.due_at AS expires_at,
    CAST(extract(epoch FROM service_now() - d.created_at) AS float8) AS age_s"""
_WAITING = sql(f"""
SELECT {_SHOWN} {_DRAFT}
WHERE d.state = 'held' AND r.id > :after
  AND (CAST(:agent AS text) IS NULL OR t.agent = :agent)
  AND (CAST(:channel AS text) IS NULL OR u.channel = :channel)
ORDER BY r.id LIMIT :limit
""")
_GET = sql(f"""
SELECT {_SHOWN}, d.state, r.text, r.draft, r.source, d.reviewed_by, d.reviewed_at,
    t.id AS turn_id,
    (SELECT c.arguments FROM tool_calls c WHERE c.turn_id = t.id AND c.name = '{ASK_FOR_REVIEW}'
     ORDER BY c.id DESC LIMIT 1) AS asked,
    (SELECT count(*) FROM messages m
     WHERE m.channel_user_id = u.id AND ({PENDING} OR m.turn_id > t.id)) AS newer
{_DRAFT} WHERE r.id = :id AND d.held_for IS NOT NULL
""")
_MESSAGES = sql("""
SELECT id, accepted_at, envelope->>'text' AS text FROM messages
WHERE turn_id = :turn_id ORDER BY order_at, seq
""")
_LOCK = sql("""
SELECT id FROM channel_users WHERE id = (
    SELECT t.channel_user_id FROM replies r JOIN turns t ON t.id = r.turn_id WHERE r.id = :id)
FOR NO KEY UPDATE
""")
_STATE = sql(f"""
SELECT r.id, d.id AS delivery, u.id AS "user", d.state, d.approved_state, r.source, r.text,
    d.reviewed_by, d.reviewed_at, {STOPPED_USER} AS opted_out,
    EXISTS (SELECT FROM messages m
        WHERE m.channel_user_id = u.id AND {PENDING}) AS has_newer,
    {IS_ERASING} AS is_erasing
{_DRAFT} WHERE r.id = :id AND d.held_for IS NOT NULL FOR UPDATE OF d
""")
_DECIDE = sql("""
WITH decided AS (
    UPDATE deliveries SET state = :state, reviewed_by = :by, reviewed_at = service_now(),
        counts_from = service_now(),
        due_at = CASE WHEN CAST(:state AS text) = 'pending' THEN service_now() END,
        finished_at = CASE WHEN CAST(:state AS text) <> 'pending' THEN service_now() END
    WHERE id = :delivery RETURNING id, reply_id, channel_user_id
), edited AS (
    UPDATE replies r SET draft = r.text, text = :text, changed = :changed, source = 'edited'
    FROM decided WHERE r.id = decided.reply_id AND CAST(:text AS text) IS NOT NULL
), told AS (
    UPDATE channel_users u
    SET note = nullif(btrim(replace(u.note, :not_sent, :instead), chr(10)), '')
    FROM decided WHERE u.id = decided.channel_user_id
)
INSERT INTO attempt_log (event, channel_user_id, turn_id, facts)
SELECT CAST(:event AS text), decided.channel_user_id, r.turn_id,
    jsonb_build_object('delivery', decided.id)
FROM decided JOIN replies r ON r.id = decided.reply_id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftState:
    """What a decision depends on, with the rows locked."""

    id: ReplyId
    delivery: DeliveryId
    user: ChannelUserId
    state: DeliveryState
    approved_state: DeliveryState
    source: ReplySource
    text: str
    reviewed_by: str | None
    reviewed_at: datetime | None
    opted_out: bool
    has_newer: bool
    """Newer messages of the person wait."""
    is_erasing: bool

    @property
    def decision(self) -> Decision | None:
        """What somebody has decided; None = nobody has."""
        return decision_of(self.state, self.source, self.reviewed_at)


class DraftStore(Store):
    """Replies that wait for a person."""

    def waiting(
        self, *, agent: str | None, channel: str | None, after: int, limit: int
    ) -> tuple[WaitingDraft, ...]:
        """Return the drafts that wait, oldest first, without texts."""
        values = {"agent": agent, "channel": channel, "after": after, "limit": limit}
        return self._found(WaitingDraft, _WAITING, values)

    def get(self, reply: ReplyId) -> Draft | None:
        """Return a reply that is or was a draft; None = it never was, or there is none."""
        row = self._row(_GET, {"id": reply})
        if row is None:
            return None
        found = self._found(DraftMessage, _MESSAGES, {"turn_id": row.turn_id})
        state, source = DeliveryState(row.state), ReplySource(row.source)
        return value_of(
            Draft,
            row,
            messages=found,
            reason=reason_in(row.asked),
            decision=decision_of(state, source, row.reviewed_at),
            expires_at=row.expires_at if state is DeliveryState.HELD else None,
        )

    def decide(
        self,
        reply: ReplyId,
        decision: Decision,
        *,
        by: str,
        text: str | None,
        check: Callable[[DraftState], None],
        scopes: Mapping[str, str],
    ) -> tuple[DraftState, DeliveryState] | None:
        """Commit a decision; return the draft before it and its new state. None = no such draft.

        `text`: what goes out in its place. If `check` raises, nothing is written. `scopes`: those
        of the ledger of opt-outs, see `Routing`.
        """
        values = values_of_users(self._database.consent_key, scopes) | {"id": reply}
        with self._database.transaction() as connection:
            connection.execute(_LOCK, values)
            row = connection.execute(_STATE, values).one_or_none()
            if row is None:
                return None
            draft = value_of(DraftState, row)
            check(draft)
            rejected = decision is Decision.REJECTED
            state = DeliveryState.REJECTED if rejected else draft.approved_state
            told = "" if text is None else sent_instead(text)
            changes = {
                "delivery": draft.delivery,
                "state": state,
                "by": by,
                "text": text,
                "changed": None if text is None else share_changed(draft.text, text),
                "not_sent": NOT_SENT,
                "instead": NOT_SENT if rejected else told,
                "event": f"draft.{decision}",
            }
            connection.execute(_DECIDE, changes)
        return draft, state


def reason_in(arguments: str | None) -> str | None:
    """Return the model's words from the arguments of its call, which may be no JSON."""
    try:
        reason = json.loads(arguments or "{}").get("reason")
    except (ValueError, AttributeError):
        return arguments
    return reason if isinstance(reason, str) else None
