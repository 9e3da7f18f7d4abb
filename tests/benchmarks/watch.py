"""Watches messages arrive in a queue: how many a second, and at what cost in CPU time.

The queue is asked for its depth by passive declares. The throughput is the slope of the depth,
from the first sample that sees a tenth of the messages to the first that sees all of them. So the
start is not counted, and the end is. CPU time is that of the containers' cgroups in between.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.benchmarks.broker import Broker
from tests.support.containers import Container

_SAMPLE_SECONDS = 0.025
#: The part of the messages that is not counted: what a candidate does while it warms up.
_WARM_SHARE = 0.1
#: A candidate that brings nothing forth for so long will not do so any more.
_STALL_SECONDS = 30.0
#: After so long without output it is looked at whether it still runs.
_SILENCE_SECONDS = 3.0


class StalledError(Exception):
    """A candidate went no further."""


class _Look(NamedTuple):
    """What is seen at one moment."""

    at: float
    done: int
    cpu_seconds: float
    broker_cpu_seconds: float


class Watch:
    """One queue, and the containers that fill it."""

    def __init__(self, broker: Broker, queue: str, started: Sequence[Container]) -> None:
        """Watch these."""
        self._broker = broker
        self._queue = queue
        self._started = started

    def until(self, count: int) -> dict[str, float]:
        """Wait until `count` messages have come; return the figures.

        Raises:
            StalledError: when there is no hope for more.
        """
        begin: _Look | None = None
        last, moved_at = 0, time.monotonic()
        while True:
            depth, now = self._broker.depth(self._queue), time.monotonic()
            if begin is None and depth >= _WARM_SHARE * count:
                begin = self._look()
            if depth >= count and begin:
                return _figures(begin, self._look(), now)
            if depth != last:
                last, moved_at = depth, now
            if now - moved_at > _SILENCE_SECONDS:
                self._check(now - moved_at, f"{depth} of {count} messages")
            time.sleep(_SAMPLE_SECONDS)

    def _check(self, silent_seconds: float, done: str) -> None:
        """Raise when there is no hope for more output."""
        if not all(container.is_running for container in self._started):
            raise StalledError(f"ended after {done}")
        if silent_seconds > _STALL_SECONDS:
            raise StalledError(f"stalled after {done}")

    def _look(self) -> _Look:
        cpu = sum(container.cpu_seconds for container in self._started)
        broker_cpu = self._broker.container.cpu_seconds
        return _Look(time.monotonic(), self._broker.depth(self._queue), cpu, broker_cpu)


def _figures(begin: _Look, end: _Look, ended_at: float) -> dict[str, float]:
    """Return what happened between two looks.

    The last messages had come before the second look was taken: `ended_at`.
    """
    messages = max(1, end.done - begin.done)
    seconds = max(ended_at - begin.at, 1e-3)
    broker_cpu = end.broker_cpu_seconds - begin.broker_cpu_seconds
    return {
        "messages_per_second": messages / seconds,
        "cpu_microseconds": (end.cpu_seconds - begin.cpu_seconds) / messages * 1e6,
        "broker_cpu_microseconds": broker_cpu / messages * 1e6,
        "seconds": seconds,
        "messages": messages,
    }
