"""One trace from a producer to the delivery, as a collector gets it from two real workers.

Everybody's words and names are canaries: at the end everything that came is searched for them.
"""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from message_worker_client import Producer
from tests.support.canary import envelope, invalid, shown, word
from tests.support.cli import invoke
from tests.support.collector import Seen, spans, wait_for_spans
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.processes import eventually
from tests.support.receiver import Receiver, receiver
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Match, Script
from worker.sandbox.simulator.record.events import RequestReceived

POST = "POST /ai/openai/responses"
WAYS_OUT = """
tools = ["meet"]
[tools.meet]
function = "tests.support.toolbox:meet"
[channels.crm.delivery]
task = "crm.take"
queue = "crm"
[channels.slow]
debounce_s = 1.5
[channels.web.delivery]
url = "{hook}/in"
secret_env = "CANARY_SECRET"
allow_private = true
"""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Two workers, where their spans go, and who gets the replies."""

    ground: Ground
    collector: Receiver
    hooks: Receiver

    def send(self, name: str, traceparent: str | None = None, **changes: object) -> None:
        """Queue a message as any Celery producer does, with the header that W3C defines."""
        self.ground.fleet.producer.send_task(
            "messages.receive",
            kwargs={"envelope": envelope(name, **changes)},
            queue="inbound",
            headers={"traceparent": traceparent} if traceparent else None,
        )

    def trace(self, number: int, **wanted: int) -> dict[str, list[Seen]]:
        """Wait until a trace has so many spans of each name; give all of it, by name."""

        def named(found: list[Seen]) -> dict[str, list[Seen]]:
            return {name: [s for s in found if s.name == name] for name in {s.name for s in found}}

        def whole(found: list[Seen]) -> bool:
            counts = {name: len(of) for name, of in named(found).items()}
            return all(counts.get(name, 0) >= count for name, count in wanted.items())

        return named(wait_for_spans(self.collector, whole, of=f"{number:032x}"))


def parent(number: int) -> str:
    """The traceparent of a producer's span: trace and span have this number."""
    return f"00-{number:032x}-{number:016x}-01"


@pytest.fixture(scope="module")
def traced(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Traced]:
    with (
        receiver() as hooks,
        receiver() as collector,
        fresh_ground(
            shared_postgres,
            broker_url=shared_redis.url_of(4),
            agents=agents_file(more=WAYS_OUT.format(hook=hooks.url)),
        ) as ground,
    ):
        ground.fleet.start(
            2,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="50",
            CANARY_SECRET="whsec_" + "Q0FOQVJZLWI3ZTE" * 3 + "Cg==",
        )
        yield Traced(ground=ground, collector=collector, hooks=hooks)


def test_a_message_is_one_trace_from_its_producer_to_the_receiver_of_its_reply(
    traced: Traced,
) -> None:
    url = traced.ground.fleet.broker_url
    spanning = TracerProvider().get_tracer("a producer's")
    with Producer(broker_url=url) as producer, spanning.start_as_current_span("theirs") as theirs:
        producer.send_many([envelope("whole")])
    here = theirs.get_span_context()
    found = traced.trace(here.trace_id, accept=1, turn=1, deliver=1)
    (accept,), (turn,), (post,), (deliver,) = (
        found[name] for name in ("accept", "turn", POST, "deliver")
    )
    assert [one.kind for one in (accept, turn, post, deliver)] == [
        *("CONSUMER", "INTERNAL", "CLIENT", "CLIENT")
    ]
    assert accept.parent_id == format_span_id(here.span_id)
    assert turn.parent_id == deliver.parent_id == accept.span_id
    calls = [post, *found["telnyx find"], *found["telnyx create conversation"]]
    assert {one.parent_id for one in calls} == {turn.span_id}
    assert not any(one.failed for of in found.values() for one in of)
    assert {one.service for one in calls} == {"worker"}

    usage = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    assert post.facts["gen_ai.response.id"].startswith("resp_")
    assert all(post.facts[name] > 0 for name in usage)
    assert (turn.facts["worker.plan"], turn.facts["worker.outcome"]) == ("Reply", "Done")
    assert turn.facts["worker.turn"] == deliver.facts["worker.turn"]

    (hook,) = [one for one in traced.hooks.posted if word("whole-user") in one.raw.decode()]
    assert hook.headers["traceparent"].startswith(f"00-{accept.trace_id}-{deliver.span_id}-")
    assert hook.headers["webhook-id"] == deliver.facts["messaging.message.id"]
    lines = "".join(one.output() for one in traced.ground.fleet.workers).splitlines()
    ours = [json.loads(line) for line in lines if format_trace_id(here.trace_id) in line]
    told = {one["event"] for one in ours}
    assert told >= {"message.accepted", "turn.settled", "delivery.ended"}
    message = str(accept.facts["worker.message"])
    why = invoke("why", message, env={"DATABASE_URL": traced.ground.fleet.database_url})
    assert f"trace              {accept.trace_id}" in why.stdout, why.stderr


