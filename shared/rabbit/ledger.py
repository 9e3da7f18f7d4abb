"""The guarantee as book-keeping: which inputs may be acked, which outputs await a confirm.

Pure, without pika, so that it can be tested by properties.
"""

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Ack(NamedTuple):
    """One basic.ack to send; `multiple` settles every open tag up to this one."""

    tag: int
    multiple: bool


class Inputs:
    """The deliveries of one channel, by delivery tag (which the broker counts up from 1)."""

    def __init__(self) -> None:
        """Start a book for a new channel."""
        self._open: dict[int, None] = {}  # insertion order is tag order
        self._settled: list[int] = []

    def __len__(self) -> int:
        """Count the deliveries that are neither settled nor given back."""
        return len(self._open)

    def __contains__(self, tag: int) -> bool:
        """Tell whether a delivery is neither settled nor given back."""
        return tag in self._open

    def __iter__(self) -> Iterator[int]:
        """Go through the tags of those deliveries, oldest first."""
        return iter(self._open)

    def receive(self, tag: int) -> None:
        """Note a delivery."""
        self._open[tag] = None

    def settle(self, tag: int) -> None:
        """Note that a delivery may be acked. Raises KeyError unless it is open."""
        del self._open[tag]
        self._settled.append(tag)

    def forget(self, tag: int) -> None:
        """Note that a delivery was given back (basic.nack). Raises KeyError unless it is open."""
        del self._open[tag]

    def acks(self) -> Iterator[Ack]:
        """Yield the acks for all that was settled since the last call: as few as possible.

        One ack with `multiple` reaches up to the first delivery that is still open; what is
        settled beyond it is acked one by one, so that a slow handler holds up nobody.
        """
        settled, self._settled = self._settled, []
        first_open = next(iter(self._open), None)
        below = [tag for tag in settled if first_open is None or tag < first_open]
        if below:
            yield Ack(max(below), multiple=len(below) > 1)
        if first_open is not None and len(below) < len(settled):
            yield from (Ack(tag, multiple=False) for tag in settled if tag > first_open)


class Outputs(Generic[T]):
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

    def send(self, output: T) -> None:
        """Note a publish; call it in the order of the publishes."""
        self._unconfirmed[self._next] = output
        self._next += 1

    def clear(self) -> None:
        """Forget what awaits a confirm; the counting goes on."""
        self._unconfirmed.clear()

    def confirm(self, sequence: int, *, multiple: bool) -> list[T]:
        """Take out what a basic.ack or basic.nack of the broker is about, oldest first."""
        if not multiple:
            output = self._unconfirmed.pop(sequence, None)
            return [] if output is None else [output]
        numbers = range(self._lowest, sequence + 1)
        self._lowest = max(self._lowest, sequence + 1)
        taken = [self._unconfirmed.pop(number, None) for number in numbers]
        return [output for output in taken if output is not None]
