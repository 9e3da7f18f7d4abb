"""Pauses before what failed is tried again."""

import random

#: What has lasted so long, in seconds, works again: pauses are short, and the outage is over. A
#: line that is cut again and again is one outage.
STABLE_SECONDS = 5.0


class Backoff:
    """Pauses of a random length (full jitter), up to a bound that doubles with each failure.

    What works again has to prove itself before the pauses are short again: who asks decides when.
    """

    def __init__(self, first_seconds: float, last_seconds: float) -> None:
        """Bound the pauses.

        Args:
            first_seconds: the longest pause after the first failure.
            last_seconds: the longest pause there is.
        """
        self._first = first_seconds
        self._last = last_seconds
        self._failures = 0

    @property
    def bound(self) -> float:
        """The longest that the next pause may be, in seconds."""
        return min(self._last, self._first * 2.0 ** min(self._failures, 32))

    def pause(self) -> float:
        """Count a failure; return how long to wait, in seconds."""
        bound = self.bound
        self._failures += 1
        return random.uniform(0, bound)  # noqa: S311 - no secret

    def proved(self) -> None:
        """Make the pauses short again: what was tried has lasted."""
        self._failures = 0
