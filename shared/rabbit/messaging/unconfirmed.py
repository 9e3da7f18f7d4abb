"""What has been published and is not confirmed: which messages a confirm of the broker's is about.

Book-keeping of a `Publisher`, without a network, as `book` is that of a consumer.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


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

    @property
    def last(self) -> int:
        """The sequence number of the last publish; 0: there was none."""
        return self._next - 1

    @property
    def oldest(self) -> int:
        """The lowest sequence number that awaits a confirm; none does: the next one."""
        return next(iter(self._unconfirmed), self._next)

    def note(self, outputs: Sequence[T]) -> None:
        """Note publishes, in their order."""
        begin, self._next = self._next, self._next + len(outputs)
        self._unconfirmed.update(zip(range(begin, self._next), outputs, strict=True))

    def clear(self) -> None:
        """Forget what awaits a confirm; the counting goes on."""
        self._unconfirmed.clear()

    def numbers(self, sequence: int, *, multiple: bool) -> list[int]:
        """Return the sequence numbers of what `take` would take out, oldest first."""
        first = self.oldest if multiple else sequence
        return [each for each in range(first, sequence + 1) if each in self._unconfirmed]

    def take(self, sequence: int, *, multiple: bool) -> list[T]:
        """Take out what a basic.ack or basic.nack of the broker is about, oldest first."""
        if not multiple:
            output = self._unconfirmed.pop(sequence, None)
            return [] if output is None else [output]
        oldest = next(iter(self._unconfirmed), sequence + 1)
        numbers = range(max(self._lowest, oldest), sequence + 1)
        self._lowest = max(self._lowest, sequence + 1)
        taken = [self._unconfirmed.pop(number, None) for number in numbers]
        return [output for output in taken if output is not None]
