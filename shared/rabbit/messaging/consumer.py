"""One queue consumed: credit, deliveries in, acks out."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from time import monotonic

from rabbit.amqp.channel import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TooLargeError, TopologyError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.messaging.prefetch import AutoPrefetch, FixedPrefetch
from rabbit.messaging.unsettled import UnackedDeliveries
from rabbit.topology import Edge

#: Acks are sent in steps of so many seconds, while there is credit left.
ACK_INTERVAL_SECONDS = 0.02

#: How long `close` waits for the broker to have taken the last acks and nacks.
CLOSE_SECONDS = 0.5

#: How many deliveries are requeued one by one at a time, and the pause between, in seconds.
SINGLES = 25
SINGLES_PAUSE_SECONDS = 0.1

#: How long more of them wait for a chance to be requeued all at once.
PATIENCE_SECONDS = 1.0

#: When nothing has arrived for so long, in seconds, nothing is under way.
QUIET_SECONDS = 0.25


class Delivery(Message):
    """One basic.deliver, until it is settled.

    Attributes:
        generation: which channel it came on; its tag means nothing on another one.
        tag: the broker's number for it.
    """

    __slots__ = ("generation", "tag")
    is_counted = False  # its headers are its sender's

    def __init__(
        self,
        generation: int,
        tag: int,
        routing_key: str,
        properties: bytes,
        body: bytes,
        redelivered: bool,  # noqa: FBT001 - positional, as in an `Arrival`
    ) -> None:
        """Note what an `Arrival` brings; see `Message`."""
        self.generation = generation
        self.tag = tag
        self.routing_key = routing_key
        self.properties = properties
        self.body = body
        self.redelivered = redelivered
        self._ids = None
        self._headers = None
        self._origin = None


class Again(Delivery):
    """One that has come by `Edge.back`: from a retry queue, where a stage has put it."""

    __slots__ = ()
    is_counted = True


class _State(Enum):
    OFF = auto()
    STARTING = auto()  # on the way to consume-ok
    CONSUMING = auto()
    SWITCHING = auto()  # on the way to cancel-ok, to consume with another prefetch
    PAUSING = auto()  # cancelled, until what is held fits the other prefetch
    RESUMING = auto()  # on the way to consume-ok with the other prefetch
    CANCELLING = auto()  # on the way to cancel-ok, for good
    CANCELLED = auto()


_STOPPING = {_State.CANCELLING, _State.CANCELLED}
_CONSUMING = {_State.CONSUMING, _State.SWITCHING, _State.PAUSING, _State.RESUMING}


class QueueConsumer(ChannelListener):
    """Consumes one edge on a channel of its own, and sets it up again whenever it is lost.

    Attributes:
        depth: how many messages it holds at most (basic.qos), as of now.
        requeued: how many deliveries it has given back.
    """

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        prefetch: AutoPrefetch | FixedPrefetch,
        log: Logger,
        *,
        requeue_unstarted: Callable[[], None],
        on_lost: Callable[[], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: what to consume.
            prefetch: how many messages to hold; see basic.qos.
            log: told when the broker cancels the consumer.
            requeue_unstarted: called to requeue what no handler has started, for others to have.
            on_lost: called when all open deliveries have become void.
            on_failed: called when the broker refuses the edge or the consumer.
        """
        self.edge = edge
        self.prefetch = prefetch
        self._back = edge.back
        self._connection = connection
        self._log = log
        self._requeue_unstarted = requeue_unstarted
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._channel = connection.channel(self, f"consume {edge.queue!r}")
        self._state = _State.OFF
        self._generation = 0
        self.depth = 0
        self.requeued = 0
        self._unacked = UnackedDeliveries()
        self._arrived: list[Delivery] = []
        self._counts: list[int] = []  # consumers of the queue, asked for since `cancel`
        self._asked = 0
        self._acked_at = 0.0
        self._is_waiting_to_ack = False
        self._pause_until = 0.0
        self._patient_until = 0.0
        self._is_urgent = False  # what waits for a handler is requeued, before another prefetch
        self._is_spilling = False  # what arrives is requeued, until another consumer is registered
        self._most_held = 0  # bytes: not less than are held
        self._quiet_at = 0.0

    @property
    def is_consuming(self) -> bool:
        """Whether the consumer is registered (basic.consume-ok), or changes its prefetch."""
        return self._state in _CONSUMING

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing more can arrive."""
        return self._state is _State.CANCELLED

    @property
    def is_closed(self) -> bool:
        """Whether the broker has taken every ack and closed the channel, or is gone."""
        return self._channel.is_lost

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are not settled."""
        return len(self._unacked)

    @property
    def is_full(self) -> bool:
        """Whether nothing more can come before something of what is held is settled."""
        if self._state is _State.PAUSING:
            return not self.prefetch.fits(len(self._unacked))
        if self._state is _State.CONSUMING:
            return len(self._unacked) >= self.depth
        return self._state in _STOPPING

    @property
    def outstanding(self) -> int:
        """Count the deliveries that the broker awaits an ack or nack for."""
        return len(self._unacked) + self._unacked.to_ack

    def is_current(self, delivery: Delivery) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        same_channel = delivery.generation == self._generation
        return same_channel and delivery.tag in self._unacked

    def opened(self) -> None:
        """Declare the edge, consume."""
        self._state = _State.STARTING
        self._channel.declare(self.edge.for_consuming())
        self._consume()

    def lost(self) -> None:
        """Forget all deliveries: what was not acked, the broker gives out again."""
        self._generation += 1
        self._unacked = UnackedDeliveries()
        self._arrived.clear()
        self._is_spilling = False
        self._most_held = 0
        self._state = _State.CANCELLED if self._state in _STOPPING else _State.OFF
        self._on_lost()

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries; what comes after basic.cancel, or is too much, is requeued."""
        if self._channel.is_lost:
            return  # of a channel that is being closed: the broker gives it out again
        tags = [arrival[0] for arrival in arrivals]
        sizes = [len(arrival[3]) for arrival in arrivals]
        self._unacked.receive(tags, sizes)
        self._most_held += sum(sizes)
        if self._state in _STOPPING or self._most_held > self.prefetch.most_bytes:
            arrivals = self._within_bytes(arrivals, sizes)
        if self.prefetch.due and not self._is_spilling:
            self.prefetch.came([arrival[4] for arrival in arrivals])
        generation = self._generation
        kind = Again if exchange == self._back else Delivery
        for tag, key, properties, body, redelivered in arrivals:
            if redelivered:
                self.prefetch.careful()
            self._arrived.append(kind(generation, tag, key, properties, body, redelivered))

    def _within_bytes(self, arrivals: list[Arrival], sizes: list[int]) -> list[Arrival]:
        """Keep what there is room for; requeue the rest, and what comes behind it.

        How large messages are is known when they come, and then as many are under way as there was
        credit for. They are read on: heartbeats and commands come behind them. Once something is
        to go back, nothing more is kept from this consumer; see `_spill`. It comes again in order,
        if there is one replica and one handler thread: see `AutoPrefetch.surplus`.
        """
        self._quiet_at = monotonic() + QUIET_SECONDS
        is_stopping = self._state in _STOPPING
        kept = 0
        if not is_stopping and not self._is_spilling:
            self._most_held = self._unacked.held_bytes
            room = self.prefetch.most_bytes - self._most_held + sum(sizes)
            while kept < len(sizes) and room > 0:
                room -= sizes[kept]
                kept += 1
        for arrival in arrivals[kept:]:
            self._requeue(arrival[0])
        if kept < len(arrivals) and not is_stopping:
            self._is_spilling = True
            self.prefetch.surplus(len(arrivals) - kept, max(sizes[kept:]))
        return arrivals[:kept]

    def take_arrived(self) -> list[Delivery]:
        """Return what has arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def expect(self, delivery: Delivery, outputs: int) -> bool:
        """Note that the work on a delivery is done: it is acked after so many confirms.

        Returns:
            whether it is ours still; otherwise it comes again, and so do its outputs.
        """
        if delivery.generation != self._generation:
            return False
        try:
            self._unacked.expect(delivery.tag, outputs)
        except KeyError:
            return False
        return True

    def confirmed(self, delivery: Delivery) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        return delivery.generation == self._generation and self._unacked.confirmed(delivery.tag)

    def withdraw(self, delivery: Delivery) -> bool:
        """Expect no more outputs of a delivery; tell whether some were."""
        return self.is_current(delivery) and self._unacked.withdraw(delivery.tag)

    def ack(self, delivery: Delivery) -> bool:
        """Ack a delivery with the next flush; return False when it is not current any more."""
        return self.expect(delivery, 0)

    def requeue(self, delivery: Delivery) -> None:
        """Return a delivery to its queue, with this flush or a later one; it comes again."""
        if self.is_current(delivery):
            self._requeue(delivery.tag)

    def _requeue(self, tag: int) -> None:
        if not self._unacked.to_requeue:
            self._patient_until = monotonic() + PATIENCE_SECONDS
        self._unacked.requeue(tag)

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Return a delivery to its queue as a failure, or to the dead letters (basic.reject)."""
        if self.is_current(delivery) and self._channel.is_open:
            self._unacked.drop(delivery.tag)
            self._channel.reject(delivery.tag, requeue=requeue)

    def dead_letter(self, delivery: Delivery, error: TooLargeError) -> None:
        """Have the broker dead-letter what it lets nobody publish; the log says why.

        Its queue does that byte for byte, whatever the size, and so without a reason of ours. It
        has a dead-letter exchange: nothing else is sent to dead letters (`Edge.dead`).

        Args:
            delivery: nothing is done unless it is current.
            error: why it could not be sent there.
        """
        if self.is_current(delivery):
            self._log.warning(
                "left to the broker to dead-letter: without a reason, and with no other attempt",
                message_id=delivery.id,
                dead_letters=self.edge.dead,
                reason=str(error),
            )
            self.reject(delivery, requeue=False)

    def requeue_all(self) -> int:
        """Return every open delivery to the queue with the next flush; say how many these are."""
        return self._unacked.requeue_all()

    def flush(self) -> None:
        """Send the acks and nacks of this turn; change the prefetch when it is time to."""
        if self._state is _State.CONSUMING:
            self._adjust()
        if self._state is _State.PAUSING:
            self._shed()
        self._send_settlements()
        if self._state is _State.PAUSING:
            self._resume()

    def cancel(self) -> None:
        """Consume no more (basic.cancel)."""
        if self._state in _STOPPING:
            return
        self._channel.is_wanted = False
        if self._channel.is_lost:
            self._state = _State.CANCELLED
            return
        if self._state is _State.CONSUMING:
            self._channel.cancel(self._cancelled)
        # On the way to consume-ok there is nothing to cancel yet: `_registered` does it then.
        is_cancelled = self._state is _State.PAUSING
        self._state = _State.CANCELLED if is_cancelled else _State.CANCELLING
        if self.outstanding:
            self._ask_count()

    def close(self) -> Iterator[None]:
        """Close the channel, once the broker has taken the acks and nacks: a step task.

        Neither is confirmed, not even by close-ok (see `_acks_are_due`). But a quorum queue counts
        a cancelled consumer for as long as it holds messages: wait until it counts one less than
        when we cancelled and still held some.
        """
        self._send_settlements()
        deadline = monotonic() + CLOSE_SECONDS
        while self._channel.is_open and self._is_counted() and monotonic() < deadline:
            yield
        self._channel.close()
        while not self.is_closed:
            yield

    def _is_counted(self) -> bool:
        """Tell whether the broker still counts this consumer; ask it again if it did."""
        if len(self._counts) == self._asked > 0:
            if self._counts[-1] < max(self._counts[0], 1):
                return False
            self._ask_count()
        return self._asked > 0

    def _ask_count(self) -> None:
        self._asked += 1
        self.count_consumers(self._counts.append)

    def delete(self) -> Iterator[None]:
        """Cancel, delete the queue and close: for a private queue that nobody else will read."""
        self.cancel()
        while not self.is_cancelled:
            yield
        deleted: list[bool] = []
        self._channel.delete(self.edge.queue, lambda: deleted.append(True))
        while not (deleted or self.is_closed):
            yield
        yield from self.close()

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Ask the broker how many consumers the queue has (a passive queue.declare)."""
        self._channel.count(self.edge.queue, lambda count: tell(count.consumers))

    def _send_settlements(self, *, all_acks: bool = False) -> None:
        """Send basic.acks and basic.nacks, each for as many deliveries as possible."""
        if not self._channel.is_open:
            return
        if self._is_spilling and self._state is _State.CONSUMING and not all_acks:
            return  # it would give new credit
        if all_acks or self._acks_are_due():
            self._acked_at = monotonic()
            for ack in self._unacked.acks():
                self._channel.ack(ack.tag, multiple=ack.multiple)
        if self._unacked.to_requeue:
            before = self._unacked.to_requeue
            for nack in self._unacked.nacks(self._most_singles()):
                self._channel.requeue(nack.tag, multiple=nack.multiple)
            self.requeued += before - self._unacked.to_requeue

    def _acks_are_due(self) -> bool:
        """Say whether to ack now: in steps, but never so late that credit runs out.

        A channel has at most 32 commands to a quorum queue under way and buffers the rest
        (quorum_commands_soft_limit), acks and nacks alike. What is still buffered when the
        channel closes is lost: acked messages would come again.
        """
        if not self._unacked.to_ack:
            return False
        if 2 * self._unacked.to_ack >= self.depth or self._state in _STOPPING:
            return True
        wait = self._acked_at + ACK_INTERVAL_SECONDS - monotonic()
        if wait > 0 and not self._is_waiting_to_ack:
            self._is_waiting_to_ack = True
            self._connection.call_later(wait, self._stop_waiting_to_ack)
        return wait <= 0

    def _stop_waiting_to_ack(self) -> None:
        """Let the end of this turn ack."""
        self._is_waiting_to_ack = False

    def _most_singles(self) -> int:
        """Say how many deliveries may be requeued one by one now.

        Each is a command of its own (see `_acks_are_due`); a nack that is lost counts as a
        failure. So many are sent at once, when what runs before them has ended; if that takes
        long, so many are requeued now and then.
        """
        now = monotonic()
        is_patient = self._unacked.to_requeue > SINGLES and now < self._patient_until
        if is_patient or now < self._pause_until:
            return 0
        self._pause_until = now + SINGLES_PAUSE_SECONDS
        self._connection.call_later(SINGLES_PAUSE_SECONDS, _take_a_turn)
        return SINGLES

    def _consume(self) -> None:
        """Register the consumer; the prefetch counts for consumers registered after basic.qos."""
        self._is_spilling = self._is_urgent = False
        self._most_held = self._unacked.held_bytes
        self.depth = self.prefetch.wanted()
        self._unacked.change_consumer()
        self._channel.consume(self.edge.queue, self.depth, self._registered, self.edge.type)

    def _registered(self) -> None:
        if self._state is _State.CANCELLING:
            self._channel.cancel(self._cancelled)
        else:
            self._state = _State.CONSUMING

    def _adjust(self) -> None:
        """Begin to consume with another prefetch, when it is time to.

        Never with two consumers side by side: the broker would deliver to them out of order. So
        it is cancel, then consume again, and only when all credit is used up: nothing is under
        way then that would come back and be overtaken. For the same reason this comes before the
        acks of the turn, which give new credit. Only slow handlers cannot wait for that.
        """
        if self._is_spilling:
            self._spill()
            return
        wanted = self.prefetch.wanted()
        self._is_urgent = wanted < self.depth and self.prefetch.is_slow
        if wanted != self.depth and (self._is_urgent or self.outstanding >= self.depth):
            self._switch()

    def _spill(self) -> None:
        """Cancel once nothing is under way.

        What is under way while a consumer is cancelled, RabbitMQ requeues by itself, before what
        we requeue: it would be out of order.
        """
        wait = self._quiet_at - monotonic()
        if self.outstanding >= self.depth or wait <= 0:
            self._switch()
        else:
            self._connection.call_later(wait, _take_a_turn)

    def _switch(self) -> None:
        self._state = _State.SWITCHING
        self._channel.cancel(self._switched)

    def _switched(self) -> None:
        is_for_good = self._state is not _State.SWITCHING
        self._state = _State.CANCELLED if is_for_good else _State.PAUSING

    def _shed(self) -> None:
        """Give back what waits for slow handlers; they may have become so since the cancel."""
        if (self._is_urgent or self.prefetch.is_slow) and not self.prefetch.due:
            before = self._unacked.to_requeue
            self._requeue_unstarted()
            if self._unacked.to_requeue > before:
                self.prefetch.surplus(self._unacked.to_requeue - before)
        self._is_urgent = False

    def _resume(self) -> None:
        """Consume again once what is held fits.

        Not right after requeueing: RabbitMQ buffers many nacks in the channel, and a consumer
        that is registered meanwhile would be given newer messages first.
        """
        if self.prefetch.fits(len(self._unacked)):
            self._state = _State.RESUMING
            self._consume()

    def _cancelled(self) -> None:
        self._state = _State.CANCELLED

    def consumer_cancelled(self) -> None:
        """Set everything up again on a new channel: the old one cannot use its tag any more.

        The broker cancels when the queue is deleted or fails over, or an ack takes too long. For
        the latter it cancels again and again: once is enough for each channel.
        """
        if self._state not in _STOPPING:
            self._log.warning("consumer cancelled by the broker, consuming again")
            self._requeue_unstarted()
            self._send_settlements(all_acks=True)
            self._channel.replace()

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge or the consumer."""
        self._on_failed(error)


def _take_a_turn() -> None:
    """Do nothing but make the loop take a turn, which flushes."""
