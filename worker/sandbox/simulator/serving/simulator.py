"""The simulator inside of a test's own process: a server in a thread, to be asked and steered.

Every method may be called from any thread. While the server runs, it takes its turn on the server's
event loop; before and after, it looks at the state directly.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Self, TypeVar

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.behaviour.faults import FaultOrder, Match
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.endpoints import admin
from worker.sandbox.simulator.endpoints.messaging.receiving import InboundSms, receive
from worker.sandbox.simulator.record.log import Entry, Overlap, overlaps
from worker.sandbox.simulator.record.sms import Sms
from worker.sandbox.simulator.record.values import Conversation, Message
from worker.sandbox.simulator.serving.server import serve
from worker.sandbox.simulator.state.state import State

_T = TypeVar("_T")
_PATIENCE_S = 30.0


class Simulator:
    """Telnyx, as far as this service uses it. Threads of an earlier log at `log_path` are kept."""

    def __init__(self, config: SimulatorConfig | None = None, log_path: Path | None = None) -> None:
        self._state = State(config or SimulatorConfig(), log_path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: Thread | None = None
        self._port = 0

    def start(self, port: int = 0) -> None:
        """Serve on the loopback address; 0 = a free port. OSError if it cannot. Once only."""
        ready: Future[int] = Future()
        self._thread = Thread(target=self._run, args=(port, ready), name="simulator", daemon=True)
        self._thread.start()
        self._port = ready.result(_PATIENCE_S)

    def stop(self) -> None:
        """Stop serving: running requests are given up, connections closed, the log ended."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
        self._state.log.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """What a client of Telnyx takes for `https://api.telnyx.com/v2`."""
        return f"{self.root_url}/v2"

    @property
    def root_url(self) -> str:
        """The server itself; the controls are under `/sim`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_key(self) -> str:
        """The key that is accepted now."""
        return self._call(lambda: self._state.config.api_key)

    @property
    def config(self) -> SimulatorConfig:
        """The settings as they are now."""
        return self._call(lambda: self._state.config)

    def conversations(self) -> tuple[Conversation, ...]:
        """All conversations that exist, oldest first."""
        return self._call(self._state.store.conversations)

    def messages(self, conversation_id: str) -> tuple[Message, ...]:
        """Return a thread as it is, in the order of storing; empty if there is none."""
        return self._call(lambda: self._state.store.thread(conversation_id))

    def log(self) -> tuple[Entry, ...]:
        """Return everything that happened, runs of earlier processes on this log included."""
        # After this turn of the loop, all that it had begun is written.
        self._call(lambda: None)
        # Not on the loop, which a long log would hold up.
        return self._state.log.entries()

    def overlaps(self, *, slack_s: float = 0.0) -> tuple[Overlap, ...]:
        """Return requests for a response that were at work on one conversation at once."""
        return overlaps(self.log(), slack_s=slack_s)

    def inject(
        self,
        fault: str,
        *,
        match: Match | None = None,
        count: int | None = 1,
        skip: int = 0,
        **changes: Any,  # noqa: ANN401 - whatever the parts of a plan are
    ) -> None:
        """Let a fault of `plans.FAULTS` hit the next `count` requests that match (None = all).

        `changes` are parts of its `Plan`: `inject("429_retry_after", retry_after_s=3)`.
        """
        order = FaultOrder(
            fault=fault, match=match or Match(), count=count, skip=skip, changes=changes
        )
        self._call(lambda: admin.inject(self._state, order))

    def clear_faults(self) -> None:
        """Take back all orders."""
        self._call(lambda: admin.clear_faults(self._state))

    def pending_faults(self) -> tuple[FaultOrder, ...]:
        """Return the orders that have not hit all their requests yet."""
        return self._call(self._state.faults.orders)

    def set_api_key(self, api_key: str) -> None:
        """Accept this key and no other."""
        self.reconfigure(api_key=api_key)

    def set_model_available(self, model: str, available: bool) -> None:  # noqa: FBT001 - the verb says it
        """Offer a model, or no longer."""
        self._call(lambda: admin.set_model_available(self._state, model, available=available))

    def reconfigure(self, **changes: Any) -> None:  # noqa: ANN401 - fields of SimulatorConfig
        """Change settings while it runs, `latency_s` for example."""
        self._call(lambda: self._state.reconfigure(changes))

    def script(self, script: Script) -> None:
        """Script the model's answer to input that contains the script's text."""
        self._call(lambda: admin.add_script(self._state, script))

    def append_foreign_message(self, conversation_id: str, text: str, role: str = "user") -> None:
        """Put a message into a thread that no request brought."""
        message = admin.ForeignMessage(conversation_id=conversation_id, text=text, role=role)
        self._call(lambda: admin.append_foreign(self._state, message))

    def delete_conversation(self, conversation_id: str) -> None:
        """Delete a conversation behind everybody's back."""
        self._call(lambda: self._state.store.delete(None, conversation_id))

    @property
    def public_key(self) -> str:
        """The answer of `GET /public_key`: base64 of the key that events are signed with."""
        return self._state.webhooks.public_key

    def receive_sms(self, inbound: InboundSms) -> str:
        """Let somebody's phone send a text message; return the id of its event. Only while up."""
        return str(self._call(lambda: receive(self._state, inbound))["event_id"])

    def block(self, number: str, *, opted_out: bool = True) -> None:
        """Let Telnyx block a number, or no longer, without a word from the phone."""
        self._call(lambda: self._state.sms.set_opted_out(number, opted_out=opted_out))

    def sms(self) -> tuple[Sms, ...]:
        """All text messages of both directions, oldest first."""
        return self._call(self._state.sms.messages)

    def _call(self, work: Callable[[], _T]) -> _T:
        loop = self._loop
        if loop is None:
            return work()

        async def turn() -> _T:
            return work()

        return asyncio.run_coroutine_threadsafe(turn(), loop).result(_PATIENCE_S)

    def _run(self, port: int, ready: Future[int]) -> None:
        try:
            asyncio.run(self._serve(port, ready))
        except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
            if not ready.done():
                ready.set_exception(error)

    async def _serve(self, port: int, ready: Future[int]) -> None:
        def started(real: int) -> None:
            self._loop = asyncio.get_running_loop()
            ready.set_result(real)

        await serve(self._state, host="127.0.0.1", port=port, ready=started, stop=self._stop)


@contextmanager
def running_simulator(
    config: SimulatorConfig | None = None, *, log_path: Path | None = None
) -> Iterator[Simulator]:
    """Run a simulator for the length of a `with`."""
    with Simulator(config, log_path) as simulator:
        yield simulator
