"""A name lookup that holds up neither the loop nor the end of the process.

pika's runs in a thread that the interpreter waits for when it exits: where no name server answers,
a stage would take a quarter of a minute longer to end.
"""

import threading
from collections.abc import Callable
from typing import Any


class Lookup:
    """Looks something up in a daemon thread, and tells on the loop's thread (pika may cancel)."""

    def __init__(
        self,
        look_up: Callable[[], Any],
        on_done: Callable[[Any], object],
        call: Callable[[Callable[[], None]], object],
    ) -> None:
        """Begin; on the loop's thread.

        Args:
            look_up: called in a thread of its own.
            on_done: given what that has returned, or the exception that it has raised.
            call: runs a function on the loop's thread; safe from any thread.
        """
        self._look_up = look_up
        self._on_done: Callable[[Any], object] | None = on_done
        self._call = call
        threading.Thread(target=self._run, name="lookup", daemon=True).start()

    def cancel(self) -> bool:
        """Tell nobody, unless it is too late; see pika's `AbstractIOReference`."""
        is_open, self._on_done = self._on_done is not None, None
        return is_open

    def _run(self) -> None:
        found: Any
        try:
            found = self._look_up()
        except Exception as error:  # noqa: BLE001 - told, like a result
            found = error
        self._call(lambda: self._tell(found))

    def _tell(self, found: Any) -> None:  # noqa: ANN401 - whatever was looked up
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(found)
