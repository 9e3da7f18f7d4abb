"""An ordered edge consumed: every replica is in line for every partition.

Who is active for a partition is RabbitMQ's decision, and that is all that order stands on: the
first in line. How partitions are spread is each replica's own affair: who has more than its share
steps down from what is too much, and stands in line again, behind the others. So that moves nothing
else, needs nobody who decides, and ends after as many steps as there are replicas.
"""

import random
from collections.abc import Callable, Iterator

from rabbit.amqp.connection import Connection
from rabbit.errors import TopologyError
from rabbit.logs import Logger
from rabbit.messaging.census import Census
from rabbit.messaging.held import DEPTH, KeyedDelivery, Room
from rabbit.messaging.partition import Partition
from rabbit.messaging.prefetch import MOST_BYTES
from rabbit.topology import Edge

#: How long a partition that is to be passed on waits for what runs, in seconds.
PATIENCE_SECONDS = 5.0


class OrderedConsumer:
    """Consumes all partitions of an edge; it is to the dispatcher what a `QueueConsumer` is.

    Attributes:
        edge: what it consumes.
        depth: how many messages of each partition it holds at most.
        requeued: how many deliveries it has given back.
        stands_aside: whether it is in line for nothing: others go on while it is paused. So it
            begins, until `resume` or `stand_in_line`.
    """

    #: That of a `QueueConsumer`, for batches: there are none here.
    is_full = False

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        tag: str,
        log: Logger,
        *,
        put_back_unstarted: Callable[[], None],
        on_lost: Callable[[], None],
        on_hopeless: Callable[[KeyedDelivery], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel for each partition.

        Args:
            connection: a connection that nothing is published on.
            edge: what to consume.
            tag: what the broker tells the consumers as.
            log: told when partitions are passed on.
            put_back_unstarted: called to put back (`put_back`) what no handler has started.
            on_lost: called when open deliveries have become void.
            on_hopeless: called with what is to be given up, since it ends each process that it is
                handled by.
            on_failed: called when the broker refuses the edge or a consumer.
        """
        self.edge = edge
        self.depth = DEPTH
        self.requeued = 0
        self._log = log
        self._put_back_unstarted = put_back_unstarted
        self._on_lost = on_lost
        self._on_hopeless = on_hopeless
        self._replicas: int | None = None
        self._is_leaving = self._is_to_pause = False
        self.stands_aside = True
        self._ready: dict[Partition, None] = {}  # in the order in which they became so
        self._changed: set[Partition] = set()  # since the last flush
        self._census = Census(connection, edge, tag, self._counted, on_failed)
        room = Room(MOST_BYTES)
        self._partitions = [
            Partition(connection, edge, number, tag, self, room, on_failed)
            for number in range(edge.partitions)
        ]

    # What it is

    @property
    def is_consuming(self) -> bool:
        """Whether it is in line for all partitions."""
        return all(each.is_ready for each in self._partitions)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is started, nor has been and is not settled.

        The rest is held, unless it stands aside: then nothing is.
        """
        if self.stands_aside and any(each.is_in_line for each in self._partitions):
            return False
        return self._is_to_pause and not self.outstanding

    @property
    def is_cancelled(self) -> bool:
        """Whether nothing more can arrive."""
        return self._is_leaving and all(each.is_gone for each in self._partitions)

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are not settled."""
        return sum(each.held.in_flight for each in self._partitions)

    @property
    def outstanding(self) -> int:
        """Count the deliveries that have been started and are not settled; the rest only waits."""
        return sum(len(each.held.started) for each in self._partitions)

    # What the partitions tell

    def note_ready(self, partition: Partition) -> None:
        """A delivery may be handled now."""
        self._ready[partition] = None

    def note_changed(self, partition: Partition) -> None:
        """Something is to be sent with the next flush."""
        self._changed.add(partition)

    def note_active(self) -> None:
        """A partition has been given its first message: before it is handled, is it too much?"""
        self._balance()

    def note_lost(self) -> None:
        """All that a partition held has become void."""
        self._on_lost()

    def withdraw_unstarted(self) -> None:
        """Put back what no handler has started."""
        self._put_back_unstarted()

    # Deliveries

    def take_arrived(self) -> list[KeyedDelivery]:
        """Return what may be handled now: the next of each key that has none under way."""
        if self._is_to_pause:
            return []
        ready, self._ready = self._ready, {}
        taken = [delivery for partition in ready for delivery in partition.take()]
        if any(partition.held.is_suspicious for partition in ready):
            taken = self._carefully(taken)
        return taken

    def _carefully(self, taken: list[KeyedDelivery]) -> list[KeyedDelivery]:
        """Start keys in any order, and of none what is hopeless: see SUSPICIOUS, HOPELESS."""
        random.shuffle(taken)
        for delivery in [each for each in taken if self._is_to_give_up(each)]:
            taken.remove(delivery)
            self.handler_ended(delivery)
            self._on_hopeless(delivery)
        return taken

    def _is_to_give_up(self, delivery: KeyedDelivery) -> bool:
        return self._partitions[delivery.partition].held.is_to_give_up(delivery)

    def is_current(self, delivery: KeyedDelivery) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        return self._partitions[delivery.partition].held.is_current(delivery)

    def handler_ended(self, delivery: KeyedDelivery) -> None:
        """Note that a handler has ended."""
        partition = self._partitions[delivery.partition]
        partition.held.handler_ended(delivery)
        self._ready[partition] = None

    def put_back(self, delivery: KeyedDelivery) -> None:
        """Take back what no handler has started, or what is to have its next attempt."""
        partition = self._partitions[delivery.partition]
        partition.held.put_back(delivery)
        self._ready[partition] = None

    def wait_for_retry(self, delivery: KeyedDelivery) -> None:
        """Let a delivery that has failed wait: it keeps its key until it is `put_back`."""
        self._partitions[delivery.partition].held.wait_for_retry(delivery)

    def expect(self, delivery: KeyedDelivery, outputs: int) -> bool:
        """Note that the work on a delivery is done: it is acked after so many confirms."""
        partition = self._partitions[delivery.partition]
        self._changed.add(partition)
        return partition.held.expect(delivery, outputs)

    def output_confirmed(self, delivery: KeyedDelivery) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        partition = self._partitions[delivery.partition]
        self._changed.add(partition)
        return partition.held.output_confirmed(delivery)

    def expect_no_more(self, delivery: KeyedDelivery) -> bool:
        """Expect no more outputs of a delivery; tell whether some were."""
        return self._partitions[delivery.partition].held.expect_no_more(delivery)

    def allow_ack(self, delivery: KeyedDelivery) -> bool:
        """Ack a delivery with the next flush; return False when it is not current any more."""
        return self.expect(delivery, 0)

    def requeue(self, delivery: KeyedDelivery) -> None:
        """Do no more about a delivery: it comes again when its channel has ended."""
        partition = self._partitions[delivery.partition]
        self._changed.add(partition)
        partition.held.let_go(delivery)

    def dead_letter(self, delivery: KeyedDelivery) -> None:
        """Have the broker dead-letter a delivery as it is, if it is current."""
        if self.is_current(delivery):
            partition = self._partitions[delivery.partition]
            self._changed.add(partition)
            partition.dead_letter(delivery)

    def send_settlements(self) -> None:
        """Send the acks of this turn, and see to the partitions that are left."""
        changed, self._changed = self._changed, set()
        for partition in changed:
            partition.flush()
        for partition in self._partitions:
            if partition.is_leaving:
                partition.go_on_leaving(PATIENCE_SECONDS)

    def pause(self) -> None:
        """Start nothing until `resume`, and keep what is held: to end a channel with it counts."""
        self._is_to_pause = True
        self._put_back_unstarted()

    def stand_aside(self) -> None:
        """Be in line for nothing: the others go on, with this replica's share."""
        if not (self.stands_aside or self._is_leaving):
            self.stands_aside = True
            self._census.stand_aside()
            for partition in self._partitions:
                partition.leave(comes_back=True)

    def stand_in_line(self) -> None:
        """Be in line for all partitions, behind the others."""
        if self.stands_aside:
            self.stands_aside = False
            self._census.stand_in_line()
            for partition in self._partitions:
                partition.stand_in_line()

    def resume(self) -> None:
        """Go on."""
        self._is_to_pause = False
        self.stand_in_line()

    # How partitions are spread

    def look(self) -> None:
        """Count the replicas now and then, and pass on what is too much."""
        if not self._is_leaving:
            self._census.look()
            self._balance()

    def _counted(self, replicas: int) -> None:
        if not replicas:
            return  # we are one ourselves: the count was not exact, see `Count`
        if replicas != self._replicas:
            self._log.debug("replicas counted", replicas=replicas)
            self._replicas = replicas
            for partition in self._partitions:
                partition.forget_moves()
        self._balance()

    def _balance(self) -> None:
        """Step down from what is more than this replica's share."""
        if not self._replicas or self._is_leaving:
            return
        share = -(-len(self._partitions) // self._replicas)
        kept = [each for each in self._partitions if each.is_active and not each.is_leaving]
        movable = sorted(
            (each for each in kept if each.may_move), key=lambda each: each.held.in_flight
        )
        for partition in movable[: max(0, len(kept) - share)]:
            self._log.debug("partition passed on", partition=partition.number, share=share)
            partition.leave(comes_back=True)

    # Its end

    def cancel(self) -> None:
        """Consume no more: let what runs be settled, and the rest come again elsewhere."""
        if self._is_leaving:
            return
        self._is_leaving = True
        self._census.leave()
        for partition in self._partitions:
            partition.leave(comes_back=False)

    def close(self) -> Iterator[None]:
        """Wait until the broker has closed every channel, or is gone: a step task."""
        while not (self.is_cancelled and self._census.has_left):
            yield

    def count_consumers(self, tell: Callable[[int], None]) -> None:
        """Tell how many replicas were counted last."""
        tell(self._replicas or 1)

    def requeue_all(self) -> int:
        """Let go of every open delivery, with the connection; say how many these are."""
        for partition in self._partitions:
            partition.abandon()
        return self.in_flight
