"""Which dead letters a command is about."""

from collections.abc import Collection
from dataclasses import dataclass

from rabbit import ConfigurationError
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.terminal import escape


@dataclass(frozen=True)
class Filter:
    """What was asked for; a letter has to fit all of it.

    Attributes:
        everything: whether nothing needs to be asked for.
        ids: message ids, one of which it has; none: any.
        reason: the type of its error, or the broker's reason; None: any.
        queue: the queue it came from; None: any.
    """

    everything: bool = False
    ids: Collection[str] = ()
    reason: str | None = None
    queue: str | None = None

    def require(self, verb: str) -> None:
        """Raise ConfigurationError when it was not said what to do it to."""
        if not (self.everything or self.ids or self.reason is not None or self.queue is not None):
            msg = (
                f"say what to {verb}: --id ID (once or more), --reason REASON, --queue QUEUE, "
                "or --all"
            )
            raise ConfigurationError(msg)

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant."""
        return (not self.ids or letter.id in self.ids) and self.reason in {None, letter.reason}

    def queues(self, known: list[str]) -> list[str]:
        """Return the queues whose dead letters to go through.

        Raises:
            ConfigurationError: the one that was asked for has no place for dead letters.
        """
        if self.queue is None:
            return known
        queue = self.queue
        if queue not in known and queue.removesuffix(".dead") in known:
            queue = queue.removesuffix(".dead")
        if queue not in known:
            there = f"those that have: {', '.join(map(escape, known))}" if known else "no queue has"
            msg = f"{self.queue!r} has no dead-letter queue; {there}"
            raise ConfigurationError(msg)
        return [queue]
