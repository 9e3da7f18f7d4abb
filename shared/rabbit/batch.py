"""Messages that one call publishes: how many are under way, and what went wrong."""

import threading
from collections.abc import Callable

from rabbit.errors import BrokerUnavailableError, PublishError
from rabbit.publisher import Publication


class Batch:
    """Lets the thread that publishes wait for what the loop's thread learns."""

    def __init__(self, reason: Callable[[], str | None] = lambda: None) -> None:
        """Start with nothing under way; `reason` tells what keeps it from being confirmed."""
        self._reason = reason
        self._error: Exception | None = None
        self._open = 0
        self._changed = threading.Condition()

    def add(self, count: int) -> None:
        """Note that `count` messages are handed over to the loop."""
        with self._changed:
            self._open += count

    def confirmed(self) -> None:
        """Note that a queue has taken one of them."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Note what went wrong; the first error counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def wait(self, at_most: int, timeout: float | None) -> None:
        """Wait until no more than `at_most` are under way.

        Args:
            at_most: a number of messages.
            timeout: seconds without progress; None: for ever.

        Raises:
            PublishError: what went wrong with one of them.
            BrokerUnavailableError: none was confirmed for `timeout`.
        """
        with self._changed:
            while self._error is None and self._open > at_most:
                before = self._open
                if not self._changed.wait_for(
                    lambda: self._error is not None or self._open < before,  # noqa: B023
                    timeout,
                ):
                    why = self._reason() or "is RabbitMQ up, or is there an alarm?"
                    msg = f"{before} messages not confirmed for {timeout:g} s: {why}"
                    raise BrokerUnavailableError(msg)
            if self._error is not None:
                raise self._error


def confirmed(batches: list[Batch]) -> None:
    """Tell the batches of messages that a queue has taken them."""
    for batch in batches:
        batch.confirmed()


def refused(publication: Publication[Batch], error: PublishError) -> None:
    """Tell a message's batch that no queue has taken it."""
    publication[1].fail(error)
