"""What was, for the last ten minutes: in memory, and as much of it as fits on a page."""

from collections import deque
from dataclasses import dataclass, field

#: A line on the page has so many points, with so many seconds between.
POINTS = 120
STEP_SECONDS = 5.0

#: Names come from whoever may publish: no more lines are kept than these.
MOST_LINES = 500


@dataclass
class Line:
    """One figure over ten minutes: the latest point moves until it is STEP_SECONDS old.

    Times are in seconds, of a clock that only runs forward.
    """

    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=POINTS))

    def add(self, at: float, value: float) -> None:
        """Note a value; times never go back."""
        if len(self.points) > 1 and at - self.points[-2][0] < STEP_SECONDS:
            self.points.pop()
        self.points.append((at, value))

    def values(self) -> list[float]:
        """Return the values, oldest first, rounded to what a line on a page can show."""
        return [round(value, 1) for _, value in self.points]

    def since_positive(self) -> float | None:
        """Return for how many seconds it has been above 0 all the time; None: it is not."""
        began = None
        for at, value in reversed(self.points):
            if value <= 0:
                break
            began = at
        return None if began is None else self.points[-1][0] - began


class History:
    """All lines, by what they are of."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines: dict[tuple[str, str], Line] = {}

    def line(self, kind: str, name: str) -> Line:
        """Return a line; it is made if it is not there yet, unless there are too many."""
        key = kind, name
        if key not in self._lines and len(self._lines) >= MOST_LINES:
            return Line()
        return self._lines.setdefault(key, Line())

    def forget(self, before: float) -> None:
        """Let go of the lines that have got nothing since then."""
        for key in [key for key, line in self._lines.items() if line.points[-1][0] < before]:
            del self._lines[key]
