"""What the service sends to Telnyx fits the contract, as its client and as the whole of it."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tests.support.contracts import check
from tests.support.tour import tour
from tests.support.world import running_world
from worker.sandbox.simulator import Endpoint, Entry, SimulatorConfig, running_simulator
from worker.sandbox.simulator.record.events import RequestReceived

BODIES = {
    Endpoint.CREATE: "create_conversation",
    Endpoint.UPDATE: "update_conversation",
    Endpoint.ADD_MESSAGE: "add_message",
    Endpoint.RESPONSES: "response_request",
}
QUERIES = {Endpoint.LIST: "list_conversations", Endpoint.MESSAGES: "list_messages"}
BARE = {Endpoint.RETRIEVE, Endpoint.DELETE, Endpoint.MODELS}
"""Neither body nor query."""
KEYED = {Endpoint.CREATE, Endpoint.ADD_MESSAGE}
"""What declares `Idempotency-Key`; all else must not have one."""


def check_requests(entries: Iterable[Entry]) -> dict[Endpoint, int]:
    """Check every request of a log; return how many there were of each endpoint."""
    counts: dict[Endpoint, int] = {}
    for entry in entries:
        if isinstance(entry.event, RequestReceived):
            check_request(entry.event)
            endpoint = Endpoint(entry.event.endpoint)
            counts[endpoint] = counts.get(endpoint, 0) + 1
    return counts


def check_request(request: RequestReceived) -> None:
    endpoint, url = Endpoint(request.endpoint), urlsplit(request.path)
    assert url.path.startswith("/v2/ai/")
    query = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    assert len(dict(query)) == len(query), "a parameter twice"
    assert not set(url.query) & set("<>[]+ ") - {"+"}, "not encoded"
    if endpoint in QUERIES:
        check(QUERIES[endpoint], dict(query))
    else:
        assert query == []
    if endpoint in BODIES:
        assert request.headers["content-type"] == "application/json"
        check(BODIES[endpoint], request.body)
    else:
        assert request.body_bytes == 0
    assert endpoint in BODIES or endpoint in QUERIES or endpoint in BARE
    key = request.headers.get("idempotency-key")
    assert (key is not None) == (endpoint in KEYED)
    assert key is None or re.fullmatch(r"[A-Za-z0-9_:-]{1,255}", key)


def test_the_client_through_all_endpoints() -> None:
    with running_simulator(SimulatorConfig(list_visible_after_s=0)) as sim:
        tour(sim)
        counts = check_requests(sim.log())
    assert counts.keys() == BODIES.keys() | QUERIES.keys() | BARE
    assert counts[Endpoint.RESPONSES] == 4


def test_the_whole_service_with_pictures_lost_answers_and_a_person(
    database_url: str, tmp_path: Path
) -> None:
    with running_world(database_url, tmp_path, SimulatorConfig()) as world:
        worker = world.worker()
        worker.receive(world.envelope("hello"))
        picture = {"content_type": "image/png", "data": "aGVsbG8="}
        worker.receive(world.envelope("", user="+13125550002", attachments=[picture]))
        world.simulator.inject("stored_then_dropped")
        worker.receive(world.envelope("again"))
        for _ in range(3):
            world.clock.advance(120)
            worker.answer()
        counts = check_requests(world.simulator.log())
    assert counts[Endpoint.CREATE] == 2
    assert counts[Endpoint.RESPONSES] == 3
    assert counts[Endpoint.MESSAGES] >= 1
