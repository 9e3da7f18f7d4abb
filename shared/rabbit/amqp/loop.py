"""pika's I/O loop, with an end to each turn and a door for other threads."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pika.adapters.select_connection import IOLoop

from rabbit.errors import RabbitError


class _Hush(threading.local):
    """Whether what this thread does with pika is ours, and our own log tells of it."""

    is_ours = False

    def filter(self, _record: logging.LogRecord) -> bool:
        """Keep pika from telling it a second time; what a program does with pika itself stays."""
        return not self.is_ours


_hush = _Hush()


class _Here(threading.local):
    """Whether a loop runs in this thread."""

    is_running = False


_here = _Here()


def may_wait() -> bool:
    """Tell whether this thread may wait: a loop that runs here could do nothing meanwhile."""
    return not _here.is_running


def check_may_wait() -> None:
    """Raise a RabbitError unless this thread may wait."""
    if not may_wait():
        raise RabbitError(
            "called in the thread that speaks to the broker, which cannot wait for itself: a "
            "finaliser (__del__), a signal's or a logging handler may run in any thread; have it "
            "hand over what it has to a thread of yours"
        )


@contextmanager
def _hushed() -> Iterator[None]:
    """Have pika log nothing that this thread does meanwhile."""
    # Each of its modules has a logger of its own; a filter does not concern those below one.
    for name in list(logging.root.manager.loggerDict):
        if name == "pika" or name.startswith("pika."):
            logging.getLogger(name).addFilter(_hush)
    before, _hush.is_ours = _hush.is_ours, True
    try:
        yield
    finally:
        _hush.is_ours = before


class Loop(IOLoop):
    """pika's I/O loop, with an end to each turn and a door for other threads."""

    def __init__(self, on_turn: Callable[[], None]) -> None:
        """Call `on_turn` at the end of each turn: when all that was ready has been read."""
        with _hushed():
            super().__init__()
        # A finaliser may wake us within any allocation, one of `wake_threadsafe` itself included.
        self._poller._waking_mutex = threading.RLock()  # type: ignore[assignment] # noqa: SLF001
        self._on_turn = on_turn

    def start(self) -> None:
        """Run in this thread until stopped, and have pika log nothing from here."""
        before, _here.is_running = _here.is_running, True
        try:
            with _hushed():
                super().start()
        finally:
            _here.is_running = before

    def close(self) -> None:
        """Let go of what it has open."""
        with _hushed():
            super().close()

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """Do what pika does here, without its log line: other threads than the loop's come by."""
        self._callbacks.append(callback)
        self._poller.wake_threadsafe()

    add_callback = add_callback_threadsafe

    def process_timeouts(self) -> None:
        """Run what is due, then end the turn (pika calls this once a turn)."""
        super().process_timeouts()
        self._on_turn()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run `function` on the loop's thread, soon; safe from any thread.

        A loop that has stopped never runs it (pika's `add_callback_threadsafe`).
        """

        def run() -> None:
            function(*arguments)

        self.add_callback_threadsafe(run)

    def wake(self) -> None:
        """Make the loop take a turn; safe from any thread."""
        self.add_callback_threadsafe(_nothing)

    def watch(self, reader: socket.socket, function: Callable[[], None]) -> None:
        """Run `function` whenever `reader` has something to read; it is read empty before."""

        def readable(_fd: int, _events: int) -> None:
            reader.recv(4096)
            function()

        self.add_handler(reader.fileno(), readable, self.READ)


def _nothing() -> None:
    """Do nothing: what counts is that the loop wakes up for it."""
