"""The guarantee: a delivery is acked only after all its outputs are confirmed.

    deliver     receive           the broker holds the delivery until it is acked, and so do we
    work        expect            it has returned: so many outputs have to be confirmed now
    publish                       see `Publisher`
    confirm     output_confirmed  once for each output; with the last one the delivery may be acked
    ack         send_due          what may be acked is, and nothing else

Above it is `Dispatcher.turn` (runtime/dispatcher.py), which calls these in that order. The rule
stands in `UnackedDeliveries.confirmed`, by delivery tag; that is pure, so that any interleaving can
be tried in no time. That a tag is one of the present channel `DeliveryBook` sees to, which also
sends: nothing is below it but that channel.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from rabbit.messaging.delivery import Delivery
from rabbit.messaging.pace import SettlementPace

D = TypeVar("D", bound=Delivery)


class Settlement(NamedTuple):
    """One basic.ack or basic.nack to send; `multiple`: for every open tag up to this one."""

    tag: int
    multiple: bool


class UnackedDeliveries:
    """The deliveries of one channel, by delivery tag (which the broker counts up from 1)."""

    def __init__(self) -> None:
        """Start a book for a new channel."""
        self._open: dict[int, int] = {}  # bytes by tag; insertion order is tag order
        self._expected: dict[int, int] = {}  # outputs that are not confirmed, by their input's tag
        self._to_ack: list[int] = []
        self._to_requeue: set[int] = set()  # open, until the nack is sent
        self._last_of_consumers: list[int] = []  # the last tag of each consumer before this one

    def __len__(self) -> int:
        """Count the deliveries that the broker has not heard of, and will not by `acks`."""
        return len(self._open)

    def __contains__(self, tag: int) -> bool:
        """Tell whether a delivery can still be settled: acked, requeued or dead-lettered."""
        return tag in self._open and tag not in self._to_requeue

    @property
    def held_bytes(self) -> int:
        """Add up the sizes of the deliveries that are open; it takes a while for many."""
        return sum(self._open.values())

    @property
    def to_ack(self) -> int:
        """Count the deliveries that `acks` will tell of."""
        return len(self._to_ack)

    @property
    def to_requeue(self) -> int:
        """Count the deliveries that are to be requeued, and have not been."""
        return len(self._to_requeue)

    def receive(self, tags: Iterable[int], sizes: Iterable[int]) -> None:
        """Note deliveries, in the order in which they came, and how many bytes each has."""
        self._open.update(zip(tags, sizes, strict=True))

    def change_consumer(self) -> None:
        """Note that what comes from now on, on the same channel, comes by another consumer."""
        first, last = next(iter(self._open), None), next(reversed(self._open), None)
        if first is not None and last is not None:
            known = [tag for tag in self._last_of_consumers if first <= tag < last]
            self._last_of_consumers = [*known, last]

    def expect(self, tag: int, outputs: int) -> None:
        """Note that the work on a delivery is done: it is acked after so many confirms.

        Args:
            tag: raises KeyError unless it is open, and nothing is expected of it yet.
            outputs: how many its work has written; without any, it may be acked at once.
        """
        if not outputs:
            self.allow_ack(tag)
        elif tag in self and tag not in self._expected:
            self._expected[tag] = outputs
        else:
            raise KeyError(tag)

    def confirmed(self, tag: int) -> bool:
        """Note that an output of a delivery is confirmed; tell whether it was the last one.

        The rule: only with the last one the delivery may be acked. Had we acked it before, and the
        broker lost an output, the message would be gone. A confirm that comes after `requeue` or
        `expect_no_more` counts for nothing: there the input comes again, or goes elsewhere, with
        all its outputs.
        """
        left = self._expected.get(tag, 0) - 1
        if left > 0:
            self._expected[tag] = left
        elif left == 0:
            del self._expected[tag]
            self.allow_ack(tag)
        return left == 0

    def expect_no_more(self, tag: int) -> bool:
        """Expect no more outputs of a delivery, which stays open; tell whether some were."""
        return self._expected.pop(tag, None) is not None

    def allow_ack(self, tag: int) -> None:
        """Note that a delivery may be acked; KeyError unless it is open and nothing is expected."""
        if tag in self._to_requeue or tag in self._expected:
            raise KeyError(tag)
        del self._open[tag]
        self._to_ack.append(tag)

    def drop(self, tag: int) -> None:
        """Note that the broker is told of a delivery otherwise. Raises KeyError unless it is open.

        It must be told before the next of the acks, which may reach beyond it.
        """
        if tag in self._to_requeue:
            raise KeyError(tag)
        del self._open[tag]
        self.expect_no_more(tag)

    def requeue(self, tag: int) -> None:
        """Note that a delivery is to be requeued. Raises KeyError unless it is open."""
        if tag not in self._open:
            raise KeyError(tag)
        self._open[tag] = 0  # nobody holds it any more
        self._to_requeue.add(tag)
        self.expect_no_more(tag)

    def requeue_all(self) -> int:
        """Note that every open delivery is to be requeued; say how many these are."""
        self._to_requeue.update(self._open)
        self._expected.clear()
        return len(self._open)

    def acks(self) -> Iterator[Settlement]:
        """Yield the acks to send now, each delivery once: as few as possible.

        One ack with `multiple` reaches up to the first delivery that is still open; what may be
        acked beyond it is acked one by one, so that a slow handler holds up nobody.
        """
        to_ack, self._to_ack = self._to_ack, []
        first_open = next(iter(self._open), None)
        below = [tag for tag in to_ack if first_open is None or tag < first_open]
        if below:
            yield Settlement(max(below), multiple=len(below) > 1)
        if first_open is not None and len(below) < len(to_ack):
            yield from (Settlement(tag, multiple=False) for tag in to_ack if tag > first_open)

    def nacks(self, singles: int) -> list[Settlement]:
        """Return the nacks to send now, each of which requeues.

        One nack with `multiple` for each consumer, if nothing below stays open or has still to be
        acked: of what several consumers have got, a quorum queue puts that of the last one first,
        if one nack is about it all. Otherwise up to `singles` single ones, lowest tags first.
        """
        last = max(self._to_requeue, default=0)
        below = sum(tag <= last for tag in self._open) + sum(tag < last for tag in self._to_ack)
        if below == len(self._to_requeue):
            ends = self._last_of_consumers
            lasts = {bisect_left(ends, tag): tag for tag in sorted(self._to_requeue)}
            nacks = [Settlement(tag, multiple=True) for tag in lasts.values()]
            taken = self._to_requeue
        else:
            taken = set(sorted(self._to_requeue)[:singles])
            nacks = [Settlement(tag, multiple=False) for tag in sorted(taken)]
        self._open = {tag: size for tag, size in self._open.items() if tag not in taken}
        self._to_requeue = self._to_requeue - taken
        return nacks


class AckChannel(Protocol):
    """What acks and nacks are sent on: a `Channel`."""

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Take a delivery out of its queue (basic.ack)."""

    def requeue(self, tag: int, *, multiple: bool = False) -> None:
        """Give a delivery back to its queue (basic.nack)."""


