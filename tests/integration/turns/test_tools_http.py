"""Tools behind URLs: what is sent, what an answer or a broken one comes to, and that it ends."""

import base64
import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.bad_servers import (
    Certificate,
    half_a_body,
    hang,
    hang_up,
    never_read,
    over_tls,
    reset_after_request,
    trickle_body,
    trickle_head,
)
from tests.support.raw_server import RawServer, Serve, answers, http, raw_server
from tests.support.signers import signer_of
from tests.support.webhook_inbox import parts_of
from worker.domain.errors import SettingsError
from worker.domain.messages import ChannelAddress
from worker.domain.tools import MAX_OUTPUT_BYTES, ToolConfig, ToolRequest, ToolResult
from worker.tools.build import build_tools
from worker.tools.http import HttpTool
from worker.tools.tool import Tool

EXAMPLE = Path(__file__).parents[3] / "examples" / "tools"
KEY = UUID("7b2f3c1e-0d5a-5c8e-9a43-2f1f6a1b0c9d")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
REQUEST = ToolRequest(
    name="cancel",
    arguments='{"number": "4712"}',
    key=KEY,
    who=ChannelAddress(channel="web", recipient="shop", address="visitor-1", thread="a"),
    metadata={"order": "4711"},
)
CONFIG = ToolConfig(
    name="cancel",
    description="Cancel it.",
    url="http://unused/",
    parameters={"type": "object"},
    secret_env="SECRET",
    timeout_s=5.0,
    honours_key=True,
)
TIMEOUT_S = 0.3
WAITS_S = (0.01, 0.02)
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""
OK = http({"status": "cancelled"})


@cache
def tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # slow


def tool_at(
    url: str,
    *,
    waits_s: Sequence[float] = WAITS_S,
    **changes: Any,  # noqa: ANN401 any field
) -> Tool:
    """The tool as it is built, but with short waits."""
    config = replace(CONFIG, url=url, **changes)
    return HttpTool(config, httpx.URL(url), signer_of(SECRET), tls_context(), waits_s=waits_s)


def run(serve: Serve, **changes: Any) -> tuple[ToolResult, RawServer]:  # noqa: ANN401 any field
    with raw_server(serve) as server:
        started = time.monotonic()
        result = tool_at(server.url, **changes).run(REQUEST)
        assert time.monotonic() - started < CONFIG.timeout_s + SLACK_S
    return result, server


# --- what is sent ------------------------------------------------------------------------------


def test_the_request_says_who_what_and_under_which_key() -> None:
    result, server = run(answers(OK))

    assert result == ToolResult(state="done", output='{"status": "cancelled"}')
    (raw,) = server.requests
    assert raw.startswith(b"POST /v2 HTTP/1.1\r\n")
    headers, body = parts_of(raw)
    assert headers["idempotency-key"] == headers["webhook-id"] == str(KEY)
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert json.loads(body) == {
        "version": 1,
        "tool": "cancel",
        "arguments": {"number": "4712"},
        "channel": "web",
        "recipient": "shop",
        "user": "visitor-1",
        "thread": "a",
        "metadata": {"order": "4711"},
    }


def test_the_signature_verifies_with_the_key_and_with_no_other() -> None:
    with raw_server(answers(OK)) as server:
        text = '{"number": "Überraschung \\ud83d\\ude00"}'
        tool_at(server.url).run(replace(REQUEST, arguments=text))

    headers, body = parts_of(server.requests[0])
    assert Webhook(SECRET).verify(body, headers)["arguments"] == {"number": "Überraschung 😀"}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + base64.b64encode(b"x" * 32).decode()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_"), SECRET.rstrip("=")])
def test_a_key_is_taken_from_a_file_with_prefix_or_padding_or_without(
    secret: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(secret + "\n")
    with raw_server(answers(OK)) as server:
        config = replace(CONFIG, url=server.url, secret_env=None, secret_file=tmp_path / "key")
        build_tools({"cancel": config}, {})["cancel"].run(REQUEST)
    headers, body = parts_of(server.requests[0])
    Webhook(SECRET).verify(body, headers)


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "arguments",
    ["{", "[]", '"text"', "null", "1", '{"a": NaN}', '{"a": 1e999}', nested(100_000)],
)
def test_arguments_that_are_no_object_are_not_sent(arguments: str) -> None:
    with raw_server(answers(OK)) as server:
        result = tool_at(server.url).run(replace(REQUEST, arguments=arguments))
    assert (result.state, result.reason) == ("failed", "invalid arguments")
    assert server.connections == 0


