"""What RabbitMQ does with a single active consumer: order by key stands on it, and on nothing else.

The library is not asked here: these are the broker's own promises, and their limits.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.broker import PASSWORD, USERNAME, Broker
from tests.conftest import Unique
from tests.waiting import wait_until

PREFETCH = 3
NUMBERS = 12
SINGLE_ACTIVE = {"x-queue-type": "quorum", "x-single-active-consumer": True}
#: Another way to end than by basic.cancel: pika's own ways to close do that first.
ENDS = ["the channel is closed", "the connection is lost"]


class Consumer:
    """One consumer on a connection of its own.

    Attributes:
        got: the numbers that it was given.
        counts: what the broker told of each: how often it was acquired, and delivered in vain.
    """

    def __init__(self, broker: Broker) -> None:
        """Connect."""
        self.got: list[int] = []
        self.counts: list[tuple[int, int]] = []
        login = pika.PlainCredentials(USERNAME, PASSWORD)
        address = pika.ConnectionParameters(broker.host, broker.port, credentials=login)
        self._connection = pika.BlockingConnection(address)
        self.channel: BlockingChannel = self._connection.channel()
        self.tag = ""

    def consume(self, queue: str, priority: int, prefetch: int = PREFETCH) -> None:
        """Return when the consumer is registered.

        Args:
            queue: what.
            priority: x-priority.
            prefetch: how many it may hold.
        """
        self.channel.basic_qos(prefetch_count=prefetch)
        given = {"x-priority": priority}
        self.tag = self.channel.basic_consume(queue, self._take, arguments=given)

    def _take(self, _channel: object, _method: object, properties: Any, body: bytes) -> None:
        headers = properties.headers or {}
        self.got.append(int(body.split()[-1]))
        self.counts.append((headers.get("x-acquired-count", 0), headers.get("x-delivery-count", 0)))

    def read(self) -> None:
        """Read what has come."""
        self._connection.process_data_events(0.0)

    def wait(self, count: int, seconds: float = 20) -> list[int]:
        """Return what it was given, once that is so many."""

        def has_come() -> bool:
            self.read()
            return len(self.got) >= count

        wait_until(has_come, seconds, lambda: f"{count} messages; these have come: {self.got}")
        return self.got

    def end(self, how: str) -> None:
        """End without a basic.cancel."""
        raw: Any = self.channel
        if how == ENDS[0]:
            raw._impl._consumers.clear()  # noqa: SLF001 - pika would cancel these
            raw._impl.close()  # noqa: SLF001
            raw.connection._flush_output()  # noqa: SLF001
        else:
            self.lose()

    def lose(self) -> None:
        """Lose the connection, without a word."""
        raw: Any = self._connection
        raw._impl._transport._sock.close()  # noqa: SLF001


class Partition:
    """A queue with a single active consumer, and who consumes it.

    Attributes:
        queue: its name.
    """

    def __init__(self, broker: Broker, queue: str, stack: ExitStack) -> None:
        """Make the queue."""
        self.queue = queue
        self._writer = stack.enter_context(broker.channel())
        self._writer.confirm_delivery()
        self._writer.queue_declare(queue, durable=True, arguments=SINGLE_ACTIVE)
        self._consumers: list[Consumer] = []
        # Connected beforehand: that takes long on a busy machine, and what is tested must not.
        self._connected = [Consumer(broker) for _ in range(3)]
        for each in self._connected:
            stack.callback(each.lose)

    def write(self, numbers: range) -> None:
        """Put numbered messages in; when it returns, the queue has done all that came before."""
        kept = pika.BasicProperties(delivery_mode=2)  # type: ignore[no-untyped-call]
        for number in numbers:
            self._writer.basic_publish("", self.queue, str(number).encode(), kept)

    def consumer(self, priority: int, prefetch: int = PREFETCH) -> Consumer:
        """Add a consumer."""
        made = self._connected.pop()
        made.consume(self.queue, priority, prefetch)
        self._consumers.append(made)
        return made

    def settle(self) -> None:
        """Return when the queue has done all that was asked, and what it gave out was read."""
        for each in self._consumers:
            each.read()
        self.write(range(999, 1000))
        for each in self._consumers:
            if each.channel.is_open:
                each.channel.queue_declare(self.queue, passive=True)
            each.read()


@pytest.fixture
def partition(broker: Broker, unique: Unique) -> Iterator[Partition]:
    """A queue with a dozen numbered messages."""
    with ExitStack() as stack:
        made = Partition(broker, unique("partition"), stack)
        made.write(range(NUMBERS))
        yield made


def test_one_of_higher_priority_waits_until_all_is_settled(partition: Partition) -> None:
    """It is given nothing while the active one holds something, and that one gets nothing new.

    What the active one requeues meanwhile goes to the other one, first and uncounted.
    """
    active = partition.consumer(priority=1)
    active.wait(PREFETCH)
    higher = partition.consumer(priority=2)

    active.channel.basic_ack(1)
    active.channel.basic_nack(2, requeue=True)
    partition.settle()
    while_held = list(higher.got)
    active.channel.basic_ack(3)

    assert while_held == []
    assert higher.wait(PREFETCH) == [1, 3, 4]
    assert higher.counts == [(1, 0), (0, 0), (0, 0)]
    assert active.got == [0, 1, 2]


def test_one_that_goes_before_its_turn_changes_nothing(partition: Partition) -> None:
    """The active one goes on when the one of higher priority has left again."""
    active = partition.consumer(priority=1)
    active.wait(PREFETCH)
    higher = partition.consumer(priority=2)
    higher.channel.basic_cancel(higher.tag)

    active.channel.basic_ack(PREFETCH, multiple=True)

    assert active.wait(2 * PREFETCH) == [0, 1, 2, 3, 4, 5]
    assert higher.got == []


@pytest.mark.parametrize("end", ENDS)
def test_what_one_held_that_ends_comes_before_what_is_behind(
    partition: Partition, end: str
) -> None:
    """The next one by priority is given it in order; each counts as delivered in vain, once."""
    active = partition.consumer(priority=3)
    active.wait(PREFETCH)
    others = [partition.consumer(priority) for priority in (1, 2)]

    active.end(end)

    assert others[1].wait(PREFETCH) == [0, 1, 2]
    assert others[1].counts == [(1, 1)] * PREFETCH
    others[1].channel.basic_ack(PREFETCH, multiple=True)
    assert others[1].wait(2 * PREFETCH)[PREFETCH:] == [3, 4, 5]
    assert others[0].got == []


def test_one_that_ends_while_another_waits_may_block_the_queue(partition: Partition) -> None:
    """Seen with RabbitMQ 4.3.6: what holds something then is not forgotten when it ends.

    If it is next by priority when its successor ends, the dead is made active, before the living.
    Nobody gets anything then, until its x-consumer-timeout at the earliest: hence no priorities.
    """
    active = partition.consumer(priority=2)
    active.wait(PREFETCH)
    higher, lower = partition.consumer(priority=3), partition.consumer(priority=1)

    active.lose()
    assert higher.wait(PREFETCH) == [0, 1, 2]
    higher.lose()

    with pytest.raises(AssertionError, match=r"these have come: \[\]"):
        lower.wait(1, seconds=2)


@pytest.mark.parametrize("end", ENDS)
def test_equal_consumers_are_a_line(partition: Partition, end: str) -> None:
    """Who has come first is next, and nobody is passed over: not even behind two that have ended.

    What each held counts as delivered in vain, once more each time.
    """
    line = [partition.consumer(priority=0) for _ in range(3)]
    for passed_on, consumer in enumerate(line):
        assert consumer.wait(PREFETCH) == [0, 1, 2]
        assert consumer.counts == [(passed_on, passed_on)] * PREFETCH
        consumer.end(end)


def test_one_that_holds_less_than_the_one_before_breaks_the_order(partition: Partition) -> None:
    """What it gives back goes behind what it had not taken: so all have to hold as many."""
    before = partition.consumer(priority=3)
    less = partition.consumer(priority=2, prefetch=1)
    after = partition.consumer(priority=1)
    before.wait(PREFETCH)
    before.end(ENDS[0])
    less.wait(1)

    less.end(ENDS[0])

    assert after.wait(PREFETCH) == [1, 2, 0]


def test_only_the_active_one_is_counted(broker: Broker, partition: Partition) -> None:
    """A passive queue.declare tells of no consumer that waits."""
    for _ in range(3):
        partition.consumer(priority=0)
    partition.settle()

    assert broker.consumers(partition.queue) == 1


def test_one_that_requeues_before_it_ends_leaves_nothing_behind(partition: Partition) -> None:
    """All that it held goes back in order, whether or not another one waits to take over."""
    active = partition.consumer(priority=2)
    active.wait(PREFETCH)
    higher, lower = partition.consumer(priority=3), partition.consumer(priority=1)

    for successor in (higher, lower):
        active.channel.basic_nack(0, multiple=True, requeue=True)
        active.end(ENDS[0])
        assert successor.wait(PREFETCH) == [0, 1, 2]
        active = successor


def test_a_cancel_does_not_wait(partition: Partition) -> None:
    """Who cancels while it holds something is overtaken: the next one gets what is behind."""
    active = partition.consumer(priority=2)
    active.wait(PREFETCH)
    other = partition.consumer(priority=1)

    active.channel.basic_cancel(active.tag)

    assert other.wait(PREFETCH) == [3, 4, 5]


def test_the_active_one_gets_back_what_it_requeues(partition: Partition) -> None:
    """At once, before what is behind it, and not counted as delivered in vain."""
    active = partition.consumer(priority=2)
    active.wait(PREFETCH)

    active.channel.basic_nack(2, requeue=True)

    assert active.wait(PREFETCH + 1) == [0, 1, 2, 1]
    assert active.counts[-1] == (1, 0)


@pytest.mark.thorough
def test_a_key_keeps_its_queue_and_its_order_when_the_broker_restarts(
    broker: Broker, unique: Unique
) -> None:
    """An x-modulus-hash exchange sends a key to one queue; what was held comes again first."""
    exchange, keys, queues = unique("keys"), [f"customer-{n}" for n in range(40)], range(4)
    names = [f"{exchange}.{number}" for number in queues]

    def publish(channel: BlockingChannel, text: str) -> None:
        channel.confirm_delivery()
        for key in keys:
            channel.basic_publish(exchange, key, f"{key} {text}".encode(), mandatory=True)

    with broker.channel() as channel:
        channel.exchange_declare(exchange, "x-modulus-hash", durable=True)
        for number, name in zip(queues, names, strict=True):
            channel.queue_declare(name, durable=True, arguments=SINGLE_ACTIVE)
            channel.queue_bind(name, exchange, str(number))
        publish(channel, "1")
    for name in names:
        holder = Consumer(broker)
        holder.consume(name, priority=1)
        holder.wait(PREFETCH)
    broker.restart()
    with broker.channel() as channel:
        publish(channel, "2")
        channel.exchange_delete(exchange)
    found = [[taken.text for taken in broker.take_all(name)] for name in names]

    assert sum(len(texts) for texts in found) == 2 * len(keys)
    for texts in found:
        first, second = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        assert [text.split()[0] for text in first] == [text.split()[0] for text in second]
        assert [text.split()[1] for text in texts] == ["1"] * len(first) + ["2"] * len(second)
