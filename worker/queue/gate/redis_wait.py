# mypy: disallow-untyped-calls=False
"""Waits for entries in Celery's event loop; overrides internals of kombu 5.7.

BLMOVE, unlike kombu's BRPOP, knows one list: so a channel has a connection for each queue.
"""

from functools import partial
from time import monotonic
from typing import Any, Final

from kombu.transport import redis as stock
from redis.exceptions import OutOfMemoryError

from worker.observability.logs import log
from worker.queue.broker import QUEUES
from worker.queue.fleet import FLEET

WAIT_S: Final = 2.0
"""After this time a wait begins anew; with many processes later, and then another one looks."""
RESTORE_S: Final = 30
"""How often one of all workers looks for messages that a dead one took and did not acknowledge."""
_MOST_RESTORE_S: Final = 120
"""The longest that each leaves it to the others: they may have another broker."""
_LEAST_S: Final = 0.1
_SILENT_S: Final = 3.0
"""How long after its end a wait may still be answered."""
_KIND: Final = "BLMOVE "
"""Beginning of the name that the poller has for such a connection."""


class GatedPoller(stock.MultiChannelPoller):
    """kombu's poller of connections, with ours among them."""

    _restore_at = 0.0

    def _register_BRPOP(self, channel: Any) -> None:  # noqa: ANN401, N802 - kombu's
        """Before the loop sleeps: take what is there, and wait for more."""
        if not channel.takes:
            super()._register_BRPOP(channel)
            return
        channel.take_what_is_there()
        channel.waits.begin(self)

    def on_readable(self, fileno: int) -> Any:  # noqa: ANN401
        """Read an answer; that of a wait at any time, as its entry is not ours yet."""
        channel, kind = self._fd_to_chan.get(fileno, (None, ""))
        if channel is not None and kind.startswith(_KIND):
            return channel.handlers[kind]()
        return super().on_readable(fileno)

    def maybe_restore_messages(self) -> None:
        """Look for messages of dead workers, with many processes less often in each."""
        if monotonic() >= self._restore_at:
            each_s = min(FLEET.spread_s(RESTORE_S), _MOST_RESTORE_S)
            self._restore_at = monotonic() + each_s - RESTORE_S / 2
            super().maybe_restore_messages()

    def maybe_check_brpop_health(self) -> None:
        """Drop connections on which a wait does not end."""
        super().maybe_check_brpop_health()
        for channel in self._channels:
            channel.waits.drop_silent()


class Waits:
    """The waits of one channel, by queue."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - a GatedChannel
        self._channel = channel
        self._clients: dict[str, Any] = {}
        self._until: dict[str, float] = {}
        """The time at which a wait has to end, by queue."""
        self._empty: dict[str, float] = {}
        """When a wait ended without an entry, by queue."""
        self._began = monotonic()
        self._paused_until = 0.0
        self.moved: set[str] = set()
        """Queues of which an entry is on the list of the next lower priority."""

    def begin(self, poller: GatedPoller) -> None:
        """Wait on each queue, unless this is done already."""
        self.drop_silent()
        if monotonic() >= self._paused_until:
            for queue in self._channel.active_queues:
                self._wait(queue, poller)

    def drop_silent(self) -> None:
        """Close connections whose wait is overdue: half-open ones never become readable."""
        overdue = monotonic() - _SILENT_S
        for queue, until in list(self._until.items()):
            if until < overdue:
                log.warning("queue.connection_silent", queue=queue)
                self._clients[queue].connection.disconnect()

    def _wait(self, queue: str, poller: GatedPoller) -> None:
        channel, kind = self._channel, _KIND + queue
        if queue not in self._clients:
            self._clients[queue] = channel._create_client(asynchronous=True)  # noqa: SLF001
            channel.handlers[kind] = partial(self._woken, queue)
        client = self._clients[queue]
        if not poller._client_registered(channel, client, kind):  # noqa: SLF001
            self._until.pop(queue, None)
            poller._register(channel, client, kind)  # noqa: SLF001
        if queue not in self._until:
            first, second, *_ = channel.lists_of(queue)
            wait_s = self._wait_s()
            client.connection.send_command("BLMOVE", first, second, "RIGHT", "RIGHT", wait_s)
            self._until[queue] = monotonic() + wait_s

    def _wait_s(self) -> float:
        """Return how long to wait: all waits of this process end together, and wake it once."""
        every_s = FLEET.spread_s(WAIT_S)
        rest_s = every_s - (monotonic() - self._began) % every_s
        return round(rest_s if rest_s > _LEAST_S else rest_s + every_s, 3)

    def _woken(self, queue: str) -> None:
        channel, client = self._channel, self._clients[queue]
        if self._until.pop(queue, None) is None:
            # The server closed a connection on which nothing was expected.
            client.connection.disconnect()
            return
        try:
            moved = client.parse_response(client.connection, "BLMOVE")
        except channel.connection_errors:
            client.connection.disconnect()
            raise
        except OutOfMemoryError:
            # Nobody can push then, either. What is there can be taken.
            self._paused_until = monotonic() + WAIT_S
            channel.may_be_more = True
            return
        if moved is not None:
            self.moved.add(queue)
            channel.may_be_more = True
            return
        self._empty[queue] = monotonic()
        # All of the service, even if this worker was told to take from some only (-Q).
        channel.entry_gate.empty_at = min(self._empty.get(one, 0) for one in QUEUES)
        if [queue] == channel.active_queues[:1]:
            # On the lists on which nobody waits.
            channel.may_be_more = True
