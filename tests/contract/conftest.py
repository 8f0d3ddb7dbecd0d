"""What most tests of the simulator talk to it with; each module has its own `sim`."""

from collections.abc import Iterator

import httpx
import pytest

from worker.sandbox.simulator import Simulator


@pytest.fixture
def api(sim: Simulator) -> Iterator[httpx.Client]:
    """A client with the key of Telnyx's API."""
    headers = {"authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers, timeout=10) as client:
        yield client


@pytest.fixture
def thread(api: httpx.Client) -> str:
    """An empty conversation."""
    return str(api.post("/ai/conversations").json()["id"])
