"""One queue consumed: deliveries in, acks out, and as many held in advance as the prefetch says.

What may be acked, and the acks themselves, are the book's (messaging/book.py), which this inherits:
`expect`, `output_confirmed`, `allow_ack`, `is_current` and `send_due` stand there. How many to hold
says the prefetch (messaging/prefetch.py). Here is the consumer that the broker has of us:
registered, cancelled for another prefetch or a pause, lost and set up again.
"""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from math import inf
from time import monotonic

from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.close_reasons import explain_cancel
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TopologyError
from rabbit.messaging.book import DeliveryBook
from rabbit.messaging.delivery import Again, Delivery
from rabbit.messaging.prefetch import Prefetch
from rabbit.topology import EXPIRES_MILLISECONDS, Edge

#: How long `close` waits for the broker to have taken the last acks and nacks.
CLOSE_SECONDS = 0.5

#: How often a queue that would expire is used while it is paused, in seconds. That puts its first
#: message behind others that were requeued, so not more often than it takes.
RENEW_SECONDS = EXPIRES_MILLISECONDS / 2000

#: When nothing has arrived for so long, in seconds, nothing is under way.
QUIET_SECONDS = 0.25


class _State(Enum):
    """What the consumer of this channel is to the broker. There is one at a time; see `opened`.

                      what comes   acks and nacks  until
    ABSENT            nothing      –               the channel is open
    REGISTERING       is kept      are sent        consume-ok
    CONSUMING         is kept      are sent        another prefetch is wanted, or none
    RUNNING_OUT       goes back    wait            nothing is under way any more
    RESIZING          goes back    are sent, or *  cancel-ok
    SHEDDING          is kept      are sent, or *  cancel-ok; what waits for handlers goes back then
    WAITING_FOR_ROOM  nothing      are sent        what is held fits; to pause: nothing is held
    RETURNING         is kept      are sent        consume-ok
    PAUSED            nothing      there are none  `resume`; a replica begins so, until it is heard
    CANCELLING        goes back    are sent        cancel-ok
    CANCELLED         nothing      are sent        for good: see `cancel`

    * wait, to pause: what has not been started goes back before.

    Why CONSUMING ends says where it goes: to RUNNING_OUT if too much came, or it is to pause; to
    SHEDDING if handlers are slow; to RESIZING otherwise, when all credit is used up. From all of
    them it is CONSUMING again by WAITING_FOR_ROOM and RETURNING, or PAUSED if it is to pause, which
    is asked for in any state. From any it is CANCELLING, and ABSENT when the channel is lost.
    """

    ABSENT = auto()
    REGISTERING = auto()
    CONSUMING = auto()
    RUNNING_OUT = auto()
    RESIZING = auto()
    SHEDDING = auto()
    WAITING_FOR_ROOM = auto()
    RETURNING = auto()
    PAUSED = auto()
    CANCELLING = auto()
    CANCELLED = auto()


#: It is for good: nothing is consumed any more.
_STOPPING = {_State.CANCELLING, _State.CANCELLED}

#: On the way to consume-ok.
_BEGINNING = {_State.REGISTERING, _State.RETURNING}

#: On the way to cancel-ok, to be registered again.
_CHANGING = {_State.RESIZING, _State.SHEDDING}

#: What comes goes back.
_KEEPS_NOTHING = {_State.RUNNING_OUT, _State.RESIZING, *_STOPPING}

#: It has been registered on this channel, and goes on as soon as it can.
_READY = {
    _State.CONSUMING,
    _State.RUNNING_OUT,
    *_CHANGING,
    _State.WAITING_FOR_ROOM,
    _State.RETURNING,
}


