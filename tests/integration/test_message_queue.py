"""The tutorial's class: publish, publish_many, register, ack, start, stop."""

import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from rabbit import (
    BrokerUnavailableError,
    MessageQueue,
    RefusedError,
    TopologyError,
    UnroutableError,
)
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import InBackground, Running
from tests.integration.proxy import Proxy
from tests.integration.test_kinds import collecting, wait_consuming
from tests.ports import free_port
from tests.waiting import wait_until


@pytest.fixture
def queue(broker: Broker, unique: Unique) -> MessageQueue:
    """Give a queue of this test's own."""
    return MessageQueue(unique("queue"), **broker.settings)


def test_publish_returns_when_the_message_is_queued(broker: Broker, queue: MessageQueue) -> None:
    """Right after it the broker's own count shows the message, persistent, with an id."""
    with queue:
        queue.publish("häßlich\n")
        assert broker.depth(queue.name) == 1

    [message] = broker.take_all(queue.name)
    assert message.text == "häßlich\n"
    assert message.persistent
    assert message.id == message.correlation_id is not None


def test_publish_many_keeps_the_order(broker: Broker, queue: MessageQueue) -> None:
    """5,000 messages are all confirmed, in order."""
    texts = [str(number) for number in range(5000)]
    with queue:
        assert queue.publish_many(texts) == 5000

    assert [message.text for message in broker.take_all(queue.name)] == texts


def test_publish_many_holds_nothing_back(broker: Broker, queue: MessageQueue) -> None:
    """What has come is published, while the next text is long in coming: standard input, say."""

    def slow() -> Iterator[str]:
        yield from ("a", "b", "c")
        wait_until(lambda: broker.depth(queue.name) == 3, 20, "they are queued")
        yield "d"

    with queue:
        queue.publish_many(slow(), timeout=20)

    assert [message.text for message in broker.take_all(queue.name)] == ["a", "b", "c", "d"]


def test_publish_many_reads_only_as_fast_as_the_broker_confirms(
    broker: Broker, queue: MessageQueue
) -> None:
    """While an alarm blocks publishers, an endless iterable is not read into memory."""
    read = 0

    def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield str(read)

    with queue:
        queue.publish("first")
        with broker.memory_alarm():
            with pytest.raises(BrokerUnavailableError, match="not confirmed"):
                queue.publish_many(endless(), timeout=1.0)
            assert read <= 1200


