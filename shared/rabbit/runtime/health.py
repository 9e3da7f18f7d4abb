"""Ready and alive, as files: a health check that costs no interpreter."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import NamedTuple

from rabbit.errors import ConfigurationError
from rabbit.logs import Logger


class Health:
    """One file that exists and is fresh while the replica is ready, one while its loop turns."""

    def __init__(self, ready_file: Path | None, alive_file: Path | None, log: Logger) -> None:
        """Keep the files at these paths; None: keep none.

        Args:
            ready_file: for a readiness probe, and for Compose.
            alive_file: for a liveness probe: who is not ready, say because the broker is away, must
                not be started anew for that.
            log: told when a file cannot be written any more. A stage does not end by that.
        """
        self._ready_file = ready_file
        self._alive_file = alive_file
        self._log = log
        self._trouble = ""

    def check(self) -> None:
        """Take away what a process before us has left.

        Raises:
            ConfigurationError: the files cannot be written.
        """
        for name, path in (("READY_FILE", self._ready_file), ("ALIVE_FILE", self._alive_file)):
            if path is not None:
                try:
                    path.unlink(missing_ok=True)
                    # Not the file itself: for a moment, it would say that we are ready.
                    with TemporaryFile(dir=path.parent):
                        pass
                except OSError as error:
                    raise ConfigurationError(
                        f"{name}: {str(path)!r} cannot be written: {error.strerror}; allowed: a "
                        "path in a folder that this process may write to"
                    ) from error

    def update(self, *, ready: bool) -> None:
        """Touch the files, or remove the one that says ready; the loop's thread calls this."""
        if self._alive_file:
            self._try(self._alive_file.touch)
        if self._ready_file:
            self._try(self._ready_file.touch if ready else self._unready)

    def remove(self) -> None:
        """Take the files away: the replica ends."""
        for path in (self._ready_file, self._alive_file):
            if path is not None:
                self._try(lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc]

    def _unready(self) -> None:
        if self._ready_file:
            self._ready_file.unlink(missing_ok=True)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if self._trouble != str(error):
                self._trouble = str(error)
                self._log.warning("the health check's file cannot be written", reason=str(error))


#: A call takes long from so many seconds on.
LONG_SECONDS = 0.5

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


class WatchedCall:
    """What runs in one thread, one call at a time, and takes long; any thread may ask."""

    def __init__(self) -> None:
        """Begin with nothing that runs."""
        self._running: tuple[str | None, float] | None = None
        self._long: deque[str | None] = deque()

    def begin(self, message_id: str | None) -> None:
        """Note a call, and which message it is about."""
        self._running = message_id, monotonic()

    def end(self) -> None:
        """Note that it is over."""
        running, self._running = self._running, None
        if running and _is_long(running[1]):
            self._long.append(running[0])

    def take_long(self) -> list[str | None]:
        """Return what takes long by now, or has ended so since this was called."""
        running = self._running
        now = [running[0]] if running and _is_long(running[1]) else []
        return [*now, *(self._long.popleft() for _ in range(len(self._long)))]


def _is_long(since: float) -> bool:
    return monotonic() - since > LONG_SECONDS


def _named(messages: list[str]) -> str:
    """Name messages; of a batch, say, the first of them."""
    more = len(messages) - MOST_NAMED
    return ", ".join(messages[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


class Standstills:
    """Notices that the loop stands still, and says so when that has cost a connection.

    A user of each connection that may be lost; see `Connection.users`.
    """

    def __init__(
        self,
        heartbeat: float,
        take_long: Callable[[], Sequence[str | None]],
        log: Logger,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Begin to measure.

        Args:
            heartbeat: seconds between heartbeats; a shorter standstill is none.
            take_long: returns the calls of work that have taken long, now or since this was called
                last: the id of the message that each is about, None for one without.
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
        calls = self._take_long()
        if calls and seconds > self._heartbeat:
            self._last = _Standstill(now, seconds, [each for each in calls if each is not None])

    def open(self) -> None:
        """Have nothing to set up."""

    def lost(self) -> None:
        """Say why, if that was just before. Of two connections that are lost so, the first says it.

        What is lost later than a heartbeat after it has another cause: the loop turns again.
        """
        self.look()
        last, self._last = self._last, None
        named = _named(last.messages) if last else ""
        if last and self._looked_at - last.until < self._heartbeat:
            self._log.warning(
                "connection lost after the loop had stood still while work was running",
                **({"message_id": named} if named else {}),
                seconds=round(last.seconds, 1),
                advice=_ADVICE,
            )
