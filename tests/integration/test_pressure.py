"""The broker takes nothing more for a while: nothing is acked, nothing is lost, then it goes on."""

from itertools import pairwise
from typing import Any

import pytest

from rabbit.topology import Edge, QueueType
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.variations import variations
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
RECORDER = ("-m", "tests.integration.stages.recorder")
TEXTS = [str(number) for number in range(100)]


def test_a_full_output_queue_stops_a_worker_until_there_is_room(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """What the queue refuses is tried again until it is taken; then the input is acked."""
    full = broker.fill(broker.declare(unique("out")))
    broker.put(unique("in"), TEXTS)
    worker = start(*RELAY, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))
    worker.wait_log("output refused")

    broker.clear_policy(unique("out"))

    wait_until(lambda: broker.depth(unique("out")) == full + len(TEXTS), 30, "all is queued")
    worker.wait_log("output accepted again")
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0
    outputs = [each.text for each in broker.take_all(unique("out"))[full:]]
    assert sorted(outputs) == sorted(TEXTS)
    assert worker.log.count("output refused") == 1


def test_what_a_full_queue_refuses_is_not_acked(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """SIGKILL while the output is full: each message is still in the input queue."""
    full = broker.fill(broker.declare(unique("out")))
    broker.put(unique("in"), TEXTS)
    worker = start(*RELAY, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))
    worker.wait_log("output refused")

    worker.kill()

    wait_until(lambda: broker.depth(unique("in")) == len(TEXTS), 20, "all is back")
    assert full == broker.depth(unique("out"))


def test_a_halt_while_the_output_queue_is_full_gives_back_what_is_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Exit code 0, and each message is in its queue again, not counted as failed."""
    broker.fill(broker.declare(unique("out")))
    broker.put(unique("in"), TEXTS)
    worker = start(*RELAY, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))
    worker.wait_log("output refused")

    assert worker.halt() == 0, worker.log

    left = broker.take_all(unique("in"))
    assert sorted(each.text for each in left) == sorted(TEXTS)
    assert {each.headers.get("x-delivery-count", 0) for each in left} == {0}


def test_an_unroutable_output_stops_a_worker_until_the_binding_is_back(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A confirm alone does not count: a returned message is published again until it is queued."""
    queue = broker.declare(unique("out"))
    worker = start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=queue)
    broker.unbind(queue, queue, queue)
    broker.put(unique("in"), TEXTS)
    worker.wait_log("has no queue for this message")
    assert broker.depth(queue) == 0

    broker.bind(queue, queue, queue)

    wait_until(lambda: broker.depth(queue) == len(TEXTS), 30, "every output is queued")
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0
    assert {each.text for each in broker.take_all(queue)} == set(TEXTS)


@pytest.mark.parametrize("queue_type", variations(["quorum", "classic"]))
def test_an_unroutable_output_is_told_from_one_of_the_same_id(
    broker: Broker, unique: Unique, start: Start, queue_type: QueueType
) -> None:
    """The broker acks both; what it has returned comes when its key is bound, and none is lost."""
    broker.declare_edge(Edge(unique("out"), "direct", ("a",), "one", type=queue_type))
    broker.put(unique("in"), ["a b" for _ in TEXTS])
    with broker.memory_alarm():  # all leaves at once when it is over: then one ack is about many
        worker = start(
            *RELAY,
            KEYED=1,
            SAME_ID=1,
            OUTPUT_KIND="direct",
            PREFETCH=len(TEXTS),
            INPUT_QUEUE=unique("in"),
            OUTPUT_QUEUE=unique("out"),
        )
        wait_until(lambda: broker.depth(unique("in")) == 0, 20, "all is delivered")
    worker.wait_log("has no queue for this message")
    wait_until(lambda: broker.depth(unique("out") + ".one") == len(TEXTS), 30, "a is queued")

    broker.declare_edge(Edge(unique("out"), "direct", ("b",), "two"))
    wait_until(lambda: broker.depth(unique("out") + ".two") == len(TEXTS), 30, "b is queued")

    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0
    ids = [f"{unique('in')}-{text}" for text in TEXTS]
    for name in ("one", "two"):
        taken = broker.take_all(f"{unique('out')}.{name}")
        assert sorted(str(each.id) for each in taken) == sorted(ids)


def test_what_was_refused_keeps_its_place(broker: Broker, unique: Unique, start: Start) -> None:
    """One replica keeps the order also across a time in which its outputs were returned.

    But for what is just being published when the binding comes back: the broker may return the
    first half of that, and then take the other. So there may be one place where numbers go down.
    """
    queue = broker.declare(unique("out"))
    worker = start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=queue, PREFETCH=200)
    broker.unbind(queue, queue, queue)
    broker.put(unique("in"), TEXTS)
    worker.wait_log("output refused")

    broker.bind(queue, queue, queue)

    taken = [each.text for each in broker.take(queue, len(TEXTS))]
    assert sorted(taken, key=int) == TEXTS
    assert sum(int(after) < int(before) for before, after in pairwise(taken)) <= 1


def test_a_memory_alarm_stops_publishing_but_not_acks(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A sink goes on and acks, a worker waits and says so; it goes on when the alarm is over."""
    broker.put(unique("for sink"), TEXTS)
    broker.put(unique("in"), TEXTS)
    with broker.memory_alarm():
        worker = start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))
        worker.wait_log("blocked")
        before = broker.depth(unique("out"))
        assert worker.is_ready

        sink = start(*RECORDER, INPUT_QUEUE=unique("for sink"))
        wait_until(lambda: len(sink.lines) == len(TEXTS), 20, "the sink has handled all")
        assert sink.halt() == 0
        assert broker.depth(unique("for sink")) == 0
        assert before == broker.depth(unique("out")) < len(TEXTS)

    wait_until(lambda: broker.depth(unique("out")) == len(TEXTS), 30, "the worker goes on")
    assert worker.halt() == 0
    assert {each.text for each in broker.take_all(unique("out"))} == set(TEXTS)
    assert broker.depth(unique("in")) == 0


@pytest.mark.thorough
def test_a_halt_is_proved_during_a_memory_alarm(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """An alarm blocks connections that publish; the command and its proof get through."""
    # More than it handles until the alarm comes, which takes rabbitmqctl a second or more.
    broker.put(unique("in"), TEXTS * 10, vhost)
    queues: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    worker = start(*RELAY, RABBITMQ_VHOST=vhost, DELAY=0.05, **queues)
    wait_until(lambda: broker.depth(unique("out"), vhost) > 3, 20, "the worker is in mid-stream")
    with broker.memory_alarm():
        worker.wait_log("blocked")

        halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)

        assert worker.wait() == 0
        assert halt.wait() == 0, halt.out + halt.log
        assert halt.out.startswith("halted 1/1")
