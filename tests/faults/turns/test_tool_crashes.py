"""An agent with two tools is killed, or freezes, at every step of a turn that uses both.

The one is an endpoint that honours its idempotency key: its effect happened once. The other is a
plain function: at most once. The reply came, and Telnyx has heard everything once.
"""

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.turns.test_crash_matrix import (
    CREATE,
    DELIVER,
    FIND,
    INTEND,
    POST,
    QUIET_S,
    SEND_GRACE_S,
    SETTLE,
    START,
    Stage,
    audited_world,
    greet,
    points,
    sleep_through_the_lease,
)
from tests.support.crashing import Step, Stop, file_channels
from tests.support.processes import open_folder
from tests.support.raw_server import RawServer, raw_server
from tests.support.world import HandDrivenWorker, World
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Match
from worker.sandbox.simulator.behaviour.model import Script

USE = ("TurnStore.newest_metadata", "{tool}.run", "TurnStore.finish_tool")
BOOK = ("TurnStore.start_tools", *(name.format(tool="HttpTool") for name in USE))
NOTE = ("TurnStore.start_tools", *(name.format(tool="PythonTool") for name in USE))
ROUNDS = (POST, *BOOK, INTEND, POST, *NOTE, INTEND, POST, SETTLE, *DELIVER)
CROSSES = {
    "first message": (START, FIND, CREATE, INTEND, *ROUNDS),
    "second message": (START, *ROUNDS),
}


@dataclass
class Shop:
    """The endpoint: what was booked under which key."""

    booked: dict[str, str] = field(default_factory=dict)

    def serve(self, conn: socket.socket, server: RawServer) -> None:
        while request := server.read_request(conn):
            head, _, body = request.partition(b"\r\n\r\n")
            lines = (line.partition(":") for line in head.decode().split("\r\n"))
            headers = {name.lower(): value.strip() for name, _, value in lines}
            word = json.loads(body)["arguments"]["what"]
            said = json.dumps(self.booked.setdefault(headers["idempotency-key"], f"booked {word}"))
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n{said}"
            conn.sendall(answer.encode())


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def agents(shop: Shop) -> Iterator[str]:
    with raw_server(shop.serve) as server, open_folder() as folder:
        secret = folder / "secret"
        secret.write_text("whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0")
        yield f"""
[agents.default]
instructions = "be kind"
call_timeout_s = 5
tools = ["book", "refund"]
[channels.keyed.delivery]
task = "unused"
queue = "unused"
[tools.book]
url = "{server.url}/book"
secret_file = "{secret}"
parameters = {{ type = "object", properties = {{ what = {{ type = "string" }} }} }}
timeout_s = 3
[tools.refund]
function = "tests.support.toolbox:refund"
timeout_s = 3
"""


@pytest.fixture(scope="module")
def world(shared_postgres: EmbeddedPostgres) -> Iterator[World]:
    with audited_world(shared_postgres) as made:
        yield made


@pytest.fixture(scope="module")
def healer(world: World, agents: str) -> HandDrivenWorker:
    return world.worker(agents, channels=file_channels(world.folder / "sink.jsonl"))


@pytest.fixture
def stage(world: World, healer: HandDrivenWorker, agents: str) -> Stage:
    healer.service.background.workers.beat()
    return Stage(world=world, healer=healer, number=next(world._numbers), agents=agents)


def ask(stage: Stage, name: str) -> Step:
    """The question leads to a booking, the booking to a refund, the refund to words."""
    if name == "second message":
        greet(stage)
    number = stage.number
    simulator = stage.world.simulator
    booking = (("book", json.dumps({"what": f"room {number};"})),)
    refund = (("refund", json.dumps({"order": number})),)
    simulator.script(Script(text=f"question of {number};", calls=booking))
    simulator.script(Script(text=f"booked room {number};", calls=refund))
    return ("receive", stage.envelope("question", metadata={"ledger": str(ledger(stage))}))


