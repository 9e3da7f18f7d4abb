"""Ready and alive, as files: a health check that costs no interpreter."""

from collections.abc import Callable
from pathlib import Path

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
                    path.touch()
                    path.unlink(missing_ok=True)  # stages of one process may share it
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
