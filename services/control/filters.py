"""Which dead letters a command is about."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rabbit import ConfigurationError
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.terminal import escape

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Filter:
    """What was asked for; a letter has to fit all of it.

    Attributes:
        everything: whether nothing needs to be asked for.
        ids: message ids, one of which it has; none: any.
        reason: the type of its error, or the broker's reason; None: any.
        queue: the queue it came from; None: any.
        before: when it was given up at the latest; None: at any time, known or not.
    """

    everything: bool = False
    ids: Collection[str] = ()
    reason: str | None = None
    queue: str | None = None
    before: datetime | None = None

    def require(self, verb: str) -> None:
        """Raise ConfigurationError when it was not said what to do it to."""
        asked = (self.reason, self.queue, self.before)
        if not (self.everything or self.ids or any(each is not None for each in asked)):
            msg = (
                f"say what to {verb}: --id ID (once or more), --reason REASON, --queue QUEUE, "
                "--older-than AGE, or --all"
            )
            raise ConfigurationError(msg)

    def matches(self, letter: DeadLetter) -> bool:
        """Tell whether a letter is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.reason in {None, letter.reason}
            and (self.before is None or _is_before(letter.failed_at, self.before))
        )

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


def older_than(age: str | None) -> datetime | None:
    """Return the time so long ago, of `90s`, `30m`, `2h` or `7d`; None: none was asked for.

    Raises:
        ConfigurationError: it is no such age.
    """
    if age is None:
        return None
    found = re.fullmatch(r"(\d{1,9})([smhd])", age.strip())
    if not found:
        raise ConfigurationError(f"--older-than: {age!r} is not such as 90s, 30m, 2h or 7d")
    try:
        return datetime.now(UTC) - timedelta(seconds=int(found[1]) * _UNIT_SECONDS[found[2]])
    except OverflowError:
        raise ConfigurationError(f"--older-than: {age} is before any calendar") from None


def rate(asked: str | None) -> float | None:
    """Return how many a second, of `20/s`, `30/m` or `100/h`; None: none was asked for.

    Raises:
        ConfigurationError: it is no such rate.
    """
    if asked is None:
        return None
    found = re.fullmatch(r"(\d{1,9})(?:/([smh]))?", asked.strip())
    if not found or not int(found[1]):
        raise ConfigurationError(f"--rate: {asked!r} is not such as 20/s, 30/m or 100/h")
    return int(found[1]) / _UNIT_SECONDS[found[2] or "s"]


def _is_before(failed_at: str, before: datetime) -> bool:
    try:
        moment = datetime.fromisoformat(failed_at)
    except ValueError:
        return False
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= before
