"""What became of numbered messages: pure book-keeping, a few bytes for each message.

A message's text is `RUN-NUMBER`: a run is one process of the source, its numbers begin at 0.
"""

from array import array
from collections.abc import Iterable, Mapping
from itertools import compress

#: What is kept of a message's id: enough to tell one from another.
_ID_DIGITS = 16
_MOST_SEEN = 255


class Run:
    """The messages of one process of the source."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sent = 0
        self.confirmed = bytearray()
        self.seen = bytearray()
        self._ids = array("Q")

    def grow(self, count: int) -> None:
        """Note that `count` messages are sent by now."""
        more = count - self.sent
        if more > 0:
            self.sent = count
            self.confirmed.extend(bytes(more))
            self.seen.extend(bytes(more))
            self._ids.frombytes(bytes(more * self._ids.itemsize))

    def see(self, number: int, message_id: str) -> bool:
        """Note that a message has arrived; say whether its id is the one that it had before."""
        shortened = int(message_id.replace("-", "")[:_ID_DIGITS], 16)
        is_first = self.seen[number] == 0
        self.seen[number] = min(self.seen[number] + 1, _MOST_SEEN)
        if is_first:
            self._ids[number] = shortened
        return self._ids[number] == shortened


class Account:
    """The messages of all runs: sent, confirmed, arrived.

    Attributes:
        unexpected: texts that nobody has sent.
        changed: texts that came again with another id.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._runs: dict[str, Run] = {}
        self.unexpected: list[str] = []
        self.changed: list[str] = []

    def told(self, lines: Iterable[str]) -> None:
        """Take what a source has printed: `sent RUN FIRST END` and `confirmed RUN FIRST END`."""
        for line in lines:
            what, name, *numbers = line.split()
            first, end = map(int, numbers)
            run = self._runs.setdefault(name, Run())
            run.grow(end)
            if what == "confirmed":
                run.confirmed[first:end] = b"\1" * (end - first)

    def arrived(self, lines: Iterable[str]) -> None:
        """Take what a sink has printed: `ID TEXT`; the sources' lines come first."""
        for line in lines:
            message_id, _, text = line.partition(" ")
            name, _, number = text.partition("-")
            run = self._runs.get(name)
            if run is None or not number.isdigit() or int(number) >= run.sent:
                self.unexpected.append(text)
            elif not run.see(int(number), message_id):
                self.changed.append(text)

    @property
    def sent(self) -> int:
        """Count what the sources have sent, confirmed or not."""
        return sum(run.sent for run in self._runs.values())

    @property
    def confirmed(self) -> int:
        """Count what the sources know to be confirmed."""
        return sum(sum(run.confirmed) for run in self._runs.values())

    @property
    def lost(self) -> list[str]:
        """Name what was confirmed and has not arrived."""
        return [
            f"{name}-{number}"
            for name, run in self._runs.items()
            for number in compress(
                range(run.sent),
                (confirmed > seen for confirmed, seen in zip(run.confirmed, run.seen, strict=True)),
            )
        ]

    @property
    def progress(self) -> dict[str, int]:
        """How many messages each run has sent."""
        return {name: run.sent for name, run in self._runs.items()}

    def is_beyond(self, progress: Mapping[str, int]) -> bool:
        """Tell whether something has arrived that was sent after this progress."""
        return any(any(run.seen[progress.get(name, 0) :]) for name, run in self._runs.items())

    @property
    def duplicated(self) -> int:
        """Count the arrivals of a message after its first."""
        return sum(sum(map(_again, run.seen)) for run in self._runs.values())


def _again(seen: int) -> int:
    return max(0, seen - 1)
