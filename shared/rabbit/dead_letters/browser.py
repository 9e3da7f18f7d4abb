"""Going once through what waits in a queue: to look, and to take out some of it."""

from collections.abc import Callable, Generator, Iterator
from time import monotonic
from typing import Any

from rabbit.amqp.connection import Arrival, Channel, ChannelListener, Connection, Frame, consume
from rabbit.errors import BrokerUnavailableError, RabbitError
from rabbit.messaging.consumer import Delivery
from rabbit.messaging.unsettled import UnackedDeliveries


class HeldMessages(ChannelListener):
    """Some of the messages of a queue, on a channel of their own.

    The broker looks for what is acked from the oldest unacked delivery of the channel on: one
    channel that holds many would make each ack expensive.
    """

    def __init__(
        self, number: int, size: int, taken: Callable[["HeldMessages", Delivery], None]
    ) -> None:
        """Hold up to `size` messages at a time; `taken` is called with each."""
        self.size = size
        self.kept = 0
        self.inputs = UnackedDeliveries()
        self.is_changing = True  # on the way to consume-ok or cancel-ok
        self.is_consuming = False
        self.is_filling = False  # nothing is acked until all credit is used up
        self._number = number
        self._taken = taken
        self._channel: Channel | None = None
        self._tag = ""

    @property
    def is_full(self) -> bool:
        """Whether all credit is used up, so that nothing is under way."""
        return len(self.inputs) + self.inputs.settled >= self.size

    def consume(self, channel: Channel, queue: str) -> None:
        """Register the consumer."""

        def registered(_frame: object) -> None:
            self.is_consuming, self.is_changing = True, False

        self._channel = channel
        channel.basic_qos(prefetch_count=self.size)
        self._tag = consume(channel, queue, self, registered)

    def cancel(self) -> None:
        """Get no more; what is held is held on.

        What is under way then comes back to the queue, and others may have overtaken it.
        """

        def cancelled(_frame: object) -> None:
            self.is_changing = self.is_filling = False

        assert self._channel is not None  # noqa: S101 - it is consuming
        self.is_consuming, self.is_changing = False, True
        self._channel.basic_cancel(self._tag, callback=cancelled)

    def delivered(self, _exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries."""
        self.inputs.receive(
            [arrival[0] for arrival in arrivals], [len(arrival[3]) for arrival in arrivals]
        )
        for arrival in arrivals:
            self._taken(self, Delivery(self._number, *arrival))

    def ack(self) -> None:
        """Send the acks of what was settled."""
        if self._channel and self._channel.is_open:
            for ack in self.inputs.acks():
                self._channel.basic_ack(ack.tag, ack.multiple)

    def give_back(self) -> None:
        """Return all that is held, with one basic.nack, which is no failure and keeps the order."""
        if self._channel and self._channel.is_open:
            self.inputs.give_back_all()
            for nack in self.inputs.returns(singles=0):
                self._channel.basic_nack(nack.tag, nack.multiple, requeue=True)


#: How many messages are delivered in advance: few at first, then as many as these bytes hold.
FIRST_PORTION = 16
LARGEST_PORTION = 1000
MOST_BYTES = 16 * 1024 * 1024

#: A new portion begins when so many times more messages, or less, should be under way.
_STEP = 4

#: The queue is done when nothing more comes for so long: somebody else has taken the rest.
IDLE_SECONDS = 5.0

#: How long one that is under way may take before the visit gives up.
STALL_SECONDS = 30.0

#: How long the broker may take to do the acks and returns of one portion.
LEAVE_SECONDS = 10.0


class QueueBrowser:
    """Goes through the messages that wait in a queue when it begins, once, in order.

    Each of them is held until the end, or settled: so none comes twice, and none that arrives
    meanwhile is looked at. In the end the held ones are given back in their order. If this process
    is killed, the broker gives them back.

    Attributes:
        total: how many messages there are to go through; None: not asked yet.
        seen: how many have been looked at.
        error: why it ended early.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        act: Callable[[Delivery], None],
        tell: Callable[[int, int], None],
    ) -> None:
        """Live on `connection`, whose user this becomes.

        Args:
            connection: one that nothing is published on; it is not connected yet.
            queue: a queue that exists; nothing is declared.
            act: called with each message, on the loop's thread; it calls `keep` or `settle`, now
                or later. What it raises ends the visit.
            tell: given `seen` and `total` now and then.
        """
        self.total: int | None = None
        self.seen = 0
        self.error: Exception | None = None
        self._connection = connection
        self._queue = queue
        self._act = act
        self._tell = tell
        self._portions: list[HeldMessages] = []
        self._arrived: list[Delivery] = []
        self._undecided = 0
        self._bytes = 0
        self._asking: Channel | None = None
        self._others = 0  # consumers of the queue beside ours
        self._counts: list[int] = []  # consumers of the queue, as the broker answers
        self._moved_at = monotonic()
        self._is_over = False
        connection.users.append(self)

    def open(self) -> None:
        """Begin; a visit that lost its connection is over."""
        if self.error is None and self.total is None:
            self._connection.channel(self._count_first, self._closed)

    def lost(self) -> None:
        """End, unless it has not begun: what was held and not settled is in the queue again."""
        self._asking = None
        if self.total is None:
            return
        self.fail(
            BrokerUnavailableError(
                f"the connection was lost while going through {self._queue!r}: no message is lost, "
                "run it again"
            )
        )

    def keep(self, delivery: Delivery) -> None:
        """Leave a message in the queue."""
        self._undecided -= 1
        self._portions[delivery.generation].kept += 1
        self._moved_at = monotonic()

    def settle(self, delivery: Delivery) -> None:
        """Take a message out of the queue (basic.ack)."""
        self._undecided -= 1
        self._portions[delivery.generation].inputs.settle(delivery.tag)
        self._moved_at = monotonic()

    def fail(self, error: Exception) -> None:
        """End early: all that is not settled stays."""
        if not self._is_over:
            self.error = self.error or error

    def begin(self) -> Iterator[None]:
        """Connect and count: a story."""
        while self.total is None and not self.error:
            yield

    def run(self) -> Iterator[None]:
        """Go through all of it: a story."""
        self._moved_at = monotonic()
        try:
            self._turn()
            while not (self._is_through() or self.error):
                yield
                self._turn()
            yield from self._leave()
        except Exception as error:  # noqa: BLE001 - raised where the visit was asked for
            self.fail(error)
        self._is_over = True

    def _is_through(self) -> bool:
        if self.total is None or self._undecided:
            return False
        return self.seen >= self.total or monotonic() - self._moved_at > IDLE_SECONDS

    def _turn(self) -> None:
        """End a turn of the loop: act on what has arrived, ack, make room for more."""
        arrived, self._arrived = self._arrived, []
        try:
            for delivery in arrived:
                self._moved_at = monotonic()
                self._act(delivery)
        except Exception as error:  # noqa: BLE001 - raised where the visit was asked for
            self.fail(error)
            return
        if arrived and self.total:
            self._tell(self.seen, self.total)
        for portion in self._portions:
            if not portion.is_filling:
                portion.ack()
        if self.total is not None and self.seen < self.total:
            self._make_room()
        if self._undecided and monotonic() - self._moved_at > STALL_SECONDS:
            self.fail(BrokerUnavailableError(self._why_stalled()))

    def _why_stalled(self) -> str:
        return (
            f"the broker has confirmed nothing for {STALL_SECONDS:g} s; {self._undecided} messages "
            f"stay in {self._queue!r} and may have been published: is there a memory or disk alarm?"
        )

    def _make_room(self) -> None:
        """Begin another portion when this one is used up by what is kept, or has a wrong size."""
        portion = self._portions[-1]
        wanted = max(1, min(LARGEST_PORTION, MOST_BYTES * self.seen // (self._bytes + 1)))
        if portion.is_consuming:
            fits = wanted < _STEP * portion.size and portion.size < _STEP * wanted
            if 2 * portion.kept >= portion.size or not (fits or self.seen < FIRST_PORTION):
                portion.is_filling = True
            if portion.is_filling and portion.is_full:
                portion.cancel()
        elif not portion.is_changing:
            self._consume(wanted)

    def _count_first(self, channel: Channel) -> None:
        def counted(frame: "Frame[Any]") -> None:
            self._others = frame.method.consumer_count
            self.total = frame.method.message_count
            if self.total:
                self._consume(FIRST_PORTION)

        self._asking = channel
        channel.queue_declare(self._queue, passive=True, callback=counted)

    def _consume(self, size: int) -> None:
        portion = HeldMessages(len(self._portions), size, self._take)
        self._portions.append(portion)

        def opened(channel: Channel) -> None:
            channel.add_on_cancel_callback(self._cancelled_by_broker)
            portion.consume(channel, self._queue)

        self._connection.channel(opened, self._closed, lane=portion)

    def _take(self, _portion: HeldMessages, delivery: Delivery) -> None:
        """Look at a delivery; what is beyond those there were at the start is held only."""
        if self.total is not None and self.seen < self.total:
            self.seen += 1
            self._undecided += 1
            self._bytes += len(delivery.body) + len(delivery.properties)
            self._arrived.append(delivery)

    def _leave(self) -> Iterator[None]:
        """Consume no more, give back what is held, and wait until the broker has done so.

        It is not confirmed. But a quorum queue counts a cancelled consumer for as long as it holds
        messages, and what a channel still buffers when it closes would be lost: acks too. One
        portion after the other, so that they are in order again.
        """
        if not self._portions:
            return
        last = self._portions[-1]
        deadline = monotonic() + LEAVE_SECONDS
        while self._asking and last.is_changing and monotonic() < deadline:
            yield
        if self._asking and last.is_consuming:
            last.cancel()
        while self._asking and last.is_changing and monotonic() < deadline:
            yield
        holding = [portion for portion in self._portions if portion.inputs or portion is last]
        is_counting = True  # as long as nobody else comes to this queue
        for index, portion in enumerate(holding, start=1):
            portion.ack()
            portion.give_back()
            if is_counting:
                is_counting = yield from self._is_counted(self._others + len(holding) - index)

    def _is_counted(self, most: int) -> Generator[None, None, bool]:
        """Wait until the queue has no more than so many consumers; tell whether that came."""
        deadline = monotonic() + LEAVE_SECONDS
        self._counts.clear()
        asked = 0
        while self._asking and monotonic() < deadline:
            if len(self._counts) == asked:
                if asked and self._counts[-1] <= most:
                    return True
                self._asking.queue_declare(self._queue, passive=True, callback=self._count)
                asked += 1
            yield
        return False

    def _count(self, frame: "Frame[Any]") -> None:
        self._counts.append(frame.method.consumer_count)

    def _cancelled_by_broker(self, _frame: object) -> None:
        self.fail(RabbitError(f"{self._queue!r} was deleted, or has failed over: run it again"))

    def _closed(self, code: int, text: str) -> None:
        self._asking = None
        self.fail(RabbitError(f"cannot go through {self._queue!r}: {code} {text}"))
