"""The invariants of the turn protocol, read from the tables and from what Telnyx saw.

    check(database, simulator.log(), Expectations(accepted=keys, delivered=sink.taken))

gives every violation; an empty list is the proof. It needs no help of the service: it reads rows
with SQL of its own and the simulator's append-only log. `final=False` leaves out what holds only
after healing. Users that were stopped as diverged are excused from ending, but only where somebody
else really wrote into their thread, or Telnyx split or merged items.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.domain.people.drafts import NOT_SENT
from worker.sandbox.simulator.record.events import (
    FaultChosen,
    MessageExtended,
    MessageStored,
    RequestReceived,
)
from worker.sandbox.simulator.record.log import Entry, overlaps
from worker.sandbox.simulator.record.values import Draft, prefix_hash

Row = dict[str, Any]


class Reads(Protocol):
    """Whoever reads rows: `tests.support.world.Database`."""

    def rows(self, query: str, *values: object) -> list[Row]: ...


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class MessageKey:
    """What a producer knows of a message."""

    channel: str
    address: str
    message_id: str
    recipient: str = ""
    thread: str = ""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """One time that the other side took a reply, in the order in which it did."""

    user_id: int
    delivery_id: int
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What the test knows."""

    accepted: Collection[MessageKey] | None = None
    """Acknowledged to a producer; None = whatever is in the table."""
    delivered: Sequence[Delivered] | None = None
    """By a sink that remembers keys; None = nobody looked."""
    final: bool = True
    """Healing is over: nothing may be unfinished."""
    slack_s: float = 0.0
    """Forgiven when requests overlap: real clients are noticed to leave up to 0.05 s late."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """One user item in a thread."""

    text: str
    request: int | None
    index: int
    foreign: bool


@dataclass(frozen=True, kw_only=True)
class Thread:
    """What Telnyx's log says of one conversation."""

    items: tuple[Said, ...]
    replies: dict[int, str]
    """By the request that brought the user item; those to outputs of tools belong to it too."""
    outputs: tuple[str, ...]
    """Of tools: the ids of the calls that they answer."""
    disturbed: bool
    """Somebody else wrote into it."""
    rearranged: bool
    """Telnyx split or merged items: its items are no turns' any more."""


@dataclass
class Evidence:
    """Everything that the checks look at, read once."""

    database: Reads
    log: Sequence[Entry]
    expected: Expectations
    users: dict[int, Row] = field(init=False)
    messages: list[Row] = field(init=False)
    turns: dict[int, Row] = field(init=False)
    calls: list[Row] = field(init=False)
    conversations: list[Row] = field(init=False)
    replies: dict[int, Row] = field(init=False)
    deliveries: list[Row] = field(init=False)
    threads: dict[str, Thread] = field(init=False)

    def __post_init__(self) -> None:
        read = self.database.rows
        self.users = {row["id"]: row for row in read("SELECT * FROM channel_users")}
        self.messages = read(
            "SELECT m.*, m.envelope->>'text' AS text, d.letters FROM messages m LEFT JOIN"
            " (SELECT message_row_id, count(*) AS letters FROM dead_letters GROUP BY 1) d"
            " ON d.message_row_id = m.id ORDER BY m.channel_user_id, m.order_at, m.seq"
        )
        self.turns = {row["id"]: row for row in read("SELECT * FROM turns ORDER BY id")}
        self.calls = read("SELECT * FROM calls ORDER BY id")
        self.conversations = read("SELECT * FROM conversations ORDER BY id")
        self.replies = {row["turn_id"]: row for row in read("SELECT * FROM replies ORDER BY id")}
        # A later piece of a reply has the reply of its first, and its place behind that.
        self.deliveries = read(
            "SELECT d.*, coalesce(d.reply_id, first.reply_id) AS reply_id FROM deliveries d"
            " LEFT JOIN deliveries first ON first.id = d.part_of"
            " ORDER BY d.channel_user_id, coalesce(d.part_of, d.id), d.id"
        )
        self.threads = _threads(self.log)

    def by_turn(self) -> dict[int, list[Row]]:
        grouped: dict[int, list[Row]] = defaultdict(list)
        for message in self.messages:
            if message["turn_id"] is not None:
                grouped[message["turn_id"]].append(message)
        return grouped

    def stopped(self, user_id: int) -> bool:
        return self.users[user_id]["diverged_at"] is not None

    def thread_of(self, turn: Row) -> Thread | None:
        """Give the thread that a turn is on; None = stateless, or never written to."""
        for one in self.conversations:
            if one["id"] == turn["conversation_id"]:
                return self.threads.get(str(one["telnyx_conversation_id"]))
        return None


