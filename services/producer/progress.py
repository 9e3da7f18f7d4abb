"""Progress of a long publish, for a person at a terminal."""

from typing import Self

from rich import progress
from rich.console import Console

#: Redrawing for every message would cost more than publishing it.
_STEP_BYTES = 65536


class Progress:
    """A bar on stderr, or nothing."""

    def __init__(self, total_bytes: int | None, *, shown: bool) -> None:
        """Show how much of `total_bytes` is done; None: unknown."""
        self._pending = 0
        self._bar: progress.Progress | None = None
        if shown:
            self._bar = progress.Progress(
                progress.TextColumn("publishing"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True, force_terminal=True),
            )
            self._task = self._bar.add_task("publishing", total=total_bytes)

    def __enter__(self) -> Self:
        """Start to draw."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Draw the end."""
        if self._bar:
            self._bar.advance(self._task, self._pending)
            self._bar.stop()

    def advance(self, line: str) -> None:
        """Note that one more line is written."""
        if self._bar is None:
            return
        self._pending += len(line.encode()) + 1
        if self._pending >= _STEP_BYTES:
            self._bar.advance(self._task, self._pending)
            self._pending = 0
