"""How many messages to hold in advance: pure policy, fed with what handlers take.

Holding many keeps a fast handler busy across the round trip to the broker; holding many with a
slow handler keeps them from another replica that is idle. So hold what is handled in a fraction
of a second: one message where a handler takes longer than that, hundreds where it is fast.
"""

import sys
from collections.abc import Sequence
from typing import Protocol

#: Work to hold in advance, in seconds of handler time.
HORIZON_SECONDS = 0.25

#: The most messages that are ever held; more of them add no throughput, measured. With so many
#: handlers at a time that this is too few for all of them, it is two for each; and with batches,
#: two batches.
DEEPEST = 1000

#: The most that the broker can be asked to hold back (basic.qos).
MOST_MESSAGES = 65535

#: The most bytes of memory for what is held in advance.
MOST_BYTES = 16 * 1024 * 1024

#: How often a message may be in memory until it is acked: as it came, as text, changed, as output.
_COPIES = 4

#: What waits longer than this for a handler goes back: behind one message, or behind many.
SLOW_SECONDS = 1.0

#: Each pace is that of so much handler time. Two in a row count: a stall spoils only one.
_PACE_SECONDS = 0.5

#: Samples to see before going deeper; twice as many after each surplus, and as few as these again
#: after a long time without one.
_SAMPLES_TO_DEEPEN = 10
_MOST_SAMPLES_TO_DEEPEN = 10_000

#: How much one more sample moves the running mean, and how far: a stall is not a slow handler.
_WEIGHT = 0.1
_STEEPEST = 4.0
_FLOOR_SECONDS = 0.001

#: Go deeper, or less deep, only for a difference of so many times: a change costs a round trip.
_DEEPER = 2
_LESS_DEEP = 4
#: The same where nothing is held in advance yet: each handler waits a round trip for each message.
_FIRST = 1.25


class Prefetch(Protocol):
    """What decides how many messages a `QueueConsumer` holds: see `AutoPrefetch` for the words.

    One that changes nothing once it has begun is `FixedPrefetch`, to begin with.

    The dispatcher tells it what handlers do: `handled`, `running`. The consumer tells it what goes
    back and comes again: `surplus`, `returned`, `came`, `careful`; and it asks the rest.

    Attributes:
        is_slow: whether what waits for a handler had better go back.
        most_bytes: how many bytes of bodies to hold at most.
        due: how many messages went back, and have not come again.
    """

    is_slow: bool
    due: int

    @property
    def most_bytes(self) -> int:
        """How many bytes of bodies to hold at most; the message that exceeds it is kept still."""

    def handled(self, seconds: float, messages: int = 1, size: int = 0) -> None:
        """Note what was handled."""

    def running(self, seconds: float, held: int) -> None:
        """Note for how long a handler has been at its message."""

    def careful(self) -> None:
        """Note that a message has come that was delivered before."""

    def surplus(self, count: int, size: int = 0) -> None:
        """Note that so many go back, for there is no room for them."""

    def returned(self, count: int) -> None:
        """Note that so many go back, though there is room for them."""

    def came(self, redelivered: Sequence[bool]) -> None:
        """Note which of what has come was delivered before, while something is `due`."""

    def fits(self, held: int) -> bool:
        """Tell whether there is room beside so many; of none there has to be, or nothing comes."""

    def wanted(self) -> int:
        """Return how many messages to hold now, 1 to 65535; it is asked in each turn."""


class FixedPrefetch:
    """`PREFETCH=n`: the user knows."""

    #: Nothing goes back, however long a handler takes, and however large messages are.
    is_slow = False
    most_bytes = sys.maxsize
    due = 0

    def __init__(self, depth: int) -> None:
        """Hold `depth` messages, always."""
        self.depth = depth

    def ignore(self, *_measured: object, **_named: object) -> None:
        """Keep the depth, whatever is measured."""

    handled = running = careful = surplus = returned = came = ignore

    def fits(self, held: int) -> bool:
        """Tell whether less is held than `wanted`."""
        return held < self.depth

    def wanted(self) -> int:
        """Return the depth that was given."""
        return self.depth