class DeliveryBook(Generic[D]):
    """Takes note of what becomes of deliveries, and sends the acks and nacks by that.

    A delivery of an earlier channel is void: the broker gives it out again, and what is said of it
    changes nothing. Whatever is consumed has this below it: a `QueueConsumer` is one, and a
    `Partition` of an ordered edge has one, `HeldDeliveries`.

    Attributes:
        generation: which channel it is, counted.
    """

    def __init__(self) -> None:
        """Begin with nothing delivered."""
        self.generation = 0
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are not settled."""
        return len(self._unacked)

    @property
    def to_ack(self) -> int:
        """Count what may be acked, and is not yet."""
        return self._unacked.to_ack

    @property
    def outstanding(self) -> int:
        """Count the deliveries that the broker awaits an ack or nack for."""
        return len(self._unacked) + self._unacked.to_ack

    def is_current(self, delivery: D) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        return delivery.generation == self.generation and delivery.tag in self._unacked

    def expect(self, delivery: D, outputs: int) -> bool:
        """Note that the work on a delivery is done: it is acked after so many confirms.

        Returns:
            whether it is ours still; otherwise it comes again, or has been settled.

        Raises:
            KeyError: something is expected of it already, which is a fault of the caller's.
        """
        if delivery.generation != self.generation:
            return False
        try:
            self._unacked.expect(delivery.tag, outputs)
        except KeyError:
            if self.is_current(delivery):
                raise
            return False
        return True

    def allow_ack(self, delivery: D) -> bool:
        """Note that a delivery may be acked, for nothing is expected; tell whether it was open."""
        return self.expect(delivery, 0)

    def output_confirmed(self, delivery: D) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        return delivery.generation == self.generation and self._unacked.confirmed(delivery.tag)

    def expect_no_more(self, delivery: D) -> bool:
        """Expect no more outputs of a delivery, which stays unacked; tell whether some were."""
        return self.is_current(delivery) and self._unacked.expect_no_more(delivery.tag)

    def send_due(self, channel: AckChannel, now: float, *, acks_at_once: bool) -> float:
        """Send the acks and nacks that are due: basic.ack for what may be acked, and nothing else.

        Args:
            channel: the present one, which is open.
            now: the time in seconds.
            acks_at_once: do not wait until one ack is about more of them; see `SettlementPace`.

        Returns:
            when there may be more to send, in seconds as `now`; inf: not by itself.
        """
        due = self._pace.take_due(self._unacked, now, acks_at_once=acks_at_once)
        for ack in due.acks:
            channel.ack(ack.tag, multiple=ack.multiple)
        for nack in due.nacks:
            channel.requeue(nack.tag, multiple=nack.multiple)
        return due.next_at

    def _begin_anew(self) -> None:
        """Begin a new book, for a new channel: all that is open is void."""
        self.generation += 1
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()
