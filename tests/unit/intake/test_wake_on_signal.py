"""A signal wakes Celery's event loop, which would otherwise sleep on."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from kombu.asynchronous.hub import Hub

from worker.queue.wake_on_signal import WakeOnSignal

LONG_S = 9.0


@pytest.fixture
def hub() -> Iterator[Hub]:
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    found = Hub()
    yield found
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR2, before)
    found.close()


def test_a_signal_ends_the_sleep_of_the_loop(hub: Hub) -> None:
    waker = WakeOnSignal()
    waker.register(hub)
    hub.timer.max_interval = LONG_S
    hub.call_later(LONG_S, lambda: None)
    for _ in range(2):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        began = time.monotonic()
        next(hub.loop)
        assert time.monotonic() - began < LONG_S / 2
    waker.close()
