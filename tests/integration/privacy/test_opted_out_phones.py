"""Opt-outs of people with a phone: real screening, the real channel, and Telnyx simulated."""

import pytest

from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.ids import ChannelUserId
from worker.domain.screening.rules import STOP_TEXT
from worker.sandbox.simulator.behaviour.model import Script
from worker.store.database import Database
from worker.store.privacy.retention import RetentionStore

OURS = "+13125550100"
THEM = ChannelUserId(1)
CONFIG = """
[channels.sms]
driver = "telnyx"
[channels.sms.telnyx]
split = true
[channels.sms.screening]
help_text = "Shop: call 312 555 0199. Reply STOP to end."
"""
LONG = "This is one of many sentences, and it is long enough. " * 12


@pytest.fixture
def mike(world: World) -> HandDrivenWorker:
    return world.worker(CONFIG)


def text(world: World, mike: HandDrivenWorker, words: str, *signals: str) -> None:
    mike.receive(world.envelope(words, recipient=OURS, signals=list(signals)))
    mike.service.deliver(THEM)


def phone(world: World) -> list[str]:
    """The texts that reached the person, in order."""
    return [one.text for one in world.simulator.sms() if one.direction == "outbound"]


def outcomes(world: World) -> list[str]:
    rows = world.database.rows("SELECT outcome FROM messages ORDER BY id")
    return [row["outcome"] for row in rows]


def states(world: World) -> list[str]:
    rows = world.database.rows("SELECT state FROM deliveries ORDER BY coalesce(part_of, id), id")
    return [row["state"] for row in rows]


def test_in_own_words_somebody_opts_out_asks_for_help_and_opts_in_again(
    world: World, mike: HandDrivenWorker
) -> None:
    for words in ("please stop texting me", "hello?", "HELP", "Stop texting me!", "START"):
        text(world, mike, words)
    assert phone(world) == [STOP_TEXT, "Shop: call 312 555 0199. Reply STOP to end."]
    assert outcomes(world) == ["opt_out", "opted_out", "help", "opt_out", "opt_in"]
    assert world.inputs() == []
    text(world, mike, "hello?")
    assert len(phone(world)) == 3


def test_telnyx_confirms_its_own_keyword_and_only_its_own_start_counts(
    world: World, mike: HandDrivenWorker
) -> None:
    text(world, mike, "STOP", "opt_out")
    text(world, mike, "START")
    text(world, mike, "hello?")
    assert outcomes(world) == ["opt_out", "opted_out", "opted_out"]
    text(world, mike, "START", "opt_in")
    text(world, mike, "hello?")
    assert outcomes(world)[3:] == ["opt_in", "answered"]
    assert len(phone(world)) == 1


def test_whom_telnyx_blocks_is_in_the_ledger_from_then_on(
    world: World, mike: HandDrivenWorker
) -> None:
    world.simulator.block(USER)
    text(world, mike, "hello?")
    text(world, mike, "are you there?")
    assert outcomes(world) == ["opted_out"] * 2
    assert len(world.inputs()) == 1
    assert world.database.value("SELECT source FROM consents") == "telnyx_block"
    world.simulator.block(USER, opted_out=False)
    text(world, mike, "START", "opt_in")
    text(world, mike, "hello?")
    assert outcomes(world)[-1] == "answered"
    assert len(phone(world)) == 1


def split_reply(world: World, mike: HandDrivenWorker) -> None:
    """Have the model answer with more than one message holds."""
    world.simulator.script(Script(text="tell me", reply=LONG))
    mike.receive(world.envelope("tell me", recipient=OURS))


def test_no_later_piece_of_a_reply_follows_an_opt_out(world: World, mike: HandDrivenWorker) -> None:
    split_reply(world, mike)
    store = mike.service.deliver.store
    end = store.end

    def then_stop(*args: object, **kwargs: object) -> None:
        setattr(store, "end", end)  # noqa: B010 # a method
        end(*args, **kwargs)  # type: ignore[arg-type]
        mike.receive(world.envelope("STOP", recipient=OURS, signals=["opt_out"]))

    setattr(store, "end", then_stop)  # noqa: B010
    mike.service.deliver(THEM)
    assert states(world)[0] == "sent"
    assert set(states(world)[1:]) == {"opted_out"}
    assert len(phone(world)) == 1


def test_retention_and_erasure_reach_each_piece_of_a_reply(
    world: World, mike: HandDrivenWorker
) -> None:
    split_reply(world, mike)
    mike.service.deliver(THEM)
    assert len(states(world)) > 1
    asked = "SELECT count(*) FROM deliveries WHERE request IS NOT NULL"
    assert world.database.value(asked) == len(states(world))
    world.database.run("UPDATE conversations SET closed_at = now(), close_reason = 'reset'")
    world.clock.advance(40 * 86_400)
    database = Database(world.database.url)
    list(RetentionStore(database, keep_days=30).run())
    database.close()
    assert world.database.value(asked) == 0

    mike.operator.erase(THEM, None)
    assert states(world) == []


@pytest.mark.parametrize("column", ["part_of", "repeats"])
def test_deleting_a_delivery_reads_no_whole_table(world: World, column: str) -> None:
    # The question that the foreign key asks for each deleted row.
    asked = f"SELECT 1 FROM deliveries x WHERE {column} = 1 FOR KEY SHARE OF x"
    world.database.run("SET enable_seqscan = off")
    plan = world.database.rows(f"EXPLAIN {asked}")  # type: ignore[arg-type]
    world.database.run("RESET enable_seqscan")
    assert f"ix_deliveries_{column}" in str(plan)