def test_another_process_goes_on_with_the_trace_of_the_one_that_died(traced: Traced) -> None:
    slow = {"channel": "slow", "user": word("slow-user")}
    traced.send("slow-1", parent(11), **slow)
    (accept,) = traced.trace(11, accept=1)["accept"]
    traced.send("slow-2", parent(12), **slow)
    (later,) = traced.trace(12, accept=1)["accept"]
    (pid,) = traced.ground.database.rows("SELECT pid FROM workers WHERE id = %s", accept.process)
    os.kill(pid["pid"], signal.SIGKILL)

    (turn,) = traced.trace(11, turn=1)["turn"]
    assert turn.process != accept.process
    assert turn.parent_id == accept.span_id
    assert turn.links == (f"{later.trace_id}-{later.span_id}",)
    assert turn.facts["worker.messages"] == 2


def test_what_is_done_again_is_in_the_same_trace(traced: Traced) -> None:
    fault = Match(text=word("again-text"))
    traced.ground.simulator.inject("stored_then_dropped", match=fault)
    traced.hooks.answers["/in"] = [503, 200]
    traced.send("again", parent(21))
    found = traced.trace(21, accept=1, turn=2)
    (accept,) = found["accept"]
    assert {one.parent_id for one in found["turn"]} == {accept.span_id}
    assert {one.facts["worker.plan"] for one in found["turn"]} == {"Later", "Reply"}
    (post,) = found[POST]
    assert (post.failed, post.facts["error.type"]) == (True, "Unknown")
    found = traced.trace(21, deliver=1)
    assert found["deliver"][0].failed
    assert found["deliver"][0].facts["worker.state"] == "sending"


def test_tools_that_run_at_once_belong_to_their_turn(traced: Traced) -> None:
    calls = (("meet", "{}"), ("meet", "{}"), (word("no-such-tool"), "{}"))
    traced.ground.simulator.script(Script(text=word("tools-text"), calls=calls))
    traced.send("tools", parent(31), channel="crm")
    found = traced.trace(31, turn=1, deliver=1)
    (turn,) = found["turn"]
    ran = found["execute_tool meet"] + found["execute_tool"]
    assert {one.parent_id for one in ran} == {turn.span_id}
    assert sorted(one.facts["worker.state"] for one in ran) == ["done", "done", "failed"]
    assert len(found[POST]) == 2

    (deliver,) = found["deliver"]
    assert deliver.kind == "PRODUCER"
    celery = traced.ground.fleet.producer
    with celery.connection() as connection, connection.SimpleQueue("crm") as queue:
        task = queue.get(timeout=5)
        task.ack()
    assert task.headers["traceparent"] == f"00-{turn.trace_id}-{deliver.span_id}-01"
    assert task.headers["id"] == deliver.facts["messaging.message.id"]


def test_a_message_without_a_producers_trace_has_its_own(traced: Traced) -> None:
    with psycopg.connect(traced.ground.database.url) as producer:
        document = json.dumps(envelope("sql", channel="crm"))
        producer.execute("SELECT enqueue_message(%s::jsonb)", [document])
    sql: list[Seen] = []

    def came() -> bool:
        sql[:] = [one for one in spans(traced.collector) if not one.parent_id]
        return bool(sql)

    assert eventually(came)
    assert sql[0].facts["messaging.destination.name"] == "inbox"
    found = traced.trace(int(sql[0].trace_id, 16), accept=1, turn=1, deliver=1)
    assert found["turn"][0].parent_id == found["deliver"][0].parent_id == sql[0].span_id


def test_what_a_producer_has_not_sampled_is_not_sent(traced: Traced) -> None:
    traced.send("unsampled", parent(41)[:-2] + "00")
    traced.ground.fleet.wait_for(
        lambda: any(word("unsampled-user") in one.raw.decode() for one in traced.hooks.posted)
    )
    traced.send("sampled", parent(42))
    traced.trace(42, deliver=1)
    assert [one for one in spans(traced.collector) if one.trace_id == f"{41:032x}"] == []


def test_a_dead_letter_is_in_its_producers_trace(traced: Traced) -> None:
    traced.send("refused", parent(51), agent=word("no-agent"))
    (accept,) = traced.trace(51, accept=1)["accept"]
    assert (accept.failed, accept.facts["error.type"]) == (True, "unknown_agent")
    assert accept.parent_id == f"{51:016x}"


def test_telnyx_is_told_nothing_of_traces(traced: Traced) -> None:
    traced.send("told", parent(71))
    traced.trace(71, turn=1)
    requests = [
        entry.event
        for entry in traced.ground.simulator.log()
        if isinstance(entry.event, RequestReceived)
    ]
    assert not any({"traceparent", "tracestate"} & one.headers.keys() for one in requests)


def test_no_span_holds_what_somebody_wrote_or_is(traced: Traced) -> None:
    for fault in ("400", "500", "429_retry_after"):
        match = Match(text=word(f"{fault}-text"))
        traced.ground.simulator.inject(
            fault, match=match, detail=word("telnyx-says"), retry_after_s=0.1
        )
        traced.send(fault, parent(int(fault[:3])), channel="crm")
    for number, one in enumerate(invalid()):
        traced.ground.fleet.producer.send_task(
            "messages.receive",
            kwargs={"envelope": one},
            queue="inbound",
            headers={"traceparent": parent(61) if number else word("no-traceparent")},
        )
    traced.send("last", f"{parent(61)}-{word('more')}")
    for number in (500, 429):
        traced.trace(number, turn=2)
    traced.trace(61, accept=len(list(invalid())) - 1)
    came = [posted.raw.decode("latin-1") for posted in traced.collector.posted]
    assert [shown(text)[:3] for text in came if shown(text)] == []
    assert any(one.failed for one in spans(traced.collector))