def check(database: Reads, log: Sequence[Entry], expected: Expectations) -> list[Violation]:
    """Give every violation of I1 and I3 to I9 that can be seen in what is left behind."""
    seen = Evidence(database=database, log=log, expected=expected)
    if orphans := list(_orphans(seen)):
        return orphans  # the other checks read the parents
    checks = (
        _each_message_ends_once,
        _turns_are_what_was_written,
        _threads_hold_the_turns,
        _replies_belong_to_their_turns,
        _one_conversation_per_mapping,
        _requests_do_not_overlap,
        _one_turn_is_open,
        _deliveries_are_in_order,
        _tokens_only_grow,
        _nobody_is_stopped_without_a_reason,
        _rows_belong_together,
    )
    found = [violation for each in checks for violation in each(seen)]
    return found + (list(_nothing_is_stranded(seen)) if expected.final else [])


def _each_message_ends_once(seen: Evidence) -> Iterator[Violation]:
    """I1."""
    rows = Counter(_key(seen.users[row["channel_user_id"]], row) for row in seen.messages)
    for key in set(seen.expected.accepted or ()):
        if rows[key] != 1:
            yield Violation("I1", f"{key.message_id} was accepted and has {rows[key]} rows")
    for row in seen.messages:
        if (problem := _wrong_end(seen, row)) is not None:
            yield Violation("I1", f"message {row['id']}, {row['state']}: {problem}")


def _wrong_end(seen: Evidence, row: Row) -> str | None:
    turn = seen.turns.get(row["turn_id"])
    reply = seen.replies.get(row["turn_id"])
    match row["state"]:
        case "answered" if reply is None:
            return "there is no reply"
        case "answered" if (reply["source"] == "fallback") != (row["outcome"] == "fallback"):
            return "its outcome is not its reply's source"
        case "dead" if not row["letters"]:
            return "there is no dead letter"
        case "human" if turn is None or turn["kind"] != "human":
            return "no turn of a person took it"
        case "pending" if turn is not None:
            return "a turn has it already"
        case "in_turn" if turn is None or turn["state"] != "open":
            return "its turn is not open"
        case "answered" | "human" | "dead" if turn is not None and turn["state"] == "open":
            return "its turn is still open"
        case _:
            return None


def _turns_are_what_was_written(seen: Evidence) -> Iterator[Violation]:
    """I3, our half: a turn's input is its messages, and turns follow the order of acceptance."""
    for turn_id, messages in seen.by_turn().items():
        written = "\n".join(row["text"] or "" for row in messages)
        bare = not any(row["envelope"].get("attachments") for row in messages)
        # A note for the model may come first.
        said = seen.turns[turn_id]["input_text"].removeprefix(f"{NOT_SENT}\n")
        if bare and said != written:
            yield Violation("I3", f"turn {turn_id} does not say what its messages say")
    latest: dict[int, int] = {}
    for row in seen.messages:
        if row["turn_id"] is None or row["late"]:
            continue
        if row["turn_id"] < latest.get(row["channel_user_id"], 0):
            yield Violation("I3", f"message {row['id']} was answered before an earlier one")
        latest[row["channel_user_id"]] = max(row["turn_id"], latest.get(row["channel_user_id"], 0))


def _threads_hold_the_turns(seen: Evidence) -> Iterator[Violation]:
    """I3, Telnyx's half: its user items are the turns' inputs, in order, once each."""
    called = defaultdict(set)
    for call in seen.calls:
        called[call["conversation_id"]].add(call["turn_id"])
    for one in seen.conversations:
        thread = seen.threads.get(str(one["telnyx_conversation_id"]))
        turns = [turn for turn in seen.turns.values() if turn["conversation_id"] == one["id"]]
        if thread is None or thread.rearranged:
            continue
        # After a failover the base may count items of turns that our records have not lost.
        base = 0 if one["compared_at"] is not None else one["base_user_messages"]
        items = [item for item in thread.items[base:] if not item.foreign]
        landed = [turn for turn in turns if turn["landed"] is True]
        optional = [turn for turn in turns if turn["landed"] is None]
        # A conversation that was given up may hold a turn that went on in the next one.
        optional += [
            seen.turns[turn_id]
            for turn_id in sorted(called[one["id"]])
            if seen.turns[turn_id]["conversation_id"] != one["id"]
        ]
        for problem in _mismatches(items, landed, optional, thread, seen.replies):
            yield Violation("I3", f"conversation {one['id']}: {problem}")
        if len(set(thread.outputs)) < len(thread.outputs):
            yield Violation("I3", f"conversation {one['id']}: a tool's output is said twice")


