"""Run what blocks in a thread of its own, beside the test."""

import threading
from collections.abc import Callable
from typing import Protocol, Self

#: How long it may take to end after it was told to.
END_SECONDS = 30.0


class Blocking(Protocol):
    """A stage, or a MessageQueue."""

    def start(self) -> None:
        """Run until stopped."""

    def stop(self) -> None:
        """Make `start` return; safe from any thread."""


class InBackground:
    """Calls a function in a thread; its error, if any, comes out at the end."""

    def __init__(self, function: Callable[[], object]) -> None:
        """Call it now."""
        self._function = function
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the function has not returned."""
        return self._thread.is_alive()

    def join(self, seconds: float = END_SECONDS) -> None:
        """Wait until it has returned; raise what it has raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"{self._function} has not returned"
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # noqa: BLE001 - raised by `join`
            self._error = error


class Running:
    """Has `start` run in a thread for the time of a `with`, then stops it."""

    def __init__(self, *given: Blocking) -> None:
        """Run all of them."""
        self._given = given

    def __enter__(self) -> Self:
        """Start them."""
        self._threads = [InBackground(each.start) for each in self._given]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them and wait until they have ended."""
        for each in self._given:
            each.stop()
        for thread in self._threads:
            thread.join()
