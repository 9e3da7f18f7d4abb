"""One partition of an ordered edge: a queue with a single active consumer, on a channel of its own.

Order stands on two promises of RabbitMQ's, which tests/integration/test_single_active.py shows: of
all consumers of the queue one at a time is given messages; and what that one held when its channel
ends comes before what is behind it. It must not hold anything when it cancels, so it never does: it
ends with its channel.
"""

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from math import inf
from time import monotonic
from typing import Protocol

from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.close_reasons import explain_cancel
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TopologyError
from rabbit.messaging.held import DEPTH, HeldDeliveries, KeyedDelivery, Room
from rabbit.topology import Edge

#: Before a channel ends, its queue is asked so often, one question after the other; and how long
#: that may take, in seconds.
ACK_ROUNDS = 3
END_SECONDS = 2.0

#: A partition that was passed on, and comes back, is kept for so long, in seconds.
KEEP_SECONDS = 30.0


class Reader(Protocol):
    """What consumes all partitions; see `OrderedConsumer`."""

    requeued: int
    stands_aside: bool

    def note_ready(self, partition: "Partition") -> None:
        """A delivery may be handled now."""

    def note_changed(self, partition: "Partition") -> None:
        """Something is to be sent."""

    def note_active(self) -> None:
        """A partition has been given its first message."""

    def note_lost(self) -> None:
        """All that a partition held has become void."""

    def withdraw_unstarted(self) -> None:
        """Put back what no handler has started."""


class _State(Enum):
    OFF = auto()
    ASIDE = auto()  # the channel is open, and nothing is consumed
    STARTING = auto()  # on the way to consume-ok
    CONSUMING = auto()
    LEAVING = auto()  # nothing is started any more, until what has been is settled
    ENDING = auto()  # the last acks are under way, then the channel is closed
    GONE = auto()


