"""The ledger of opt-outs: what it stops, at which moment, and who may lift it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.support.processes import eventually
from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Rejected, Sent, Unclear
from worker.domain.ids import ChannelUserId
from worker.domain.messages import Accepted
from worker.domain.screening.consents import LedgerEntry
from worker.domain.states import ConsentSource
from worker.handlers.intake.route import parse_and_route
from worker.handlers.operators.take_user import NotPossibleError
from worker.store.consents import STOPPED_USER, address_hash, values_of_users
from worker.store.database import Database
from worker.store.sql import sql

THEM = ChannelUserId(1)
OURS, OURS_TOO = "+13125550100", "+13125550101"
AGENTS = """
[agents.default]
call_timeout_s = 5
tools = ["order_status"]
[tools.order_status]
function = "tests.support.toolbox:order_status"
honours_key = true
[channels.whatsapp]
kind = "telephone"
"""
DELIVERED = AGENTS + '[channels.sms.delivery]\ntask = "t"\nqueue = "q"\n'
CONFIRMED = "You have opted out and get no more messages."


class Sink:
    """A way out that remembers, and answers as the test has told it."""

    takes_key = True

    def __init__(self, *outcomes: DeliveryOutcome) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[OutgoingReply] = []

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        self.seen.append(reply)
        return self.outcomes.pop(0) if self.outcomes else Sent()

    @property
    def texts(self) -> list[str]:
        return [reply.text for reply in self.seen]


def say(
    worker: HandDrivenWorker,
    world: World,
    source: str,
    *,
    stopped: bool = True,
    text: str | None = None,
    **fields: Any,  # noqa: ANN401 # of an envelope
) -> Accepted:
    """Accept a message with which somebody opts out or in, as screening judges it."""
    routing = worker.service.receive.routing()
    message = parse_and_route(world.envelope("words", **fields), routing)
    who = message.who
    change = LedgerEntry(
        person=routing.person(routing.channel(who.channel).scope, who.address),
        stopped=stopped,
        source=ConsentSource(source),
        channel=who.channel,
        recipient=who.recipient,
    )
    service = None if text is None else routing.channel(who.channel).service_text(text)
    skip = "opt_out" if stopped else "opt_in"
    message = replace(message, skip=skip, consent=change, service=service)
    return worker.service.receive.messages.accept(message, starts_itself=False)


def meanwhile(worker: HandDrivenWorker, step: str, do: Callable[[], object]) -> None:
    """Do something right before the next step of this name of the turn's store."""
    turns = worker.service.answer.turns
    real = getattr(turns, step)

    def first(*args: object, **kwargs: object) -> object:
        setattr(turns, step, real)
        do()
        return real(*args, **kwargs)

    setattr(turns, step, first)


def outcomes(world: World) -> list[tuple[str, str | None]]:
    rows = world.database.rows("SELECT outcome, delivery FROM message_outcomes ORDER BY message")
    return [(row["outcome"], row["delivery"]) for row in rows]


def deliver(world: World, worker: HandDrivenWorker) -> None:
    """Deliver what is due: a sweep would do it on a thread of its own."""
    for row in world.database.rows("SELECT id FROM channel_users ORDER BY id"):
        worker.service.deliver(row["id"])


def ledger(world: World) -> list[tuple[bool, str]]:
    rows = world.database.rows("SELECT stopped, source FROM consents ORDER BY id")
    return [(row["stopped"], row["source"]) for row in rows]


def calls(world: World) -> int:
    return int(world.database.value("SELECT count(*) FROM calls"))


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def mike(world: World, sink: Sink) -> HandDrivenWorker:
    return world.worker(DELIVERED, channels={"sms": sink})


