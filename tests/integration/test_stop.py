"""What is promised of an end: to requeue is no failure; the exit code says how it was."""

import asyncio
import signal
import socket
from time import monotonic
from typing import Any, ClassVar

import pytest

from rabbit import Consumer, RabbitError, Worker
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import Running
from tests.integration.proxy import Proxy
from tests.ports import free_port
from tests.variations import variations
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
RECORDER = ("-m", "tests.integration.stages.recorder")


class Slow(Consumer):
    """Handles each message slowly enough to be stopped while it holds many."""

    handled = 0

    def work(self, message: str) -> None:
        """Block for a moment."""
        assert message
        self.handled += 1
        signal.sigtimedwait([signal.SIGUSR1], 0.02)


@pytest.mark.thorough
def test_messages_returned_unstarted_use_up_no_delivery_limit(
    broker: Broker, unique: Unique
) -> None:
    """22 replicas in turn hold 300 messages and halt: none is dead, none counts as failed.

    The delivery limit of a quorum queue is 20: if a return counted, most would be dead letters.
    """
    queue = unique("in")
    broker.put(queue, [str(number) for number in range(300)])
    handled = 0
    for _ in range(22):
        stage = Slow(unique("replica"), queue, prefetch=300, **broker.settings)
        with Running(stage):
            wait_until(lambda: stage.handled, 20, "it handles a message")  # noqa: B023
        handled += stage.handled

    left = broker.take(queue, 300 - handled)

    assert broker.depth(f"{queue}.dead") == 0
    counts = {message.headers.get("x-delivery-count", 0) for message in left}
    assert counts == {0}


@pytest.mark.parametrize("number", variations([signal.SIGTERM, signal.SIGINT]))
def test_a_signal_ends_a_stage_in_order(
    broker: Broker, unique: Unique, start: Start, number: signal.Signals
) -> None:
    """What runs is finished and acked, the rest is given back uncounted; exit code 0."""
    broker.put(unique("in"), [str(number) for number in range(100)])
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), PREFETCH=100, DELAY=0.3)
    wait_until(lambda: sink.lines, 10, "it handles a message")

    sink.send(number)

    assert sink.wait() == 0
    left = broker.take_all(unique("in"))
    handled = [each["text"] for each in sink.objects]
    assert [*handled, *(each.text for each in left)] == [str(number) for number in range(100)]
    assert {each.headers.get("x-delivery-count", 0) for each in left} == {0}
    assert "Traceback" not in sink.log


