"""Going once through what waits in a queue: to look, and to take out some of it."""

from collections.abc import Callable, Generator, Iterator
from time import monotonic

from rabbit.amqp.channel import Count
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.amqp.loop_thread import CLOSE_SECONDS, LoopThread
from rabbit.errors import BrokerUnavailableError, RabbitError
from rabbit.messaging.book import UnackedDeliveries
from rabbit.messaging.delivery import Delivery
from rabbit.topology import QueueType

#: How many messages are delivered in advance: few at first, then as many as these bytes hold.
FIRST_PREFETCH = 16
LARGEST_PREFETCH = 1000
MOST_BYTES = 16 * 1024 * 1024

#: Another channel is begun when so many times more messages, or less, should be under way.
_STEP = 4

#: When nothing has come for so long, the queue is asked whether anything is left; and how often.
IDLE_SECONDS = 5.0
AGAIN_SECONDS = 0.5

#: How many times in a row it has to say that nothing is. What was delivered before the first answer
#: may come after it, but not after the second one.
ENOUGH_ANSWERS = 2

#: How long one that is under way may take before the browser gives up.
STALL_SECONDS = 30.0

#: How long to wait for a consumer to begin or end, when it is time to leave.
LEAVE_SECONDS = 10.0

#: How long the broker may bring nothing, or answer nothing, unless it is said.
PATIENCE_SECONDS = 60.0


class Found(Delivery):
    """A message that was found in a queue.

    Attributes:
        exchange: by which it came there.
    """

    __slots__ = ("exchange",)

    def __init__(self, exchange: str, number: int, arrival: Arrival) -> None:
        """Note what an `Arrival` brings, and the number of who holds it."""
        super().__init__(number, *arrival)
        self.exchange = exchange


class HeldMessages(ChannelListener):
    """Some of the messages of a queue, on a channel of their own.

    The broker looks for what is acked from the oldest unacked delivery of the channel on: one
    channel that holds many would make each ack expensive.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        number: int,
        size: int,
        *,
        queue_type: QueueType,
        on_delivered: Callable[["Found"], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Hold up to `size` messages of `queue` at a time.

        Args:
            connection: is open.
            queue: where they stay.
            number: tells these from others that are held.
            size: the prefetch.
            queue_type: what the queue is.
            on_delivered: called with each.
            on_failed: given what has ended this early.
        """
        self.size = size
        self.kept = 0
        self.unacked = UnackedDeliveries()
        self.is_changing = True  # on the way to consume-ok or cancel-ok
        self.is_consuming = False
        self.is_filling = False  # nothing is acked until all credit is used up
        self._queue = queue
        self._number = number
        self._queue_type = queue_type
        self._on_delivered = on_delivered
        self._on_failed = on_failed
        self._channel = connection.channel(self, f"go through {queue!r}", is_wanted=False)
        self._channel.want()

    @property
    def is_full(self) -> bool:
        """Whether all credit is used up, so that nothing is under way."""
        return len(self.unacked) + self.unacked.to_ack >= self.size

    def opened(self) -> None:
        """Register the consumer."""
        self._channel.is_wanted = False  # what is held on it is not held on another one
        self._channel.consume(self._queue, self.size, self._registered, self._queue_type)

    def _registered(self) -> None:
        self.is_consuming, self.is_changing = True, False

    def count(self, tell: Callable[[Count], None]) -> None:
        """Ask what is left, on the channel that brings it: see `ENOUGH_ANSWERS`."""
        self._channel.count(self._queue, tell)

    def cancel(self) -> None:
        """Get no more; what is held is held on.

        What is under way then comes back to the queue, and others may have overtaken it.
        """
        self.is_consuming, self.is_changing = False, True
        self._channel.cancel(self._cancelled)

    def _cancelled(self) -> None:
        self.is_changing = self.is_filling = False

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries."""
        self.unacked.receive(
            [arrival[0] for arrival in arrivals], [len(arrival[3]) for arrival in arrivals]
        )
        for arrival in arrivals:
            self._on_delivered(Found(exchange, self._number, arrival))

    def consumer_cancelled(self) -> None:
        """Tell that there is nothing more to go through."""
        self._on_failed(f"{self._queue!r} was deleted, or has failed over: run it again")

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Tell so: what was held is in the queue again."""
        self._on_failed(f"cannot go through {self._queue!r}: {code} {text}")
        return True

    def ack(self) -> None:
        """Send the acks of what was taken out."""
        if self._channel.is_open:
            for ack in self.unacked.acks():
                self._channel.ack(ack.tag, multiple=ack.multiple)

    def requeue(self) -> None:
        """Requeue all that is held, with one basic.nack: that keeps the order."""
        if self._channel.is_open:
            self.unacked.requeue_all()
            for nack in self.unacked.nacks(singles=0):
                self._channel.requeue(nack.tag, multiple=nack.multiple)


