"""One queue consumed: deliveries in, acks out, and as many held in advance as the prefetch says."""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from math import inf
from time import monotonic
from typing import Any, Protocol

from rabbit.amqp.channel import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TooLargeError, TopologyError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.messaging.pace import SettlementPace
from rabbit.messaging.prefetch import AutoPrefetch, FixedPrefetch
from rabbit.messaging.unsettled import UnackedDeliveries
from rabbit.topology import EXPIRES_MILLISECONDS, Edge

#: How long `close` waits for the broker to have taken the last acks and nacks.
CLOSE_SECONDS = 0.5

#: How often a queue that would expire is used while it is paused, in seconds. That puts its first
#: message behind others that were requeued, so not more often than it takes.
RENEW_SECONDS = EXPIRES_MILLISECONDS / 2000

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


class EdgeConsumer(Protocol):
    """What a dispatcher consumes with; the deliveries are of its own kind. See `QueueConsumer`."""

    edge: Edge
    depth: int
    requeued: int

    @property
    def is_consuming(self) -> bool: ...  # noqa: D102
    @property
    def is_paused(self) -> bool: ...  # noqa: D102
    @property
    def is_cancelled(self) -> bool: ...  # noqa: D102
    @property
    def is_full(self) -> bool: ...  # noqa: D102
    @property
    def in_flight(self) -> int: ...  # noqa: D102
    @property
    def outstanding(self) -> int: ...  # noqa: D102
    def is_current(self, delivery: Any) -> bool: ...  # noqa: ANN401, D102
    def take_arrived(self) -> list[Any]: ...  # noqa: D102
    def expect(self, delivery: Any, outputs: int) -> bool: ...  # noqa: ANN401, D102
    def confirmed(self, delivery: Any) -> bool: ...  # noqa: ANN401, D102
    def withdraw(self, delivery: Any) -> bool: ...  # noqa: ANN401, D102
    def ack(self, delivery: Any) -> bool: ...  # noqa: ANN401, D102
    def requeue(self, delivery: Any) -> None: ...  # noqa: ANN401, D102
    def dead_letter(self, delivery: Any, error: TooLargeError) -> None: ...  # noqa: ANN401, D102
    def requeue_all(self) -> int: ...  # noqa: D102
    def flush(self) -> None: ...  # noqa: D102
    def pause(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102
    def cancel(self) -> None: ...  # noqa: D102
    def close(self) -> Iterator[None]: ...  # noqa: D102
    def count_consumers(self, tell: Callable[[int], None]) -> None: ...  # noqa: D102


class _State(Enum):
    """What the consumer of this channel is to the broker.

    ABSENT → REGISTERING → CONSUMING          it is declared and registered: see `opened`
    CONSUMING → RESIZING → WAITING_FOR_ROOM   cancelled, to be registered with another prefetch
    WAITING_FOR_ROOM → RETURNING → CONSUMING  ... once what is held fits that
    WAITING_FOR_ROOM → PAUSED → REGISTERING   ... once nothing is held, until `resume`
    any → CANCELLING → CANCELLED              for good: see `cancel`
    any → ABSENT                              with the channel; it begins anew on the next one
    """

    ABSENT = auto()
    REGISTERING = auto()  # on the way to consume-ok
    CONSUMING = auto()
    RESIZING = auto()  # on the way to cancel-ok
    WAITING_FOR_ROOM = auto()
    RETURNING = auto()  # on the way to consume-ok
    PAUSED = auto()
    CANCELLING = auto()  # on the way to cancel-ok
    CANCELLED = auto()


#: Nothing that comes now is kept.
_STOPPING = {_State.CANCELLING, _State.CANCELLED}

#: It has been registered on this channel, and goes on as soon as it can.
_READY = {_State.CONSUMING, _State.RESIZING, _State.WAITING_FOR_ROOM, _State.RETURNING}


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
        self._state = _State.ABSENT
        self._generation = 0
        self.depth = 0
        self.requeued = 0
        self._arrived: list[Delivery] = []
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()
        self._turn_at = inf  # a turn is planned for then
        self._is_urgent = False  # what waits for a handler goes back, before another prefetch
        self._most_held = 0  # bytes: not less than are held
        self._is_overfull = False  # what comes is requeued, until the consumer is another one
        self._quiet_at = 0.0  # if nothing comes until then, nothing is under way
        self._is_to_pause = False
        self._counts: list[int] = []  # consumers of the queue, asked for since `cancel`
        self._asked = 0

    # What others ask

    @property
    def is_consuming(self) -> bool:
        """Whether the consumer is registered (basic.consume-ok), or changes its prefetch."""
        return self._state in _READY

    @property
    def is_paused(self) -> bool:
        """Whether it has paused: nothing arrives and nothing is held."""
        return self._state is _State.PAUSED

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
        if self._state is _State.WAITING_FOR_ROOM:
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

    # What the broker tells

    def opened(self) -> None:
        """Declare the edge, consume unless it is paused."""
        self._channel.declare(self.edge.for_consuming())
        if self._is_to_pause:
            self._rest()
        else:
            self._register()

    def _register(self) -> None:
        self._state = _State.REGISTERING
        self._consume()

    def _consume(self) -> None:
        """Register the consumer; the prefetch counts for consumers registered after basic.qos."""
        self._is_overfull = self._is_urgent = False
        self._most_held = self._unacked.held_bytes
        self.depth = self.prefetch.wanted()
        self._unacked.change_consumer()
        self._channel.consume(self.edge.queue, self.depth, self._registered, self.edge.type)

    def _registered(self) -> None:
        if self._state is _State.CANCELLING:
            self._channel.cancel(self._unregistered)
        else:
            self._state = _State.CONSUMING

    def _unregistered(self) -> None:
        is_resizing = self._state is _State.RESIZING
        self._state = _State.WAITING_FOR_ROOM if is_resizing else _State.CANCELLED

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries; what comes after basic.cancel, or is too much, is requeued."""
        if self._channel.is_lost:
            return  # of a channel that is being closed: the broker gives it out again
        tags = [arrival[0] for arrival in arrivals]
        sizes = [len(arrival[3]) for arrival in arrivals]
        self._unacked.receive(tags, sizes)
        self._most_held += sum(sizes)
        if self.prefetch.due and (self._is_to_pause or not self._is_overfull):
            self.prefetch.came([arrival[4] for arrival in arrivals])
        if (
            self._is_overfull
            or self._most_held > self.prefetch.most_bytes
            or self._state in _STOPPING
        ):
            arrivals = self._keep_some(arrivals, sizes)
        generation = self._generation
        kind = Again if exchange == self._back else Delivery
        for tag, key, properties, body, redelivered in arrivals:
            if redelivered:
                self.prefetch.careful()
            self._arrived.append(kind(generation, tag, key, properties, body, redelivered))

    def _keep_some(self, arrivals: list[Arrival], sizes: list[int]) -> list[Arrival]:
        """Keep what there is room for; requeue the rest, and what comes behind it.

        How large messages are is known when they come, and then as many are under way as there was
        credit for. They are read on: heartbeats and commands come behind them. Once something is
        to go back, nothing more is kept from this consumer; see `_change_when_quiet`. It comes
        again in order, if there is one replica and one handler thread: see `AutoPrefetch.surplus`.
        """
        self._quiet_at = monotonic() + QUIET_SECONDS
        is_stopping = self._state in _STOPPING
        kept = 0 if is_stopping or self._is_overfull else self._room_for(sizes)
        for arrival in arrivals[kept:]:
            self._unacked.requeue(arrival[0])
        if kept < len(arrivals) and not is_stopping:
            self._give_back(len(arrivals) - kept, max(sizes[kept:]))
        return arrivals[:kept]

    def _give_back(self, count: int, size: int) -> None:
        """Note that so many go back, for there is no room for them or it pauses."""
        if self._is_to_pause:
            self.prefetch.returned(count)
        else:
            self._is_overfull = True
            self.prefetch.surplus(count, size)

    def _room_for(self, sizes: list[int]) -> int:
        """Say how many messages of these sizes to keep, which are in the book already."""
        self._most_held = self._unacked.held_bytes
        room = self.prefetch.most_bytes - self._most_held + sum(sizes)
        for kept, size in enumerate(sizes):
            if room <= 0:
                return kept
            room -= size
        return len(sizes)

    def take_arrived(self) -> list[Delivery]:
        """Return what has arrived since the last call."""
        arrived, self._arrived = self._arrived, []
        return arrived

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

    def lost(self) -> None:
        """Forget all deliveries: what was not acked, the broker gives out again."""
        self._generation += 1
        self._unacked = UnackedDeliveries()
        self._arrived.clear()
        self._is_overfull = False
        self._most_held = 0
        self._state = _State.CANCELLED if self._state in _STOPPING else _State.ABSENT
        self._on_lost()

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge or the consumer."""
        self._on_failed(error)

    # What becomes of a delivery: sent with `flush`

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
        """Note that an output is confirmed; tell whether the delivery is acked by that."""
        return delivery.generation == self._generation and self._unacked.confirmed(delivery.tag)

    def withdraw(self, delivery: Delivery) -> bool:
        """Expect no more outputs of a delivery; tell whether some were."""
        return self.is_current(delivery) and self._unacked.withdraw(delivery.tag)

    def ack(self, delivery: Delivery) -> bool:
        """Ack a delivery of which nothing is expected; return False when it is not current."""
        return self.expect(delivery, 0)

    def requeue(self, delivery: Delivery) -> None:
        """Return a delivery to its queue: it comes again, which counts as no failure."""
        if self.is_current(delivery):
            self._unacked.requeue(delivery.tag)

    def requeue_all(self) -> int:
        """Return every open delivery to the queue; say how many these are."""
        return self._unacked.requeue_all()

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

    def flush(self) -> None:
        """Send the acks and nacks that are due; change the prefetch when it is time to."""
        if self._state is _State.CONSUMING:
            self._change_when_due()
        if self._state is _State.WAITING_FOR_ROOM:
            self._shed()
        self._send_settlements()
        if self._state is _State.WAITING_FOR_ROOM:
            self._consume_when_room()

    def _send_settlements(self, *, all_acks: bool = False) -> None:
        unacked = self._unacked
        if not (unacked.to_ack or unacked.to_requeue) or not self._channel.is_open:
            return
        if self._is_overfull and self._state is _State.CONSUMING and not all_acks:
            return  # it would give new credit
        if self._is_to_pause and self._state is _State.RESIZING:
            return  # what has not been started goes back too, and it came before
        runs_out = 2 * unacked.to_ack >= self.depth
        at_once = all_acks or runs_out or self._state in _STOPPING
        to_requeue = unacked.to_requeue
        due = self._pace.take_due(unacked, monotonic(), acks_at_once=at_once)
        self.requeued += to_requeue - unacked.to_requeue
        for ack in due.acks:
            self._channel.ack(ack.tag, multiple=ack.multiple)
        for nack in due.nacks:
            self._channel.requeue(nack.tag, multiple=nack.multiple)
        if due.next_at < inf:
            self._take_turn_at(due.next_at)

    def _take_turn_at(self, moment: float) -> None:
        """Make the loop take a turn then, which flushes, though nothing else may happen."""

        def take_turn() -> None:
            self._turn_at = inf

        if moment < self._turn_at:
            self._turn_at = moment
            self._connection.call_later(max(0.0, moment - monotonic()), take_turn)

    # Another prefetch
    #
    # Never with two consumers side by side: the broker would deliver to them out of order. So it
    # is cancel, then consume again.

    def _change_when_due(self) -> None:
        """Cancel when another prefetch is wanted, or none, and all credit is used up.

        Nothing is under way then that would come back and be overtaken. For the same reason this
        comes before the acks of the turn, which give new credit. Only slow handlers cannot wait
        for that.
        """
        if self._is_to_pause and not self._is_overfull:
            self._is_overfull = True
            self._quiet_at = monotonic() + QUIET_SECONDS
        if self._is_overfull:
            self._change_when_quiet()
            return
        wanted = self.prefetch.wanted()
        self._is_urgent = wanted < self.depth and self.prefetch.is_slow
        if wanted != self.depth and (self._is_urgent or self.outstanding >= self.depth):
            self._cancel_to_resize()

    def _change_when_quiet(self) -> None:
        """Cancel once nothing is under way.

        What is under way while a consumer is cancelled, RabbitMQ requeues by itself, before what
        we requeue: it would be out of order.
        """
        if self.outstanding >= self.depth or monotonic() >= self._quiet_at:
            self._cancel_to_resize()
        else:
            self._take_turn_at(self._quiet_at)

    def _cancel_to_resize(self) -> None:
        self._state = _State.RESIZING
        self._channel.cancel(self._unregistered)

    def _shed(self) -> None:
        """Give back what waits for slow handlers; they may have become so since the cancel."""
        if self._is_to_pause:
            before = self._unacked.to_requeue
            self._requeue_unstarted()
            self.prefetch.returned(self._unacked.to_requeue - before)
        elif (self._is_urgent or self.prefetch.is_slow) and not self.prefetch.due:
            before = self._unacked.to_requeue
            self._requeue_unstarted()
            if self._unacked.to_requeue > before:
                self.prefetch.surplus(self._unacked.to_requeue - before)
        self._is_urgent = False

    def _consume_when_room(self) -> None:
        """Consume again once what is held fits, unless it is paused.

        Not right after requeueing: RabbitMQ buffers many nacks in the channel, and a consumer
        that is registered meanwhile would be given newer messages first.
        """
        if self._is_to_pause:
            if not self.outstanding:
                self._rest()
        elif self.prefetch.fits(len(self._unacked)):
            self._state = _State.RETURNING
            self._consume()

    def _rest(self) -> None:
        self._state = _State.PAUSED
        if self.edge.private:
            self._channel.call_later(RENEW_SECONDS, self._renew)

    def _renew(self) -> None:
        """Keep a replica's own queue, with what is in it: without a consumer it would expire."""
        if self._state is _State.PAUSED:
            self._channel.keep_alive(self.edge.queue)
            self._channel.call_later(RENEW_SECONDS, self._renew)

    def pause(self) -> None:
        """Consume no more until `resume`, and requeue what has not been started: see `is_paused`.

        It keeps the order as another prefetch does. The channel stays open.
        """
        self._is_to_pause = True

    def resume(self) -> None:
        """Consume again, or go on if nothing has been cancelled yet."""
        self._is_to_pause = False
        if self._state is _State.PAUSED:
            self._register()

    # The end

    def cancel(self) -> None:
        """Consume no more (basic.cancel)."""
        if self._state in _STOPPING:
            return
        self._channel.is_wanted = False
        if self._channel.is_lost:
            self._state = _State.CANCELLED
            return
        if self._state is _State.CONSUMING:
            self._channel.cancel(self._unregistered)
        # On the way to consume-ok there is nothing to cancel yet: `_registered` does it then.
        is_cancelled = self._state in {_State.WAITING_FOR_ROOM, _State.PAUSED}
        self._state = _State.CANCELLED if is_cancelled else _State.CANCELLING
        if self.outstanding:
            self._ask_count()

    def close(self) -> Iterator[None]:
        """Close the channel, once the broker has taken the acks and nacks: a step task."""
        self._send_settlements()
        yield from self._until_taken()
        self._channel.close()
        while not self.is_closed:
            yield

    def _until_taken(self) -> Iterator[None]:
        """Wait for the broker to have taken what was sent: neither acks nor nacks are confirmed.

        Not even by close-ok; see `SettlementPace`. But a quorum queue counts a cancelled consumer
        for as long as it holds messages: wait until it counts one less than when we cancelled and
        still held some.
        """
        deadline = monotonic() + CLOSE_SECONDS
        while self._asked and self._channel.is_open and monotonic() < deadline:
            if len(self._counts) == self._asked:
                if self._counts[-1] < max(self._counts[0], 1):
                    return
                self._ask_count()
            yield

    def _ask_count(self) -> None:
        self._asked += 1
        self.count_consumers(self._counts.append)

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Ask the broker how many consumers the queue has (a passive queue.declare)."""
        self._channel.count(self.edge.queue, lambda count: tell(count.consumers))

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