def test_drain_timeout_ends_a_stage_whose_handler_does_not_return(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Exit code 1 soon after DRAIN_TIMEOUT, one line that says so, and the message is queued."""
    broker.put(unique("in"), ["a"])
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), DELAY=60, DRAIN_TIMEOUT=1)
    wait_until(lambda: sink.lines, 10, "it handles the message")

    began = monotonic()
    sink.terminate()

    assert sink.wait() == 1
    assert monotonic() - began < 6
    assert sink.log.count("gave up after DRAIN_TIMEOUT=1 s") == 1
    assert "Traceback" not in sink.log
    wait_until(lambda: broker.depth(unique("in")) == 1, 10, "the message is queued")


def test_a_second_signal_ends_a_stage_at_once(broker: Broker, unique: Unique, start: Start) -> None:
    """SIGTERM twice: exit code 1 without waiting for the handler, and the message is queued."""
    broker.put(unique("in"), ["a"])
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), DELAY=60, DRAIN_TIMEOUT=60)
    wait_until(lambda: sink.lines, 10, "it handles the message")
    sink.terminate()
    sink.wait_log("halting")

    began = monotonic()
    sink.terminate()

    assert sink.wait() == 1
    assert monotonic() - began < 2
    wait_until(lambda: broker.depth(unique("in")) == 1, 10, "the message is queued")


def test_a_stage_that_cannot_reach_the_broker_obeys_sigterm(unique: Unique, start: Start) -> None:
    """Where nothing listens: exit code 0, at once."""
    sink = start(*RECORDER, ready=False, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=free_port())
    sink.wait_log("broker unavailable")

    began = monotonic()

    assert sink.halt() == 0
    assert monotonic() - began < 5


def test_a_signal_that_comes_as_soon_as_it_is_handled_ends_a_stage(
    unique: Unique, start: Start
) -> None:
    """Exit code 0: the loop, which does not run yet, hears of it."""
    program = f"""
import os, runpy, signal
install = signal.signal
def install_and_send(number, handler):
    before = install(number, handler)
    if number == signal.SIGTERM and before is signal.SIG_DFL:
        os.kill(os.getpid(), signal.SIGTERM)
    return before
signal.signal = install_and_send
runpy.run_module({RECORDER[1]!r}, run_name="__main__")
"""
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"))

    assert sink.wait() == 0, sink.log


def test_a_stage_whose_name_server_does_not_answer_obeys_sigterm(
    unique: Unique, start: Start
) -> None:
    """Nobody waits for the lookup: exit code 0, at once."""
    program = f"""
import socket, sys, time
def hang(*_arguments, **_options):
    print("looking up", file=sys.stderr, flush=True)
    time.sleep(3600)
socket.getaddrinfo = hang
import runpy
runpy.run_module({RECORDER[1]!r}, run_name="__main__")
"""
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"))
    sink.wait_log("looking up")

    began = monotonic()

    assert sink.halt() == 0, sink.log
    assert monotonic() - began < 5


def test_a_stage_that_gets_no_answer_obeys_sigterm(unique: Unique, start: Start) -> None:
    """Where somebody listens but says nothing: exit code 0, at once."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        sink = start(*RECORDER, ready=False, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=port)
        connection, _ = mute.accept()
        with connection:
            began = monotonic()

            assert sink.halt() == 0, sink.log
            assert monotonic() - began < 5


def test_a_stage_that_has_lost_the_broker_obeys_sigterm(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A broker that goes away while messages are in flight does not hold up the end."""
    broker.put(unique("in"), ["a", "b", "c"])
    with Proxy(broker.port) as proxy:
        edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
        worker = start(*RELAY, ready=False, DELAY=1, RABBITMQ_PORT=proxy.port, **edges)
        wait_until(lambda: broker.depth(unique("out")) == 1, 20, "one message is through")
    worker.wait_log("broker unavailable")

    began = monotonic()

    assert worker.halt() == 0, worker.log
    assert monotonic() - began < 5
    wait_until(lambda: broker.depth(unique("in")) >= 1, 20, "what was in flight is queued")
    texts = {
        each.text for each in (*broker.take_all(unique("in")), *broker.take_all(unique("out")))
    }
    assert texts == {"a", "b", "c"}


@pytest.mark.thorough
def test_a_stage_that_ends_while_it_waits_to_connect_leaves_no_control_queue(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The broker is back, the stage pauses before it tries again: a halt would call it cut off."""
    replica = unique("replica")
    with Proxy(broker.port) as proxy:
        sink = start(*RECORDER, REPLICA=replica, INPUT_QUEUE=unique("in"), RABBITMQ_PORT=proxy.port)
        proxy.is_away = True
        proxy.cut()
        wait_until(lambda: proxy.turned_away >= 10, 60, "it makes long pauses")
        proxy.is_away = False

        assert sink.halt() == 0, sink.log

    assert f"control.recorder.{replica}" not in broker.queues()


@pytest.mark.thorough
def test_a_stage_blocked_by_a_memory_alarm_obeys_sigterm(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Exit code 0 within DRAIN_TIMEOUT, and nothing is lost."""
    texts = [str(number) for number in range(1000)]  # more than it handles until the alarm comes
    broker.put(unique("in"), texts)
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    worker = start(*RELAY, DELAY=0.05, DRAIN_TIMEOUT=15, **edges)
    wait_until(lambda: broker.depth(unique("out")) > 3, 20, "the worker is in mid-stream")
    with broker.memory_alarm():
        worker.wait_log("blocked")
        began = monotonic()

        assert worker.halt() == 0, worker.log
        assert monotonic() - began < 15

    left = [*broker.take_all(unique("in")), *broker.take_all(unique("out"))]
    assert set(texts) == {message.text for message in left}


def test_start_and_stop_have_one_meaning(broker: Broker, unique: Unique) -> None:
    """One start at a time, again after its end; after a stop that ended nothing, it returns."""
    queue = unique("in")
    broker.put(queue, ["a"])
    stage = Slow(unique("replica"), queue, **broker.settings)
    stage.stop()
    stage.start()
    assert not stage.handled
    with Running(stage):
        wait_until(lambda: stage.handled == 1, 20, "it handles a message")
        with pytest.raises(RabbitError, match=r"is running already: stop\(\) ends it"):
            stage.start()
    broker.put(queue, ["b"])
    with Running(stage):
        wait_until(lambda: stage.handled == 2, 20, "it does so again")


class Returning(Worker):
    """Forgets to write, on purpose."""

    _output: ClassVar[list[str]] = []
    _handler = _stopped = _log = _engine = None

    def work(self, message: str) -> Any:
        """Return what the message says."""
        if message == "coroutine":
            return asyncio.sleep(0)
        return message if message == "text" else None


def test_what_work_returns_is_no_ack(broker: Broker, unique: Unique) -> None:
    """It is a dead letter that says so, as in the harness; what returns nothing is acked."""
    queue = unique("in")
    broker.put(queue, ["none", "text", "coroutine"])
    given: dict[str, Any] = {"retry_delays": (), **broker.settings}
    stage = Returning(unique("replica"), queue, unique("out"), **given)
    with Running(stage):
        wait_until(lambda: broker.depth(f"{queue}.dead") == 2, 20, "two are dead letters")

    dead = {each.text: each.headers for each in broker.take(f"{queue}.dead", 2)}
    assert set(dead) == {"text", "coroutine"}
    assert {each["x-error-type"] for each in dead.values()} == {"TypeError"}
    assert "a coroutine, which nobody runs" in dead["coroutine"]["x-error-message"]
    assert "self.write(text)" in dead["text"]["x-error-message"]