class AutoPrefetch:
    """`PREFETCH=auto`: start fair, follow what is measured.

    Attributes:
        depth: how many messages to hold, as of the last call of `wanted`.
        is_slow: whether handlers take so long now that others had better have what waits.
        most_bytes: how many bytes of bodies to hold at most; the message that exceeds it is kept
            still.
        due: how many messages went back and have not come again, as far as is known.
    """

    most_bytes = MOST_BYTES // _COPIES

    def __init__(self, concurrency: int = 1, batch: int = 1) -> None:
        """Begin with one message for each of `concurrency` handler threads.

        Args:
            concurrency: how many handler calls run at a time.
            batch: how many messages one of them can take. Where work is slow, so many are held for
                each, however slow it is; but not before a few have been handled, and none of those
                that come was delivered before.
        """
        self.depth = concurrency
        self._batches = min(batch * concurrency, MOST_MESSAGES)
        self._deepest = min(max(DEEPEST, 2 * self._batches), MOST_MESSAGES)
        self._is_batching = batch > 1
        self.is_slow = False
        self.due = 0
        self._fitting = 0  # those of them that there was room for
        self._concurrency = concurrency
        self._mean = 0.0
        self._mean_bytes = 0.0
        self._samples = 0
        self._caution = _SAMPLES_TO_DEEPEN
        self._enough = 1 if self._is_batching else self._caution
        self._seconds, self._messages = 0.0, 0  # since the last pace
        self._pace = 0.0  # seconds of handler time a message

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
        self._seconds += seconds
        self._messages += messages

    def running(self, seconds: float, held: int) -> None:
        """Look, now and then, at what does not wait for the end of a batch.

        Args:
            seconds: for how long a handler has been at the oldest message that it has not finished.
            held: how many messages are held.
        """
        slow = seconds if seconds > SLOW_SECONDS else 0.0
        if self._messages and self._seconds >= _PACE_SECONDS * self._concurrency:
            pace, before = self._seconds / self._messages, self._pace
            self._pace, self._seconds, self._messages = pace, 0.0, 0
            if min(pace, before) * held > SLOW_SECONDS * self._concurrency:
                slow = max(slow, min(pace, before))
        self.is_slow = slow > 0
        self._mean = max(self._mean, slow)

    def careful(self) -> None:
        """Go no deeper for a while: a message has come that was delivered before.

        It may have killed a process, and would do the same with all that is held beside it.
        """
        self._enough = max(self._enough, self._samples + _SAMPLES_TO_DEEPEN)

    def surplus(self, count: int, size: int = 0) -> None:
        """Go no deeper until these have come again, and for a while, longer each time.

        A quorum queue puts what goes back behind what went back before: should some of it go back
        a second time, the rest would overtake it. So as many are held meanwhile as fit, whichever
        they are.

        Args:
            count: how many messages go back, for more was held than should be.
            size: the bytes of the largest, if it was too much for `most_bytes`.
        """
        if not self.due:
            is_long_ago = self._samples > self._enough + _MOST_SAMPLES_TO_DEEPEN
            longer = _SAMPLES_TO_DEEPEN if is_long_ago else 2 * self._caution
            self._caution = min(longer, _MOST_SAMPLES_TO_DEEPEN)
        self._enough = self._samples + self._caution
        self.due += count
        if size:
            self._mean_bytes = max(self._mean_bytes, size)
            self.depth = min(self.depth, self._ideal())

    def returned(self, count: int) -> None:
        """Go no deeper until these have come again: they go back, though there was room for them.

        Hold all of them at once then, for the reason that `surplus` has.

        Args:
            count: how many messages.
        """
        self.due += count
        self._fitting += count

    def came(self, redelivered: Sequence[bool]) -> None:
        """Note which of the messages that have come were delivered before.

        What went back comes again before any that is new, unless other replicas have it.
        """
        self.due = max(0, self.due - len(redelivered)) if all(redelivered) else 0
        if not self.due:
            self._fitting = 0

    def fits(self, held: int) -> bool:
        """Tell whether less is held than `wanted`: then it can be consumed with that.

        While what went back is due, it is whether a handler is idle.
        """
        return held < (self._concurrency if self.due else self.wanted())

    def wanted(self) -> int:
        """Return how many messages to hold now, and note it as `depth`."""
        ideal = self._ideal()
        factor = _FIRST if self.depth == self._concurrency else _DEEPER
        deeper = ideal >= self.depth * factor or self.depth < ideal == self._deepest
        may_deepen = not self.due and self._samples >= self._enough
        if (deeper and may_deepen) or ideal * _LESS_DEEP <= self.depth:
            self.depth = ideal
        return max(self.depth, min(self._fitting, MOST_MESSAGES))

    def _ideal(self) -> int:
        in_time = int(self._concurrency * HORIZON_SECONDS / max(self._mean, 1e-9))
        in_memory = int(self.most_bytes / max(self._mean_bytes, 1.0))
        if self._is_batching:
            in_time = max(in_time, self._batches)
        return max(self._concurrency, min(self._deepest, in_time, in_memory))