def test_no_arguments_are_an_empty_object_and_half_a_surrogate_pair_stays_json() -> None:
    with raw_server(answers(OK)) as server:
        tool_at(server.url).run(replace(REQUEST, arguments=""))
        tool_at(server.url).run(replace(REQUEST, arguments='{"a": "\\ud800"}'))
    first, second = (parts_of(raw) for raw in server.requests)
    assert json.loads(first[1])["arguments"] == {}
    assert b'"\\ud800"' in second[1]
    Webhook(SECRET).verify(second[1], second[0], json_parse=False)


# --- what comes back ---------------------------------------------------------------------------

CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (http(b"plain text"), "plain text"),
        (http(b"", status=201), ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (http("Grüße \0 😀".encode()), "Grüße  😀"),
        (CHUNKED, "abc"),
    ],
)
def test_a_2xx_is_done_and_its_body_the_output(answer: bytes, output: str) -> None:
    result, _ = run(answers(answer))
    assert result == ToolResult(state="done", output=output)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"\xc3", b"ok \xed\xa0\x80"])
def test_a_2xx_that_is_not_utf8_is_done_without_its_words(body: bytes) -> None:
    result, server = run(answers(http(body)))
    assert (result.state, result.reason) == ("done", "not UTF-8")
    assert result.output == "The tool ran. Its answer is not text and cannot be shown."
    assert len(server.requests) == 1


def test_a_body_with_much_that_cannot_be_stored_is_cut_and_says_so() -> None:
    result, _ = run(answers(http(b"x" + b"\0" * MAX_OUTPUT_BYTES + b"y")))
    assert result.output == "x\n[cut: the output was longer]"


def test_a_huge_body_is_cut_and_not_read_to_its_end() -> None:
    sent_all = threading.Event()

    def flood(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nxy")
        for _ in range(1000):
            conn.sendall("ü".encode() * 500_000)
        sent_all.set()

    result, _ = run(flood)

    assert result.state == "done"
    assert MAX_OUTPUT_BYTES - 1 <= len(result.output.encode()) <= MAX_OUTPUT_BYTES
    assert result.output.endswith("ü\n[cut: the output was longer]")
    assert not sent_all.is_set()


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (http({"error": "no such order"}, status=404), "status 404: no such order"),
        (http({"error": {"code": 1}}, status=400), "status 400"),
        (http(b"<html>", status=422), "status 422"),
        (http(b"[" * 100_000, status=400), "status 400"),
        (http({"error": "x" * MAX_OUTPUT_BYTES}, status=400), "status 400"),
        (http(status=301, headers={"Location": "/other"}), "status 301"),
        (http(status=308, headers={"Location": "http://["}), "status 308"),
    ],
)
def test_a_refusal_is_told_with_its_status_and_error_and_not_repeated(
    answer: bytes, output: str
) -> None:
    result, server = run(answers(answer))
    assert (result.state, result.reason) == ("failed", output.partition(":")[0])
    assert result.output == f"error: the tool refused: {output}"
    assert server.connections == 1


def test_a_redirect_is_not_followed() -> None:
    with raw_server(answers(OK)) as other:
        for status in (301, 302, 303, 307, 308):
            run(answers(http(status=status, headers={"Location": other.url})), honours_key=False)
        assert other.connections == 0


# --- once more, or not -------------------------------------------------------------------------


def not_http(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"SSH-2.0-SECRET\r\n\r\n")


def and_then(first: Serve, then: Serve) -> Serve:
    """The first connection is served by one, the others by the other."""
    turns = iter([first])

    def serve(conn: socket.socket, server: RawServer) -> None:
        next(turns, then)(conn, server)

    return serve


@pytest.mark.parametrize(
    "first",
    [
        *(answers(http(status=status)) for status in (408, 409, 425, 429, 500, 503, 302)),
        reset_after_request,
        half_a_body,
        not_http,
        hang_up,
    ],
)
def test_what_has_no_verdict_is_repeated_under_the_same_key(first: Serve) -> None:
    result, server = run(and_then(first, answers(OK)))

    assert result == ToolResult(state="done", output='{"status": "cancelled"}')
    sent = [parts_of(raw) for raw in server.requests]
    assert len(sent) == 2
    for headers, body in sent:
        assert headers["idempotency-key"] == str(KEY)
        assert Webhook(SECRET).verify(body, headers)
    assert sent[0][1] == sent[1][1]


