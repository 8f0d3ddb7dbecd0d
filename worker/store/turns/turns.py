"""The open turn of a claimed user, from intent to settle. Every write checks the fencing token."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from worker.domain.errors import StaleLeaseError
from worker.domain.ids import CallId, ConversationId, TurnId
from worker.domain.people.hand_over import OUTPUT, HandOverReason
from worker.domain.screening.consents import OPTED_OUT
from worker.domain.states import DeliveryState, MessageState, ended_as
from worker.domain.tools import ToolResult
from worker.domain.turns.calls import CallOutcome, Done, Fault, ToolCall
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import GiveUp, HandedOver, Later, OptedOut, Plan, Reply
from worker.domain.turns.reconcile import TurnText
from worker.domain.turns.records import Lease, OpenConversation, ToolRecord
from worker.store.limits.budgets import count_tokens, counted_tokens
from worker.store.limits.gates import close_gate, reopen_gates
from worker.store.limits.loops import pause_if_loop
from worker.store.rows import value_of
from worker.store.sql import Connection, Row, Statement, sql
from worker.store.turns import calls as stored_calls
from worker.store.turns.calls import END_CALL, call_values
from worker.store.turns.conversations import bind
from worker.store.turns.hand_overs import failed_in_a_row, hand_over
from worker.store.turns.lease import LeasedStore
from worker.store.turns.open_turn import insert_intent
from worker.store.turns.settle import settle_statement
from worker.store.turns.snapshot import read_turn

_MARK_HUMAN = sql("""
UPDATE turns SET kind = 'human', conversation_id = :conversation_id WHERE id = :turn_id
""")
_HISTORY = sql("""
SELECT id, input_text AS text, parts <> '[]' AS with_images, landed FROM turns
WHERE conversation_id = :conversation_id AND state <> 'open' AND landed IS NOT FALSE ORDER BY id
""")
_CLOSE = sql("""
UPDATE conversations SET closed_at = service_now(), close_reason = 'failing'
WHERE closed_at IS NULL AND id = (SELECT conversation_id FROM turns WHERE id = :turn_id)
""")
NOT_RUN = "error: this was not run"
"""Output, sent with the next turn, of a tool call that came after the last permitted round."""

_METADATA = sql("""
SELECT envelope->'metadata' FROM messages WHERE turn_id = :turn_id
ORDER BY order_at DESC, seq DESC LIMIT 1
""")
_LANDED = sql("UPDATE turns SET landed = true WHERE id = ANY(:turn_ids)")
# Compared by calls, not turns: of several calls refused at once, each is judged by those before it.
_LAST_SUCCESS = """
    SELECT coalesce((SELECT done.id FROM calls done JOIN turns ON turns.id = done.turn_id
        WHERE turns.agent = :agent AND done.state = 'done' ORDER BY done.id DESC LIMIT 1), 0)"""
_OTHERS_REFUSED = sql(f"""
SELECT count(DISTINCT c.channel_user_id) FROM calls c JOIN turns t ON t.id = c.turn_id
WHERE t.agent = :agent AND c.state = 'refused' AND c.reason = 'request'
  AND c.channel_user_id <> :user_id AND c.id > ({_LAST_SUCCESS})
""")
_REPLACED = sql(f"""
SELECT count(DISTINCT c.channel_user_id) FROM conversations c
WHERE c.agent = :agent AND c.close_reason = 'refused'
  AND c.closed_at > coalesce(
      (SELECT finished_at FROM calls WHERE id = ({_LAST_SUCCESS})), '-infinity')
""")
# Only a call sent after the refusal arrived proves that the agent works: an earlier one may have
# been answered before the key or the model was withdrawn.
_OTHERS_ANSWERED = sql("""
SELECT EXISTS (SELECT FROM calls refused, calls c JOIN turns t ON t.id = c.turn_id
    WHERE refused.id = :since AND c.id > refused.id AND c.intent_at > refused.finished_at
      AND (CAST(:until AS bigint) IS NULL OR c.id < :until)
      AND c.state = 'done' AND c.channel_user_id <> :user_id
      AND (CAST(:agents AS text[]) IS NULL OR t.agent = ANY(:agents)))
""")
# Of the newest calls only: this is asked after each refusal, perhaps by a thousand turns at once.
_ANSWERED_LATELY = sql("""
SELECT EXISTS (SELECT FROM (SELECT * FROM calls ORDER BY id DESC LIMIT 1000) AS c
    JOIN turns t ON t.id = c.turn_id
    WHERE c.state = 'done' AND c.channel_user_id <> :user_id
      AND c.finished_at > service_now() - interval '1 minute'
      AND (CAST(:agents AS text[]) IS NULL OR t.agent = ANY(:agents)))
