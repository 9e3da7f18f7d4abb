"""How many messages to hold in advance: pure policy, fed with what handlers take.

Holding many keeps a fast handler busy across the round trip to the broker; holding many with a
slow handler keeps them from another replica that is idle. So hold what is handled in a fraction
of a second: one message where a handler takes longer than that, hundreds where it is fast.
"""

#: Work to hold in advance, in seconds of handler time.
HORIZON_SECONDS = 0.2

#: The most messages that one handler thread ever holds in advance.
DEEPEST = 300

#: How much one more sample moves the running mean.
_WEIGHT = 0.1

#: Samples to see before going deeper; going back to fair needs only one slow message.
_SAMPLES_TO_DEEPEN = 10

#: Change only for a difference of so many times: each change costs a round trip.
_HYSTERESIS = 2


class FixedPrefetch:
    """`PREFETCH=n`: the user knows."""

    def __init__(self, depth: int) -> None:
        """Hold `depth` messages, always."""
        self.depth = depth

    def handled(self, seconds: float, messages: int = 1) -> None:
        """Take no notice."""

    def running(self, seconds: float) -> None:
        """Take no notice."""

    def wanted(self) -> int:
        """Return the depth that was given."""
        return self.depth


class AutoPrefetch:
    """`PREFETCH=auto`: start fair, follow what is measured."""

    def __init__(self, concurrency: int = 1) -> None:
        """Begin with one message for each of `concurrency` handler threads."""
        self._concurrency = concurrency
        self._mean = 0.0
        self._samples = 0
        self.depth = concurrency

    def handled(self, seconds: float, messages: int = 1) -> None:
        """Note that `messages` messages took `seconds` of handler time, all in all."""
        weight = 1 - (1 - _WEIGHT) ** messages if self._samples else 1.0
        self._mean += weight * (seconds / messages - self._mean)
        self._samples += messages

    def running(self, seconds: float) -> None:
        """Note that a handler has been at one message for `seconds` and has not finished."""
        if seconds > max(self._mean, HORIZON_SECONDS):
            self._mean = max(self._mean, _WEIGHT * seconds)

    def wanted(self) -> int:
        """Return the depth to hold now; it becomes the current `depth`."""
        fits = int(HORIZON_SECONDS / max(self._mean, 1e-9))
        ideal = self._concurrency * max(1, min(DEEPEST, fits))
        deeper = ideal >= self.depth * _HYSTERESIS and self._samples >= _SAMPLES_TO_DEEPEN
        if deeper or ideal * _HYSTERESIS <= self.depth:
            self.depth = ideal
        return self.depth
