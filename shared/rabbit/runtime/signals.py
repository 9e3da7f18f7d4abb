"""SIGTERM and Ctrl-C: the first one halts in order, the second one ends at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rabbit import terminal
from rabbit.runtime.forks import forget, keep_from_children

#: A second signal ends the process with this code: it gave up.
GAVE_UP = 1

#: How long the lines that were said before it may take to be written then.
LAST_LINES_SECONDS = 0.2

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_signals(halt: Callable[[str], None]) -> Iterator[None]:
    """Call `halt` with the signal's name when this process is asked to stop.

    It is called in a thread of its own, so that it is heard whatever the others do. Only the main
    thread can handle signals: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = _Signals(halt)
    try:
        yield
    finally:
        signals.restore()


class _Signals:
    """The handlers of this process for the time of a `with`.

    They do nothing themselves: Python calls them when the main thread gets round to it. Their
    numbers come through the wake-up fd, from C, at once.
    """

    def __init__(self, halt: Callable[[str], None]) -> None:
        self._halt = halt
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._listener = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._listener.start()
        keep_from_children(self)
        # In this order: who is told nothing of a signal that has been noted waits for ever.
        self._previous_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous: dict[signal.Signals, Any] = {
            number: signal.signal(number, _note) for number in _STOPPING
        }

    def restore(self) -> None:
        """Leave all as it was."""
        forget(self)
        signal.set_wakeup_fd(self._previous_fd)
        self._restore_handlers()
        self._writer.close()
        self._listener.join()

    def disown(self) -> None:
        """Give a forked child the effects that signals had before; its parent hears nothing."""
        signal.set_wakeup_fd(-1)
        self._restore_handlers()
        self._reader.close()
        self._writer.close()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            # None: it was not installed from Python, and cannot be from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _listen(self) -> None:
        heard = 0
        while numbers := self._reader.recv(64):
            for number in numbers:
                if number in _STOPPING:
                    heard += 1
                    self._obey(signal.Signals(number), heard)
        self._reader.close()

    def _obey(self, number: signal.Signals, times: int) -> None:
        if times == 1:
            self._halt(number.name)
        else:
            terminal.flush(LAST_LINES_SECONDS)
            os._exit(GAVE_UP)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: that there is a handler makes C write to the wake-up fd."""
