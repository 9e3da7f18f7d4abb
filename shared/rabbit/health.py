"""Ready and alive, as a file: a health check that costs no interpreter."""

from pathlib import Path


class ReadyFile:
    """A file that exists while the replica is ready, and is fresh while its loop turns."""

    def __init__(self, path: Path | None) -> None:
        """Keep the file at `path`; None: keep none."""
        self._path = path

    def update(self, *, ready: bool) -> None:
        """Touch the file, or remove it."""
        if self._path is None:
            return
        if ready:
            self._path.touch()
        else:
            self._path.unlink(missing_ok=True)
