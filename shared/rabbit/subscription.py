"""One queue consumed: credit, deliveries in, acks out."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from rabbit.connection import (
    Basic,
    BasicProperties,
    Channel,
    Connection,
    Frame,
    declare,
    is_hopeless,
)
from rabbit.errors import TopologyError
from rabbit.ledger import Inputs
from rabbit.logs import Logger
from rabbit.prefetch import AutoPrefetch, FixedPrefetch
from rabbit.topology import Edge


class Delivery:
    """One basic.deliver, until it is settled.

    Attributes:
        generation: which channel it came on; its tag means nothing on another one.
        awaiting: how many of its outputs are not confirmed.
    """

    __slots__ = ("awaiting", "body", "generation", "method", "properties")

    def __init__(
        self, generation: int, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        """Keep what came."""
        self.generation = generation
        self.method = method
        self.properties = properties
        self.body = body
        self.awaiting = 0


class _State(Enum):
    OFF = auto()
    STARTING = auto()  # on the way to consume-ok
    CONSUMING = auto()
    SWITCHING = auto()  # cancelled, and on the way to consume-ok with another prefetch
    CANCELLING = auto()  # on the way to cancel-ok, for good
    CANCELLED = auto()


_STOPPING = {_State.CANCELLING, _State.CANCELLED}


class Subscription:
    """Consumes one edge on a channel of its own, and sets it up again whenever it is lost."""

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        prefetch: AutoPrefetch | FixedPrefetch,
        log: Logger,
        *,
        on_surplus: Callable[[], None],
        on_lost: Callable[[], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, whose user this becomes.

        Args:
            connection: a connection that nothing is published on.
            edge: what to consume.
            prefetch: how many messages to hold; see basic.qos.
            log: told when the broker cancels the consumer.
            on_surplus: called to give back what no handler has started.
            on_lost: called when all open deliveries have become void.
            on_failed: called when the broker refuses the edge or the consumer.
        """
        self.edge = edge
        self.prefetch = prefetch
        self._connection = connection
        self._log = log
        self._on_surplus = on_surplus
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._channel: Channel | None = None
        self._state = _State.OFF
        self._tag = ""
        self._generation = 0
        self._depth = 0
        self._inputs = Inputs()
        self._arrived: list[Delivery] = []
        connection.users.append(self)

    @property
    def is_consuming(self) -> bool:
        """Whether the broker has registered the consumer (basic.consume-ok)."""
        return self._state in {_State.CONSUMING, _State.SWITCHING}

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing more can arrive."""
        return self._state is _State.CANCELLED

    @property
    def is_closed(self) -> bool:
        """Whether the broker has taken every ack and closed the channel, or is gone."""
        return self._channel is None

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are neither settled nor given back."""
        return len(self._inputs)

    def is_current(self, delivery: Delivery) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        same_channel = delivery.generation == self._generation
        return same_channel and delivery.method.delivery_tag in self._inputs

    def open(self) -> None:
        """Open a channel, declare the edge, consume."""
        if self._state not in _STOPPING:
            self._state = _State.STARTING
            self._connection.channel(self._prepare, self._closed)

    def lost(self) -> None:
        """Forget the channel: what was not acked on it, the broker gives out again."""
        self._channel = None
        self._generation += 1
        self._inputs = Inputs()
        self._arrived.clear()
        self._state = _State.CANCELLED if self._state in _STOPPING else _State.OFF
        self._on_lost()

    def take_arrived(self) -> list[Delivery]:
        """Return what has arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def settle(self, delivery: Delivery) -> bool:
        """Ack a delivery with the next flush; return False when it is not current any more."""
        if not self.is_current(delivery):
            return False
        self._inputs.settle(delivery.method.delivery_tag)
        return True

    def give_back(self, delivery: Delivery) -> None:
        """Return a delivery to its queue (basic.nack with requeue); it comes again."""
        if self.is_current(delivery) and self._channel:
            self._inputs.forget(delivery.method.delivery_tag)
            self._channel.basic_nack(delivery.method.delivery_tag, requeue=True)

    def give_back_all(self) -> int:
        """Return every open delivery to the queue; say how many there were."""
        tags = list(self._inputs)
        for tag in tags:
            self._inputs.forget(tag)
            if self._channel and self._channel.is_open:
                self._channel.basic_nack(tag, requeue=True)
        return len(tags)

    def flush(self) -> None:
        """Send the acks of this turn, and change the prefetch when it is time to."""
        if self._channel and self._state is _State.CONSUMING:
            self._adjust(self._channel)
        self._flush_acks()

    def cancel(self) -> None:
        """Consume no more (basic.cancel)."""
        if self._state in _STOPPING:
            return
        if self._state is _State.CONSUMING and self._channel:
            self._channel.basic_cancel(self._tag, callback=self._cancelled)
        # On the way to consume-ok there is nothing to cancel yet: `_registered` does it then.
        self._state = _State.CANCELLING if self._channel else _State.CANCELLED

    def close(self) -> None:
        """Close the channel; close-ok means that the broker has taken all acks before it."""
        if self._channel and self._channel.is_open:
            self._flush_acks()
            self._channel.add_on_close_callback(lambda *_: self.lost())
            self._channel.close()

    def delete(self) -> Iterator[None]:
        """Cancel, delete the queue and close: for a private queue that nobody else will read."""
        self.cancel()
        while not self.is_cancelled:
            yield
        deleted: list[object] = []
        if self._channel and self._channel.is_open:
            self._channel.queue_delete(self.edge.queue, callback=deleted.append)
        while not (deleted or self.is_closed):
            yield
        self.close()
        while not self.is_closed:
            yield

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Ask the broker how many consumers the queue has (a passive queue.declare)."""
        if self._channel:
            self._channel.queue_declare(
                self.edge.queue,
                passive=True,
                callback=lambda frame: tell(frame.method.consumer_count),
            )

    def _flush_acks(self) -> None:
        if self._channel and self._channel.is_open:
            for ack in self._inputs.acks():
                self._channel.basic_ack(ack.tag, ack.multiple)

    def _prepare(self, channel: Channel) -> None:
        if self._state in _STOPPING:
            return
        self._channel = channel
        channel.add_on_cancel_callback(self._cancelled_by_broker)
        declare(channel, self.edge.for_consuming())
        self._consume(channel)

    def _consume(self, channel: Channel) -> None:
        """Register the consumer; the prefetch counts for consumers registered after basic.qos."""
        self._depth = self.prefetch.wanted()
        channel.basic_qos(prefetch_count=self._depth)
        self._tag = channel.basic_consume(self.edge.queue, self._deliver, callback=self._registered)

    def _registered(self, _frame: "Frame[Any]") -> None:
        if self._state is _State.CANCELLING and self._channel:
            self._channel.basic_cancel(self._tag, callback=self._cancelled)
        else:
            self._state = _State.CONSUMING

    def _deliver(
        self, _channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        self._inputs.receive(method.delivery_tag)
        self._arrived.append(Delivery(self._generation, method, properties, body))

    def _adjust(self, channel: Channel) -> None:
        """Consume with another prefetch: cancel, then consume again, on the same channel.

        Never with two consumers side by side: the broker would deliver to them out of order.
        Going deeper, wait until all credit is used up: nothing is under way then, so nothing
        has to be given back. Before the acks of this turn, because they give new credit.
        """
        wanted = self.prefetch.wanted()
        shallower = wanted < self._depth
        if not shallower and (wanted == self._depth or len(self._inputs) < self._depth):
            return
        self._state = _State.SWITCHING
        channel.basic_cancel(self._tag, callback=self._switched)
        if shallower:
            self._on_surplus()

    def _switched(self, frame: "Frame[Any]") -> None:
        if self._state is _State.SWITCHING and self._channel:
            self._consume(self._channel)
        else:
            self._cancelled(frame)

    def _cancelled(self, _frame: "Frame[Any]") -> None:
        self._state = _State.CANCELLED

    def _cancelled_by_broker(self, _frame: "Frame[Any]") -> None:
        """Set everything up again on a new channel: the old one cannot use its tag any more.

        The broker cancels when the queue is deleted or fails over, or an ack takes too long.
        """
        if self._state in _STOPPING:
            return
        self._log.warning("consumer cancelled by the broker, consuming again")
        self._on_surplus()
        self._flush_acks()
        if self._channel:
            self._channel.close()
        self.lost()
        self.open()

    def _closed(self, code: int, text: str) -> None:
        self.lost()
        if is_hopeless(code, text):
            self._on_failed(TopologyError(f"cannot consume {self.edge.queue!r}: {text}"))
        else:
            self._connection.reopen(self)
