"""The records of an open turn, what to send next, and Telnyx's log.

An open turn: lease, calls, tool calls, conversation.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from worker.domain.ids import CallId, ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress, PendingMessage, user_item
from worker.domain.people.hand_over import HandOverReason
from worker.domain.states import CallState, ToolCallState, TurnKind
from worker.domain.turns.calls import Fault, ToolCall

Item = dict[str, object]

NO_OUTPUT = "the tool gave no output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work one channel user; every write is checked against the token."""

    user_id: ChannelUserId
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """An earlier call of the open turn."""

    id: CallId
    round: int
    attempt: int
    """Counts the calls of one round from 0."""
    state: CallState
    intent_at: datetime
    conversation_id: ConversationId | None = None
    status: int | None = None
    fault: Fault | None = None
    """Of a refused call."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether it may still take effect; an `intended` one was left by a worker that died."""
        return self.state in {CallState.UNKNOWN, CallState.INTENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRecord:
    """A tool call of the model, committed before the tool runs."""

    turn_id: TurnId
    round: int
    """The round of the call that asked for it; the next round's call carries its output."""
    call_id: str
    given_ids: tuple[str, ...] = ()
    """See `ids`."""
    name: str
    arguments: str
    token: int
    """The token of the lease that started it: another token means that its worker died."""
    state: ToolCallState = ToolCallState.STARTED
    output: str | None = None
    """None while it runs."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the thread: several, if the record stands for all calls beyond the limit."""
        return self.given_ids or (self.call_id,)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenConversation:
    """The open mapping of a channel user and an agent."""

    id: ConversationId
    agent: str
    remote_key: UUID
    telnyx_id: TelnyxConversationId | None
    """None = committed, but not yet found or created at Telnyx."""
    base_user_messages: int
    instructions_hash: str | None
    bound: bool = True
    """Whether `telnyx_id` was read here; if not, the turn's next transaction commits it."""
    may_exist: bool = True
    """Whether Telnyx may have it although there is no `telnyx_id`."""
    turns: int = 0
    """The number of its turns, at most as far as rotation needs it."""
    last_turn_at: datetime | None = None
    owed: tuple[ToolRecord, ...] = ()
    """Tool calls of earlier turns whose outputs the thread lacks."""
    behind: bool = False
    """Whether Telnyx's log may hold turns that our records have lost, see `catch_up`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """A turn, open or ended."""

    id: TurnId
    agent: str
    opened_at: datetime
    messages: int
    """The number of messages it answers; 0 = it is a message of our staff."""
    kind: TurnKind = TurnKind.MODEL
    conversation_id: ConversationId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTurn(TurnRecord):
    """A turn that has not ended."""

    input_text: str
    parts: tuple[dict[str, object], ...]
    reply_to: str | None = None
    """The route of its reply; None = that of the channel."""
    traceparents: tuple[str, ...] = ()
    """Those of its messages that have one, in order."""
    calls: tuple[CallRecord, ...] = ()
    tool_calls: tuple[ToolRecord, ...] = ()
    """Oldest first, of all rounds."""

    @property
    def round(self) -> int:
        """The round of the next call: 0 sends the user item, the others outputs of tools."""
        return 1 + max((one.round for one in self.tool_calls), default=-1)

    @property
    def doubtful_calls(self) -> tuple[CallRecord, ...]:
        """Calls of this round that may have reached the turn's present conversation."""
        # A call on a conversation that was replaced since cannot appear in the present one.
        return tuple(
            call
            for call in self.calls
            if call.round == self.round
            and call.state is not CallState.NOT_SENT
            and call.conversation_id == self.conversation_id
        )

    @property
    def landed(self) -> bool | None:
        """Whether Telnyx's log holds its user item; None = it may."""
        return self.is_in_thread or (None if self.doubtful_calls else False)

    @property
    def is_in_thread(self) -> bool:
        """Whether the turn's present conversation certainly holds its user item."""
        return self.conversation_id is not None and any(
            call.round < self.round and call.conversation_id == self.conversation_id
            for call in self.calls
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the next step of one channel user depends on, read while their row is locked."""

    lease: Lease
    who: ChannelAddress
    now: datetime
    """The database's time, as are all times here."""
    turn: OpenTurn | None
    pending: tuple[PendingMessage, ...]
    """In order; empty while a turn is open."""
    conversation: OpenConversation | None
    """That of the agent of the open turn, or of the first pending message."""
    paused: bool = False
    """A person has taken over, or the loop breaker has stopped it."""
    opted_out: bool = False
    """The channel user wants no answers."""
    may_loop: bool = False
    """Whether the loop breaker has to look closely at a new turn."""
    loop: str | None = None
    """The rule by which it has just paused the user."""
    note: str | None = None
    """What the model is told before the messages of a new turn."""
    hand_over: HandOverReason | None = None
    """Why the user has just been handed over to our staff."""
    gates: Mapping[str, datetime]
    """When each gate opens or opened, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One conversation at Telnyx."""

    id: TelnyxConversationId
    metadata: Mapping[str, str]
    """Ours and Telnyx's own keys together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMessage:
    """One message of a conversation's log. It has no id at Telnyx."""

    role: str
    """user, assistant or tool, as far as documented."""
    text: str
    """Empty if Telnyx sends null, as it does for tool calls."""
    created_at: datetime | None = None
    """When it was stored."""
    sent_at: datetime | None = None
    """When the person saw or wrote it. Sort by it, as Telnyx documents."""
    tool_calls: tuple[ToolCall, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


def input_items(turn: OpenTurn, conversation: OpenConversation | None) -> tuple[Item, ...]:
    """Return the items of the turn's next call, those that the thread lacks.

    round 0     outputs that earlier turns still owe the thread, then the turn's one user item
    round n     the outputs of the tools of round n - 1
    round n without a thread that has the rest (stateless, or the conversation was replaced)
                the user item, and every tool call with its output

    `conversation` None = stateless.
    """
    if turn.round > 0 and turn.is_in_thread:
        return tuple(_outputs(one for one in turn.tool_calls if one.round == turn.round - 1))
    owed = conversation.owed if conversation is not None else ()
    return (*_outputs(owed), user_item(turn.input_text, turn.parts), *_rounds(turn))


def _rounds(turn: OpenTurn) -> Iterator[Item]:
    for number in range(turn.round):
        records = [one for one in turn.tool_calls if one.round == number]
        for record in records:
            about: Item = {"name": record.name, "arguments": record.arguments}
            yield from ({"type": "function_call", "call_id": one, **about} for one in record.ids)
        yield from _outputs(records)


def _outputs(records: Iterable[ToolRecord]) -> Iterator[Item]:
    for record in records:
        output = NO_OUTPUT if record.output is None else record.output
        for call_id in record.ids:
            yield {"type": "function_call_output", "call_id": call_id, "output": output}
