"""Budgets on real Postgres: what is answered, what is not, and that a new day begins anew."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import pytest

from tests.support.databases import fresh_database
from tests.support.world import HandDrivenWorker, World, running_world
from worker.domain.ids import ChannelUserId, MessageRowId, TurnId
from worker.domain.messages import ChannelAddress, PendingMessage
from worker.domain.routing import Agent, Budget, Routing
from worker.domain.turns.calls import Done
from worker.domain.turns.next_step import Release, Send
from worker.domain.turns.records import Lease, OpenTurn, Snapshot
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.store.database import Database
from worker.store.limits.budgets import _USED, PARTS, count_tokens, counted_tokens, within_budget
from worker.store.reports.gauges import GaugeStore

_TO_NOON = """
SELECT extract(epoch FROM date_trunc('day', service_now() AT TIME ZONE 'UTC')
    + interval '36 hours' - service_now() AT TIME ZONE 'UTC')
"""
_BY_ADDRESS = "SELECT id FROM channel_users WHERE address = %s"
_numbers = count(1)


@dataclass(kw_only=True)
class Day:
    """One day in the shared world: an agent with a budget, and a worker that knows it."""

    world: World
    mike: HandDrivenWorker
    agent: str

    def say(self, person: str, *texts: str, **fields: object) -> list[str | None]:
        """Have a person write these, all before anybody looks; gives how all of theirs ended."""
        user = f"{self.agent}-{person}"
        fields = {"channel": "web", "agent": self.agent, **fields}
        for text in texts:
            self.mike.accept_only(self.world.envelope(text, user=user, **fields))  # type: ignore[arg-type]
        self.mike.answer()
        return self.outcomes(person)

    def outcomes(self, person: str) -> list[str | None]:
        rows = self.world.database.rows(
            "SELECT m.outcome FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
            " WHERE u.address = %s ORDER BY m.id",
            f"{self.agent}-{person}",
        )
        return [row["outcome"] for row in rows]

    def replies(self) -> list[tuple[str, str]]:
        rows = self.world.database.rows(
            "SELECT r.source, r.text FROM replies r JOIN turns t ON t.id = r.turn_id"
            " WHERE t.agent = %s ORDER BY r.id",
            self.agent,
        )
        return [(row["source"], row["text"]) for row in rows]

    def turn_over(self) -> None:
        self.world.clock.advance(86_400)
        self.mike.service.background.workers.beat(0.0)


@pytest.fixture(scope="module")
def world(
    shared_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("budgets")
    config = SimulatorConfig(list_visible_after_s=0)
    with fresh_database(shared_postgres) as url, running_world(url, folder, config) as made:
        yield made


def day(world: World, budget: str, more: str = "") -> Day:
    """Begin at the next noon, with an agent that has this budget."""
    world.clock.advance(float(world.database.value(_TO_NOON)))
    agent = f"agent-{next(_numbers)}"
    config = (
        f"[agents.default]\n[agents.{agent}]\n[agents.{agent}.budget]\n{budget}\n"
        f"{more}[channels.out.delivery]\ntask = 't'\nqueue = 'q'\n"
    )
    return Day(world=world, mike=world.worker(config), agent=agent)


def test_a_user_has_so_many_messages_a_day_and_others_have_theirs(world: World) -> None:
    today = day(world, "messages_per_user = 3")
    assert today.say("ann", "1", "2") == ["answered"] * 2
    assert today.say("ann", "3", "4", "5") == ["answered"] * 3 + ["over_budget"] * 2
    assert today.say("bob", "1") == ["answered"]
    assert today.say("ann", "unlimited", agent="default")[-1] == "answered"
    today.say("eve", "1", "2", "3", agent="default")
    assert today.say("eve", "4") == ["answered"] * 4, "what she asked another agent"
    beyond = world.database.rows(
        "SELECT DISTINCT state, turn_id FROM messages WHERE agent = %s AND outcome = 'over_budget'",
        today.agent,
    )
    assert beyond == [{"state": "skipped", "turn_id": None}]
    assert [source for source, _ in today.replies()] == ["call"] * 4, "silence, without a text"
    assert world.database.value("SELECT count(*) FROM budget_days") == 0, "none is counted for all"

    today.turn_over()
    assert today.say("ann", "6")[-1] == "answered"


def test_a_reply_that_was_held_back_for_the_next_turn_gets_that_turn(world: World) -> None:
    today = day(world, "messages_per_user = 1", "[channels.out]\nsupersede = true\n")
    mike, turns = today.mike, today.mike.service.answer.settle.turns
    user, settle = f"{today.agent}-ann", turns.settle

    def meanwhile(*args: object) -> object:
        object.__setattr__(turns, "settle", settle)
        mike.accept_only(world.envelope("2", user=user, channel="out", agent=today.agent))
        return settle(*args)  # type: ignore[arg-type]

    object.__setattr__(turns, "settle", meanwhile)
    assert today.say("ann", "1", channel="out") == ["answered"] * 2
    states = world.database.rows(
        "SELECT d.state FROM deliveries d JOIN channel_users u ON u.id = d.channel_user_id"
        " WHERE u.address = %s ORDER BY d.id",
        user,
    )
    assert [row["state"] for row in states] == ["superseded", "sent"]
    assert today.say("ann", "3", channel="out")[-1] == "over_budget"


def test_a_burst_of_more_than_a_turn_takes_ends_without_a_rest(world: World) -> None:
    today = day(world, "messages_per_user = 1")
    texts = [str(number) for number in range(45)]
    assert today.say("ann", *texts) == ["answered"] + ["over_budget"] * 44
    assert world.database.rows(
        "SELECT due_at, waiting_since, waiting_due_at FROM channel_users WHERE address = %s",
        f"{today.agent}-ann",
    ) == [{"due_at": None, "waiting_since": None, "waiting_due_at": None}]


def test_a_user_is_asked_about_no_more_when_their_tokens_are_used(world: World) -> None:
    today = day(world, "tokens_per_user = 1")
    assert today.say("ann", "1") == ["answered"], "nobody knows beforehand what a turn will use"
    assert today.say("ann", "2") == ["answered", "over_budget"]
    assert today.say("bob", "1") == ["answered"]
    today.turn_over()
    assert today.say("ann", "3")[-1] == "answered"


def test_a_call_whose_answer_never_came_uses_nothing(world: World) -> None:
    today = day(world, "tokens_per_user = 1")
    world.simulator.inject("stored_then_dropped")
    today.say("ann", "1")
    world.clock.advance(20)
    today.mike.service.background.workers.beat(0.0)
    today.mike.answer()
    assert today.replies()[0][0] == "adopted"
    assert today.say("ann", "2") == ["answered"] * 2
    assert today.say("ann", "3")[-1] == "over_budget"


def test_all_users_of_an_agent_share_its_messages(world: World) -> None:
    today = day(world, "messages = 3")
    assert today.say("ann", "1", "2") == ["answered"] * 2
    assert today.say("bob", "1", "2") == ["answered", "over_budget"]
    assert today.say("cid", "1") == ["over_budget"]
    today.turn_over()
    assert today.say("cid", "2")[-1] == "answered"
    assert today.say("ann", "3")[-1] == "answered"
    assert today.say("bob", "3", "4")[2:] == ["answered", "over_budget"]


def test_all_users_of_an_agent_share_its_tokens(world: World) -> None:
    today = day(world, "tokens = 1")
    assert today.say("ann", "1") == ["answered"]
    assert today.say("bob", "1") == ["over_budget"]
    used = world.database.value(
        "SELECT sum(input_tokens + output_tokens) FROM calls JOIN turns ON turns.id = turn_id"
        " WHERE agent = %s",
        today.agent,
    )
    counted = "SELECT tokens FROM budget_days WHERE agent = %s AND tokens > 0"
    assert world.database.value(counted, today.agent) == used > 0


def test_a_turn_that_began_before_midnight_counts_for_the_day_before(world: World) -> None:
    today = day(world, "tokens = 1")
    store = today.mike.service.answer.turns
    settle = store.settle

    def next_day(*given: object) -> object:
        world.clock.advance(86_400)
        return settle(*given)  # type: ignore[arg-type]

    object.__setattr__(store, "settle", next_day)
    object.__setattr__(today.mike.service.answer.settle.turns, "settle", next_day)
    assert today.say("ann", "1") == ["answered"]
    object.__setattr__(store, "settle", settle)
    object.__setattr__(today.mike.service.answer.settle.turns, "settle", settle)
    today.mike.service.background.workers.beat(0.0)
    assert today.say("ann", "2") == ["answered"] * 2


def test_the_text_is_said_once_a_day_and_goes_the_way_of_other_replies(world: World) -> None:
    today = day(world, "messages_per_user = 1\ntext = 'Enough for today.'")
    today.say("ann", "1", channel="out")
    assert today.say("ann", "2", "3", channel="out") == ["answered", "over_budget", "over_budget"]
    today.say("ann", "4", channel="out")
    today.say("bob", "1", "2")

    text = ("fallback", "Enough for today.")
    assert [one if one == text else one[0] for one in today.replies()] == [
        "call",
        text,
        "call",
        text,
    ]
    ann = world.database.value(_BY_ADDRESS, f"{today.agent}-ann")
    today.mike.service.deliver(ChannelUserId(ann))
    assert text[1] in [kwargs["reply"]["text"] for _, _, _, kwargs in today.mike.broker.tasks]

    today.turn_over()
    today.say("ann", "5", "6", channel="out")
    assert [source for source, _ in today.replies()][-2:] == ["call", "fallback"]


def test_nobody_hears_of_a_budget_who_has_a_person_to_talk_to(world: World) -> None:
    today = day(world, "messages_per_user = 1\ntext = 'Enough for today.'")
    today.say("ann", "1")
    ann = world.database.value(_BY_ADDRESS, f"{today.agent}-ann")
    today.mike.operator.set_paused(ChannelUserId(ann), paused=True)
    assert today.say("ann", "2", "3") == ["answered", "human", "human"]
    assert [source for source, _ in today.replies()] == ["call"]


def test_over_budget_is_an_outcome_in_metrics(world: World) -> None:
    today = day(world, "messages_per_user = 1")
    today.say("ann", "1", "2")
    database = Database(world.database.url, pool_size=1)
    rows = GaugeStore(database).recent("messages_last_hour")
    database.close()
    assert ("skipped", "over_budget") in {(state, outcome) for state, outcome, _ in rows}


# --- two at once, and what it costs ------------------------------------------------------------


def snapshot_of(user: int) -> Snapshot:
    return Snapshot(
        lease=Lease(user_id=ChannelUserId(user), token=1),
        who=ChannelAddress(channel="web", recipient="", address=str(user), thread=""),
        now=None,  # type: ignore[arg-type]
        turn=None,
        pending=(),
        conversation=None,
        gates={},
    )


def test_two_claims_at_once_go_beyond_together_and_wait_for_no_common_row(world: World) -> None:
    agent = Agent(name="both", model="m", budget=Budget(messages=1))
    routing = Routing(agents={"both": agent}, default_agent="both")
    message = PendingMessage(id=MessageRowId(1), agent="both", text="x")
    step = Send(agent="both", batch=(message,))
    database = Database(world.database.url, pool_size=2)
    with database.transaction() as first, database.transaction() as second:
        for connection in (first, second):
            connection.driver.execute(b"SET LOCAL lock_timeout = '200ms'")
        assert within_budget(first, snapshot_of(1), step, routing) == step
        assert within_budget(second, snapshot_of(2), step, routing) == step
    with database.transaction() as third:
        assert isinstance(within_budget(third, snapshot_of(3), step, routing), Release)
    database.close()


def test_what_is_counted_late_for_the_day_before_takes_nothing_from_today(world: World) -> None:
    agent = Agent(name="late", model="m", budget=Budget(messages=1))
    routing = Routing(agents={"late": agent}, default_agent="late")
    message = PendingMessage(id=MessageRowId(1), agent="late", text="x")
    now = world.database.value("SELECT service_now()")
    turn = OpenTurn(
        id=TurnId(1),
        agent="late",
        input_text="",
        parts=(),
        opened_at=now - timedelta(days=1),
        messages=1,
    )
    answer = Done(status="completed", text="", input_tokens=5, output_tokens=2)
    database = Database(world.database.url, pool_size=1)
    with database.transaction() as connection:
        within_budget(connection, snapshot_of(1), Send(agent="late", batch=(message,)), routing)
        tokens = counted_tokens(agent, answer)
        assert tokens is not None
        count_tokens(connection, ChannelUserId(1 + PARTS), agent, turn, tokens)
        count_tokens(connection, ChannelUserId(2), agent, replace(turn, opened_at=now), tokens)
    database.close()
    assert world.database.rows(
        "SELECT sum(messages) AS messages, sum(tokens) AS tokens FROM budget_days"
        " WHERE agent = 'late' AND day = (service_now() AT TIME ZONE 'UTC')::date"
    ) == [{"messages": 1, "tokens": 7}]


def test_what_is_used_is_found_by_indexes(world: World) -> None:
    """Among many, and of somebody who has written for years: only today's are read."""
    world.database.run("""
        WITH who AS (
            INSERT INTO channel_users (channel, address)
            SELECT 'web', 'many-' || n FROM generate_series(1, 300) n RETURNING id
        ), asked AS (
            INSERT INTO turns (channel_user_id, agent, agent_version, input_text, state, opened_at)
            SELECT id, 'a', '', '', 'answered', service_now() - make_interval(days => 30 - n)
            FROM who, generate_series(1, 30) n RETURNING id, channel_user_id
        ), said AS (
            INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope,
                state, outcome, turn_id)
            SELECT channel_user_id, id, id, service_now(), 'a', '{}', 'answered', 'answered', id
            FROM asked
        )
        INSERT INTO calls (channel_user_id, turn_id, token, state) SELECT channel_user_id, id, 1,
            'done' FROM asked
    """)
    world.database.run("ANALYZE turns, messages, calls")
    user = world.database.value("SELECT max(channel_user_id) FROM turns")
    database = Database(world.database.url, pool_size=1)
    with database.statement() as connection:
        values = {"user_id": user, "agent": "a", "outcome": "over_budget"}
        given = [values[name] for name in _USED.names]
        plan = "\n".join(
            row[0]
            for row in connection.driver.execute(
                b"EXPLAIN (ANALYZE, COSTS off) " + _USED.query, given
            )
        )
    database.close()
    assert not [one for one in ("turns", "messages", "calls") if f"Seq Scan on {one}" in plan]
