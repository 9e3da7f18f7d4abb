"""Several stages in one process, and several handlers in one stage."""

import threading
from time import monotonic, sleep

from rabbit import Consumer, Worker
from tests.broker import Broker
from tests.conftest import Unique
from tests.integration.background import InBackground, Running
from tests.waiting import wait_until


class ToUpper(Worker):
    """The tutorial's worker."""

    def work(self, message: str) -> None:
        """Write in upper case."""
        self.write(message.upper())


class Collector(Consumer):
    """Collects what it handles, and the replica's name."""

    seen: list[tuple[str, str]]

    def work(self, message: str) -> None:
        """Keep it."""
        self.seen.append((self.name, message))


def test_several_stages_run_in_one_process(broker: Broker, unique: Unique) -> None:
    """A worker and two sinks, each in its own thread, do their work; stop() ends each."""
    worker = ToUpper(unique("worker"), unique("one"), unique("two"), **broker.settings)
    sinks = [
        Collector(unique(name), unique("two"), **broker.settings) for name in ("left", "right")
    ]
    seen: list[tuple[str, str]] = []
    for sink in sinks:
        sink.seen = seen
    texts = [f"m{number}" for number in range(100)]
    broker.put(unique("one"), texts)

    with Running(worker, *sinks):
        wait_until(lambda: len(seen) == 100, 20, "all messages are handled")

    assert sorted(text for _, text in seen) == sorted(text.upper() for text in texts)
    assert {name for name, _ in seen} <= {unique("left"), unique("right")}
    assert broker.consumers(unique("one")) == broker.consumers(unique("two")) == 0


def test_a_stage_can_be_stopped_before_it_starts(broker: Broker, unique: Unique) -> None:
    """stop() comes first: start() returns at once, and nothing is consumed."""
    sink = Collector(unique("sink"), unique("in"), **broker.settings)
    sink.seen = []
    sink.stop()
    broker.put(unique("in"), ["a"])

    InBackground(sink.start).join(10)

    assert sink.seen == []
    assert broker.depth(unique("in")) == 1


class Meeting(Worker):
    """Handles messages side by side: each waits until three are there."""

    together = threading.Barrier(3, timeout=20)

    def work(self, message: str) -> None:
        """Wait for two others; then write what this thread sees."""
        self.together.wait()
        sleep(0.001)
        self.write(f"{message} {self.message.text} {self.message.id}")


def test_handlers_of_one_stage_work_side_by_side(broker: Broker, unique: Unique) -> None:
    """With CONCURRENCY=3 three messages are handled at a time, each with its own self.message."""
    broker.put(unique("in"), [f"m{number}" for number in range(30)])
    broker.declare(unique("out"))
    stage = Meeting(
        unique("meeting"), unique("in"), unique("out"), concurrency=3, **broker.settings
    )

    with Running(stage):
        outputs = broker.take(unique("out"), 30)

    expected = {f"m{number} m{number} {unique('in')}-{number}" for number in range(30)}
    assert {each.text for each in outputs} == expected


class Gate(Consumer):
    """Blocks on one message, and takes the others."""

    opened: threading.Event
    seen: list[str]

    def work(self, message: str) -> None:
        """Wait at the gate with the text `slow`."""
        if message == "slow":
            self.opened.wait(20)
        self.seen.append(message)


def test_a_slow_handler_does_not_hold_up_the_others(broker: Broker, unique: Unique) -> None:
    """What was handled behind a slow message is acked: a halt gives back none of it."""
    stage = Gate(unique("gate"), unique("in"), concurrency=2, prefetch=50, **broker.settings)
    stage.opened, stage.seen = threading.Event(), []
    broker.put(unique("in"), ["slow", *map(str, range(100))])
    with Running(stage):
        # More than the prefetch: acks beyond the slow message have made room.
        wait_until(lambda: len(stage.seen) == 100, 20, "the others are handled")
        began = monotonic()
        stage.opened.set()

    assert monotonic() - began < 10
    assert broker.depth(unique("in")) == 0
    assert stage.seen[-1] == "slow"