def test_who_has_opted_out_is_not_answered_and_answered_again_after_start(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    mike.receive(world.envelope("STOP", signals=["opt_out"]))
    for number in range(2):  # known to the fast path and not
        mike.receive(world.envelope(f"are you there? {number}"))
    mike.receive(world.envelope("START", signals=["opt_in"]))
    mike.receive(world.envelope("and now?"))
    mike.deliver()
    assert [outcome for outcome, _ in outcomes(world)] == [
        "opt_out", "opted_out", "opted_out", "opt_in", "answered",
    ]  # fmt: skip
    assert world.inputs() == ["and now?"]
    assert len(sink.seen) == 1
    assert ledger(world) == [(True, "signal"), (False, "signal")]


def test_a_known_user_is_not_answered_on_the_fast_path(
    world: World, mike: HandDrivenWorker
) -> None:
    mike.receive(world.envelope("hello"))
    say(mike, world, "natural", recipient=OURS)
    mike.receive(world.envelope("are you there?"))
    assert world.inputs() == ["hello"]
    assert outcomes(world)[-1] == ("opted_out", None)


def test_an_opt_out_counts_for_all_numbers_and_channels_of_the_scope(
    world: World, mike: HandDrivenWorker
) -> None:
    say(mike, world, "natural", recipient=OURS)
    mike.receive(world.envelope("here?", recipient=OURS_TOO))
    mike.receive(world.envelope("or here?", channel="whatsapp"))
    mike.receive(world.envelope("another person", user="+13125550002"))
    mike.receive(world.envelope("no telephone", channel="web"))
    assert [outcome for outcome, _ in outcomes(world)] == [
        "opt_out", "opted_out", "opted_out", "answered", "answered",
    ]  # fmt: skip
    accepted = mike.accept_only(world.envelope("still here?", recipient=OURS_TOO))
    assert accepted is not None
    assert accepted.skipped == "opted_out", "from the start, not by a claim"


def test_an_opt_out_while_the_model_thinks_stops_the_reply(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    meanwhile(mike, "settle", lambda: say(mike, world, "natural", recipient=OURS))
    mike.receive(world.envelope("hello"))
    mike.deliver()
    assert outcomes(world) == [("opted_out", "opted_out"), ("opt_out", None)]
    assert sink.seen == []


def test_a_channel_without_a_way_out_keeps_no_such_reply_as_sent(world: World) -> None:
    mike = world.worker(AGENTS)
    meanwhile(mike, "settle", lambda: say(mike, world, "natural", recipient=OURS))
    mike.receive(world.envelope("hello"))
    assert outcomes(world)[0] == ("opted_out", "opted_out")


def test_an_opt_out_between_the_answer_and_its_delivery_stops_the_reply(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    mike.receive(world.envelope("hello"))
    say(mike, world, "natural", channel="whatsapp")
    assert outcomes(world)[0] == ("opted_out", "opted_out"), "cancelled with the opt-out"
    mike.deliver()
    assert sink.seen == []


def hold(world: World) -> psycopg.Connection[Any]:
    """Lock all channel users, as transactions in progress do."""
    connection = psycopg.connect(world.database.url)
    connection.execute("SELECT id FROM channel_users FOR NO KEY UPDATE")
    return connection


def test_what_somebody_holds_at_the_opt_out_ends_with_its_claim(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    mike.receive(world.envelope("hello"))
    mike.accept_only(world.envelope("waiting"))
    with hold(world):
        say(mike, world, "natural", channel="whatsapp")
    assert outcomes(world)[:2] == [("answered", "pending"), (None, None)]
    mike.answer()
    assert outcomes(world)[:2] == [("opted_out", "opted_out"), ("opted_out", None)]
    assert world.inputs() == ["hello"]
    assert sink.seen == []
    assert world.database.rows("SELECT id FROM channel_users WHERE due_at IS NOT NULL") == []


def test_waiting_messages_are_cancelled_and_their_users_come_to_rest(
    world: World, mike: HandDrivenWorker
) -> None:
    for number in range(30):
        mike.accept_only(world.envelope(str(number)))
    say(mike, world, "natural", channel="whatsapp")
    mike.answer()
    assert {outcome for outcome, _ in outcomes(world)} == {"opt_out", "opted_out"}
    assert world.database.rows("SELECT id FROM channel_users WHERE due_at IS NOT NULL") == []
    assert calls(world) == 0


def test_no_tool_round_follows_an_opt_out(world: World, mike: HandDrivenWorker) -> None:
    asked = world.envelope(
        'tool:order_status {"order": 42}', metadata={"ledger": str(world.folder / "ledger")}
    )
    meanwhile(mike, "record_intent", lambda: None)
    meanwhile(mike, "record_intent", lambda: None)
    mike.receive(world.envelope("hello"))
    meanwhile(mike, "record_intent", lambda: say(mike, world, "natural", channel="whatsapp"))
    before = calls(world)
    mike.receive(asked)
    assert calls(world) == before + 1, "the first round, and none with the tool's output"
    assert outcomes(world)[1] == ("opted_out", None)
    assert world.database.value("SELECT count(*) FROM turns WHERE state = 'open'") == 0
    assert world.database.value("SELECT landed FROM turns WHERE failure = 'opted_out'") is True

    # The thread still lacks the output, which the next turn brings.
    say(mike, world, "natural", stopped=False, channel="whatsapp")
    mike.receive(world.envelope("back again"))
    assert outcomes(world)[-1][0] == "answered"


@pytest.mark.parametrize("plan", ["dropped", "stored_then_dropped"])
def test_a_call_in_doubt_is_not_repeated_for_who_has_opted_out(
    world: World, mike: HandDrivenWorker, sink: Sink, plan: str
) -> None:
    mike.receive(world.envelope("hello"))
    mike.deliver()
    world.simulator.inject(plan)
    mike.receive(world.envelope("how are you?"))
    say(mike, world, "natural", channel="whatsapp")
    before = calls(world)
    for _ in range(12):
        world.clock.advance(20)
        mike.service.background.workers.beat()
        mike.answer()
    assert calls(world) == before
    assert outcomes(world)[1] == ("opted_out", None)
    landed = "SELECT landed FROM turns WHERE failure = 'opted_out'"
    assert world.database.value(landed) is None, "it may be in the thread"
    assert len(sink.seen) == 1
    assert world.database.value("SELECT count(*) FROM calls WHERE state = 'intended'") == 0

    say(mike, world, "natural", stopped=False, channel="whatsapp")
    mike.receive(world.envelope("back again"))
    for _ in range(12):
        world.clock.advance(20)
        mike.service.background.workers.beat()
        mike.answer()
    assert outcomes(world)[-1][0] == "answered"


def test_a_call_of_a_worker_that_died_does_not_stay_in_flight(
    world: World, mike: HandDrivenWorker
) -> None:
    meanwhile(mike, "settle", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mike.receive(world.envelope("hello"))
    say(mike, world, "natural", channel="whatsapp")
    for _ in range(12):
        world.clock.advance(20)
        mike.service.background.workers.beat()
        mike.answer()
    assert outcomes(world)[0] == ("opted_out", None)
    assert world.database.value("SELECT state FROM calls") == "unknown"


def test_one_confirmation_goes_out_although_the_person_has_opted_out(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    mike.receive(world.envelope("hello"))
    for _ in range(3):
        say(mike, world, "natural", text=CONFIRMED)
    deliver(world, mike)
    assert sink.texts == [CONFIRMED]
    assert outcomes(world) == [
        ("opted_out", "opted_out"), ("opt_out", "sent"), ("opt_out", None), ("opt_out", None),
    ]  # fmt: skip
    assert ledger(world) == [(True, "natural")]


@pytest.mark.parametrize(("after_s", "texts"), [(290, [CONFIRMED]), (310, [])])
def test_a_confirmation_goes_out_within_five_minutes_or_never(
    world: World, mike: HandDrivenWorker, sink: Sink, after_s: float, texts: list[str]
) -> None:
    say(mike, world, "natural", text=CONFIRMED)
    world.clock.advance(after_s)
    deliver(world, mike)
    assert sink.texts == texts
    assert outcomes(world)[0][1] == ("sent" if texts else "opted_out")


def test_an_opt_out_that_waited_for_days_is_not_confirmed(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    say(mike, world, "natural", text=CONFIRMED, sent_at="2026-02-28T23:59:59Z")
    deliver(world, mike)
    assert (sink.texts, ledger(world)) == ([], [(True, "natural")])


def test_an_unclear_reply_does_not_keep_the_confirmation_back(world: World) -> None:
    sink = Sink(Unclear(reason="timeout"))
    mike = world.worker(DELIVERED, channels={"sms": sink})
    mike.receive(world.envelope("hello"))
    mike.deliver()
    say(mike, world, "natural", text=CONFIRMED)
    deliver(world, mike)
    assert sink.texts[1:] == [CONFIRMED]
    assert outcomes(world)[0] == ("answered", "unknown"), "it may have arrived"


def test_a_confirmation_on_its_way_is_not_cancelled_by_another_opt_out(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    say(mike, world, "natural", text=CONFIRMED)
    say(mike, world, "telnyx_keyword", channel="whatsapp")
    deliver(world, mike)
    assert sink.texts == [CONFIRMED]


def test_help_is_answered_whether_or_not_they_have_opted_out(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    def ask() -> None:
        routing = mike.service.receive.routing()
        message = parse_and_route(world.envelope("HELP"), routing)
        text = routing.channel("sms").service_text("Write to us.")
        message = replace(message, skip="help", service=text)
        mike.service.receive.messages.accept(message, starts_itself=False)
        deliver(world, mike)

    ask()
    say(mike, world, "telnyx_keyword")
    ask()
    assert sink.texts == ["Write to us."] * 2
    exempt = "SELECT exempt_until IS NOT NULL AS exempt FROM deliveries ORDER BY id"
    assert [row["exempt"] for row in world.database.rows(exempt)] == [False, True]


@pytest.mark.parametrize(
    ("stops", "start", "lifted"),
    [
        (["telnyx_keyword"], "natural", False),
        (["telnyx_keyword"], "operator", False),
        (["telnyx_keyword"], "telnyx_keyword", True),
        (["telnyx_block"], "natural", False),
        (["telnyx_block"], "telnyx_keyword", True),
        (["telnyx_keyword", "natural"], "natural", False),
        (["natural", "operator", "import", "signal"], "natural", True),
        (["operator"], "telnyx_keyword", True),
    ],
)
def test_an_opt_in_lifts_what_it_may(
    world: World, mike: HandDrivenWorker, stops: list[str], start: str, lifted: bool
) -> None:
    for source in stops:
        say(mike, world, source)
    accepted = say(mike, world, start, stopped=False)
    assert accepted.skipped == ("opt_in" if lifted else "opted_out")
    mike.receive(world.envelope("hello"))
    mike.answer()
    assert outcomes(world)[-2:] == (
        [("opt_in", None), ("answered", "sent")] if lifted else [("opted_out", None)] * 2
    )


def test_an_opt_in_lifts_no_opt_out_that_was_said_after_it(
    world: World, mike: HandDrivenWorker
) -> None:
    # What waited for days in a queue, or was sent again by a webhook, comes in any order.
    said = [f"2026-02-28T23:59:{second}Z" for second in (57, 58, 59)]
    say(mike, world, "telnyx_keyword", sent_at=said[1])
    old = say(mike, world, "telnyx_keyword", stopped=False, sent_at=said[0])
    new = say(mike, world, "telnyx_keyword", stopped=False, sent_at=said[2])
    assert (old.skipped, new.skipped) == ("opted_out", "opt_in")
    assert ledger(world) == [(True, "telnyx_keyword"), (False, "telnyx_keyword")]


def test_a_block_that_the_provider_reports_is_an_opt_out(world: World) -> None:
    sink = Sink(Rejected(reason="opted_out"))
    mike = world.worker(DELIVERED, channels={"sms": sink})
    mike.receive(world.envelope("hello"))
    mike.accept_only(world.envelope("waiting", recipient=OURS_TOO))
    mike.deliver()
    assert outcomes(world) == [("opted_out", "opted_out"), ("opted_out", None)]
    assert ledger(world) == [(True, "telnyx_block")]
    assert world.database.rows("SELECT id FROM dead_letters") == []
    mike.receive(world.envelope("why?"))
    assert len(sink.seen) == 1


def test_a_message_of_our_staff_does_not_go_out_to_who_has_opted_out(
    world: World, mike: HandDrivenWorker, sink: Sink
) -> None:
    mike.receive(world.envelope("hello"))
    mike.deliver()
    mike.operator.say(THEM, "It is us.", key=uuid4(), deliver_only=True)
    with hold(world):
        say(mike, world, "natural", channel="whatsapp")
    mike.service.deliver(THEM)
    assert sink.texts[1:] == []
    with pytest.raises(NotPossibleError, match="opted out"):
        mike.operator.say(THEM, "It is us.", key=uuid4(), deliver_only=True)


def test_postgres_and_the_service_hash_an_address_alike(
    world: World, mike: HandDrivenWorker
) -> None:
    scopes = mike.service.receive.routing().scopes
    say(mike, world, "natural", channel="whatsapp")
    say(mike, world, "operator", channel="web", user="Ann \N{SNOWMAN}")
    mike.receive(world.envelope("hello"))
    mike.receive(world.envelope("hello", user="+13125550002"))
    database = Database(world.database.url)
    asked = sql(f"SELECT channel, {STOPPED_USER} AS stopped FROM channel_users u ORDER BY id")
    with database.statement() as connection:
        found = connection.execute(asked, values_of_users(database.consent_key, scopes)).fetchall()
    assert [(row.channel, row.stopped) for row in found] == [
        ("whatsapp", True), ("web", True), ("sms", True), ("sms", False),
    ]  # fmt: skip
    stored = world.database.value("SELECT address_hash FROM consents ORDER BY id LIMIT 1")
    assert stored == address_hash(database.consent_key, "telephone", USER)
    database.close()


def test_opt_outs_at_the_same_time_are_confirmed_once(world: World) -> None:
    workers = [world.worker(DELIVERED, channels={"sms": Sink()}) for _ in range(4)]
    start = threading.Barrier(4)

    def stop(number: int) -> None:
        start.wait()
        for round_ in range(5):
            user = f"+1312555{round_:04}"
            say(
                workers[number], world, "natural", text=CONFIRMED, user=user,
                recipient=f"+1312555010{number}",
            )  # fmt: skip

    at_once(stop, 4)
    assert world.database.value("SELECT count(*) FROM replies") == 5
    assert ledger(world) == [(True, "natural")] * 5


def test_changes_of_one_person_on_many_channels_never_wait_for_each_other(world: World) -> None:
    workers = [world.worker(DELIVERED, channels={"sms": Sink()}) for _ in range(4)]
    failed: list[Exception] = []

    def go(number: int) -> None:
        mike = workers[number]
        for round_ in range(15):
            try:
                where = {"recipient": f"+1312555010{(number + round_) % 3}"}
                say(mike, world, "natural", **where)
                mike.receive(world.envelope("hello", **where))
                say(mike, world, "natural", stopped=False, **where)
                mike.receive(world.envelope("hello", **where))
                mike.answer(rounds=50)
            except Exception as error:  # noqa: BLE001 # shown below
                failed.append(error)

    at_once(go, 4)
    assert failed == []
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert world.database.value(deadlocks) == 0
    unfinished = """
        SELECT m.id, m.state, u.due_at - service_now() AS due_in
        FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
        WHERE m.state IN ('pending', 'in_turn')"""

    def answered() -> bool:
        # One that met a lock is due again within a second.
        workers[0].answer(rounds=50)
        return not world.database.rows(unfinished)

    assert eventually(answered), world.database.rows(unfinished)


def at_once(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_the_ledger_that_lost_its_key_lets_messages_wait(world: World) -> None:
    world.database.run("UPDATE secrets SET name = 'gone' WHERE name = 'consents'")
    try:
        mike = world.worker(AGENTS)
        with pytest.raises(Exception, match="secrets"):
            mike.receive(world.envelope("hello"))
    finally:
        world.database.run("UPDATE secrets SET name = 'consents' WHERE name = 'gone'")
    mike.receive(world.envelope("hello"))
    assert outcomes(world) == [("answered", "sent")]
