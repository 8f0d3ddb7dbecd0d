"""Drafts as people see them: `worker replies`, the gateway, `worker why`, status and metrics."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.asgi import Answer, Asgi
from tests.support.cli import invoke_in
from tests.support.telnyx_events import PUBLIC_KEY
from tests.support.world import USER, HandDrivenWorker, World
from worker.bootstrap.gateway import build_gateway
from worker.bootstrap.reports import open_database
from worker.cli.inspect.metrics import parts_of
from worker.net.signing import Signer
from worker.store.reports.gauges import GaugeStore

AGENTS = """
[agents.default]
approve = "all"
[channels.sms.delivery]
task = "unused"
queue = "unused"
"""
TOKEN = {"authorization": "Bearer token-1"}
SECRET = b"s" * 24


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    worker = world.worker(AGENTS)
    worker.receive(world.envelope("Are you open on Sunday?"))
    return worker


@pytest.fixture
def call(world: World) -> Iterator[Asgi]:
    settings = replace(
        world.settings(),
        telnyx_public_key=PUBLIC_KEY,
        gateway_token="token-1",
        gateway_secret="whsec_" + base64.b64encode(SECRET).decode(),
    )
    built = build_gateway(settings)
    try:
        with Asgi(built.app) as asgi:
            yield asgi
    finally:
        built.close()


def told(world: World, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 # JSON
    said = invoke_in(world, *arguments, "--json", agents=AGENTS)
    assert said.returncode == code, said.stderr
    return json.loads(said.stdout)


def decide(call: Asgi, path: str, **body: object) -> Answer:
    return call(path, json.dumps(body).encode(), headers=TOKEN)


@pytest.mark.usefixtures("worker")
def test_an_operator_lists_shows_and_edits(world: World) -> None:
    (row,) = told(world, "replies", "list")
    assert (row["id"], row["channel"], row["held_for"]) == (1, "sms", "all")
    plain = invoke_in(world, "replies", "list", agents=AGENTS)
    assert "all" in plain.stdout
    assert not any(word in plain.stdout for word in ("Sunday", USER))

    shown = told(world, "replies", "show", "1")
    assert [one["text"] for one in shown["messages"]] == ["Are you open on Sunday?"]
    assert shown["text"] == world.replies()[0]["text"]
    lines = invoke_in(world, "replies", "show", "1", agents=AGENTS).stdout.splitlines()
    assert f"{'person':<12} Are you open on Sunday?" in lines

    edited = told(world, "replies", "edit", "1", "From ten.", "--by", "ada")
    assert (edited["decision"], edited["state"]) == ("edited", "pending")
    late = invoke_in(world, "replies", "approve", "1", "--by", "bob", agents=AGENTS)
    assert late.returncode == 1
    assert "it was edited already: by ada, at 20" in late.stderr
    assert told(world, "replies", "list") == []
    assert "no draft waits" in invoke_in(world, "replies", "list", agents=AGENTS).stdout


@pytest.mark.usefixtures("worker")
def test_who_decides_is_the_person_at_the_keyboard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    assert told(world, "replies", "reject", "1")["decision"] == "rejected"
    assert world.database.value("SELECT reviewed_by FROM deliveries") == "grace"
    assert invoke_in(world, "replies", "show", "7", agents=AGENTS).returncode == 1


@pytest.mark.usefixtures("worker")
def test_a_program_lists_shows_and_decides(call: Asgi) -> None:
    listed = call("/replies", method="GET", headers=TOKEN)
    (row,) = listed.json["replies"]
    assert (row["id"], row["held_for"]) == (1, "all")
    assert b"Sunday" not in listed.body
    for query in ("after=1", "agent=other", "channel=web"):
        assert call(f"/replies?{query}", method="GET", headers=TOKEN).json == {"replies": []}
    shown = call("/replies/1", method="GET", headers=TOKEN).json
    assert shown["messages"][0]["text"] == "Are you open on Sunday?"

    done = decide(call, "/replies/1/edit", by="ada", text="From ten.")
    assert (done.status, done.json["state"]) == (200, "pending")
    late = decide(call, "/replies/1/approve", by="bob")
    assert late.status == 409
    assert (late.json["error"]["decision"], late.json["error"]["by"]) == ("edited", "ada")
    after = call("/replies/1", method="GET", headers=TOKEN).json
    assert (after["text"], after["draft"]) == ("From ten.", shown["text"])


def test_an_approval_that_comes_too_late_is_refused_with_the_reason(
    world: World, worker: HandDrivenWorker, call: Asgi
) -> None:
    worker.accept_only(world.envelope("And on Monday?"))
    refused = decide(call, "/replies/1/approve", by="ada")
    assert refused.status == 409
    assert "newer messages" in refused.json["error"]["fix"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/replies/2/approve", {"by": "ada"}, 404),
        ("/replies/x/approve", {"by": "ada"}, 422),
        (f"/replies/{'9' * 19}/approve", {"by": "ada"}, 422),
        (f"/replies/{'9' * 5000}/approve", {"by": "ada"}, 422),
        ("/replies/1/send", {"by": "ada"}, 404),
        ("/replies/1/approve", {}, 422),
        ("/replies/1/approve", {"by": 1}, 422),
        ("/replies/1/approve", {"by": "ada", "text": "no"}, 422),
        ("/replies/1/approve", [], 422),
        ("/replies/1/approve", {"by": " "}, 409),
        ("/replies/1/approve", {"by": "a" * 101}, 409),
        ("/replies/1/edit", {"by": "ada"}, 422),
        ("/replies/1/edit", {"by": "ada", "text": " "}, 409),
    ],
)
def test_what_does_not_fit_changes_nothing(
    world: World, call: Asgi, path: str, body: object, status: int
) -> None:
    assert call(path, json.dumps(body).encode(), headers=TOKEN).status == status
    assert world.database.value("SELECT state FROM deliveries") == "held"


@pytest.mark.usefixtures("worker")
def test_a_signature_serves_for_its_own_path_alone(world: World, call: Asgi) -> None:
    signer, body = Signer([SECRET]), '{"by": "ada"}'
    assert call("/replies", method="GET").status == 401
    assert call("/replies/1/approve", body.encode()).status == 401
    read = signer.headers("replies", "")
    assert call("/replies", method="GET", headers=read).status == 200
    assert call("/replies/1", method="GET", headers=read).status == 401
    rejects = signer.headers("replies/1/reject", body)
    assert call("/replies/1/approve", body.encode(), headers=rejects).status == 401
    assert world.database.value("SELECT state FROM deliveries") == "held"
    assert call("/replies/1/reject", body.encode(), headers=rejects).status == 200


def test_the_way_of_a_draft_is_explained(world: World, worker: HandDrivenWorker) -> None:
    held = told(world, "why", "1")
    assert held["where"]["fate"] == "held"
    assert held["where"]["commands"] == ["worker replies show 1"]
    worker.operator.drafts.reject(worker.operator.drafts.waiting()[0].id, by="ada")
    rejected = told(world, "why", "1")
    assert rejected["where"]["fate"] == "rejected"
    lines = invoke_in(world, "why", "1", agents=AGENTS).stdout
    assert "delivery 1: held (all)" in lines
    assert "draft.rejected: delivery 1" in lines
    assert "ada" not in lines


def test_waiting_drafts_are_counted(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(world.envelope("hello", user="+13125550002"))
    worker.operator.drafts.edit(worker.operator.drafts.waiting()[1].id, "Good day.", by="ada")
    world.clock.advance(90)
    status = told(world, "status", code=1)["overview"]
    assert status["drafts"] == {"default": 1}
    assert status["oldest_draft_s"] >= 90
    with open_database(world.database.url) as database:
        counted = parts_of(GaugeStore(database), "")["drafts"]()
        samples = {(name, labels): value for name, labels, value in counted}
    assert samples["worker_drafts_waiting", ("default",)] == 1
    assert samples["worker_oldest_draft_seconds", ("default",)] >= 90
    assert samples["worker_drafts_decided_last_hour", ("edited",)] == 1
    assert samples["worker_drafts_decided_last_hour", ("approved",)] == 0
    assert samples["worker_draft_edits_last_hour", ("0.5",)] == 0
    assert samples["worker_draft_edits_last_hour", ("1",)] == 1
