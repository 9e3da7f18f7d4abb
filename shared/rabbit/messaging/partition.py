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
from typing import Any, Protocol

from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TopologyError
from rabbit.message import delivered_in_vain
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.lanes import Lanes
from rabbit.messaging.pace import SettlementPace
from rabbit.messaging.unsettled import UnackedDeliveries
from rabbit.topology import Edge

#: How many messages each replica holds (basic.qos); only the active one is given any, so that takes
#: them from nobody. It must be the same for all, always: RabbitMQ puts what goes back behind what
#: went back before. So whoever is next has to take all that the one before him has held.
DEPTH = 100

#: So many are kept in memory, however large they are.
KEPT_AT_LEAST = 10

#: What has been delivered in vain so often may be what ends processes, and takes others along that
#: have had no turn before it: so keys are handled in any order then. The partition is not passed on
#: either, which counts as well. At its delivery limit the broker gives a message up.
SUSPICIOUS = 10

#: Before a channel ends, its queue is asked so often, one question after the other; and how long
#: that may take, in seconds.
ACK_ROUNDS = 3
END_SECONDS = 2.0

#: A partition that was passed on, and comes back, is kept for so long, in seconds.
KEEP_SECONDS = 30.0


class KeyedDelivery(Delivery):
    """One delivery of a partition.

    Attributes:
        partition: where it came from.
        failed_here: how often a handler of this process has failed with it.
        is_running: whether it is with the handlers.
    """

    __slots__ = ("failed_here", "is_running", "partition")

    def __init__(self, partition: "Partition", generation: int, *arrival: Any) -> None:  # noqa: ANN401
        """Note what an `Arrival` brings; see `Delivery`."""
        super().__init__(generation, *arrival)
        self.partition = partition
        self.failed_here = 0
        self.is_running = False

    @property
    def failures(self) -> int:
        """How many times a handler has failed with it here: nothing else counts it."""
        return self.failed_here

    @property
    def in_vain(self) -> int:
        """How often the broker has counted it as delivered in vain."""
        return delivered_in_vain(self) if self.redelivered else 0

    def count_in_vain(self) -> None:
        """Count what the broker has counted as failures here, too."""
        self.failed_here += self.in_vain


