"""What the simulated Telnyx was asked, read from its log."""

from collections.abc import Iterable

from worker.sandbox.simulator.record.events import RequestReceived
from worker.sandbox.simulator.record.log import Entry


def requests_in(log: Iterable[Entry], endpoint: str | None = None) -> list[RequestReceived]:
    """Return the requests, in order; of one endpoint if it is named."""
    received = [entry.event for entry in log if isinstance(entry.event, RequestReceived)]
    return [one for one in received if endpoint in {None, one.endpoint}]