class Partition(ChannelListener):
    """Consumes one partition: keys side by side, the messages of each key one after the other.

    Attributes:
        number: which it is.
        held: what it has been given and is not settled.
        is_active: whether it is the single active consumer, as far as it can know: it was given
            something.
    """

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        number: int,
        tag: str,
        reader: Reader,
        room: Room,
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: an ordered one.
            number: which of its partitions.
            tag: what the broker tells the consumer as.
            reader: told what happens here.
            room: for what is held.
            on_failed: called when the broker refuses the edge or the consumer.
        """
        self.number = number
        self.held = HeldDeliveries(number, room)
        self.is_active = False
        self._edge = edge
        self._queue = edge.queues[number]
        self._tag = tag
        self._reader = reader
        self._on_failed = on_failed
        self._connection = connection
        self._channel = connection.channel(self, f"consume {self._queue!r}")
        self._state = _State.OFF
        self._is_waiting_to_ack = False
        self._comes_back = False  # it is left only to be consumed again
        self._since = 0.0  # when it began to leave
        self._kept_until = 0.0

    # What it is

    @property
    def is_ready(self) -> bool:
        """Whether it is consumed, or will be at once: it is in line behind others."""
        return self._state in {_State.CONSUMING, _State.LEAVING, _State.ENDING} or self._comes_back

    @property
    def is_in_line(self) -> bool:
        """Whether it is given messages, or may be."""
        return self._state not in {_State.OFF, _State.ASIDE, _State.GONE}

    @property
    def is_leaving(self) -> bool:
        """Whether nothing more of it is started."""
        return self._state in {_State.LEAVING, _State.ENDING}

    @property
    def is_gone(self) -> bool:
        """Whether it is left for good, and the broker has closed the channel, or is gone."""
        return self._state is _State.GONE

    @property
    def may_move(self) -> bool:
        """Whether it can be passed on to another replica now: see SUSPICIOUS, KEEP_SECONDS."""
        is_settled = self._state is _State.CONSUMING and monotonic() > self._kept_until
        return is_settled and not self.held.is_suspicious

    def forget_moves(self) -> None:
        """Let it be passed on again at once: there are more replicas, or fewer, than before."""
        self._kept_until = 0.0

    # Its channel

    def opened(self) -> None:
        """Declare the partition, consume unless this replica stands aside."""
        self._channel.declare(self._edge.for_partition(self.number))
        self._state = _State.ASIDE
        if not self._reader.stands_aside:
            self.stand_in_line()

    def stand_in_line(self) -> None:
        """Consume, behind the other replicas; what is on its way out does that by itself."""
        if self._state is _State.ASIDE:
            self._state = _State.STARTING
            self._channel.consume(self._queue, DEPTH, self._registered, tag=self._tag)

    def _registered(self) -> None:
        if self._state is _State.STARTING:  # else it has been left since
            self._state, self._comes_back = _State.CONSUMING, False
            self._reader.note_ready(self)

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries into their lanes; what is given away already comes again."""
        del exchange
        if self._channel.is_lost:
            return
        was_active, self.is_active = self.is_active, True
        self.held.receive(arrivals)
        self._reader.note_ready(self)
        if not was_active:
            self._reader.note_active()

    def lost(self) -> None:
        """Forget what was held: the broker gives it out again, in order."""
        self.held.lost()
        is_for_good = self.is_gone or (self.is_leaving and not self._comes_back)
        self._state = _State.GONE if is_for_good else _State.OFF
        self.is_active = self._comes_back = False
        self._reader.note_lost()

    def consumer_cancelled(self) -> None:
        """Consume again on a new channel; `explain_cancel` says why that may be."""
        if not self.is_gone:
            self._send_acks(at_once=True)
            self._end(explain_cancel(self._queue))

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge or the consumer."""
        self._on_failed(error)

    # Its deliveries

    def take(self) -> list[KeyedDelivery]:
        """Start what may be handled now."""
        return self.held.take() if self._state is _State.CONSUMING else []

    def dead_letter(self, delivery: KeyedDelivery) -> None:
        """Have the broker dead-letter it as it is (basic.reject)."""
        if self._channel.is_open:  # else it comes again
            self.held.drop(delivery)
            self._channel.reject(delivery.tag, requeue=False)

    def flush(self) -> None:
        """Let the next of each key that was settled be started, and send the acks that are due."""
        self.held.clear_settled()
        if self.held.is_ready:
            self._reader.note_ready(self)
        self._send_acks(at_once=self.is_leaving)
        if self.held.is_used_up and self._state is _State.CONSUMING:
            self.leave(comes_back=True)

    def _send_acks(self, *, at_once: bool) -> None:
        if not self.held.to_ack or not self._channel.is_open:
            return
        now = monotonic()
        next_at = self.held.send_due(self._channel, now, acks_at_once=at_once)
        if next_at < inf and not self._is_waiting_to_ack:
            self._is_waiting_to_ack = True
            self._connection.call_later(next_at - now, self._stop_waiting_to_ack)

    def _stop_waiting_to_ack(self) -> None:
        self._is_waiting_to_ack = False
        self._reader.note_changed(self)

    # Its end

    def leave(self, *, comes_back: bool) -> None:
        """Step down: start nothing more, let what runs be settled, end the channel.

        Args:
            comes_back: consume again, behind the other replicas.
        """
        self._comes_back = comes_back and not self._channel.is_lost
        if not comes_back:
            self._channel.is_wanted = False
        if self._channel.is_lost:
            self._state = self._state if comes_back else _State.GONE
            return
        if not self.is_leaving:
            self._state, self._since = _State.LEAVING, monotonic()
            self._reader.withdraw_unstarted()
        if not comes_back:
            self.held.give_away()

    def go_on_leaving(self, patience_seconds: float) -> None:
        """End the channel once all that was started is settled; do not wait for that for ever.

        While a handler takes its time, the other keys wait: so it is kept, if it would come back.
        """
        if self._state is not _State.LEAVING:
            return
        if not self.held.started:
            self._send_acks(at_once=True)  # none waits for its step any more
            self._state = _State.ENDING
            end = partial(self._await_acks, self.held.generation)
            self._connection.call_later(END_SECONDS, partial(end, 0))
            end(ACK_ROUNDS)
        elif self._is_only_passed_on and monotonic() > self._since + patience_seconds:
            self._state, self._comes_back = _State.CONSUMING, False
            self._kept_until = monotonic() + KEEP_SECONDS
            self._reader.note_ready(self)

    @property
    def _is_only_passed_on(self) -> bool:
        return self._comes_back and not self._reader.stands_aside

    def _await_acks(self, generation: int, rounds: int) -> None:
        """End the channel when the broker has taken the acks, as far as can be known.

        It confirms none, and buffers some in the channel (see `pace`), to be lost with it. So it is
        given time: as long as its queue takes to answer a few questions.
        """
        if generation != self.held.generation:
            return
        if rounds:
            again = partial(self._await_acks, generation, rounds - 1)
            self._channel.count(self._queue, lambda _: again())
        else:
            self._end()

    def _end(self, reason: str | None = None) -> None:
        self._reader.requeued += self.held.in_flight
        self._kept_until = monotonic() + KEEP_SECONDS
        self._channel.forget_consumer()
        if self.is_leaving and not self._comes_back:
            self._channel.close()
        elif self._channel.is_open:
            comes_back = self._comes_back
            self._channel.replace(reason)
            self._comes_back = comes_back

    def abandon(self) -> None:
        """Have the end of the connection be the end of this: nothing overtakes what is held."""
        self._send_acks(at_once=True)
        self._channel.forget_consumer()
