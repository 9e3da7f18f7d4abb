"""Lets a candidate relay messages: queue, candidate, queue; most workloads rest on this.

The input queue is filled before the candidate starts; watch.py measures. At the end all messages
are read back: each number has to be there, in upper case, and nothing may be left in the input.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rabbit.topology import QueueType
from tests.benchmarks.bodies import Tally, Template, template
from tests.benchmarks.broker import Broker
from tests.benchmarks.candidates import Candidate
from tests.benchmarks.runs import Run
from tests.benchmarks.watch import StalledError, Watch
from tests.support.containers import Container, Containers

_SEND_SECONDS = 60.0


class Work(NamedTuple):
    """What is to be done.

    Attributes:
        size: bytes in a body.
        queue_type: classic or quorum.
        replicas: how many containers share the input queue.
    """

    size: int = 16
    queue_type: QueueType = "quorum"
    replicas: int = 1

    def __str__(self) -> str:
        """Name it."""
        name = f"relay, {_in_words(self.size)}, {self.queue_type}"
        return name if self.replicas == 1 else f"{name}, {self.replicas} replicas"


def _in_words(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


class Relay:
    """Runs candidates, one at a time, through queues of their own."""

    def __init__(self, containers: Containers, broker: Broker) -> None:
        """Run them on these."""
        self._containers = containers
        self._broker = broker
        self._templates: dict[tuple[str, int, str], Template] = {}

    def run(self, candidate: Candidate, work: Work, count: int, round_number: int) -> Run:
        """Let a candidate relay `count` messages; return what was measured."""
        name = candidate.name.replace(", ", "-").replace(" ", "-")
        source, target = (f"{name}.{work.queue_type}.{end}" for end in ("in", "out"))
        environment = {
            **self._broker.environment,
            **candidate.environment,
            "INPUT_QUEUE": source,
            "OUTPUT_QUEUE": target,
            "QUEUE_TYPE": work.queue_type,
        }
        started: list[Container] = []
        figures: dict[str, float] = {}
        errors: list[str] = []
        try:
            one = self._prepare(candidate, work, environment)
            self._broker.fill(source, one, count)
            started += (
                self._containers.run(candidate.image, environment) for _ in range(work.replicas)
            )
            figures = Watch(self._broker, target, started).until(count)
            errors += self._end(candidate, source, started)
        except StalledError as stalled:
            errors.append(f"{stalled}\n{started[0].log() if started else ''}")
        finally:
            for container in started:
                container.remove()
        if started:
            tally = Tally(count)
            errors += self._broker.verify(target, tally)
            figures["duplicates"] = tally.duplicates
        return Run(str(work), candidate.name, round_number, figures, tuple(errors))

    def _prepare(self, candidate: Candidate, work: Work, environment: dict[str, str]) -> Template:
        """Make the queues; return the message that is to be replicated."""
        source, target = environment["INPUT_QUEUE"], environment["OUTPUT_QUEUE"]
        key = (candidate.name, work.size, work.queue_type)
        if candidate.sends is None:
            for queue in (source, target):
                self._broker.declare(queue, work.queue_type)
            self._templates[key] = template(work.size, candidate.carries)
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