class QueueBrowser(ChannelListener):
    """Goes through the messages that wait in a queue when it begins, once, in order.

    Each of them is held until the end, or acked: so none comes twice, and none that arrives
    meanwhile is looked at. In the end the held ones are requeued in their order. If this process
    is killed, the broker gives them back.

    Attributes:
        total: how many messages there are to go through; None: not asked yet.
        seen: how many have been looked at.
        is_shared: whether somebody else reads the queue too: what they hold is not seen.
        error: why it ended early.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        act: Callable[[Found], None],
        tell: Callable[[int, int], None],
        queue_type: QueueType = "quorum",
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: one that nothing is published on; it is not connected yet.
            queue: a queue that exists; nothing is declared.
            act: called with each message, on the loop's thread; it calls `keep` or `ack`, now
                or later. What it raises ends this early.
            tell: given `seen` and `total` now and then.
            queue_type: what the queue is.
            patience_seconds: how long the broker may bring nothing, or answer nothing.
        """
        self.total: int | None = None
        self.seen = 0
        self.is_shared = False
        self.error: Exception | None = None
        self._connection = connection
        self._queue = queue
        self._queue_type: QueueType = queue_type
        self._act = act
        self._tell = tell
        self._patience = patience_seconds
        self._held: list[HeldMessages] = []
        self._arrived: list[Found] = []
        self._undecided = 0
        self._bytes = 0
        self._channel = connection.channel(self, f"go through {queue!r}")
        self._has_acked = False
        self._others = 0  # consumers of the queue beside ours
        self._counts: list[int] = []  # consumers of the queue, as the broker answers
        self._moved_at = monotonic()
        self._is_asking = False
        self._asked_at = 0.0
        self._empty_answers = 0  # in a row
        self._is_over = False

    def opened(self) -> None:
        """Count what there is, and begin."""
        self._channel.count_for_certain(self._queue, self._begin)

    def lost(self) -> None:
        """End, unless it has not begun: what was held and not acked is in the queue again."""
        if self.total is None:
            return
        self._channel.is_wanted = False
        self.fail(
            BrokerUnavailableError(
                f"the connection was lost while going through {self._queue!r}: no message is lost, "
                "run it again"
            )
        )

    def keep(self, delivery: Delivery) -> None:
        """Leave a message in the queue."""
        self._undecided -= 1
        self._held[delivery.generation].kept += 1
        self._moved_at = monotonic()

    def ack(self, delivery: Delivery) -> None:
        """Take a message out of the queue (basic.ack)."""
        self._has_acked = True
        self._undecided -= 1
        self._held[delivery.generation].unacked.allow_ack(delivery.tag)
        self._moved_at = monotonic()

    def enough(self) -> None:
        """Look at nothing more than what has come: the rest stays."""
        self.total = self.seen

    def wait(self) -> None:
        """Note that a message is held back on purpose, and not by the broker."""
        self._moved_at = monotonic()

    def fail(self, error: Exception) -> None:
        """End early: all that is not acked stays."""
        if not self._is_over:
            self.error = self.error or error

    def begin(self) -> Iterator[None]:
        """Connect and count: a step task."""
        while self.total is None and not self.error:
            yield

    def run(self) -> Iterator[None]:
        """Go through all of it: a step task."""
        self._moved_at = monotonic()
        try:
            self._turn()
            while not (self._is_through() or self.error):
                yield
                self._turn()
            yield from self._leave()
        except Exception as error:  # noqa: BLE001 - raised where this was asked for
            self.fail(error)
        self._is_over = True

    def _is_through(self) -> bool:
        if self.total is None or self._undecided:
            return False
        return self.seen >= self.total or self._empty_answers >= ENOUGH_ANSWERS

    def _turn(self) -> None:
        """End a turn of the loop: act on what has arrived, ack, make room for more."""
        arrived, self._arrived = self._arrived, []
        try:
            for delivery in arrived:
                self._moved_at = monotonic()
                self._act(delivery)
        except Exception as error:  # noqa: BLE001 - raised where this was asked for
            self.fail(error)
            return
        if arrived and self.total:
            self._empty_answers = 0
            self._tell(self.seen, self.total)
        for held in self._held:
            if not held.is_filling:
                held.ack()
        if self.total is not None and self.seen < self.total:
            self._make_room()
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        """Ask for more when nothing comes; give up when nothing comes of that either."""
        if self.total is None or (self.seen >= self.total and not self._undecided):
            return
        idle = monotonic() - self._moved_at
        if idle > (min(STALL_SECONDS, self._patience) if self._undecided else self._patience):
            self.fail(BrokerUnavailableError(self._why_stalled(idle)))
        elif idle > IDLE_SECONDS and not self._undecided:
            self._ask_for_more()

    def _ask_for_more(self) -> None:
        """Ask the queue whether anything is left: somebody else may have taken the rest.

        Of a quorum queue whose leader is slow or away RabbitMQ says that it has no messages, and no
        consumers. So it is believed only when it counts ours.
        """
        held, moved_at = self._held[-1], self._moved_at

        def answered(count: Count) -> None:
            self._is_asking = False
            is_empty = count.consumers and not count.ready and moved_at == self._moved_at
            self._empty_answers = self._empty_answers + 1 if is_empty else 0

        is_time = monotonic() - self._asked_at > AGAIN_SECONDS
        if is_time and not self._is_asking and held.is_consuming:
            self._is_asking, self._asked_at = True, monotonic()
            held.count(answered)

    def _why_stalled(self, seconds: float) -> str:
        """Say what has not come; the total is known."""
        total = self.total or 0
        unseen = f"{total - self.seen} of {total} messages of {self._queue!r} were not seen"
        if not self._undecided:
            return f"the broker has brought nothing for {seconds:.0f} s: {unseen}; run it again"
        return (
            f"the broker has confirmed nothing for {seconds:.0f} s: {unseen}, and "
            f"{self._undecided} more stay there and may have been published: "
            "is there a memory or disk alarm?"
        )

    def _make_room(self) -> None:
        """Begin another channel when this one is used up by what is kept, or has a wrong size."""
        held = self._held[-1]
        wanted = max(1, min(LARGEST_PREFETCH, MOST_BYTES * self.seen // (self._bytes + 1)))
        if held.is_consuming:
            fits = wanted < _STEP * held.size and held.size < _STEP * wanted
            if 2 * held.kept >= held.size or not (fits or self.seen < FIRST_PREFETCH):
                held.is_filling = True
            if held.is_filling and held.is_full:
                held.cancel()
        elif not held.is_changing:
            self._consume(wanted)

    def _begin(self, count: Count) -> None:
        self._others = count.consumers
        self.is_shared = count.consumers > 0
        self.total = count.ready
        if self.total:
            self._consume(FIRST_PREFETCH)

    def _consume(self, size: int) -> None:
        held = HeldMessages(
            self._connection,
            self._queue,
            len(self._held),
            size,
            queue_type=self._queue_type,
            on_delivered=self._take,
            on_failed=lambda why: self.fail(RabbitError(why)),
        )
        self._held.append(held)

    def _take(self, delivery: Found) -> None:
        """Look at a delivery; what is beyond those there were at the start is held only."""
        if self.total is not None and self.seen < self.total:
            self.seen += 1
            self._undecided += 1
            self._bytes += len(delivery.body) + len(delivery.properties)
            self._arrived.append(delivery)

    def _leave(self) -> Iterator[None]:
        """Consume no more, requeue what is held, and wait until the broker has done so.

        It is not confirmed. But a quorum queue counts a cancelled consumer for as long as it holds
        messages, and what a channel still buffers when it closes would be lost: acks too. One
        channel after the other, so that they are in order again.
        """
        if not self._held:
            return
        last = self._held[-1]
        deadline = monotonic() + LEAVE_SECONDS
        while self._channel.is_open and last.is_changing and monotonic() < deadline:
            yield
        if self._channel.is_open and last.is_consuming:
            last.cancel()
        while self._channel.is_open and last.is_changing and monotonic() < deadline:
            yield
        holding = [held for held in self._held if held.unacked or held is last]
        # As long as nobody else comes to this queue, and the broker answers.
        is_counting = not isinstance(self.error, BrokerUnavailableError)
        for index, held in enumerate(holding, start=1):
            held.ack()
            held.requeue()
            if is_counting:
                is_counting = yield from self._is_counted(self._others + len(holding) - index)

    def _is_counted(self, most: int) -> Generator[None, None, bool]:
        """Wait until the queue has no more than so many consumers; tell whether that came."""
        began = asked_at = monotonic()
        self._counts.clear()
        asked = 0
        while self._channel.is_open:
            if len(self._counts) == asked:
                if asked and self._counts[-1] <= most:
                    return True
                if monotonic() - began > LEAVE_SECONDS:
                    return False  # somebody else has come
                self._channel.count_for_certain(
                    self._queue, lambda count: self._counts.append(count.consumers)
                )
                asked, asked_at = asked + 1, monotonic()
            elif monotonic() - asked_at > self._patience:
                if self._has_acked:
                    self.fail(BrokerUnavailableError(self._why_unsure()))
                return False
            yield
        return False

    def _why_unsure(self) -> str:
        return (
            f"the broker has answered nothing for {self._patience:g} s: whether it has taken "
            f"messages out of {self._queue!r} that were to leave it is not known; run it again"
        )

    def closed_by_broker(self, code: int, text: str) -> bool:
        """End: there is no such queue, or this user may not read it."""
        self.fail(RabbitError(f"cannot go through {self._queue!r}: {code} {text}"))
        return True


def go_through(
    loop_thread: LoopThread,
    queue: str,
    act: Callable[[QueueBrowser, Found], None],
    tell: Callable[[int, int], None],
    patience_seconds: float,
    queue_type: QueueType = "quorum",
) -> bool:
    """Go through a queue once, on a connection of its own, and wait until that is done.

    Args:
        loop_thread: makes that connection.
        queue: a queue that exists.
        act: called with each message, on the loop's thread; see `QueueBrowser`.
        tell: given how many have been looked at, and how many there are.
        patience_seconds: how long connecting may take, and later the broker bring nothing.
        queue_type: what the queue is.

    Returns:
        whether all was seen: what somebody else held or took meanwhile was not.

    Raises:
        RabbitError: why it could not begin, or has ended early.
    """
    connection = loop_thread.connection(f"goes through {queue}")
    browser = QueueBrowser(
        connection,
        queue,
        lambda delivery: act(browser, delivery),
        tell,
        queue_type,
        patience_seconds,
    )
    loop_thread.call(connection.connect)
    loop_thread.wait(browser.begin(), patience_seconds, "no connection to RabbitMQ")
    loop_thread.see_through(browser.run(), None)
    loop_thread.see_through(loop_thread.disconnect([connection]), CLOSE_SECONDS)
    if browser.error:
        raise browser.error
    return browser.seen >= (browser.total or 0) and not browser.is_shared