class Reader(Protocol):
    """What consumes all partitions; see `OrderedConsumer`."""

    requeued: int
    held_bytes: int
    stands_aside: bool

    @property
    def is_overfull(self) -> bool:
        """Whether more bytes are held than should be."""

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
        lanes: what is held, by key.
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
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: an ordered one.
            number: which of its partitions.
            tag: what the broker tells the consumer as.
            reader: told what happens here.
            on_failed: called when the broker refuses the edge or the consumer.
        """
        self.number = number
        self.lanes: Lanes[KeyedDelivery] = Lanes()
        self.is_active = False
        self._held_bytes = 0
        self._kept = 0  # deliveries that are in a lane, or out of it and not settled
        self._edge = edge
        self._queue = edge.queues[number]
        self._tag = tag
        self._reader = reader
        self._on_failed = on_failed
        self._connection = connection
        self._channel = connection.channel(self, f"consume {self._queue!r}")
        self._state = _State.OFF
        self._generation = 0
        self._unacked = UnackedDeliveries()
        self._started: set[KeyedDelivery] = set()  # until they are settled
        self._retrying: set[KeyedDelivery] = set()  # they wait for their next attempt
        self._settled: list[KeyedDelivery] = []  # since the last flush
        self._pace = SettlementPace()
        self._is_waiting_to_ack = False
        self._suspects: set[int] = set()  # tags of what has often been delivered in vain
        self._comes_back = False  # it is left only to be consumed again
        self._is_given_away = False  # what is not in a lane comes again with the channel
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
    def is_busy(self) -> bool:
        """Whether something has been started and is not settled."""
        return bool(self._started)

    @property
    def is_gone(self) -> bool:
        """Whether it is left for good, and the broker has closed the channel, or is gone."""
        return self._state is _State.GONE

    @property
    def in_flight(self) -> int:
        """Count what is not settled."""
        return len(self._unacked)

    @property
    def outstanding(self) -> int:
        """Count what the broker awaits an ack for."""
        return len(self._unacked) + self._unacked.to_ack

    @property
    def may_move(self) -> bool:
        """Whether it can be passed on to another replica now: see SUSPICIOUS, KEEP_SECONDS."""
        is_settled = self._state is _State.CONSUMING and monotonic() > self._kept_until
        return is_settled and not self.is_suspicious

    @property
    def is_suspicious(self) -> bool:
        """Whether something is held that may end this process."""
        return bool(self._suspects)

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
        self._comes_back = False
        if self._state is _State.STARTING:
            self._state = _State.CONSUMING
            self._reader.note_ready(self)

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries into their lanes; what is given away already comes again."""
        del exchange
        if self._channel.is_lost:
            return
        was_active, self.is_active = self.is_active, True
        self._unacked.receive([each[0] for each in arrivals], [len(each[3]) for each in arrivals])
        for arrival in arrivals:
            self._keep(KeyedDelivery(self, self._generation, *arrival))
        self._reader.note_ready(self)
        if not was_active:
            self._reader.note_active()

    def _keep(self, delivery: KeyedDelivery) -> None:
        """Put a delivery into its lane; or let it come again, with all that follows: too much."""
        if self._reader.is_overfull and self._kept >= KEPT_AT_LEAST:
            self._is_given_away = True
        if self._is_given_away or self._state is _State.ENDING:
            return
        self._kept += 1
        self._hold(len(delivery.body))
        self.lanes.add(delivery)
        if delivery.in_vain >= SUSPICIOUS:
            self._suspects.add(delivery.tag)

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._reader.held_bytes += size

    def lost(self) -> None:
        """Forget what was held: the broker gives it out again, in order.

        What a handler works on keeps its key until it returns: nothing of that key runs beside it.
        """
        self._generation += 1
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()
        for delivery in self._started | self._retrying:
            if not delivery.is_running:
                self.lanes.release(delivery)
        self.lanes.clear()
        for several in (self._started, self._retrying, self._suspects, self._settled):
            several.clear()
        self._hold(-self._held_bytes)
        self._kept = 0
        is_for_good = self.is_gone or (self.is_leaving and not self._comes_back)
        self._state = _State.GONE if is_for_good else _State.OFF
        self.is_active = self._is_given_away = self._comes_back = False
        self._reader.note_lost()

    def consumer_cancelled(self) -> None:
        """Consume again on a new channel: its queue was deleted, or an ack took too long."""
        if not self.is_gone:
            self._send_acks(at_once=True)
            self._end(
                f"{self._queue!r} is consumed no more: was it deleted, with what had waited there "
                "(make doctor shows what is missing), or is no broker left that has it?"
            )

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge or the consumer."""
        self._on_failed(error)

    # Its deliveries

    def is_current(self, delivery: KeyedDelivery) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        return delivery.generation == self._generation and delivery.tag in self._unacked

    def take(self) -> list[KeyedDelivery]:
        """Start the first of each key that nothing else is under way of."""
        if self._state is not _State.CONSUMING:
            return []
        taken = self.lanes.take()
        self._started.update(taken)
        for delivery in taken:
            delivery.is_running = True
        return taken

    def handler_ended(self, delivery: KeyedDelivery) -> None:
        """Note that a handler has ended."""
        delivery.is_running = False
        if not self.is_current(delivery):
            self.lanes.release(delivery)
            self._reader.note_ready(self)

    def put_back(self, delivery: KeyedDelivery) -> None:
        """Take back what no handler has started, or what is to have another attempt."""
        delivery.is_running = False
        self._started.discard(delivery)
        self._retrying.discard(delivery)
        if self.is_current(delivery):
            self.lanes.put_back(delivery)
        else:
            self.lanes.release(delivery)
        self._reader.note_ready(self)

    def wait_for_retry(self, delivery: KeyedDelivery) -> None:
        """Let it keep its key while it waits for its next attempt, and nothing else wait for it."""
        delivery.failed_here += 1
        self._started.discard(delivery)
        self._retrying.add(delivery)

    def expect(self, delivery: KeyedDelivery, outputs: int) -> bool:
        """Note that the work is done; tell whether the delivery is ours still."""
        if not self.is_current(delivery):
            return False
        self._unacked.expect(delivery.tag, outputs)
        if not outputs:
            self._settled.append(delivery)
        return True

    def confirmed(self, delivery: KeyedDelivery) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        is_last = delivery.generation == self._generation and self._unacked.confirmed(delivery.tag)
        if is_last:
            self._settled.append(delivery)
        return is_last

    def withdraw(self, delivery: KeyedDelivery) -> bool:
        """Expect no more outputs of a delivery; tell whether some were."""
        return self.is_current(delivery) and self._unacked.withdraw(delivery.tag)

    def let_go(self, delivery: KeyedDelivery) -> None:
        """Do no more about a delivery: it comes again when the channel has ended."""
        if self.is_current(delivery):
            self._unacked.withdraw(delivery.tag)
            self._started.discard(delivery)

    def dead_letter(self, delivery: KeyedDelivery) -> None:
        """Have the broker dead-letter it as it is (basic.reject)."""
        if not self._channel.is_open:
            return  # it comes again
        self._unacked.drop(delivery.tag)
        self._channel.reject(delivery.tag, requeue=False)
        self._settled.append(delivery)

    def flush(self) -> None:
        """Let the next of each key that was settled be started, and send the acks that are due."""
        for delivery in self._settled:
            self._started.discard(delivery)
            self._suspects.discard(delivery.tag)
            self._hold(-len(delivery.body))
            self._kept -= 1
            self.lanes.release(delivery)
        self._settled.clear()
        if self.lanes.is_ready:
            self._reader.note_ready(self)
        self._send_acks()
        if self._is_given_away and not self._kept and self._state is _State.CONSUMING:
            self.leave(comes_back=True)

    def _send_acks(self, *, at_once: bool = False) -> None:
        if not self._channel.is_open:
            return
        now = monotonic()
        is_short = 2 * self._unacked.to_ack >= DEPTH
        at_once = at_once or is_short or self.is_leaving or self.is_suspicious
        due = self._pace.take_due(self._unacked, now, acks_at_once=at_once)
        for ack in due.acks:
            self._channel.ack(ack.tag, multiple=ack.multiple)
        if due.next_at < inf and not self._is_waiting_to_ack:
            self._is_waiting_to_ack = True
            self._connection.call_later(due.next_at - now, self._stop_waiting_to_ack)

    def _stop_waiting_to_ack(self) -> None:
        self._is_waiting_to_ack = False
        self._reader.note_changed(self)

    # Its end

    def leave(self, *, comes_back: bool) -> None:
        """Step down: start nothing more, let what runs be settled, end the channel.

        Args:
            comes_back: consume again, behind the other replicas.
        """
        self._comes_back = comes_back
        if not comes_back:
            self._channel.is_wanted = False
        if self._channel.is_lost:
            self._state = self._state if comes_back else _State.GONE
            return
        if not self.is_leaving:
            self._state, self._since = _State.LEAVING, monotonic()
            self._reader.withdraw_unstarted()
        if not comes_back:
            self._give_away()

    def _give_away(self) -> None:
        """Keep nothing of what has not been started: it comes again, here or elsewhere."""
        self._is_given_away = True
        self.lanes.clear()
        for delivery in self._retrying:
            self.lanes.release(delivery)
        self._retrying.clear()
        self._hold(sum(len(each.body) for each in self._started) - self._held_bytes)
        self._kept = len(self._started)

    def go_on_leaving(self, patience_seconds: float) -> None:
        """End the channel once all that was started is settled; do not wait for that for ever.

        While a handler takes its time, the other keys wait: so it is kept, if it would come back.
        """
        if self._state is not _State.LEAVING:
            return
        if not self._started:
            self._send_acks()  # none waits for its step any more
            self._state = _State.ENDING
            self._await_acks(self._generation, ACK_ROUNDS)
            end = partial(self._await_acks, self._generation, 0)
            self._connection.call_later(END_SECONDS, end)
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
        if generation != self._generation:
            return
        if rounds:
            again = partial(self._await_acks, generation, rounds - 1)
            self._channel.count(self._queue, lambda _: again())
        else:
            self._end()

    def _end(self, reason: str | None = None) -> None:
        self._reader.requeued += len(self._unacked)
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