class QueueConsumer(DeliveryBook[Delivery], ChannelListener):
    """Consumes one edge on a channel of its own, and sets it up again whenever it is lost.

    What was delivered is acked and requeued by the book that this is, see `DeliveryBook`; what is
    rejected, at once.
    A `Dispatcher` is above it, or a `CallbackConsumer`; below it is the `Channel`.

    Attributes:
        edge: what is consumed.
        requeued: how many deliveries have been requeued.
        depth: how many messages it holds at most (basic.qos), as of now.
        prefetch: decides that.
    """

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        prefetch: Prefetch,
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
            requeue_unstarted: called to requeue what no handler has started, for others to have.
            on_lost: called when all open deliveries have become void.
            on_failed: called when the broker refuses the edge or the consumer.
        """
        super().__init__()
        self.edge = edge
        self.requeued = 0
        self.depth = 0
        self.prefetch = prefetch
        self._back = edge.back
        self._requeue_unstarted = requeue_unstarted
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._connection = connection
        self._channel = connection.channel(self, f"consume {edge.queue!r}")
        self._state = _State.ABSENT
        self._arrived: list[Delivery] = []
        self._most_held = 0  # bytes: not less than are held
        self._quiet_at = 0.0  # if nothing comes until then, nothing is under way
        self._turn_at = inf  # a turn is planned for then
        self._is_to_pause = False  # asked for: see `pause`
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
    def is_full(self) -> bool:
        """Whether nothing more can come before something of what is held is settled."""
        if self._state is _State.WAITING_FOR_ROOM:
            return not self.prefetch.fits(len(self._unacked))
        if self._state in {_State.CONSUMING, _State.RUNNING_OUT}:
            return len(self._unacked) >= self.depth
        return self._state in _STOPPING

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
        self._most_held = self._unacked.held_bytes
        self.depth = self.prefetch.wanted()
        self._unacked.change_consumer()
        self._channel.consume(self.edge.queue, self.depth, self._registered, self.edge.type)

    def _registered(self) -> None:
        if self._state is _State.CANCELLING:
            self._channel.cancel(self._unregistered)
        elif self._state in _BEGINNING:
            self._state = _State.CONSUMING

    def _unregistered(self) -> None:
        was = self._state
        self._state = _State.WAITING_FOR_ROOM if was in _CHANGING else _State.CANCELLED
        if was is _State.SHEDDING:
            self._shed()

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries; what comes after basic.cancel, or is too much, is requeued."""
        if self._channel.is_lost:
            return  # of a channel that is being closed: the broker gives it out again
        if self._state in _BEGINNING:
            self._state = _State.CONSUMING  # this says as much as consume-ok
        tags = [arrival[0] for arrival in arrivals]
        sizes = [len(arrival[3]) for arrival in arrivals]
        self._unacked.receive(tags, sizes)
        self._most_held += sum(sizes)
        is_kept = self._state not in _KEEPS_NOTHING
        if self.prefetch.due and (is_kept or self._is_to_pause):
            self.prefetch.came([arrival[4] for arrival in arrivals])
        if not is_kept or self._most_held > self.prefetch.most_bytes:
            arrivals = self._keep_some(arrivals, sizes)
        generation = self.generation
        kind = Again if exchange == self._back else Delivery
        for tag, key, properties, body, redelivered in arrivals:
            if redelivered:
                self.prefetch.careful()
            self._arrived.append(kind(generation, tag, key, properties, body, redelivered))

    def _keep_some(self, arrivals: list[Arrival], sizes: list[int]) -> list[Arrival]:
        """Keep what there is room for; requeue the rest, and what comes behind it.

        How large messages are is known when they come, and then as many are under way as there was
        credit for. They are read on: heartbeats and commands come behind them. Once something is
        to go back, nothing more is kept from this consumer; see `_cancel_when_quiet`. It comes
        again in order, if there is one replica and one handler thread: see `AutoPrefetch.surplus`.
        """
        self._quiet_at = monotonic() + QUIET_SECONDS
        kept = 0 if self._state in _KEEPS_NOTHING else self._room_for(sizes)
        for arrival in arrivals[kept:]:
            self._unacked.requeue(arrival[0])
        if kept < len(arrivals) and self._state not in _STOPPING:
            self._give_back(len(arrivals) - kept, max(sizes[kept:]))
        return arrivals[:kept]

    def _give_back(self, count: int, size: int) -> None:
        """Note that so many go back, for there is no room for them or it pauses."""
        if self._state is _State.CONSUMING:
            self._state = _State.RUNNING_OUT
        elif self._state is _State.SHEDDING:
            self._state = _State.RESIZING
        if self._is_to_pause:
            self.prefetch.returned(count)
        else:
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
            self._requeue_unstarted()
            self._settle(all_acks=True)
            self._channel.replace(explain_cancel(self.edge.queue))

    def lost(self) -> None:
        """Forget all deliveries: what was not acked, the broker gives out again."""
        self._begin_anew()
        self._arrived.clear()
        self._most_held = 0
        self._state = _State.CANCELLED if self._state in _STOPPING else _State.ABSENT
        self._on_lost()

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge or the consumer."""
        self._on_failed(error)

    # Acks and nacks

    def requeue(self, delivery: Delivery) -> None:
        """Return a delivery to its queue: it comes again, which counts as no failure."""
        if self.is_current(delivery):
            self._unacked.requeue(delivery.tag)

    def requeue_all(self) -> int:
        """Return every open delivery to the queue; say how many these are."""
        return self._unacked.requeue_all()

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Return a delivery to its queue as a failure, or to the dead letters (basic.reject).

        That is sent at once: the next ack may reach beyond it.
        """
        if self.is_current(delivery) and self._channel.is_open:
            self._unacked.drop(delivery.tag)
            self._channel.reject(delivery.tag, requeue=requeue)

    def dead_letter(self, delivery: Delivery) -> None:
        """Have the broker dead-letter a delivery as it is (basic.reject), if it is current.

        Its queue has a dead-letter exchange: nothing else is sent to dead letters (`Edge.dead`).
        """
        self.reject(delivery, requeue=False)

    def send_settlements(self) -> None:
        """Send the acks and nacks that are due; change the prefetch when it is time to."""
        if self._state is _State.CONSUMING:
            self._change_when_due()
        if self._state is _State.RUNNING_OUT:
            self._cancel_when_quiet()
        is_waiting = self._state is _State.WAITING_FOR_ROOM
        if is_waiting and (self._is_to_pause or self.prefetch.is_slow):
            self._shed()
        self._settle()
        if is_waiting:
            self._consume_when_room()

    def _settle(self, *, all_acks: bool = False) -> None:
        unacked = self._unacked
        if not (unacked.to_ack or unacked.to_requeue) or not self._channel.is_open:
            return
        is_pausing = self._is_to_pause and self._state in _CHANGING
        if (self._state is _State.RUNNING_OUT or is_pausing) and not all_acks:
            return  # it would give new credit, or overtake what goes back later and came before
        runs_out = 2 * unacked.to_ack >= self.depth
        at_once = all_acks or runs_out or self._state in _STOPPING
        to_requeue = unacked.to_requeue
        next_at = self.send_due(self._channel, monotonic(), acks_at_once=at_once)
        self.requeued += to_requeue - unacked.to_requeue
        self._take_turn_at(next_at)

    def _take_turn_at(self, moment: float) -> None:
        """Make the loop take a turn then, in which we send, though nothing else may happen."""

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
        if self._is_to_pause:
            self._state = _State.RUNNING_OUT
            self._quiet_at = monotonic() + QUIET_SECONDS
            return
        wanted = self.prefetch.wanted()
        if wanted < self.depth and self.prefetch.is_slow:
            self._cancel_to_change(_State.SHEDDING)
        elif wanted != self.depth and self.outstanding >= self.depth:
            self._cancel_to_change(_State.RESIZING)

    def _cancel_when_quiet(self) -> None:
        """Cancel once nothing is under way.

        What is under way while a consumer is cancelled, RabbitMQ requeues by itself, before what
        we requeue: it would be out of order.
        """
        if self.outstanding >= self.depth or monotonic() >= self._quiet_at:
            self._cancel_to_change(_State.RESIZING)
        else:
            self._take_turn_at(self._quiet_at)

    def _cancel_to_change(self, state: _State) -> None:
        self._state = state
        self._channel.cancel(self._unregistered)

    def _shed(self) -> None:
        """Give back what waits for a handler: it is to pause, or handlers are, or were, slow.

        For these it does not while something that went back before is due: see `Prefetch`.
        """
        if self.prefetch.due and not self._is_to_pause:
            return
        before = self._unacked.to_requeue
        self._requeue_unstarted()
        if count := self._unacked.to_requeue - before:
            (self.prefetch.returned if self._is_to_pause else self.prefetch.surplus)(count)

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

        It keeps the order as another prefetch does, unless something has gone back shortly before
        and has not come again yet: RabbitMQ puts the rest behind that. The channel stays open.
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
        if self._state in {_State.CONSUMING, _State.RUNNING_OUT}:
            self._channel.cancel(self._unregistered)
        # On the way to consume-ok there is nothing to cancel yet: `_registered` does it then.
        is_cancelled = self._state in {_State.WAITING_FOR_ROOM, _State.PAUSED}
        self._state = _State.CANCELLED if is_cancelled else _State.CANCELLING
        if self.outstanding:
            self._ask_count()

    def close(self) -> Iterator[None]:
        """Close the channel, once the broker has taken the acks and nacks: a step task."""
        self._settle()
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
