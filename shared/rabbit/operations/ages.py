"""For how long the oldest message of a queue has waited: found by watching. Pure.

RabbitMQ does not tell when a message came to a quorum queue, and to take one out to see would put
it out of order. But what comes first goes first: the oldest one is that which came when, in all, as
many had come as have gone by now. How many have gone the reports say; how many have come follows
from that and from the depth. It costs no message anything, and no clocks are compared.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from rabbit.operations.looks import Look
from rabbit.operations.pipeline import Age, pipeline

#: So many moments are kept of a queue; of more, those that are close become one.
MOST_MOMENTS = 600


@dataclass
class _Came:
    """Some messages that came between two looks.

    Attributes:
        moment: when, in the middle between the two.
        count: how many of them are still there.
    """

    moment: float
    count: int


class QueueAges:
    """Remembers when the messages of one queue have come."""

    def __init__(self, moment: float, waiting: int) -> None:
        """Begin with those that are there: they came at some time before.

        Args:
            moment: now, in seconds of a clock that only runs forward.
            waiting: how many there are, ready or in flight.
        """
        self._moment = moment
        self._waiting = waiting
        self._before = waiting  # how many are left of those that were there at first
        self._came = deque([_Came(moment, waiting)])
        self._lacking = 0  # so many more are counted in `_came` than are there

    def look(self, moment: float, waiting: int, settled: int) -> None:
        """Take into account what has come and gone.

        Args:
            moment: now.
            waiting: how many there are, ready or in flight.
            settled: how many have gone since the last look, as far as is known.
        """
        # Depth and reports are not of the same instant: what one look lacks, another has too much,
        # as far as one look can. What lacks beside that is gone: it was purged, say.
        came = waiting - self._waiting + settled - self._lacking
        self._lacking = min(max(0, -came), settled)
        gone = settled + max(0, -came) - self._lacking
        if came > 0:
            self._came.append(_Came((self._moment + moment) / 2, came))
        self._before = max(0, self._before - gone)
        while self._came and gone >= self._came[0].count:
            gone -= self._came.popleft().count
        if not waiting:
            self._came.clear()
            self._before = self._lacking = 0
        if self._came:
            self._came[0].count -= gone
        if len(self._came) > MOST_MOMENTS:
            self._thin_out()
        self._moment, self._waiting = moment, waiting

    def _thin_out(self) -> None:
        """Have half as many moments, evenly over the time; of several the oldest holds."""
        step = 2 * (self._came[-1].moment - self._came[0].moment) / MOST_MOMENTS
        kept: deque[_Came] = deque()
        for came in self._came:
            if kept and came.moment - kept[-1].moment < step:
                kept[-1].count += came.count
            else:
                kept.append(came)
        self._came = kept

    def oldest(self, in_flight: int) -> Age | None:
        """Return for how long the oldest has waited that is ready; None: none is.

        Args:
            in_flight: so many have been delivered: the oldest of all.
        """
        passed = 0
        for came in self._came if in_flight < self._waiting else ():
            passed += came.count
            if passed > in_flight:
                return Age(self._moment - came.moment, is_exact=in_flight >= self._before)
        return None


class Ages:
    """The same of all queues, from one look to the next."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._queues: dict[str, QueueAges] = {}
        self._last: Look | None = None

    def take(self, look: Look) -> Mapping[str, Age]:
        """Return, by the name of the edge, how old the oldest message is that waits there.

        Args:
            look: one that was taken after those before.
        """
        seen = pipeline(look, self._last)
        queues: dict[str, QueueAges] = {}
        for edge in seen.edges:
            ages = self._queues.get(edge.name)
            if ages is None:
                ages = QueueAges(look.moment, edge.waiting)
            else:
                settled = round((edge.rate_out or 0.0) * seen.seconds)
                ages.look(look.moment, edge.waiting, settled)
            queues[edge.name] = ages
        self._queues, self._last = queues, look
        found = {edge.name: queues[edge.name].oldest(edge.depth.in_flight) for edge in seen.edges}
        return {name: age for name, age in found.items() if age}
