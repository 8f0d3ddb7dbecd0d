"""Nothing that people write, and no secret, shows anywhere but where it belongs.

One service runs for all tests here; canaries go in by every way there is. Then everything that it
has shown to those who watch it is searched for them.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from redis import Redis

from tests.support.canary import NUMBER, envelope, invalid, shown, word
from tests.support.cli import invoke
from tests.support.databases import fresh_database
from tests.support.intake_worker import CANARY, FIXTURES, call
from tests.support.processes import eventually, open_folder
from tests.support.shown import OPEN_PAGES, Watched, listening, watched_service
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Endpoint, Match, Script

pytestmark = pytest.mark.timeout(240)
"""Four processes start here, and are slow to where others start some, too."""
ENTRIES = sorted(FIXTURES.glob("*.bin"))
PLACES = (
    *("log at DEBUG, Flower's too", "log at INFO", "Celery's events", "live channels"),
    "log of the console",
    *("Redis's names", "inspect", "Flower", "commands"),
)


FOLLOWED = "7c1e1e9a-52f4-4a63-9f0e-0d7f6a1b2c3d"
"""The task id of one message, as its producer has it."""
IGNORED = re.compile(r" ignored=[a-z_,]+$")
RESULT = re.compile(
    r"nothing due|refused [a-z0-9_]+( [a-z_]+(\.[a-z0-9_]+)*)?"
    r"|([a-z_]+ ){1,2}((message|turn|delivery)=[0-9]+ ?)+(, [a-z_]+( [a-z_]+)? turn=[0-9]+)*"
)
LONG_AGO = "2001-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def watched(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Watched]:
    with (
        open_folder() as folder,
        fresh_database(shared_postgres) as url,
        Redis.from_url(shared_redis.url) as redis,
    ):
        redis.flushall()
        with watched_service(folder, database_url=url, redis=redis) as service:
            with listening(service):
                crowd(service)
                talk(service)
                misuse(service)
                service.look()
            type_wrongly(service)
            service.tell(
                "log at DEBUG, Flower's too", service.up.output.read_text(errors="replace")
            )
            visit(service)
            service.tell("log of the console", service.console.output())
            service.tell("log at INFO", service.fleet.workers[0].output())
            yield service


def crowd(service: Watched) -> None:
    """More than the threads can take at once, so that there is something to see in flight."""
    locked = "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"
    with psycopg.connect(service.database.url) as other:
        other.execute(locked)
        service.fleet.send(*(envelope(f"crowd-{number}") for number in range(44)))
        assert eventually(lambda: service.redis.hlen("unacked") >= 40)
        for worker in (service.up.celery_worker(), service.fleet.workers[0].pid):
            os.kill(worker, signal.SIGUSR1)  # prints every thread's stack
        service.look()
        service.hooks.answers[f"/{word('hook-path')}?token={word('hook-token')}"] = [500, 200]
    assert eventually(lambda: len(service.hooks.posted) > 0)


def talk(service: Watched) -> None:
    """What may become of a message: answered, with tools, refused, given up, delivered, ..."""
    simulator, send = service.simulator, service.fleet.send
    tools = tuple((name, json.dumps({"word": word(name)})) for name in ("notes", "explode"))
    simulator.script(Script(text=word("tools-text"), calls=(*tools, (word("no-such-tool"), "{}"))))
    for fault in ("400", "500", "502_html", "stored_then_dropped", "429_retry_after"):
        match = Match(text=word(f"fault-{fault}-text"))
        simulator.inject(fault, match=match, detail=word("telnyx-says"), retry_after_s=0.2)
        send(envelope(f"fault-{fault}"))
    simulator.inject("500", match=Match(endpoint=Endpoint.CREATE), detail=word("telnyx-says"))
    simulator.inject("stream_cut", match=Match(text=word("cut-text")))
    send(envelope("cut", channel="live"))
    send(envelope("tools"), envelope("twice"), envelope("twice", text=word("other")))
    send(envelope("again"), envelope("again"))
    send(envelope("live", channel="live"), envelope("task", channel="crm"))
    send(envelope("phone", channel="phone", user=NUMBER), envelope("late", expires_at=LONG_AGO))
    send(envelope("mail", channel="mail", user=f"{CANARY}@example.org"))
    send(envelope("draft", agent="checked"), envelope("desk", agent="checked", text="HUMAN"))
    send(*invalid())
    service.fleet.producer.send_task(
        "messages.receive",
        kwargs={"envelope": envelope("followed")},
        queue="inbound",
        task_id=FOLLOWED,
    )
    with psycopg.connect(service.database.url) as producer:
        for one in (envelope("sql"), envelope("sql-bad", agent=word("agent"))):
            producer.execute("SELECT enqueue_message(%s::jsonb)", [json.dumps(one)])
    service.fleet.wait_for(lambda: not unfinished(service))


def unfinished(service: Watched) -> list[str]:
    """The messages that have no outcome and may get one."""
    rows = service.database.rows(
        "SELECT m.message_id FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
        " WHERE m.outcome IS NULL AND u.diverged_at IS NULL"
    )
    waiting = service.database.value("SELECT count(*) FROM inbox")
    return [row["message_id"] for row in rows] + ["inbox"] * waiting


def misuse(service: Watched) -> None:
    """What is no message, and no task; last, a key that Telnyx does not take any more."""
    raw = [entry.read_bytes() for entry in ENTRIES]
    service.redis.lpush("inbound", *raw)
    service.redis.lpush("turns", call("channel_users.answer", body=[[CANARY], {}, {}]))
    service.redis.lpush("deliveries", call("replies.deliver", body=[[], {"user_id": CANARY}, {}]))
    service.fleet.wait_for(
        lambda: not service.redis.exists("inbound", "turns", "deliveries", "unacked")
    )
    service.simulator.inject("401", match=Match(text=word("last-text")), detail=word("no-key"))
    service.fleet.send(envelope("last"))
    service.fleet.wait_for(lambda: any(line.get("status") == 401 for line in service.lines()))


def visit(service: Watched) -> None:
    """The console: somebody without a token, then one of our staff, who looks, finds and writes."""
    with httpx.Client(base_url=service.console.url, follow_redirects=True) as browser:
        names = {"name": word("staff"), "next": f"/{word('next')}"}
        assert browser.post("/login", data=names | {"token": word("wrong")}).status_code == 403
        assert browser.post("/login", data=names | {"token": word("console-token")}).history
        page = browser.get("/people").text
        csrf = re.findall(r'name="csrf" value="(\w+)"', page)[0]
        found = browser.post("/people", data={"csrf": csrf, "find": word("followed-user")})
        assert shown(found.text)
        person = found.url.path
        key = re.findall(r'name="key" value="([\w-]+)"', found.text)[0]
        said = {"csrf": csrf, "key": key, "text": word("said")}
        assert "on its way" in browser.post(f"{person}/say", data=said).text
        assert browser.post(f"{person}/say", data=said | {"key": word("key")}).status_code == 422
        letter = service.database.value("SELECT max(id) FROM dead_letters")
        draft = service.database.value(
            "SELECT reply_id FROM deliveries WHERE state = 'held' ORDER BY id LIMIT 1"
        )
        decided = {"csrf": csrf, "text": word("edited")}
        assert browser.post(f"/replies/{draft}/edit", data=decided).is_success
        for path in ("/", f"/dead-letters/{letter}", "/messages/1", f"/{word('nowhere')}"):
            browser.get(path, params={word("query"): word("value")})
        stranger = browser.post(f"{person}/pause", data={"csrf": word("csrf")})
        assert stranger.status_code == 403


def type_wrongly(service: Watched) -> None:
    """Commands, and what they say where something is wrong."""
    folder = service.fleet.folder
    (folder / "broken.toml").write_text(f"[agents.default]\nmodel = {word('toml')}")
    (folder / "broken.jsonl").write_text(f'{{"text": "{word("line")}"}}\n{{"user": {word("x")}')
    away = f"{word('away')}@127.0.0.1:1"
    servers = {"DATABASE_URL": f"postgresql://u:{away}/d", "BROKER_URL": f"redis://u:{away}/0"}
    person = ("--channel", "web", "--user", word("user"), "--text", word("text"))
    for command, changes in (
        (("status", "--json"), {}),
        (("status",), {}),
        (("usage", "--json"), {}),
        (("dead-letters", "list", "--json"), {}),
        (("status", "--json"), servers),
        (("send", *person), servers),
        (("send", *person, "--agent", word("x") * 9), {}),
        (("send", *person, "--sent-at", word("never")), {}),
        (("send", "--file", str(folder / "broken.jsonl")), {}),
        *(
            (("up", "--no-flower"), {name: value})
            for name, value in {
                "DATABASE_URL": f"mysql://{word('scheme')}",
                "BROKER_URL": f"sqs://{word('scheme')}",
                "NAMESPACE": word("namespace"),
                "CONCURRENCY": word("number"),
                "LOG_LEVEL": word("level"),
                "AGENTS_FILE": str(folder / "broken.toml"),
            }.items()
        ),
    ):
        said = invoke(*command, env={**service.env, **changes})
        service.tell(f"commands: {command[0]}", said.stdout + said.stderr)


@pytest.mark.parametrize("place", PLACES)
def test_no_canary_shows_in(watched: Watched, place: str) -> None:
    texts = {name: text for name, text in watched.told.items() if name.startswith(place)}
    assert texts
    assert all(text.strip() for text in texts.values())
    assert {name: shown(text)[:3] for name, text in texts.items() if shown(text)} == {}


def test_the_canaries_did_get_to_where_they_belong(watched: Watched) -> None:
    stored = watched.database.rows("SELECT envelope FROM messages")
    replies = watched.database.rows("SELECT text FROM replies")
    letters = watched.database.rows("SELECT raw FROM dead_letters WHERE kind = 'envelope'")
    assert all(shown(json.dumps(one)) for one in stored)
    assert any(word("followed-text") in one["text"] for one in replies)
    assert sum(bool(shown(bytes(one["raw"]).decode("latin-1"))) for one in letters) > 60
    ran = watched.database.rows("SELECT name, state, output FROM tool_calls")
    assert {one["name"]: one["state"] for one in ran} == {
        "notes": "done",
        "explode": "failed",
        word("no-such-tool"): "failed",
    }
    assert word("tool-output") in json.dumps(ran)
    posted = watched.hooks.posted[0]
    assert word("hook-path") in posted.path
    assert word("metadata-value") in posted.raw.decode()
    assert shown(str(watched.redis.lrange("crm", 0, -1))) != [], "in base64"


def test_what_there_was_to_see_was_seen(watched: Watched) -> None:
    events = {line["event"] for line in watched.lines()}
    assert events >= {
        *("message.accepted", "message.conflict", "message.expired", "message.repeated"),
        *("envelope.refused", "turn.settled", "turn.uses_tools", "tool.ran"),
        *("delivery.ended", "conversation.failed", "user.handed_over"),
    }
    tasks = json.loads(watched.visit("/api/tasks?limit=5000")).values()
    ours = {"messages.receive", "channel_users.answer", "replies.deliver", "dead_letters.keep"}
    assert {task["name"] for task in tasks} == ours
    assert {(task["args"], task["kwargs"]) for task in tasks} == {("(hidden)", "(hidden)")}
    assert "TaskDefectError" in watched.told["Celery's events"]
    results = {task["result"]: task["state"] for task in tasks if task["result"] is not None}
    assert {text for text in results if not RESULT.fullmatch(IGNORED.sub("", text))} == set()
    assert results["refused envelope_invalid metadata"] == "FAILURE"
    assert {state for text, state in results.items() if text.startswith("refused")} == {"FAILURE"}
    assert {state for text, state in results.items() if text.startswith("answered")} == {"SUCCESS"}
    assert json.loads(watched.told["inspect active"].splitlines()[0]) != {}
    assert "most recent call first" in watched.told["log at INFO"], "it answers SIGUSR1 with stacks"
    assert "worker:live:" in watched.told["live channels"]


def test_a_message_is_followed_from_its_producer_to_telnyx_and_out(watched: Watched) -> None:
    def line(event: str, **facts: object) -> dict[str, Any]:
        (found,) = (
            one for one in watched.lines() if one["event"] == event and facts.items() <= one.items()
        )
        return found

    accepted = line("message.accepted", task=FOLLOWED)
    settled = line("turn.settled", messages=[accepted["message"]])
    delivered = line("delivery.ended", turn=settled["turn"])
    assert settled["outcome"] == "Done"
    assert settled["plan"] == "Reply"
    assert settled["response"].startswith("resp_")
    assert settled["request"]
    assert settled["duration_ms"] >= 0
    assert delivered["state"] == "sent"
    assert delivered["key"] in {one.headers["webhook-id"] for one in watched.hooks.posted}


def test_at_info_celery_adds_no_lines_of_its_own_for_each_task(watched: Watched) -> None:
    for line in ("Task messages.receive[", "] received", "] succeeded in"):
        assert line in watched.told["log at DEBUG, Flower's too"]
    assert "] received" not in watched.told["log at INFO"]
    assert "] succeeded" not in watched.told["log at INFO"]


def test_flower_shows_nothing_to_strangers_and_stops_nothing_for_anybody(watched: Watched) -> None:
    stranger = httpx.Client(base_url=watched.flower.base_url)
    with stranger:
        for page in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers", "/tasks/datatable"):
            assert stranger.get(page).status_code == 401, page
        for page in OPEN_PAGES:
            assert stranger.get(page).status_code == 200, page
    name = watched.names()[0]
    assert watched.flower.post(f"/api/worker/shutdown/{name}").status_code == 403