def _mismatches(
    items: Sequence[Said],
    landed: Sequence[Row],
    optional: Sequence[Row],
    thread: Thread,
    replies: dict[int, Row],
) -> Iterator[str]:
    """Compare user items with turns; `optional` ones may be there, at any place."""
    places = _matched(items, landed, optional, thread, replies)
    by_id = {turn["id"]: turn for turn in (*landed, *optional)}
    for turn in landed:
        if turn["id"] not in places.values():
            yield f"turn {turn['id']} is marked landed and is not there"
    for place, item in enumerate(items):
        if place not in places:
            yield f"item {place} is said twice, or is nobody's"
        elif not _says(by_id[places[place]], item.text):
            yield f"item {place} is not what turn {places[place]} says"
    order = [places[place] for place in sorted(places) if by_id[places[place]] in landed]
    if order != sorted(order):
        yield f"turns arrived in the order {order}"


def _matched(
    items: Sequence[Said],
    landed: Sequence[Row],
    optional: Sequence[Row],
    thread: Thread,
    replies: dict[int, Row],
) -> dict[int, int]:
    """Give the turn of each place: first those whose reply names its request for certain."""
    places: dict[int, int] = {}

    def take(turn: Row, fits: Callable[[Said], bool]) -> None:
        free = (place for place in range(len(items)) if place not in places)
        found = next((place for place in free if fits(items[place])), None)
        if found is not None:
            places[found] = turn["id"]

    for turn in landed:
        said = _reply_text(replies, turn)
        if said is not None:
            take(turn, lambda item, said=said: thread.replies.get(item.request or 0) == said)
    for turn in (*(turn for turn in landed if turn["id"] not in places.values()), *optional):
        take(turn, lambda item, turn=turn: _says(turn, item.text))
    return places


def _says(turn: Row, text: str) -> bool:
    """Compare letter by letter: what the service takes for the same is not what is checked here."""
    said = turn["input_text"]
    return text.startswith(said) if turn["parts"] else text == said


def _reply_text(replies: dict[int, Row], turn: Row) -> str | None:
    reply = replies.get(turn["id"])
    return reply["text"] if reply is not None and reply["source"] in {"call", "adopted"} else None


def _replies_belong_to_their_turns(seen: Evidence) -> Iterator[Violation]:
    """I4: a reply is what the model said to this very turn, on this very history."""
    for turn_id, reply in seen.replies.items():
        turn = seen.turns[turn_id]
        if reply["source"] not in {"call", "adopted"}:
            continue
        if turn["conversation_id"] is None:
            mark = prefix_hash([Draft(role="user", text=turn["input_text"])])
            if "[prefix:" in reply["text"] and f"[prefix:{mark}]" not in reply["text"]:
                yield Violation("I4", f"turn {turn_id}: the reply is to something else")
            continue
        thread = seen.thread_of(turn)
        if thread is None:
            yield Violation("I4", f"turn {turn_id}: Telnyx never saw its conversation")
        elif not thread.rearranged and not any(
            _says(turn, item.text) and thread.replies.get(item.request or 0) == reply["text"]
            for item in thread.items
        ):
            yield Violation("I4", f"turn {turn_id}: Telnyx never said this reply to its input")
    shared = Counter(
        (turn["conversation_id"], reply["text"])
        for turn_id, reply in seen.replies.items()
        if (turn := seen.turns[turn_id])["conversation_id"] is not None
        and reply["source"] in {"call", "adopted"}
        and "[prefix:" in reply["text"]
    )
    for (conversation, _), times in shared.items():
        if times > 1:
            yield Violation("I4", f"conversation {conversation}: {times} turns have one reply")


def _one_conversation_per_mapping(seen: Evidence) -> Iterator[Violation]:
    """I5: what is written to is ours, and an old conversation is left alone after a new one."""
    ours = {str(one["telnyx_conversation_id"]): one for one in seen.conversations}
    newest: dict[tuple[int, str], int] = {}
    for event in _events(seen.log, RequestReceived):
        if event.endpoint != "responses" or event.conversation_id is None:
            continue
        one = ours.get(event.conversation_id)
        if one is None:
            yield Violation(
                "I5", f"request {event_number(seen.log, event)} goes to nobody's thread"
            )
            continue
        key = (one["channel_user_id"], one["agent"])
        if one["id"] < newest.get(key, 0):
            yield Violation("I5", f"conversation {one['id']} was written to after its successor")
        newest[key] = max(one["id"], newest.get(key, 0))
    for written in seen.threads:
        if written not in ours:
            yield Violation("I5", "a conversation was written to that no mapping names")