@pytest.mark.parametrize(
    ("serve", "honours_key", "state", "reason"),
    [
        (answers(http(status=500)), True, "unknown", "status 500"),
        (answers(http(status=409)), True, "unknown", "status 409"),
        (answers(http(status=429)), True, "failed", "status 429"),
        (reset_after_request, True, "unknown", "read: ConnectionResetError"),
        (half_a_body, True, "unknown", "ended early"),
        (not_http, True, "unknown", "not HTTP"),
        (answers(http(status=500)), False, "unknown", "status 500"),
        (answers(http(status=302)), False, "unknown", "status 302"),
        (answers(http(status=409)), False, "failed", "status 409"),
        (answers(http(status=429)), False, "failed", "status 429"),
        (reset_after_request, False, "unknown", "read: ConnectionResetError"),
        (half_a_body, False, "unknown", "ended early"),
        (hang_up, False, "unknown", "ended early"),
    ],
)
def test_without_a_verdict_at_the_end_it_is_unknown_unless_nothing_can_have_happened(
    serve: Serve, honours_key: bool, state: str, reason: str
) -> None:
    result, server = run(serve, honours_key=honours_key)
    assert (result.state, result.reason) == (state, reason)
    assert ("may or may not have happened" in result.output) == (state == "unknown")
    assert server.connections == (3 if honours_key else 1)


@pytest.mark.parametrize("last", [429, 503])
def test_one_try_that_may_have_worked_keeps_the_end_unknown(last: int) -> None:
    result, _ = run(and_then(reset_after_request, answers(http(status=last))))
    assert (result.state, result.reason) == ("unknown", "read: ConnectionResetError")


def test_a_refusal_under_the_same_key_is_the_verdict() -> None:
    result, _ = run(and_then(reset_after_request, answers(http(status=422))))
    assert (result.state, result.reason) == ("failed", "status 422")