""")


class TurnStore(LeasedStore):
    """The open turn of a claimed user."""

    def record_intent(self, claimed: Claimed) -> Claimed | None:
        """Commit the intent of a call on the claim's conversation; None = the person opted out.

        Without an intent: a new person is paused, as they write like a machine that answers ours.
        """
        hashed = self._address_hash(claimed.who)
        with self._leased(claimed.lease) as connection:
            if claimed.is_new and claimed.turn.round == 0:
                text, routing = claimed.turn.input_text, self._routing()
                loop = pause_if_loop(connection, claimed, text, routing)
                if loop is not None:
                    return replace(claimed, paused=True, loop=loop)
            return insert_intent(connection, claimed, hashed, worker_id=self._worker_id)

    def mark_human(self, claimed: Claimed, conversation: OpenConversation | None) -> None:
        """Commit that a person answers this turn, before its text is added to Telnyx's log."""
        values = {
            "turn_id": claimed.turn.id,
            "conversation_id": conversation.id if conversation else None,
        }
        with self._leased(claimed.lease) as connection:
            if conversation is not None and not conversation.bound:
                bind(connection, conversation, claimed.turn.id)
            connection.execute(_MARK_HUMAN, values)

    def settle(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> Settled:
        """Commit the end of a call and what follows, and release the user; all or nothing.

        `outcome` None = the plan comes from the thread, not from a call. Raises `StaleLeaseError`:
        another worker has taken over, and nothing was written.
        """
        statement, values = settle_statement(claimed, plan)
        reply = plan.text if isinstance(plan, Reply) else None
        values |= call_values(claimed, outcome, reply=reply)
        values["address_hash"] = self._address_hash(claimed.who)
        gate = plan.gate if isinstance(plan, Later) else None
        reopened = claimed.gates if isinstance(outcome, Done) else ()
        tokens = counted_tokens(claimed.agent, outcome)
        tools = _has_tools(claimed, plan)
        closes = isinstance(plan, GiveUp) and plan.closes
        may_hand_over = claimed.agent.hand_over and isinstance(plan, HandedOver | GiveUp)
        more = gate is not None or reopened or tokens is not None or tools or closes
        handed_over = None
        # Most turns end with this one statement, which is a transaction by itself: BEGIN and COMMIT
        # would be two more round trips.
        opened = self._database.transaction if more or may_hand_over else self._database.statement
        with opened() as connection:
            # Gates before the user's row, always: two transactions that lock in another order
            # would wait for each other.
            if gate is not None:
                close_gate(connection, gate)
            if reopened:
                reopen_gates(connection, reopened)
            row = connection.execute(statement, values).one_or_none()
            if row is None:
                raise StaleLeaseError("another worker has taken this channel user over")
            if tools:
                _settle_tools(connection, claimed, outcome, plan)
            if closes:
                connection.execute(_CLOSE, {"turn_id": claimed.turn.id})
            if tokens is not None:
                count_tokens(connection, claimed.lease.user_id, claimed.agent, claimed.turn, tokens)
            if may_hand_over:
                handed_over = _hand_over(connection, claimed, plan)
        state, due_in_s = row.delivery_state, row.due_in_s
        ended, how = values.get("message_state"), values.get("outcome")
        if state == DeliveryState.OPTED_OUT and ended == MessageState.ANSWERED:
            how = OPTED_OUT
        return Settled(
            turn=claimed.turn.id,
            messages=tuple(one.id for one in claimed.step.batch),
            result=None if ended is None else ended_as(str(ended), str(how)),
            delivery=None if state is None else DeliveryState(state),
            hand_over=handed_over,
            due_in_s=None if due_in_s is None else max(0.0, float(due_in_s)),
        )

    def start_tools(
        self, claimed: Claimed, outcome: CallOutcome | None, calls: Sequence[ToolCall]
    ) -> Claimed:
        """Commit the tool calls of the model before any of them runs, and extend the lease.

        `outcome` None = they were found in the thread. Raises `StaleLeaseError`.
        """
        turn = claimed.turn
        with self._leased(claimed.lease) as connection:
            if outcome is not None:
                connection.execute(END_CALL, call_values(claimed, outcome))
                reopen_gates(connection, claimed.gates)
                tokens = counted_tokens(claimed.agent, outcome)
                if tokens is not None:
                    count_tokens(connection, claimed.lease.user_id, claimed.agent, turn, tokens)
            if turn.tool_calls or _owed(claimed):
                stored_calls.mark_answered(connection, claimed)
            stored_calls.insert(connection, claimed, calls)
            turn = read_turn(connection, turn.id)
        return replace(claimed, turn=turn, intent=None)

    def finish_tool(self, lease: Lease, record: ToolRecord, result: ToolResult) -> None:
        """Commit the result of a tool call. Raises `StaleLeaseError`."""
        with self._leased(lease) as connection:
            stored_calls.finish(connection, record, result)

    def newest_metadata(self, turn_id: TurnId) -> dict[str, str]:
        """Return the metadata that the producer sent with the turn's newest message."""
        row = self._row(_METADATA, {"turn_id": turn_id})
        return dict(row[0] or {}) if row else {}

    def history(
        self, conversation: ConversationId
    ) -> tuple[tuple[TurnText, ...], tuple[TurnText, ...]]:
        """Return the ended turns in a conversation's log, and those that may be; oldest first."""
        rows = self._rows(_HISTORY, {"conversation_id": conversation})
        landed = tuple(value_of(TurnText, row) for row in rows if row.landed)
        return landed, tuple(value_of(TurnText, row) for row in rows if row.landed is None)

    def mark_landed(self, lease: Lease, turns: Collection[TurnId]) -> None:
        """Commit that earlier turns did land. Raises `StaleLeaseError`."""
        with self._leased(lease) as connection:
            connection.execute(_LANDED, {"turn_ids": list(turns)})

    def others_refused(self, claimed: Claimed) -> int:
        """Count the other users with a message refused for this agent since its last success."""
        return int(self._ask(_OTHERS_REFUSED, claimed))

    def replaced(self, claimed: Claimed) -> int:
        """Count the users whose conversation was replaced since the agent's last success."""
        return int(self._ask(_REPLACED, claimed))

    def others_answered(
        self,
        claimed: Claimed,
        fault: Fault = Fault.REQUEST,
        *,
        since: CallId | None,
        until: CallId | None = None,
    ) -> bool:
        """Return whether a call of another user that was sent after a refusal has been answered.

        `fault`: whose calls count: those of the agent, of its model, or all of the account.
        `since`: the refusal; None = within the last minute. `until`: only calls before this one.
        """
        agents: list[str] | None = [claimed.agent.name]
        if fault is Fault.RATE:
            models = self._routing().agents.values()
            agents = [one.name for one in models if one.model == claimed.agent.model]
        elif fault is Fault.ACCOUNT:
            agents = None
        statement = _ANSWERED_LATELY if since is None else _OTHERS_ANSWERED
        return bool(self._ask(statement, claimed, since=since, until=until, agents=agents))

    def _ask(self, statement: Statement, claimed: Claimed, **values: object) -> Row:
        values |= {"agent": claimed.agent.name, "user_id": claimed.lease.user_id}
        return self._rows(statement, values)[0][0]


def _hand_over(connection: Connection, claimed: Claimed, plan: Plan) -> HandOverReason | None:
    """Hand the user over if the plan says so, or too many turns in a row have failed."""
    user_id, configured = claimed.lease.user_id, claimed.agent.hand_over
    if isinstance(plan, HandedOver):
        reason = plan.reason
    else:
        number = configured and configured.after_failed_turns
        if claimed.paused or not number or not failed_in_a_row(connection, user_id, number):
            return None
        reason = HandOverReason.FAILED_TURNS
    hand_over(
        connection,
        user_id,
        reason,
        agent=claimed.agent,
        policy=claimed.delivery_policy,
        turn=claimed.turn.id,
    )
    return reason


def _owed(claimed: Claimed) -> tuple[ToolRecord, ...]:
    return claimed.conversation.owed if claimed.conversation is not None else ()


def _has_tools(claimed: Claimed, plan: Plan) -> bool:
    """Whether the thread lacks the output of a tool call, of this turn or an earlier one."""
    not_run = isinstance(plan, GiveUp | HandedOver) and bool(plan.not_run)
    return bool(claimed.turn.tool_calls or _owed(claimed)) or not_run


def _settle_tools(
    connection: Connection, claimed: Claimed, outcome: CallOutcome | None, plan: Plan
) -> None:
    """Record which outputs the thread lacks, now that the turn has ended or waits."""
    conversation = claimed.conversation
    if conversation is None:
        return
    not_run = plan.not_run if isinstance(plan, GiveUp | HandedOver) else ()
    carried = isinstance(plan, GiveUp) and plan.outputs_landed
    if isinstance(plan, Reply | HandedOver) or isinstance(outcome, Done) or carried:
        stored_calls.mark_answered(connection, claimed)
    if not_run:
        output = OUTPUT if isinstance(plan, HandedOver) else NOT_RUN
        stored_calls.insert(connection, claimed, not_run, not_run=output)
    if isinstance(plan, Reply | GiveUp | HandedOver | OptedOut):
        stored_calls.note_debt(connection, conversation.id)
