"""The gateway's parts alone: groups of commits, Telnyx's patience, bodies, health."""

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from nacl.signing import SigningKey
from starlette.requests import Request

from tests.support.telnyx_events import KEY, PUBLIC_KEY, signed
from worker.domain.errors import BrokerAwayError, DatabaseAwayError, PermanentError, RetryableError
from worker.gateway import endpoint, health, storage
from worker.gateway.endpoint import RefusedError
from worker.gateway.signature import FORGED, TelnyxKeys
from worker.gateway.storage import Storage, Task
from worker.handlers.intake.take_event import InboxEntry, Work


class Servers:
    """What was committed, group by group, and what was queued."""

    def __init__(self) -> None:
        self.groups: list[list[UUID]] = []
        self.queued: list[str] = []
        self.before_commit: Callable[[Sequence[Work]], None] = lambda _: None
        self.has_broker = True

    def commit(self, works: Sequence[Work]) -> None:
        self.before_commit(works)
        self.groups.append([one.id for one in works if isinstance(one, InboxEntry)])

    def publish(self, _task: str, _queue: str, task_id: str, _kwargs: dict[str, Any]) -> None:
        if not self.has_broker:
            raise BrokerAwayError("gone")
        self.queued.append(task_id)

    def store(self, *works: InboxEntry) -> list[object]:
        """Store all at once; return the error of each, or None."""

        async def all_of_them() -> list[object]:
            made = Storage(self.commit, self.publish)
            try:
                return await asyncio.gather(
                    *(made.store(one, Task("a", str(one.id), {})) for one in works),
                    return_exceptions=True,
                )
            finally:
                made.close()

        return asyncio.run(all_of_them())


@pytest.fixture
def servers() -> Servers:
    return Servers()


def works(number: int) -> list[InboxEntry]:
    return [InboxEntry(uuid4(), "{}") for _ in range(number)]


def test_what_comes_at_once_is_committed_together_in_order(servers: Servers) -> None:
    given = works(250)
    assert servers.store(*given) == [None] * 250
    assert [one for group in servers.groups for one in group] == [one.id for one in given]
    assert len(servers.groups) <= 4
    assert servers.queued == []


def test_one_that_postgres_refuses_does_not_take_its_group_with_it(servers: Servers) -> None:
    given = works(5)

    def refuse(group: Sequence[Work]) -> None:
        if given[2] in group:
            raise PermanentError("no", code="22P05")

    servers.before_commit = refuse
    assert servers.store(*given) == [None] * 5
    stored = {one for group in servers.groups for one in group}
    assert stored == {one.id for one in given if one is not given[2]}
    # A worker makes a dead letter of it.
    assert servers.queued == [str(given[2].id)]


def test_without_postgres_all_is_queued_and_without_both_refused(servers: Servers) -> None:
    def be_away(_: Sequence[Work]) -> None:
        raise DatabaseAwayError("gone")

    servers.before_commit = be_away
    given = works(3)
    assert servers.store(*given) == [None] * 3
    assert sorted(servers.queued) == sorted(str(one.id) for one in given)
    servers.has_broker = False
    refused = servers.store(*works(2))
    assert all(isinstance(one, RefusedError) and one.status == 503 for one in refused)


def test_a_commit_that_hangs_is_not_waited_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "COMMIT_S", 0.05)
    hangs = threading.Event()
    servers.before_commit = lambda _: hangs.wait(5) and None
    began = time.monotonic()

    async def scenario() -> None:
        made = Storage(servers.commit, servers.publish)
        first, second = works(2)
        await made.store(first, Task("a", str(first.id), {}))
        await made.store(second, Task("a", str(second.id), {}))
        assert servers.queued == [str(first.id), str(second.id)]
        hangs.set()
        (third,) = works(1)
        await made.store(third, Task("a", str(third.id), {}))
        made.close()
        # The second has gone to the broker before its turn came.
        assert servers.groups == [[first.id], [third.id]]

    asyncio.run(scenario())
    assert time.monotonic() - began < 4


def test_a_body_that_trickles_is_given_up() -> None:
    async def trickle() -> dict[str, object]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    request = Request({"type": "http", "headers": []}, trickle)
    with pytest.raises(RefusedError) as refused:
        asyncio.run(endpoint.read_body(request, limit=50, within_s=0.05))
    assert refused.value.status == 408


def test_a_server_that_hangs_counts_as_away_and_takes_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "ANSWER_S", 0.05)
    goes_on, begun = threading.Event(), list[float]()

    def hang() -> None:
        begun.append(time.monotonic())
        goes_on.wait(5)

    async def probe_thrice() -> list[bytes]:
        ready = health.Ready({"postgres": hang, "broker": lambda: None})
        request = Request({"type": "http"})
        answers = [await ready.answer(request) for _ in range(3)]
        goes_on.set()
        return [bytes(answer.body) for answer in answers]

    assert asyncio.run(probe_thrice()) == [b'{"ready":true,"away":["postgres"]}'] * 3
    assert len(begun) == 1


# --- the key of Telnyx's signatures -------------------------------------------------------------

NEXT = SigningKey(b"n" * 32)
FORGER = SigningKey(b"f" * 32)


class Telnyx:
    """What has the key, and counts how often it is asked."""

    def __init__(self) -> None:
        self.key, self.asked, self.is_away = KEY, 0, False

    def fetch(self) -> str:
        self.asked += 1
        if self.is_away:
            raise RetryableError("away")
        return base64.b64encode(self.key.verify_key.encode()).decode()


def fault_of(keys: TelnyxKeys, key: SigningKey) -> str | None:
    return keys.fault(signed(b"{}", key=key), b"{}")


def test_a_fetched_key_is_fetched_again_if_a_signature_does_not_fit() -> None:
    telnyx = Telnyx()
    keys = TelnyxKeys([telnyx.fetch()], telnyx.fetch)
    telnyx.key = NEXT
    assert fault_of(keys, NEXT) == FORGED

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(keys.replaced() for _ in range(20)))

    assert asyncio.run(all_of_them()) == [True] * 20
    assert (fault_of(keys, NEXT), fault_of(keys, KEY)) == (None, FORGED)
    assert telnyx.asked == 2


@pytest.mark.parametrize("away", [False, True])
def test_forged_signatures_fetch_no_key_for_a_minute(
    away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    telnyx = Telnyx()
    keys = TelnyxKeys([telnyx.fetch()], telnyx.fetch)
    telnyx.is_away = away

    async def attacked() -> None:
        for _ in range(5):
            assert fault_of(keys, FORGER) == FORGED
            assert not await keys.replaced()
        assert telnyx.asked == 2
        telnyx.key, telnyx.is_away = NEXT, False
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 61)
        assert await keys.replaced()

    asyncio.run(attacked())
    assert (telnyx.asked, fault_of(keys, NEXT)) == (3, None)


def test_a_key_of_the_settings_is_never_replaced() -> None:
    keys = TelnyxKeys([PUBLIC_KEY])
    assert not asyncio.run(keys.replaced())
    assert (fault_of(keys, KEY), fault_of(keys, NEXT)) == (None, FORGED)
