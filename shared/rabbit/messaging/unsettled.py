"""The guarantee as book-keeping: which inputs may be acked, which outputs await a confirm.

Pure, without pika, so that it can be tested by properties.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Settlement(NamedTuple):
    """One basic.ack or basic.nack to send; `multiple`: for every open tag up to this one."""

    tag: int
    multiple: bool


class UnackedDeliveries:
    """The deliveries of one channel, by delivery tag (which the broker counts up from 1)."""

    def __init__(self) -> None:
        """Start a book for a new channel."""
        self._open: dict[int, int] = {}  # bytes by tag; insertion order is tag order
        self._settled: list[int] = []
        self._returning: set[int] = set()  # open, until the nack is sent

    def __len__(self) -> int:
        """Count the deliveries that the broker has not heard of, and will not by `acks`."""
        return len(self._open)

    def __contains__(self, tag: int) -> bool:
        """Tell whether a delivery can still be settled or returned."""
        return tag in self._open and tag not in self._returning

    @property
    def held_bytes(self) -> int:
        """Add up the sizes of the deliveries that are open; it takes a while for many."""
        return sum(self._open.values())

    def receive(self, tags: Iterable[int], sizes: Iterable[int]) -> None:
        """Note deliveries, in the order in which they came, and how many bytes each has."""
        self._open.update(zip(tags, sizes, strict=True))

    def settle(self, tag: int) -> None:
        """Note that a delivery may be acked. Raises KeyError unless it is open."""
        if tag in self._returning:
            raise KeyError(tag)
        del self._open[tag]
        self._settled.append(tag)

    def drop(self, tag: int) -> None:
        """Note that the broker is told of a delivery otherwise. Raises KeyError unless it is open.

        It must be told before the next of the acks, which may reach beyond it.
        """
        if tag in self._returning:
            raise KeyError(tag)
        del self._open[tag]

    def give_back(self, tag: int) -> None:
        """Note that a delivery is to be returned. Raises KeyError unless it is open."""
        if tag not in self._open:
            raise KeyError(tag)
        self._open[tag] = 0  # nobody holds it any more
        self._returning.add(tag)

    def give_back_all(self) -> int:
        """Note that every open delivery is to be returned; say how many these are."""
        self._returning.update(self._open)
        return len(self._open)

    def acks(self) -> Iterator[Settlement]:
        """Yield the acks for all that was settled since the last call: as few as possible.

        One ack with `multiple` reaches up to the first delivery that is still open; what is
        settled beyond it is acked one by one, so that a slow handler holds up nobody.
        """
        settled, self._settled = self._settled, []
        first_open = next(iter(self._open), None)
        below = [tag for tag in settled if first_open is None or tag < first_open]
        if below:
            yield Settlement(max(below), multiple=len(below) > 1)
        if first_open is not None and len(below) < len(settled):
            yield from (Settlement(tag, multiple=False) for tag in settled if tag > first_open)

    @property
    def settled(self) -> int:
        """Count the deliveries that `acks` will tell of."""
        return len(self._settled)

    @property
    def returning(self) -> int:
        """Count the deliveries that are to be returned, and have not been."""
        return len(self._returning)

    def returns(self, singles: int) -> list[Settlement]:
        """Return the nacks to send now.

        One nack with `multiple`, if nothing below stays open or has still to be acked. Otherwise up
        to `singles` single ones, lowest tags first.
        """
        last = max(self._returning, default=0)
        below = sum(tag <= last for tag in self._open) + sum(tag < last for tag in self._settled)
        if below == len(self._returning):
            nacks = [Settlement(last, multiple=True)] if self._returning else []
            taken = self._returning
        else:
            taken = set(sorted(self._returning)[:singles])
            nacks = [Settlement(tag, multiple=False) for tag in sorted(taken)]
        self._open = {tag: size for tag, size in self._open.items() if tag not in taken}
        self._returning = self._returning - taken
        return nacks


class UnconfirmedPublishes(Generic[T]):
    """The publishes of one channel in confirm mode, by sequence number (counted up from 1)."""

    def __init__(self) -> None:
        """Start a book for a new channel."""
        self._unconfirmed: dict[int, T] = {}
        self._next = 1
        self._lowest = 1

    def __len__(self) -> int:
        """Count the publishes that await a confirm."""
        return len(self._unconfirmed)

    def __iter__(self) -> Iterator[T]:
        """Go through what awaits a confirm, oldest first."""
        return iter(self._unconfirmed.values())

    def send(self, outputs: Sequence[T]) -> None:
        """Note publishes, in their order."""
        begin, self._next = self._next, self._next + len(outputs)
        self._unconfirmed.update(zip(range(begin, self._next), outputs, strict=True))

    def clear(self) -> None:
        """Forget what awaits a confirm; the counting goes on."""
        self._unconfirmed.clear()

    def confirm(self, sequence: int, *, multiple: bool) -> list[T]:
        """Take out what a basic.ack or basic.nack of the broker is about, oldest first."""
        if not multiple:
            output = self._unconfirmed.pop(sequence, None)
            return [] if output is None else [output]
        oldest = next(iter(self._unconfirmed), sequence + 1)
        numbers = range(max(self._lowest, oldest), sequence + 1)
        self._lowest = max(self._lowest, sequence + 1)
        taken = [self._unconfirmed.pop(number, None) for number in numbers]
        return [output for output in taken if output is not None]
