"""How many messages to hold in advance: pure policy, fed with what handlers take.

Holding many keeps a fast handler busy across the round trip to the broker; holding many with a
slow handler keeps them from another replica that is idle. So hold what is handled in a fraction
of a second: one message where a handler takes longer than that, hundreds where it is fast.
"""

#: Work to hold in advance, in seconds of handler time.
HORIZON_SECONDS = 0.25

#: The most messages that are ever held in advance; more of them add no throughput, measured.
DEEPEST = 1000

#: The most bytes that are held in advance; a change of the mean size may exceed it for a while.
MOST_BYTES = 16 * 1024 * 1024

#: A handler that has been at one message for so long is slow: what waits behind it goes back.
SLOW_SECONDS = 1.0

#: Samples to see before going deeper.
_SAMPLES_TO_DEEPEN = 10

#: How much one more sample moves the running mean, and how far: a stall is not a slow handler.
_WEIGHT = 0.1
_STEEPEST = 4.0
_FLOOR_SECONDS = 0.001

#: Go deeper, or less deep, only for a difference of so many times: a change costs a round trip.
_DEEPER = 2
_LESS_DEEP = 4


class FixedPrefetch:
    """`PREFETCH=n`: the user knows."""

    #: Nothing goes back, however long a handler takes.
    is_slow = False

    def __init__(self, depth: int) -> None:
        """Hold `depth` messages, always."""
        self.depth = depth

    def handled(self, seconds: float, messages: int = 1, size: int = 0) -> None:
        """Take no notice."""

    def running(self, seconds: float) -> None:
        """Take no notice."""

    def careful(self) -> None:
        """Take no notice."""

    def wanted(self) -> int:
        """Return the depth that was given."""
        return self.depth


class AutoPrefetch:
    """`PREFETCH=auto`: start fair, follow what is measured.

    Attributes:
        depth: how many messages to hold, as of the last call of `wanted`.
        is_slow: whether a handler is taking so long now that others had better have the rest.
    """

    def __init__(self, concurrency: int = 1) -> None:
        """Begin with one message for each of `concurrency` handler threads."""
        self.depth = concurrency
        self.is_slow = False
        self._concurrency = concurrency
        self._mean = 0.0
        self._mean_bytes = 0.0
        self._samples = 0
        self._enough = _SAMPLES_TO_DEEPEN

    def handled(self, seconds: float, messages: int = 1, size: int = 0) -> None:
        """Note what was handled.

        Args:
            seconds: the handler time it took, all in all.
            messages: how many messages these were.
            size: how many bytes, all in all.
        """
        sample = seconds / messages
        if self._samples:
            sample = min(sample, _STEEPEST * self._mean + _FLOOR_SECONDS)
        weight = 1 - (1 - _WEIGHT) ** messages if self._samples else 1.0
        self._mean += weight * (sample - self._mean)
        self._mean_bytes += weight * (size / messages - self._mean_bytes)
        self._samples += messages
        self.is_slow = False

    def running(self, seconds: float) -> None:
        """Note that a handler has been at one message for `seconds` and has not finished."""
        if seconds > SLOW_SECONDS:
            self._mean = max(self._mean, seconds)
            self.is_slow = True

    def careful(self) -> None:
        """Go no deeper for a while: a message has come that was delivered before.

        It may have killed a process, and would do the same with all that is held beside it.
        """
        self._enough = self._samples + _SAMPLES_TO_DEEPEN

    def wanted(self) -> int:
        """Return how many messages to hold now."""
        in_time = int(self._concurrency * HORIZON_SECONDS / max(self._mean, 1e-9))
        in_memory = int(MOST_BYTES / max(self._mean_bytes, 1.0))
        ideal = max(self._concurrency, min(DEEPEST, in_time, in_memory))
        deeper = ideal >= self.depth * _DEEPER or self.depth < ideal == DEEPEST
        if (deeper and self._samples >= self._enough) or ideal * _LESS_DEEP <= self.depth:
            self.depth = ideal
        return self.depth
