"""How long calls of `work` have taken: their sum, and how many took how long."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple, Self

from rabbit.control.messages import HANDLER_BOUNDS

#: A call that was quicker than this is only counted: to time it would cost as much as it does.
QUICK_SECONDS = HANDLER_BOUNDS[0]


class SlowCalls:
    """Counts the calls that were not quick; one thread writes, and any may read."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counts = [0] * len(HANDLER_BOUNDS)

    def add(self, seconds: float) -> None:
        """Count a call that took so long, more than QUICK_SECONDS."""
        self.counts[bisect_left(HANDLER_BOUNDS, seconds) - 1] += 1


class HandlerTimes(NamedTuple):
    """How long calls took until now.

    Attributes:
        seconds: all of them, added up.
        buckets: how many took how long; see `Report.handler_buckets`.
    """

    seconds: float = 0.0
    buckets: tuple[int, ...] = ()

    @classmethod
    def of(cls, seconds: float, calls: int, slow: Iterable[SlowCalls]) -> Self:
        """Add up.

        Args:
            seconds: how long all calls took.
            calls: how many they are.
            slow: those that were not quick, by thread.
        """
        counts = [sum(column) for column in zip(*(each.counts for each in slow), strict=True)]
        return cls(seconds, (max(0, calls - sum(counts)), *counts))
