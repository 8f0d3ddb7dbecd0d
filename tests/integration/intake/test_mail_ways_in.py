"""Mails by `POST /email` and by `worker mail-in`: kept by the sender until they are committed."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.asgi import Answer, Asgi
from tests.support.cli import bare_env
from tests.support.mails import ADA, AGENTS, OURS, mail_of
from tests.support.telnyx_events import PUBLIC_KEY
from tests.support.world import NAMESPACE, World
from worker.bootstrap.gateway import build_gateway
from worker.handlers.intake.take_mail import MAX_MAIL_BYTES
from worker.net.signing import Signer

TOKEN = {"authorization": "Bearer token"}
ENVELOPE = {"x-envelope-from": ADA, "x-envelope-to": OURS}
SECRET = b"s" * 24
NOWHERE = "postgresql://127.0.0.1:1/none"


def gateway(world: World, **changed: object) -> Iterator[Asgi]:
    agents = world.folder / "agents.toml"
    agents.write_text(AGENTS)
    given: dict[str, Any] = {
        "telnyx_public_key": PUBLIC_KEY,
        "gateway_token": "token",
        "gateway_secret": "whsec_" + base64.b64encode(SECRET).decode(),
        "agents_file": agents,
        **changed,
    }
    built = build_gateway(replace(world.settings(), **given))
    with Asgi(built.app) as post:
        yield post
    built.close()


@pytest.fixture
def post(world: World) -> Iterator[Asgi]:
    yield from gateway(world)


def sent(post: Asgi, body: bytes, headers: Mapping[str, str] = ENVELOPE) -> Answer:
    return post("/email", body, headers={**TOKEN, **headers})


def kept(world: World) -> list[dict[str, Any]]:
    return world.database.rows("SELECT smtp_sender, smtp_recipient, verdict FROM mails ORDER BY id")


def test_a_mail_is_answered_with_200_once_it_is_committed(post: Asgi, world: World) -> None:
    to = {"x-envelope-from": f"<{ADA}>", "x-envelope-to": f"others@example.org, {OURS}"}
    answers = [sent(post, mail_of(), to) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert world.database.value("SELECT task_id FROM inbox") is not None
    assert kept(world) == [{"smtp_sender": ADA, "smtp_recipient": OURS, "verdict": None}]


def test_an_empty_sender_is_a_bounce(post: Asgi, world: World) -> None:
    assert sent(post, mail_of(), ENVELOPE | {"x-envelope-from": "<>"}).json["rule"] == "null_path"
    assert [(row["smtp_sender"], row["verdict"]) for row in kept(world)] == [("", "null_path")]


@pytest.mark.parametrize(
    ("body", "headers", "status", "field"),
    [
        (mail_of(), {"x-envelope-to": OURS}, 422, "X-Envelope-From"),
        (mail_of(), {"x-envelope-from": ADA}, 422, "X-Envelope-To"),
        (mail_of(), ENVELOPE | {"x-envelope-to": "<>"}, 422, "X-Envelope-To"),
        (mail_of(), ENVELOPE | {"x-envelope-from": "Ada, ada@x"}, 422, "X-Envelope-From"),
        (mail_of(), ENVELOPE | {"x-envelope-from": f"{ADA}, {ADA}"}, 422, "X-Envelope-From"),
        (b"\r\n", ENVELOPE, 422, "body"),
        (mail_of(), ENVELOPE | {"authorization": "Bearer other"}, 401, "authorization"),
        (mail_of(), ENVELOPE | {"authorization": ""}, 401, "authorization"),
        (mail_of(), ENVELOPE | {"content-length": "31457281"}, 413, "body"),
        (mail_of(), ENVELOPE | {"content-encoding": "gzip"}, 415, "content-encoding"),
    ],
    ids=range(10),
)
def test_what_cannot_be_taken_is_refused_with_the_field_and_the_fix(
    post: Asgi, world: World, body: bytes, headers: dict[str, str], status: int, field: str
) -> None:
    answer = sent(post, body, headers)
    assert (answer.status, answer.json["error"]["field"]) == (status, field)
    assert kept(world) == []


def test_a_body_without_a_length_is_cut_off_at_the_limit(post: Asgi, world: World) -> None:
    piece = b"x" * (MAX_MAIL_BYTES // 4)
    answer = post("/email", [piece] * 5, headers={**TOKEN, **ENVELOPE})
    assert answer.status == 413
    assert kept(world) == []


def test_a_signature_serves_instead_of_a_token(post: Asgi, world: World) -> None:
    raw = mail_of()
    signed = Signer([SECRET]).headers("1", raw.decode())
    assert post("/email", raw + b"!", headers=ENVELOPE | signed).status == 401
    assert post("/email", raw, headers=ENVELOPE | signed).status == 200
    assert len(kept(world)) == 1


@pytest.mark.parametrize("changed", [{"database_url": NOWHERE}, {"agents_file": None}])
def test_the_sender_keeps_the_mail_while_it_cannot_be_taken(
    world: World, changed: dict[str, object]
) -> None:
    for post in gateway(world, **changed):
        answer = sent(post, mail_of())
        assert (answer.status, answer.json["error"]["field"]) == (503, "service")
    assert kept(world) == []


def piped(world: World, raw: bytes, *arguments: str, **env: str) -> tuple[int, str]:
    agents = world.folder / "agents.toml"
    agents.write_text(AGENTS)
    given = {"DATABASE_URL": world.database.url, "AGENTS_FILE": str(agents), **env}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "mail-in", *arguments],
        env=bare_env(NAMESPACE=str(NAMESPACE), **given),
        input=raw,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stderr.decode()


def test_a_pipe_commits_the_mail_and_then_exits_with_0(world: World) -> None:
    to = ("--recipient", "others@example.org", "--recipient", OURS)
    assert piped(world, mail_of(), "--sender", ADA, *to)[0] == 0
    assert piped(world, mail_of(), "--sender", ADA, *to)[0] == 0
    bounce = mail_of(message_id="<two@x>")
    assert piped(world, bounce, "--sender", "", "--recipient", OURS)[0] == 0
    assert [(row["smtp_recipient"], row["verdict"]) for row in kept(world)] == [
        (OURS, None),
        (OURS, "null_path"),
    ]


def test_a_mail_from_a_file_needs_no_envelope(world: World) -> None:
    assert piped(world, mail_of())[0] == 0
    assert [(row["smtp_recipient"], row["verdict"]) for row in kept(world)] == [(None, None)]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--sender", ADA, "--recipient", OURS), {"DATABASE_URL": NOWHERE}),
        (("--sender", ADA, "--recipient", OURS), {"DATABASE_URL": "wrong"}),
        (("--sender", ADA, "--recipient", OURS), {"AGENTS_FILE": "/nowhere/agents.toml"}),
        (("--sender", ADA), {}),
    ],
)
def test_whatever_is_wrong_but_the_mail_itself_is_a_temporary_failure(
    world: World, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    code, said = piped(world, mail_of("Private"), *arguments, **env)
    assert code == os.EX_TEMPFAIL
    assert "Traceback" not in said
    assert "Private" not in said
    assert kept(world) == []


def test_no_mail_and_one_that_is_too_large_go_back(world: World) -> None:
    for raw in (b"", b"x" * (MAX_MAIL_BYTES + 1)):
        assert piped(world, raw, "--sender", ADA, "--recipient", OURS)[0] == os.EX_DATAERR
