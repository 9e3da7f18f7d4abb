"""Measures how fast messages get through a stage: queue, candidate, queue.

The input queue is filled before the candidate starts. The output queue is watched by passive
declares: the throughput is the slope of its depth, from the first sample that sees a tenth of the
messages to the first that sees all of them. So the start is not counted, and the end is. CPU
time is that of the containers' cgroups over the same time. At the end all messages are read
back: each number has to be there, in upper case, and nothing may be left in the input queue.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.bodies import Tally, Template, plain
from tests.benchmarks.broker import Broker
from tests.benchmarks.candidates import Candidate
from tests.benchmarks.containers import Container, Containers
from tests.benchmarks.runs import Run

_SAMPLE_SECONDS = 0.025
#: The part of the messages that is not counted: what a candidate does while it warms up.
_WARM_SHARE = 0.1
#: A candidate that brings nothing forth for so long will not do so any more.
_STALL_SECONDS = 30.0
#: After so long without output it is looked at whether it still runs.
_SILENCE_SECONDS = 3.0
_SEND_SECONDS = 60.0


class Work(NamedTuple):
    """What is to be done.

    Attributes:
        size: bytes in a body.
        queue_type: classic or quorum.
        replicas: how many containers share the input queue.
    """

    size: int = 16
    queue_type: str = "quorum"
    replicas: int = 1

    def __str__(self) -> str:
        """Name it."""
        name = f"relay, {_in_words(self.size)}, {self.queue_type}"
        return name if self.replicas == 1 else f"{name}, {self.replicas} replicas"


def _in_words(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


class StalledError(Exception):
    """A candidate went no further."""


class _Look(NamedTuple):
    """What is seen at one moment."""

    at: float
    done: int
    cpu_seconds: float
    broker_cpu_seconds: float


class Relay:
    """Runs candidates, one at a time, through queues of their own."""

    def __init__(self, containers: Containers, broker: Broker) -> None:
        """Run them on these."""
        self._containers = containers
        self._broker = broker
        self._templates: dict[tuple[str, int, str], Template] = {}

    def run(self, candidate: Candidate, work: Work, count: int, round_number: int) -> Run:
        """Let a candidate relay `count` messages; return what was measured."""
        source, target = (f"{candidate.name}.{work.queue_type}.{end}" for end in ("in", "out"))
        environment = {
            **self._broker.environment,
            **candidate.environment,
            "INPUT_QUEUE": source,
            "OUTPUT_QUEUE": target,
            "QUEUE_TYPE": work.queue_type,
        }
        template = self._prepare(candidate, work, environment)
        self._broker.fill(source, template, count)
        started = [self._containers.run(candidate.image, environment) for _ in range(work.replicas)]
        figures: dict[str, float] = {}
        try:
            figures = self._watch(target, started, count)
            errors = self._end(candidate, source, started)
        except StalledError as stalled:
            errors = [f"{stalled}\n{started[0].log()}"]
        finally:
            for container in started:
                container.remove()
        tally = Tally(count)
        errors += self._broker.verify(target, tally)
        figures["duplicates"] = tally.duplicates
        return Run(str(work), candidate.name, round_number, figures, tuple(errors))

    def publish(
        self, candidate: Candidate, name: str, lines: tuple[Path, str], count: int, number: int
    ) -> Run:
        """Let a candidate publish the lines of a file to a queue; return what was measured.

        Args:
            candidate: who publishes.
            name: of the work.
            lines: the file, and where the candidate sees it.
            count: how many lines it has.
            number: of the round.
        """
        target = f"{candidate.name}.published"
        self._broker.declare(target, "quorum")
        self._broker.empty(target)
        environment = {
            **self._broker.environment,
            **candidate.environment,
            "OUTPUT_QUEUE": target,
        }
        image = candidate.image._replace(mounts=(*candidate.image.mounts, lines))
        container = self._containers.run(image, environment)
        figures: dict[str, float] = {}
        errors = []
        try:
            figures = self._watch(target, [container], count)
            if code := container.wait(_SEND_SECONDS):
                errors.append(f"ended with exit code {code}\n{container.log()}")
        except StalledError as stalled:
            errors.append(f"{stalled}\n{container.log()}")
        finally:
            container.remove()
        tally = Tally(count, upper=False)
        errors += self._broker.verify(target, tally)
        figures["duplicates"] = tally.duplicates
        return Run(name, candidate.name, number, figures, tuple(errors))

    def _prepare(self, candidate: Candidate, work: Work, environment: dict[str, str]) -> Template:
        """Make the queues; return the message that is to be replicated."""
        source, target = environment["INPUT_QUEUE"], environment["OUTPUT_QUEUE"]
        key = (candidate.name, work.size, work.queue_type)
        if candidate.sends is None:
            for queue in (source, target):
                self._broker.declare(queue, work.queue_type)
            self._templates[key] = plain(work.size)
        elif key not in self._templates:
            self._templates[key] = self._sent(candidate, work, environment)
        self._broker.empty(source, target)
        return self._templates[key]

    def _sent(self, candidate: Candidate, work: Work, environment: dict[str, str]) -> Template:
        """Have a framework send one message, which makes its queues too, and take that."""
        assert candidate.sends is not None
        self._broker.empty(environment["INPUT_QUEUE"])
        sender = self._containers.run(candidate.sends, {**environment, "SIZE": str(work.size)})
        code = sender.wait(_SEND_SECONDS)
        log = sender.log()
        sender.remove()
        if code:
            raise StalledError(f"{candidate.name} cannot send a message:\n{log}")
        return Template(*self._broker.take(environment["INPUT_QUEUE"]), work.size)

    def _watch(self, target: str, started: Sequence[Container], count: int) -> dict[str, float]:
        """Sample the output until all messages are there; return the figures."""
        begin: _Look | None = None
        last, moved_at = 0, time.monotonic()
        while True:
            depth, now = self._broker.depth(target), time.monotonic()
            if begin is None and depth >= _WARM_SHARE * count:
                begin = self._look(target, started)
            if depth >= count and begin:
                return _figures(begin, self._look(target, started), now)
            if depth != last:
                last, moved_at = depth, now
            if now - moved_at > _SILENCE_SECONDS:
                self._check(started, now - moved_at, f"{depth} of {count} messages")
            time.sleep(_SAMPLE_SECONDS)

    def _check(self, started: Sequence[Container], silent_seconds: float, done: str) -> None:
        """Raise when there is no hope for more output."""
        if not all(container.is_running for container in started):
            raise StalledError(f"ended after {done}")
        if silent_seconds > _STALL_SECONDS:
            raise StalledError(f"stalled after {done}")

    def _look(self, target: str, started: Sequence[Container]) -> _Look:
        cpu = sum(container.cpu_seconds for container in started)
        broker_cpu = self._broker.container.cpu_seconds
        return _Look(time.monotonic(), self._broker.depth(target), cpu, broker_cpu)

    def _end(self, candidate: Candidate, source: str, started: Sequence[Container]) -> list[str]:
        """Stop the candidate once it has sent its last ack; say what is wrong."""
        errors = []
        for container in started:
            container.wait_idle()
        for container in started:
            code = container.stop()
            if candidate.is_ours and code:
                errors.append(f"ended with exit code {code}\n{container.log()}")
        if left := self._broker.left(source):
            errors.append(f"{left} inputs were not acked")
        return errors


def _figures(begin: _Look, end: _Look, ended_at: float) -> dict[str, float]:
    """Return what happened between two looks.

    The last messages had come before the second look was taken: `ended_at`.
    """
    messages = max(1, end.done - begin.done)
    seconds = max(ended_at - begin.at, 1e-3)
    return {
        "messages_per_second": messages / seconds,
        "cpu_microseconds": (end.cpu_seconds - begin.cpu_seconds) / messages * 1e6,
        "broker_cpu_microseconds": (end.broker_cpu_seconds - begin.broker_cpu_seconds)
        / messages
        * 1e6,
        "seconds": seconds,
        "messages": messages,
    }