@pytest.mark.parametrize(
    ("honours_key", "waited_s"), [(True, WAITS_S[0] + WAITS_S[1]), (False, 0.0)]
)
def test_a_refused_connection_fails(honours_key: bool, waited_s: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    started = time.monotonic()
    result = tool_at(f"http://127.0.0.1:{port}/", honours_key=honours_key).run(REQUEST)
    assert (result.state, result.reason) == ("failed", "connect: ConnectionRefusedError")
    assert time.monotonic() - started >= waited_s
    assert str(port) not in result.output


def test_a_host_that_does_not_exist_fails() -> None:
    result = tool_at("http://no-such-host.invalid/").run(REQUEST)
    assert (result.state, result.reason) == ("failed", "lookup: gaierror")


@pytest.mark.parametrize(("retry_after", "tries"), [("60", 1), ("1", 2), ("Mon", 3), ("²", 3)])
def test_a_pause_that_is_asked_for_is_kept_where_there_is_time(
    retry_after: str, tries: int
) -> None:
    limited = http(status=429, headers={"Retry-After": retry_after})
    result, server = run(answers(limited), timeout_s=1.95)
    assert (result.state, len(server.requests)) == ("failed", tries)


# --- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize("serve", [hang, trickle_head, trickle_body])
@pytest.mark.parametrize("honours_key", [True, False])
def test_the_time_limit_holds_over_the_whole_run(serve: Serve, honours_key: bool) -> None:
    with raw_server(serve) as server:
        tool = tool_at(server.url, timeout_s=TIMEOUT_S, honours_key=honours_key)
        started = time.monotonic()
        result = tool.run(REQUEST)
        took_s = time.monotonic() - started
    assert TIMEOUT_S - 0.05 <= took_s < TIMEOUT_S + SLACK_S
    assert (result.state, result.reason) == ("unknown", "deadline passed")
    assert server.connections == 1


def test_the_time_limit_holds_for_a_request_that_nobody_reads() -> None:
    arguments = json.dumps({"text": "x" * 6_000_000})  # more than the kernel takes
    with raw_server(never_read) as server:
        tool = tool_at(server.url, timeout_s=1.5)
        started = time.monotonic()
        result = tool.run(replace(REQUEST, arguments=arguments))
        took_s = time.monotonic() - started
    assert 1.45 <= took_s < 1.5 + SLACK_S
    assert (result.state, result.reason) == ("unknown", "deadline passed")


def test_tries_and_waits_share_the_time() -> None:
    with raw_server(answers(http(status=500))) as server:
        # Each wait fits by itself; after the first, the second does not.
        waits_s = (0.1, CONFIG.timeout_s - 0.05)
        started = time.monotonic()
        assert tool_at(server.url, waits_s=waits_s).run(REQUEST).state == "unknown"
        assert time.monotonic() - started < waits_s[1], "no wait for a try that cannot begin"
    assert len(server.requests) == 2


def test_many_threads_share_one_tool() -> None:
    results: list[ToolResult] = []
    with raw_server(answers(OK)) as server:
        tool = tool_at(server.url)
        threads = [
            threading.Thread(target=lambda: results.append(tool.run(REQUEST))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [one.state for one in results] == ["done"] * 16
    assert server.connections == 16


# --- tls ---------------------------------------------------------------------------------------


def test_tls_trusts_the_authorities_of_the_environment(certificate: Certificate) -> None:
    environ = {"SECRET": SECRET, "SSL_CERT_FILE": certificate.cert}
    with raw_server(over_tls(certificate, answers(OK))) as server:
        config = replace(CONFIG, url=f"https://localhost:{server.port}/cancel?a=b")
        result = build_tools({"cancel": config}, environ)["cancel"].run(REQUEST)
    assert result.state == "done"
    assert server.requests[0].startswith(b"POST /cancel?a=b HTTP/1.1\r\n")


def test_an_untrusted_certificate_fails_before_anything_is_sent(
    certificate: Certificate,
) -> None:
    with raw_server(over_tls(certificate, answers(OK))) as server:
        result = tool_at(f"https://localhost:{server.port}/").run(REQUEST)
    assert (result.state, result.reason) == ("failed", "tls: SSLCertVerificationError")
    assert server.requests == []


def test_a_file_of_authorities_that_cannot_be_read_stops_the_start() -> None:
    environ = {"SECRET": SECRET, "SSL_CERT_FILE": "/no/such/file"}
    with pytest.raises(SettingsError, match="SSL_CERT_FILE cannot be read"):
        build_tools({"cancel": CONFIG}, environ)


# --- the example -------------------------------------------------------------------------------

_CALLS = """
import os, sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from uuid import UUID
from worker.config.agents_file import load_agents
from worker.domain.messages import ChannelAddress
from worker.domain.tools import ToolRequest
from worker.tools.build import build_tools

configs = dict(load_agents(Path(sys.argv[1]))[0].tools)
configs["cancel_order"] = replace(configs["cancel_order"], url=sys.argv[2])
tools = build_tools(configs, os.environ)
who = ChannelAddress(channel="web", recipient="", address="visitor-1", thread="")
for name, number, key in [
    ("order_status", "4711", 1), ("cancel_order", "4711", 2),
    ("cancel_order", "4712", 3), ("cancel_order", "4712", 3), ("cancel_order", "9999", 4),
]:
    request = ToolRequest(
        name=name, arguments='{"number": "%s"}' % number, key=UUID(int=key), who=who, metadata={}
    )
    result = tools[name].run(request)
    print(result.state, result.output)
"""


def test_the_example_runs_verifies_and_does_each_call_once(tmp_path: Path) -> None:
    environ = {**os.environ, "ORDER_TOOLS_SECRET": SECRET, "PYTHONPATH": str(EXAMPLE)}
    database = tmp_path / "orders.db"
    command = [sys.executable, str(EXAMPLE / "order_server.py"), str(database), "0"]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().split()[-1]}/cancel"
        said = subprocess.run(
            [sys.executable, "-W", "error", "-c", _CALLS, str(EXAMPLE / "agents.toml"), url],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        unsigned = httpx.post(url, json={"arguments": {"number": "4712"}}, trust_env=False)
        forged = httpx.post(
            url,
            content=b"{}",
            headers={"webhook-id": "a", "webhook-timestamp": str(int(time.time()))}
            | {"webhook-signature": "rubbish"},
            trust_env=False,
        )
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()
    assert said.splitlines() == [
        'done {"number":"4711","status":"shipped"}',
        "failed error: the tool refused: status 422: the order is shipped already",
        'done {"number": "4712", "status": "cancelled"}',
        'done {"number": "4712", "status": "cancelled"}',
        "failed error: the tool refused: status 404: this customer has no such order",
    ]
    assert (unsigned.status_code, forged.status_code) == (401, 401)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (3,)
    connection.close()
