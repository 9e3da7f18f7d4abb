"""Numbered messages, published while something happens to what carries them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

_BATCH = 500
#: Between two batches, each of which is a process.
_PAUSE_SECONDS = 1.0


class Numbered:
    """The messages n0, n1 and so on, for a stage that puts them into upper case.

    Attributes:
        confirmed: how many are known to be in a queue, from 0 on.
    """

    def __init__(self, publish: Callable[[str], object]) -> None:
        """Publish them by this.

        Args:
            publish: takes lines, a message each, and raises AssertionError unless all of them are
                confirmed.
        """
        self._publish = publish
        self.confirmed = 0

    @property
    def expected(self) -> set[str]:
        """What is to come out in the end."""
        return {f"N{number}" for number in range(self.confirmed)}

    def publish(self, count: int) -> None:
        """Publish the next ones; one that fails leaves the same numbers to be published."""
        numbers = range(self.confirmed, self.confirmed + count)
        self._publish("".join(f"n{number}\n" for number in numbers))
        self.confirmed += count

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Publish batch after batch for the time of a `with`; one that fails, again."""
        is_over = Event()

        def publish() -> None:
            while not is_over.wait(_PAUSE_SECONDS):
                # In part it may be published: then the same numbers come once more.
                with suppress(AssertionError):
                    self.publish(_BATCH)

        thread = Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def count_twice(self, printed: list[str]) -> int:
        """Return how many have come once more than needed; fail if one that is confirmed is lost.

        Args:
            printed: all that came out; what is no numbered message does not count.
        """
        ours = [text for text in printed if text[:1] == "N" and text[1:].isdigit()]
        missing = self.expected - set(ours)
        assert not missing, f"{len(missing)} of {self.confirmed} are lost: {sorted(missing)[:5]}"
        return len(ours) - len(set(ours))