@pytest.mark.thorough
def test_what_waits_for_the_end_of_an_alarm_says_so(
    broker: Broker, unique: Unique, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the log, once, and in the error of what gives up; when it is over, too."""
    queue = MessageQueue(unique("queue"), **broker.settings)
    said = ""

    def is_said(text: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return text in said

    with queue:
        queue.publish("a")
        with broker.memory_alarm():
            waiting = InBackground(lambda: queue.publish("b"))
            wait_until(lambda: is_said("broker takes no messages"), 20, "it is told")
            with pytest.raises(BrokerUnavailableError, match="memory or disk alarm"):
                queue.publish("c", timeout=0.5)
        waiting.join()
        wait_until(lambda: is_said("broker takes messages again"), 20, "that is told, too")

    assert said.count("broker takes no messages") == 1


def test_publish_raises_when_no_queue_takes_the_message(
    broker: Broker, queue: MessageQueue
) -> None:
    """Without the binding: UnroutableError. With it again: the same object publishes."""
    with queue:
        queue.publish("a")
        broker.unbind(queue.name, queue.name, queue.name)
        with pytest.raises(UnroutableError, match=queue.name):
            queue.publish("b")
        broker.bind(queue.name, queue.name, queue.name)
        queue.publish("c")

    assert [message.text for message in broker.take_all(queue.name)] == ["a", "c"]


def test_publish_raises_when_the_queue_is_full(broker: Broker, queue: MessageQueue) -> None:
    """A queue at its maximum refuses: RefusedError."""
    with queue:
        queue.publish("a")
        depth = broker.fill(queue.name)
        with pytest.raises(RefusedError, match=queue.name):
            queue.publish("b")

    assert depth == broker.depth(queue.name)


def test_publish_gives_up_when_the_broker_is_away(unique: Unique) -> None:
    """With a timeout, an unreachable broker ends in BrokerUnavailableError that says why."""
    with (
        MessageQueue(unique("queue"), rabbitmq_port=free_port()) as queue,
        pytest.raises(BrokerUnavailableError, match="nothing listens at"),
    ):
        queue.publish("a", timeout=0.5)


def test_what_was_given_up_is_not_published_later(broker: Broker, unique: Unique) -> None:
    """Whoever was told that it failed publishes it again, or not; nothing piles up meanwhile."""
    port = free_port()
    settings = {**broker.settings, "rabbitmq_port": port}
    with MessageQueue(unique("q"), **settings) as queue:
        for number in range(3):
            with pytest.raises(BrokerUnavailableError):
                queue.publish(f"given up {number}", timeout=0.2)
        with Proxy(broker.port, port):
            queue.publish("after")

    assert [message.text for message in broker.take_all(unique("q"))] == ["after"]


def test_what_was_given_up_on_its_way_may_be_published_later(
    broker: Broker, unique: Unique
) -> None:
    """Whether it has arrived is unknown: with the next connection it is published, same id."""
    with Proxy(broker.port) as proxy:
        settings = {**broker.settings, "rabbitmq_port": proxy.port, "rabbitmq_heartbeat": 600}
        with MessageQueue(unique("queue"), **settings) as queue:
            queue.publish("a", timeout=20)
            proxy.freeze()
            with pytest.raises(BrokerUnavailableError, match="1 messages not confirmed"):
                queue.publish("b", timeout=0.5, message_id="own")
            proxy.cut()
            proxy.thaw()
            wait_until(lambda: broker.depth(queue.name) == 2, 20, "it arrives after all")

    assert [message.text for message in broker.take_all(unique("queue"))] == ["a", "b"]


def test_publish_raises_when_the_queue_has_other_arguments(
    broker: Broker, queue: MessageQueue
) -> None:
    """A queue of that name that is declared otherwise: TopologyError, at once."""
    with broker.channel() as channel:
        channel.queue_declare(queue.name, durable=True, arguments={"x-queue-type": "classic"})

    with queue, pytest.raises(TopologyError, match="exists with another"):
        queue.publish("a")


@pytest.mark.thorough
def test_publish_many_survives_lost_connections(broker: Broker, unique: Unique) -> None:
    """Connections cut in mid-stream: it returns with all confirmed, none missing."""
    texts = [str(number) for number in range(5000)]
    with Proxy(broker.port) as proxy:
        settings = {**broker.settings, "rabbitmq_port": proxy.port}

        def cutting_connections() -> Iterator[str]:
            for text in texts:
                if text in {"1500", "3000"}:
                    proxy.cut()
                yield text

        with MessageQueue(unique("queue"), **settings) as queue:
            assert queue.publish_many(cutting_connections(), timeout=30) == 5000
        assert proxy.accepted == 3

    messages = broker.take_all(queue.name)
    assert {message.text for message in messages} == set(texts)
    assert len({message.id for message in messages}) == len(texts)


def test_messages_that_were_not_acked_come_back(broker: Broker, queue: MessageQueue) -> None:
    """What the callback did not ack, the next consumer gets; what it acked, nobody."""
    seen: list[str] = []

    def ack_only_b(_channel: Any, method: Any, _properties: Any, text: str) -> None:
        seen.append(text)
        if text == "b":
            queue.ack(method)

    queue.register(ack_only_b)
    with queue:
        queue.publish_many(["a", "b", "c"])
        with Running(queue):
            wait_until(lambda: len(seen) == 3, 20, "three messages are seen")

    assert sorted(message.text for message in broker.take_all(queue.name)) == ["a", "c"]
    assert seen == ["a", "b", "c"]


def test_a_queue_can_be_started_again(broker: Broker, queue: MessageQueue) -> None:
    """After `stop`, `start` consumes again what was left."""
    texts = collecting(queue)
    with queue:
        for text in ("a", "b"):
            with Running(queue):
                wait_consuming(queue)
                queue.publish(text)
                wait_until(lambda: text in texts, 20, "the message arrives")  # noqa: B023

    assert texts == ["a", "b"]
    assert broker.depth(queue.name) == 0


def test_consuming_survives_a_lost_connection(broker: Broker, unique: Unique) -> None:
    """Connections cut: the callback goes on being called."""
    with Proxy(broker.port) as proxy:
        settings = {**broker.settings, "rabbitmq_port": proxy.port}
        queue = MessageQueue(unique("queue"), **settings)
        texts = collecting(queue)
        with queue, Running(queue):
            wait_consuming(queue)
            assert proxy.cut() == 1
            broker.put(queue.name, ["a"])
            wait_until(lambda: texts, 20, "the message arrives")


def test_a_callback_that_raises_ends_start(broker: Broker, queue: MessageQueue) -> None:
    """The error comes out of `start`, and the message goes back to its queue."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    queue.register(fail)
    with queue:
        queue.publish("a")
        with pytest.raises(ZeroDivisionError):
            queue.start()

    wait_until(lambda: broker.depth(queue.name) == 1, 20, "the message is back")


def test_two_lines_are_enough(broker: Broker, unique: Unique, start: Start) -> None:
    """A program that neither closes nor stops anything publishes and ends cleanly."""
    program = f"from rabbit import MessageQueue\nMessageQueue({unique('queue')!r}).publish('hello')"
    process = start("-c", program, ready=False)

    assert process.wait() == 0
    assert process.log == ""
    assert [message.text for message in broker.take_all(unique("queue"))] == ["hello"]


CONSUME = """
import signal, sys
from rabbit import MessageQueue

queue = MessageQueue(sys.argv[1])

def callback(channel, method, properties, message):
    print(message, flush=True)
    queue.ack(method)
    if message == "HALT":
        queue.stop()

signal.signal(signal.SIGTERM, lambda *_: queue.stop())
queue.register(callback)
queue.start()
print("ended", flush=True)
"""


def test_a_callback_that_stops_ends_start_cleanly(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The tutorial's HALT: what comes behind it stays queued, the process ends with 0."""
    broker.put(unique("queue"), ["a", "HALT", "b"])

    process = start("-c", CONSUME, unique("queue"), ready=False)

    assert process.wait() == 0
    assert process.lines == ["a", "HALT", "ended"]
    assert process.log == ""
    assert [message.text for message in broker.take_all(unique("queue"))] == ["b"]


def test_stop_may_be_called_in_a_signal_handler(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """SIGTERM while `start` waits for messages ends it at once, cleanly."""
    process = start("-c", CONSUME, unique("queue"), ready=False)
    broker.put(unique("queue"), ["a"])
    wait_until(lambda: process.lines == ["a"], 20, "the message is consumed")

    process.send(signal.SIGTERM)

    assert process.wait(10) == 0
    assert process.lines == ["a", "ended"]
    assert process.log == ""


def test_a_broker_that_appears_later_gets_the_messages(broker: Broker, unique: Unique) -> None:
    """`publish` without a timeout waits for the broker."""
    with Proxy(broker.port) as proxy:
        port = proxy.port
    settings = {**broker.settings, "rabbitmq_port": port}
    with MessageQueue(unique("queue"), **settings) as queue:
        publishing = InBackground(lambda: queue.publish("a"))
        with Proxy(broker.port, port):
            publishing.join()

    assert broker.depth(unique("queue")) == 1


def test_publishing_from_several_threads(broker: Broker, queue: MessageQueue) -> None:
    """One object serves several threads at a time; each gets its own confirms."""
    with queue:
        threads = [
            InBackground(lambda: queue.publish_many(islice(iter(lambda: "x", None), 500)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.join()

    assert broker.depth(queue.name) == 2000
