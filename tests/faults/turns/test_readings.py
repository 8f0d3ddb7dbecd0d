"""What Telnyx does not document, in every position that the simulator knows: the service holds.

Each case plays one person's day: a greeting, an answer that gets lost, a tool, an image, a stream,
a person who takes over, and what is said after that.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import oracle
from tests.support.databases import ROOT, fresh_database
from tests.support.processes import open_folder
from tests.support.world import HandDrivenWorker, World, running_world
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Match, SimulatorConfig

AGENTS = """
[agents.default]
instructions = "be kind"
call_timeout_s = 5
fallback_text = "We will write to you."
tools = ["refund"]
[agents.plain]
instructions = "be kind"
call_timeout_s = 5
[agents.streaming]
stream = true
call_timeout_s = 5
[tools.refund]
function = "tests.support.toolbox:refund"
"""
READINGS: list[tuple[str, Any]] = [
    ("put_metadata", "merge"),
    ("metadata_keys", "any"),
    ("metadata_values", "coerced"),
    ("created_wrapped", True),
    ("list_default_limit", 100),
    ("list_visible_after_s", 0.5),
    ("bad_filter", "unfiltered"),
    ("postgrest_operators", True),
    ("postgrest_quotes", True),
    ("messages_order", "oldest_first"),
    ("messages_order", "shuffled"),
    ("timestamp_digits", 3),
    ("instructions_listed", "hidden"),
    ("instructions_repeated", False),
    ("reasoning_listed", "hidden"),
    ("tool_call_id_listed", True),
    ("text_kept", False),
    ("part_separator", "\n"),
    ("image_listed_as", "[image]"),
    ("unknown_conversation_status", 400),
    ("unknown_conversation_status", 422),
    ("answer_fields", "bare"),
    ("unavailable_model_status", 404),
    ("input_stored", "with_output"),
    ("concurrent_requests", "serialize"),
    ("concurrent_requests", "conflict"),
    ("strict_tool_calls", False),
    ("ai_disabled_blocks_responses", False),
    ("echo_conversation", True),
    ("request_id_header", False),
    ("ai_error_shape", "classic"),
    ("ai_error_shape", "gateway"),
    ("fault_error_shape", "detail"),
    ("fault_error_shape", "gateway"),
    ("context_full_status", 413),
    ("edge_timeout_s", None),
    ("stream_done_marker", True),
    ("reasoning", False),
]
HOSTILE: list[tuple[str, Any]] = [
    ("instructions_listed", "user"),
    ("reasoning_listed", "text"),
    ("image_listed_as", "an image of a cat"),
    ("timestamp_digits", 0),
]
"""They leave no way to know what is in a thread: then nothing is said twice, and it shows."""


@pytest.fixture(scope="module")
def world(shared_postgres: EmbeddedPostgres) -> Iterator[World]:
    with (
        fresh_database(shared_postgres) as url,
        open_folder() as folder,
        running_world(url, folder, SimulatorConfig(list_visible_after_s=0)) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


@pytest.fixture
def reading(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    """The simulator with one switch in another position."""
    name, value = request.param
    before = getattr(world.simulator.config, name)
    assert value != before
    world.simulator.reconfigure(**{name: value})
    yield name, value
    world.simulator.clear_faults()
    world.simulator.reconfigure(**{name: before})


def live_a_day(world: World, worker: HandDrivenWorker, *, address: str) -> None:
    def say(text: str, **more: object) -> None:
        worker.receive(world.envelope(text, user=address, channel="web", **more))
        settle_down(world, worker)

    worker.service.background.workers.beat()
    say("hello")
    world.simulator.inject("stored_then_dropped", match=Match(text="ok"))
    say("ok")
    say("ok")
    say('tool:refund {"order": 3}')
    picture = {"content_type": "image/png", "url": "https://example.org/cat.png"}
    say("look", attachments=[picture])
    say("as it comes", agent="streaming")
    (user,) = world.database.rows("SELECT id FROM channel_users WHERE address = %s", address)
    worker.operator.set_paused(user["id"], paused=True)
    say("is this a person?")
    worker.operator.set_paused(user["id"], paused=False)
    say("thanks")


def settle_down(world: World, worker: HandDrivenWorker) -> None:
    for seconds in (0, 5, 20, 60, 120, 120):
        world.clock.advance(seconds)
        worker.service.background.workers.beat()
        worker.answer()
        if not world.database.rows("SELECT FROM channel_users WHERE due_at IS NOT NULL"):
            return


def outcomes(world: World, address: str) -> list[str | None]:
    rows = world.database.rows(
        "SELECT outcome FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
        " WHERE u.address = %s ORDER BY m.id",
        address,
    )
    return [row["outcome"] for row in rows]


@pytest.mark.parametrize(
    "reading", READINGS, indirect=True, ids=[f"{name}={value}" for name, value in READINGS]
)
def test_a_day_goes_well_under_either_reading(
    world: World, worker: HandDrivenWorker, reading: tuple[str, Any]
) -> None:
    address = f"{reading[0]}-{reading[1]}@example.org"
    live_a_day(world, worker, address=address)

    assert outcomes(world, address) == [*["answered"] * 6, "human", "answered"]
    assert oracle.check(world.database, world.simulator.log(), oracle.Expectations()) == []


@pytest.mark.parametrize(
    "reading", HOSTILE, indirect=True, ids=[f"{name}={value}" for name, value in HOSTILE]
)
def test_where_a_thread_cannot_be_read_nothing_is_said_twice(
    world: World, worker: HandDrivenWorker, reading: tuple[str, Any]
) -> None:
    address = f"{reading[0]}-{reading[1]}@example.org"
    seen = len(world.inputs())
    live_a_day(world, worker, address=address)

    said = [text for text in world.inputs()[seen:] if text != "be kind"]
    assert said.count("ok") <= 2
    assert len(said) <= 8


def test_every_doubt_about_conversations_and_responses_is_played() -> None:
    played = {name for name, _ in (*READINGS, *HOSTILE)}
    elsewhere = {
        # Sizes that no turn of ours comes near, or that have a test of their own.
        *("metadata_max_keys", "metadata_max_key_length", "metadata_max_value_length"),
        *("list_max_limit", "max_body_bytes"),
        # Without tools there is nothing to play: `worker doctor` says so.
        "undocumented_fields",
        # Text messages and webhooks: the service does not use them yet.
        *("webhook_backoff_s", "opted_out_status", "bad_number_status", "bad_number_code"),
        *("keyword_match", "webhook_success"),
    }
    page = (ROOT / "docs" / "reference" / "simulator.md").read_text()
    doubts = set(re.findall(r"(?m)^\| `(\w+)` \| [^|]* \| \? \|", page))
    assert len(doubts) > 30
    assert doubts <= played | elsewhere
