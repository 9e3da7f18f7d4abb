"""Steps 1 to 4: one queue, a producer, and consumers that ack or do not."""

import signal

import pytest

from tests.broker import Broker
from tests.process import START_SECONDS, Process
from tests.tutorial.conftest import Run
from tests.waiting import wait_until


def wait_lines(process: Process, expected: list[str]) -> None:
    """Wait until a program has printed as many lines as expected; they are what is expected."""
    wait_until(
        lambda: len(process.lines) >= len(expected) or not process.is_running,
        START_SECONDS,
        lambda: f"{process} prints {expected}, so far {process.lines}\n{process.log}",
    )
    assert process.lines == expected


def interrupt(process: Process) -> int:
    """Press Ctrl-C; return the exit code."""
    process.send(signal.SIGINT)
    return process.wait()


def test_messages_wait_until_there_is_a_consumer(run: Run, broker: Broker, vhost: str) -> None:
    """The producer ends by itself; what it has published before any consumer exists stays."""
    producer = run("producer")
    assert producer.wait() == 0
    assert producer.lines == []
    assert broker.depth("my_queue", vhost) == 2

    wait_lines(run("consumer1"), ["hello (new)", "world (new)"])


def test_unacked_messages_come_back(run: Run, broker: Broker, vhost: str) -> None:
    """The next consumer gets them, marked as redelivered."""
    run("producer").wait()
    first = run("consumer1")
    wait_lines(first, ["hello (new)", "world (new)"])
    assert broker.depth("my_queue", vhost) == 0
    assert interrupt(first) == 0
    assert broker.depth("my_queue", vhost) == 2

    second = run("consumer2")
    wait_lines(second, ["hello (redelivered)", "world (redelivered)"])
    assert interrupt(second) == 0
    assert broker.depth("my_queue", vhost) == 0


@pytest.mark.thorough
def test_unacked_messages_come_back_after_a_crash(run: Run) -> None:
    """The broker gives them to the next consumer although nobody gave them back."""
    run("producer").wait()
    first = run("consumer1")
    wait_lines(first, ["hello (new)", "world (new)"])
    first.kill()

    wait_lines(run("consumer2"), ["hello (redelivered)", "world (redelivered)"])


def test_acked_messages_do_not_come_back(run: Run) -> None:
    """The next consumer gets only what is published after them."""
    run("producer").wait()
    first = run("consumer2")
    wait_lines(first, ["hello (new)", "world (new)"])
    assert interrupt(first) == 0

    run("producer").wait()
    second = run("consumer2")
    wait_lines(second, ["hello (new)", "world (new)"])
    assert interrupt(second) == 0
    assert second.lines == ["hello (new)", "world (new)"]


def test_the_callback_stops_on_halt(run: Run, broker: Broker, vhost: str) -> None:
    """`start` returns, the program ends, and the pill is acked too."""
    consumer = run("consumer3")
    broker.put("my_queue", ["hello", "world", "HALT"], vhost)

    assert consumer.wait() == 0
    assert consumer.lines == ["hello", "world", "bye"]
    assert consumer.log == ""
    assert broker.depth("my_queue", vhost) == 0


def test_what_comes_behind_halt_is_left_to_the_next(run: Run, broker: Broker, vhost: str) -> None:
    """A pill stops the consumer that gets it, and takes nothing with it."""
    broker.put("my_queue", ["hello", "HALT", "one", "two", "HALT"], vhost)
    first = run("consumer3")
    assert first.wait() == 0
    assert first.lines == ["hello", "bye"]
    assert broker.depth("my_queue", vhost) == 3

    second = run("consumer3")
    assert second.wait() == 0
    # What was on its way to the first one when it stopped, RabbitMQ puts before the rest.
    left = [message.text for message in broker.take_all("my_queue", vhost)]
    assert sorted([*second.lines, *left]) == ["bye", "one", "two"]
    assert second.lines[-1] == "bye"