def ledger(stage: Stage) -> Path:
    return stage.world.folder / f"ledger-{stage.number}.jsonl"


def refunds(stage: Stage) -> int:
    path = ledger(stage)
    return len(path.read_text().splitlines()) if path.exists() else 0


def check(stage: Stage, name: str, shop: Shop) -> dict[str, Any]:
    """Give the record of the plain function's call."""
    words = ["greeting", "question"] if name == "second message" else ["question"]
    assert stage.inputs() == [[f"{word} of {stage.number};" for word in words]]
    assert [one["outcome"] for one in stage.rows("messages")] == ["answered"] * len(words)
    assert list(shop.booked.values()).count(f"booked room {stage.number};") == 1
    assert len({one["key"] for one in stage.delivered() if "looked it up" in one["text"]}) == 1
    assert [turn["landed"] for turn in stage.rows("turns")] == [True] * len(words)
    records = stage.world.database.rows(
        "SELECT c.* FROM tool_calls c JOIN turns t ON t.id = c.turn_id JOIN channel_users u"
        " ON u.id = t.channel_user_id WHERE u.address = %s ORDER BY c.id",
        stage.address,
    )
    book, refund = records
    assert (book["state"], book["output"]) == ("done", f'"booked room {stage.number};"')
    assert all(record["answered_at"] for record in records)
    assert refunds(stage) <= 1
    assert refund["state"] == "unknown" or refunds(stage) == 1
    (conversation,) = stage.rows("conversations")
    assert not conversation["owes_outputs"]
    thread = stage.world.simulator.messages(str(conversation["telnyx_conversation_id"]))
    asked = [call.id for message in thread for call in message.tool_calls]
    assert [message.tool_call_id for message in thread if message.role == "tool"] == asked
    return refund


def of(name: str) -> dict[str, tuple[str, ...]]:
    return {name: CROSSES[name]}


@pytest.mark.parametrize("name", CROSSES)
def test_the_turn_crosses_every_boundary_there_is(stage: Stage, shop: Shop, name: str) -> None:
    step = ask(stage, name)
    assert stage.crossed_by(step) == CROSSES[name]
    assert check(stage, name, shop)["state"] == "done"


@pytest.mark.parametrize(("name", "stop"), points(of("first message"), signal.SIGKILL, since=POST))
def test_a_kill_at_any_step_books_once_refunds_at_most_once_and_answers(
    stage: Stage, shop: Shop, name: str, stop: Stop
) -> None:
    step = ask(stage, name)
    stage.kill(step, stop)
    stage.heal()
    refund = check(stage, name, shop)
    if "PythonTool" in stop.name:
        assert refund["state"] == "unknown"
        assert "not known whether" in refund["output"], "the model is told so"


@pytest.mark.parametrize(("name", "stop"), points(of("second message"), signal.SIGSTOP, since=POST))
def test_who_sleeps_through_their_lease_changes_nothing_on_waking_up(
    stage: Stage, shop: Shop, name: str, stop: Stop
) -> None:
    step = ask(stage, name)
    impatient = f"{stage.agents}\n[timing]\nsend_grace_s = {SEND_GRACE_S}\n"
    sleep_through_the_lease(stage, step, stop, agents=impatient)
    check(stage, name, shop)


@pytest.mark.parametrize("fault", ["stored_then_dropped", "dropped", "stored_then_429", "503"])
@pytest.mark.parametrize("round_", [0, 1, 2])
def test_telnyx_fails_in_any_round_and_nothing_runs_twice(
    stage: Stage, shop: Shop, fault: str, round_: int
) -> None:
    step = ask(stage, "first message")
    number = stage.number
    said = (f"question of {number};", f"booked room {number};", f"refunded {number}")[round_]
    stage.world.simulator.inject(fault, match=Match(text=said))
    stage.healer.receive(step[1])  # type: ignore[arg-type]
    stage.pass_time(QUIET_S)
    stage.heal()

    assert check(stage, "first message", shop)["state"] == "done"
    assert refunds(stage) == 1
