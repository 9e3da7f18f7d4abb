"""What a replica holds of one partition: keys side by side, the messages of each key in order.

Book-keeping without a network, which stands on `book`; `Partition` has the channel.
"""

from collections.abc import Sequence
from typing import Any

from rabbit.amqp.frames import Arrival
from rabbit.message import delivered_in_vain
from rabbit.messaging.book import AckChannel, DeliveryBook
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.lanes import Lanes

#: How many messages each replica holds (basic.qos); only the active one is given any, so that takes
#: them from nobody. It must be the same for all, always: RabbitMQ puts what goes back behind what
#: went back before. So whoever is next has to take all that the one before him has held.
DEPTH = 100

#: So many are kept in memory, however large they are.
KEPT_AT_LEAST = 10

#: What has been delivered in vain so often may be what ends processes, and takes others along that
#: have had no turn before it: so keys are handled in any order then. The partition is not passed on
#: either, which counts as well.
SUSPICIOUS = 10

#: If that of one key only has been delivered in vain so often, its first message does end them: by
#: now every other key has had its turn before it. It is given up, unhandled, so that what is behind
#: it is not. Where several have, something else ends processes, before they handle anything.
HOPELESS = 90


class KeyedDelivery(Delivery):
    """One delivery of a partition.

    Attributes:
        partition: the number of its partition.
        failed_here: how often a handler of this process has failed with it.
        is_running: whether it is with the handlers.
        is_hopeless: whether it is the first of its key, and has been delivered in vain as often as
            HOPELESS says.
    """

    __slots__ = ("failed_here", "is_hopeless", "is_running", "partition")

    def __init__(self, partition: int, generation: int, *arrival: Any) -> None:  # noqa: ANN401
        """Note what an `Arrival` brings; see `Delivery`."""
        super().__init__(generation, *arrival)
        self.partition = partition
        self.failed_here = 0
        self.is_running = self.is_hopeless = False

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


class Room:
    """How many bytes a replica may hold in memory, of all partitions together.

    Attributes:
        left: how many more; less than none: that many too much are held.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin with all of it."""
        self.left = most_bytes


