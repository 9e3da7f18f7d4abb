"""Why a connection was lost: the loop had stood still while work was running."""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from rabbit.logs import Logger

#: So many messages are named, at most.
MOST_NAMED = 5

_ADVICE = (
    "work that holds the interpreter, say with a regular expression, stops the heartbeats: let it "
    "release the interpreter, do it in a subprocess, or set a higher RABBITMQ_HEARTBEAT"
)


class _Standstill(NamedTuple):
    """A gap between two looks that was longer than a heartbeat, while work was running."""

    until: float
    seconds: float
    messages: list[str]


class Standstills:
    """Notices that the loop stands still, and says so when that has cost a connection.

    A user of each connection that may be lost; see `Connection.users`.
    """

    def __init__(
        self,
        heartbeat: float,
        take_long: Callable[[], list[str]],
        log: Logger,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Begin to measure.

        Args:
            heartbeat: seconds between heartbeats; a shorter standstill is none.
            take_long: returns the ids of the messages that have been with a handler for long, now
                or since the last call.
            log: told of it.
            clock: tells the time, in seconds.
        """
        self._heartbeat = heartbeat
        self._take_long = take_long
        self._log = log
        self._clock = clock
        self._looked_at = clock()
        self._last: _Standstill | None = None

    def look(self) -> None:
        """Measure how long it is since the last look; called much more often than a heartbeat."""
        now = self._clock()
        seconds, self._looked_at = now - self._looked_at, now
        messages = self._take_long()
        if messages and seconds > self._heartbeat:
            self._last = _Standstill(now, seconds, messages)

    def open(self) -> None:
        """Have nothing to set up."""

    def lost(self) -> None:
        """Say why, if that was just before. Of two connections that are lost so, the first says it.

        What is lost later than a heartbeat after it has another cause: the loop turns again.
        """
        self.look()
        last, self._last = self._last, None
        if last and self._looked_at - last.until < self._heartbeat:
            self._log.warning(
                "connection lost after the loop had stood still while work was running",
                message_id=", ".join(last.messages[:MOST_NAMED]),
                seconds=round(last.seconds, 1),
                advice=_ADVICE,
            )
