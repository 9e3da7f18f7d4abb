"""How long the broker takes to confirm: one publish after the other is timed, not each."""

from collections.abc import Callable
from time import monotonic


class ConfirmTimes:
    """Times one publish at a time, by its sequence number, until it is confirmed.

    Attributes:
        seconds: how long those took that were timed, added up.
        count: how many these were.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Begin with none; `clock` tells the time in seconds."""
        self.seconds = 0.0
        self.count = 0
        self._clock = clock
        self._sequence: int | None = None
        self._since = 0.0

    @property
    def waiting(self) -> float:
        """For how long the one that is timed has been waiting, in seconds; 0: there is none."""
        return 0.0 if self._sequence is None else self._clock() - self._since

    def published(self, sequence: int) -> None:
        """Note the last publish that was sent; it is timed unless another one is."""
        if self._sequence is None:
            self._sequence, self._since = sequence, self._clock()

    def confirmed(self, sequence: int) -> None:
        """Note a confirm: the one that is timed has it by this one, at the latest."""
        if self._sequence is not None and sequence >= self._sequence:
            self.seconds += self._clock() - self._since
            self.count += 1
            self._sequence = None

    def lost(self) -> None:
        """Note that the confirm does not come: the channel is gone."""
        self._sequence = None