class HeldDeliveries(DeliveryBook[KeyedDelivery]):
    """The deliveries of one partition, on one channel after the other.

    A key's next message may be started once its handler has returned: see `expect`. Where one comes
    again, so does what is behind it in its key: see `let_go`.

    Attributes:
        is_given_away: whether nothing more is kept: it comes again with the channel.
        started: what is with the handlers, or has been and is not settled.
    """

    def __init__(self, partition: int, room: Room) -> None:
        """Hold nothing yet of this partition; `room` is shared with the others."""
        super().__init__()
        self.is_given_away = False
        self.started: set[KeyedDelivery] = set()
        self._room = room
        self._kept = 0  # deliveries that are in a lane, or out of it and not settled
        self._kept_bytes = 0
        self._partition = partition
        self._lanes: Lanes[KeyedDelivery] = Lanes()
        self._retrying: set[KeyedDelivery] = set()  # they wait for their next attempt
        self._settled: list[KeyedDelivery] = []  # since the last `clear_settled`
        self._suspects: set[int] = set()  # tags of what has often been delivered in vain
        self._hopeless: set[str] = set()  # keys, as far as is known on this channel
        self._let_go: set[str] = set()  # keys of which one comes again with the channel

    # What it is

    @property
    def is_ready(self) -> bool:
        """Whether there is something to start."""
        return self._lanes.is_ready

    @property
    def is_used_up(self) -> bool:
        """Whether nothing that was kept is left, and the rest comes again."""
        return self.is_given_away and not self._kept

    @property
    def is_suspicious(self) -> bool:
        """Whether something is held that may end this process."""
        return bool(self._suspects)

    def is_to_give_up(self, delivery: KeyedDelivery) -> bool:
        """Tell whether it is this message that ends processes: see HOPELESS."""
        return delivery.is_hopeless and len(self._hopeless) == 1

    # What comes and goes

    def receive(self, arrivals: Sequence[Arrival]) -> None:
        """Take deliveries into their lanes, in the order in which they came.

        What there is no room for comes again; for some messages there always is.
        """
        sizes = [len(arrival[3]) for arrival in arrivals]
        self._unacked.receive([arrival[0] for arrival in arrivals], sizes)
        if self.is_given_away:
            return
        size = sum(sizes)
        if size > self._room.left:
            arrivals = self._fitting(arrivals)
            size = sum(sizes[: len(arrivals)])
        self._keep(len(arrivals), size)
        for arrival in arrivals:
            delivery = KeyedDelivery(self._partition, self.generation, *arrival)
            is_first = self._lanes.add(delivery)
            if delivery.redelivered and delivery.in_vain >= SUSPICIOUS:
                self._suspects.add(delivery.tag)
                if is_first and delivery.in_vain >= HOPELESS:
                    delivery.is_hopeless = True
                    self._hopeless.add(delivery.routing_key)

    def _keep(self, count: int, size: int) -> None:
        """Note so many more messages and bytes, or fewer."""
        self._kept += count
        self._kept_bytes += size
        self._room.left -= size

    def _fitting(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Return those that are kept; the others, and all that follows, come again."""
        room = self._room.left
        for number, arrival in enumerate(arrivals):
            if room < 0 and self._kept + number >= KEPT_AT_LEAST:
                self.is_given_away = True
                return arrivals[:number]
            room -= len(arrival[3])
        return arrivals

    def give_away(self) -> None:
        """Keep nothing of what has not been started: it comes again, here or elsewhere."""
        self.is_given_away = True
        self._lanes.clear()
        for delivery in self._retrying:
            self._lanes.release(delivery)
        self._retrying.clear()
        size = sum(len(each.body) for each in self.started)
        self._keep(len(self.started) - self._kept, size - self._kept_bytes)

    def lost(self) -> None:
        """Forget all: the broker gives it out again, in order.

        What a handler works on keeps its key until it returns: nothing of that key runs beside it.
        """
        self._begin_anew()
        for delivery in self.started | self._retrying:
            if not delivery.is_running:
                self._lanes.release(delivery)
        self._lanes.clear()
        for several in (
            self.started,
            self._retrying,
            self._suspects,
            self._hopeless,
            self._let_go,
            self._settled,
        ):
            several.clear()
        self._keep(-self._kept, -self._kept_bytes)
        self.is_given_away = False

    # What becomes of a delivery

    def take(self) -> list[KeyedDelivery]:
        """Start the first of each key of which no other is being handled."""
        taken = self._lanes.take()
        self.started.update(taken)
        for delivery in taken:
            delivery.is_running = True
        return taken

    def handler_ended(self, delivery: KeyedDelivery) -> None:
        """Note that a handler has ended."""
        delivery.is_running = False
        if delivery.generation != self.generation:
            self._lanes.release(delivery)

    def put_back(self, delivery: KeyedDelivery) -> None:
        """Take back what no handler has started, or what is to have another attempt."""
        delivery.is_running = False
        self.started.discard(delivery)
        self._retrying.discard(delivery)
        if self.is_current(delivery):
            self._lanes.put_back(delivery)
        else:
            self._lanes.release(delivery)

    def wait_for_retry(self, delivery: KeyedDelivery) -> None:
        """Let it keep its key while it waits for its next attempt, and nothing else wait for it."""
        delivery.failed_here += 1
        self.started.discard(delivery)
        self._retrying.add(delivery)

    def expect(self, delivery: KeyedDelivery, outputs: int) -> bool:
        """Note that the work is done, so the next of its key may begin; it is acked by confirms.

        Should these not come, because this process ends, say, it is handled again, and so is the
        next one behind it: the first time they were handled in order.

        Returns:
            whether the delivery is ours still. It is not where one before it in its key was let
            go: the outputs of that are still to come, so these come behind them, the next time.

        Raises:
            KeyError: something is expected of it already, which is a fault of the caller's.
        """
        if outputs and delivery.routing_key in self._let_go:
            self.let_go(delivery)
            return False
        if not super().expect(delivery, outputs):
            return False
        self._lanes.release(delivery)
        if not outputs:
            self._settled.append(delivery)
        return True

    def output_confirmed(self, delivery: KeyedDelivery) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        is_last = super().output_confirmed(delivery)
        if is_last:
            self._settled.append(delivery)
        return is_last

    def let_go(self, delivery: KeyedDelivery) -> None:
        """Do no more about a delivery that was started: it comes again with the channel.

        So does all that has not been started; and of its key what has been, and has outputs, which
        would come before those of this one.
        """
        if self.is_current(delivery) and delivery in self.started:
            self._unacked.expect_no_more(delivery.tag)
            self.started.discard(delivery)
            self._lanes.release(delivery)
            self._let_go.add(delivery.routing_key)
            self.give_away()

    def drop(self, delivery: KeyedDelivery) -> None:
        """Note that the broker is told of a delivery otherwise, before the next acks."""
        self._unacked.drop(delivery.tag)
        self._lanes.release(delivery)
        self._settled.append(delivery)

    def clear_settled(self) -> None:
        """Forget what is settled."""
        if settled := self._settled:
            self._settled = []
            self._keep(-len(settled), -sum([len(delivery.body) for delivery in settled]))
            self.started.difference_update(settled)
            if self._suspects:
                self._suspects.difference_update([delivery.tag for delivery in settled])

    def send_due(self, channel: AckChannel, now: float, *, acks_at_once: bool) -> float:
        """Send the acks that are due, at once where credit runs out, or this process may end."""
        is_short = 2 * self._unacked.to_ack >= DEPTH
        at_once = acks_at_once or is_short or self.is_suspicious
        return super().send_due(channel, now, acks_at_once=at_once)