def _requests_do_not_overlap(seen: Evidence) -> Iterator[Violation]:
    """I6."""
    for pair in overlaps(seen.log, slack_s=seen.expected.slack_s):
        yield Violation("I6", f"requests {pair.earlier} and {pair.later} overlap")


def _one_turn_is_open(seen: Evidence) -> Iterator[Violation]:
    """I6: no index says it, so each test of the protocol does."""
    opened = Counter(
        turn["channel_user_id"] for turn in seen.turns.values() if turn["state"] == "open"
    )
    for user_id, times in opened.items():
        if times > 1:
            yield Violation("I6", f"user {user_id} has {times} open turns")


def _deliveries_are_in_order(seen: Evidence) -> Iterator[Violation]:
    """I7 and I8, of a sink that takes keys."""
    turn_of = {reply["id"]: turn for turn, reply in seen.replies.items()}
    order: dict[int, int] = {}
    for row in seen.deliveries:
        turn = turn_of[row["reply_id"]]
        if turn < order.get(row["channel_user_id"], 0):
            yield Violation("I7", f"delivery {row['id']} was made before that of an earlier turn")
        order[row["channel_user_id"]] = turn
    if seen.expected.delivered is None:
        return
    replies = {reply["id"]: reply for reply in seen.replies.values()}
    text = {row["id"]: replies[row["reply_id"]]["text"] for row in seen.deliveries}
    keys: dict[int, str] = {}
    last: dict[int, int] = {}
    for taken in seen.expected.delivered:
        if text.get(taken.delivery_id) != taken.text:
            yield Violation("I7", f"delivery {taken.delivery_id} delivered something else")
        if keys.setdefault(taken.delivery_id, taken.key) != taken.key:
            yield Violation("I8", f"delivery {taken.delivery_id} went out under two keys")
        if taken.delivery_id < last.get(taken.user_id, 0):
            yield Violation("I7", f"delivery {taken.delivery_id} came after a later one")
        last[taken.user_id] = max(taken.delivery_id, last.get(taken.user_id, 0))
    for row in seen.deliveries:
        if row["state"] == "sent" and row["attempts"] and row["id"] not in keys:
            yield Violation("I8", f"delivery {row['id']} is called sent and never arrived")


def _tokens_only_grow(seen: Evidence) -> Iterator[Violation]:
    """I9: each call has a token above all before it, and none above the user's own.

    The rounds of one turn may share one: the lease goes on.
    """
    newest: dict[int, int] = {}
    before: dict[int, Row] = {}
    for call in seen.calls:
        user_id = call["channel_user_id"]
        last = before.get(user_id)
        goes_on = (
            last is not None
            and (last["turn_id"], last["token"]) == (call["turn_id"], call["token"])
            and last["round"] < call["round"]
        )
        if call["token"] <= newest.get(user_id, 0) and not goes_on:
            yield Violation("I9", f"call {call['id']}: token {call['token']} is not a new one")
        if call["token"] > seen.users[user_id]["lease_token"]:
            yield Violation("I9", f"call {call['id']}: its token was never given out")
        newest[user_id] = max(call["token"], newest.get(user_id, 0))
        before[user_id] = call


def _nobody_is_stopped_without_a_reason(seen: Evidence) -> Iterator[Violation]:
    """`diverged` is for threads that somebody else wrote into."""
    for user_id, user in seen.users.items():
        if user["diverged_at"] is None:
            continue
        threads = [
            seen.threads.get(str(one["telnyx_conversation_id"]))
            for one in seen.conversations
            if one["channel_user_id"] == user_id
        ]
        if not any(thread and (thread.disturbed or thread.rearranged) for thread in threads):
            yield Violation("I3", f"user {user_id} diverged, and nobody had touched their thread")


