"""What happens to processes: asked to stop, killed, frozen."""

import time
from functools import partial
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.faults.replica import GRACE_SECONDS, Replica
from tests.faults.stream import PREFETCH, Stream
from tests.waiting import wait_until

_SECONDS = 60.0
_PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.quick
def test_sigterm(stream: Stream) -> None:
    """Each stage is stopped by SIGTERM and started again: nothing comes twice."""
    stream.start()

    with stream.fault("SIGTERM to each stage"):
        for replica in stream.replicas:
            replica.restart()


@pytest.mark.thorough
def test_sigkill_of_the_source(stream: Stream) -> None:
    """The source is killed: what it knew to be confirmed arrives."""
    stream.start()

    with stream.fault("SIGKILL of the source", source=1):
        stream.sources[0].crash()


@pytest.mark.parametrize("stage", [pytest.param("worker", marks=pytest.mark.quick), "sink"])
def test_sigkill_in_mid_message(stream: Stream, stage: str) -> None:
    """A stage is killed while it works and holds all it may; Docker starts it again."""
    stream.source(RATE=100)
    stream.worker(TO_UPPER_DELAY=0.005)
    stream.sink(DELAY=0.005)
    stream.start()
    victim, queue, counts = {
        "worker": (stream.workers[0], stream.input, {"worker": 1}),
        "sink": (stream.sinks[0], stream.output, {"sink": 1}),
    }[stage]
    with victim.paused():
        stream.wait_backlog(2 * PREFETCH, queue)

    with stream.fault(f"SIGKILL of the {stage}, in mid-message", **counts):
        victim.crash()


def test_sigkill_while_outputs_are_refused(stream: Stream, broker: Broker) -> None:
    """A worker is killed that holds all it may and has got no confirm: its inputs come again."""
    stream.start()
    (worker,) = stream.workers

    with stream.fault("SIGKILL of the worker while its outputs are refused", worker=1):
        broker.unbind(stream.output, stream.output, stream.output)
        stream.wait_backlog(2 * PREFETCH)
        worker.crash()


def test_second_sigterm(stream: Stream) -> None:
    """A second SIGTERM ends a busy worker at once, with 1; its message comes again."""
    stream.start()
    victim = stream.worker(TO_UPPER_DELAY=GRACE_SECONDS, DRAIN_TIMEOUT=GRACE_SECONDS)
    victim.wait_ready()
    wait_until(lambda: is_working(stream, victim), _SECONDS, "it has got a message")

    with stream.fault("SIGTERM twice", worker=1):
        victim.signal()
        victim.wait_said("halting")
        victim.signal()
        assert victim.wait(GRACE_SECONDS / 2) == 1
        stream.workers.remove(victim)
        victim.remove()


def is_working(stream: Stream, replica: Replica) -> bool:
    """Tell whether a replica has been delivered something, by the broker's count."""
    mine = stream.broker.connections(replica.id[:12])
    channels = stream.broker.api("GET", "channels")
    return any(
        channel.get("messages_unacknowledged")
        for channel in channels
        if channel["connection_details"].get("name") in mine
    )


@pytest.mark.thorough
def test_sigterm_while_blocked(stream: Stream, broker: Broker) -> None:
    """The broker takes no messages: worker and sink halt all the same, with 0."""
    stream.worker(TO_UPPER_DELAY=0.005)
    stream.start()
    worker, sink = stream.workers[0], stream.sinks[0]
    stream.wait_backlog(2 * PREFETCH)  # only who publishes is blocked

    with stream.fault("SIGTERM while blocked by an alarm", worker=1):
        with broker.memory_alarm():
            worker.wait_said("blocked")
            assert [worker.halt(), sink.halt()] == [0, 0]
        worker.start()
        sink.start()
        stream.worker()  # a quick one: what is sent from now on comes behind the backlog


def test_blocked_standard_error(stream: Stream) -> None:
    """Nobody reads what the stages log: they come back after an outage, and halt with 0."""
    stream.mounts += ((_PROGRAMS / "unread", "/unread"),)
    stream.environment |= {"PYTHONPATH": "/unread:/app:/dependencies", "RABBITMQ_HEARTBEAT": "1"}
    stream.start()

    with stream.fault("blocked standard error", source=1, worker=1, sink=1):
        stream.close_connections()
        stream.wait_flowing()
        for replica in stream.replicas:
            replica.restart()
    assert all(not replica.said for replica in stream.replicas)


def test_sigterm_while_disconnected(stream: Stream) -> None:
    """Cut off from the network, worker and sink halt with 0; the broker gives out again."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "2"
    stream.start()
    victims = [stream.workers[0], stream.sinks[0]]

    with stream.fault("SIGTERM while disconnected", worker=1, sink=1):
        for victim in victims:
            with victim.disconnected(stream.containers.network):
                victim.wait_said("broker unavailable")
                assert victim.halt() == 0
        for victim in victims:
            victim.start()


def is_past(moment: float) -> bool:
    """Tell whether a moment of the monotonic clock has come."""
    return time.monotonic() >= moment


def test_sigterm_while_starting(stream: Stream) -> None:
    """SIGTERM at any moment of the start ends it: by the signal, later, when it listens, with 0.

    Docker says that a container runs before its first process does: a signal is lost then.
    """
    stream.start()
    codes: list[int] = []

    with stream.fault("SIGTERM while starting"):
        while 0 not in codes:
            victim = stream.worker()
            wait_until(partial(victim.runs, "python"), 20, "it runs")
            moment = time.monotonic() + len(codes) * 0.1
            wait_until(partial(is_past, moment), 10, "the moment comes")
            codes.append(victim.halt())
            stream.workers.remove(victim)
            victim.remove()
            assert set(codes) <= {0, 143}, codes
            assert len(codes) < 50, codes


def test_frozen(stream: Stream) -> None:
    """A worker is frozen for longer than its heartbeat: it finds out, and consumes again."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "2"
    stream.start()
    (worker,) = stream.workers

    with stream.fault("a worker frozen for longer than the heartbeat", worker=1), worker.paused():
        stream.wait_disconnected(worker)