def _rows_belong_together(seen: Evidence) -> Iterator[Violation]:
    """Where no foreign key looks (decision 56): a row's references are its own user's."""
    user_of = {one["id"]: one["channel_user_id"] for one in seen.conversations}
    of_turn = {one["id"]: one["channel_user_id"] for one in seen.turns.values()}
    of_reply = {one["id"]: of_turn[one["turn_id"]] for one in seen.replies.values()}
    for row in (*seen.messages, *seen.calls):
        if row["turn_id"] is not None and of_turn.get(row["turn_id"]) != row["channel_user_id"]:
            yield Violation("references", f"turn {row['turn_id']} is not that of row {row['id']}")
    for row in (*seen.turns.values(), *seen.calls):
        thread = row["conversation_id"]
        if thread is not None and user_of.get(thread) != row["channel_user_id"]:
            yield Violation("references", f"conversation {thread} is not that of row {row['id']}")
    for row in seen.deliveries:
        user_id = row["channel_user_id"]
        if user_id not in seen.users or of_reply.get(row["reply_id"], user_id) != user_id:
            yield Violation("references", f"delivery {row['id']} is not that of user {user_id}")


def _orphans(seen: Evidence) -> Iterator[Violation]:
    """Where triggers look only at what is deleted (decision 68): each parent exists."""
    replies = {reply["id"] for reply in seen.replies.values()}
    for rows, column, parents in (
        ((*seen.messages, *seen.turns.values()), "channel_user_id", seen.users),
        (seen.replies.values(), "turn_id", seen.turns),
        (seen.deliveries, "reply_id", {None} | replies),
    ):
        for row in rows:
            if row[column] not in parents:
                yield Violation("references", f"row {row['id']} has no {column} {row[column]}")


def _nothing_is_stranded(seen: Evidence) -> Iterator[Violation]:
    """I2: after healing, everything is final."""
    for row in seen.messages:
        if row["outcome"] is None and not seen.stopped(row["channel_user_id"]):
            yield Violation("I2", f"message {row['id']} is still {row['state']}")
    for turn in seen.turns.values():
        if turn["state"] == "open" and not seen.stopped(turn["channel_user_id"]):
            yield Violation("I2", f"turn {turn['id']} is still open")
    for call in seen.calls:
        if call["state"] == "intended" and not seen.stopped(call["channel_user_id"]):
            yield Violation("I2", f"call {call['id']} is still intended")
    for row in seen.deliveries:
        if row["state"] in {"pending", "sending"}:
            yield Violation("I2", f"delivery {row['id']} is still {row['state']}")


def event_number(log: Iterable[Entry], event: object) -> int:
    """Give the sequence number of an event."""
    return next(entry.seq for entry in log if entry.event is event)


def _events(log: Iterable[Entry], kind: type[Any]) -> Iterator[Any]:
    return (entry.event for entry in log if isinstance(entry.event, kind))


def _key(user: Row, row: Row) -> MessageKey:
    return MessageKey(
        channel=user["channel"],
        recipient=user["recipient"],
        address=user["address"],
        thread=user["thread"],
        message_id=row["message_id"],
    )


def _threads(log: Sequence[Entry]) -> dict[str, Thread]:
    """Rebuild every conversation that was ever written to; a deletion forgets nothing here."""
    stored: dict[str, list[MessageStored]] = defaultdict(list)
    for event in _events(log, MessageStored):
        stored[event.conversation_id].append(event)
    extended = {event.conversation_id for event in _events(log, MessageExtended)}
    where = {
        entry.seq: entry.event.conversation_id
        for entry in log
        if isinstance(entry.event, RequestReceived)
    }
    for event in _events(log, FaultChosen):
        if event.plan.get("items", "as_sent") != "as_sent":
            extended.add(where.get(event.request))
    return {key: _thread(events, rearranged=key in extended) for key, events in stored.items()}


def _thread(events: Sequence[MessageStored], *, rearranged: bool) -> Thread:
    replies: dict[int, list[str]] = defaultdict(list)
    brought = {event.request for event in events if event.message.role == "user"}
    latest: int | None = None
    for event in events:
        if event.request is None:
            continue
        if event.request in brought:
            latest = event.request
        if event.message.origin == "output" and event.message.text and latest is not None:
            replies[latest].append(event.message.text)
    items = tuple(
        Said(
            text=event.message.text or "",
            request=event.request,
            index=event.index,
            foreign=event.message.origin == "foreign",
        )
        for event in events
        if event.message.role == "user" and event.message.origin != "instructions"
    )
    return Thread(
        items=items,
        replies={request: "\n".join(said) for request, said in replies.items()},
        outputs=tuple(event.message.tool_call_id for event in events if event.message.tool_call_id),
        disturbed=any(event.message.origin == "foreign" for event in events),
        rearranged=rearranged,
    )
