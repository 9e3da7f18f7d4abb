"""The end of a process that does not end: DRAIN_TIMEOUT holds, whatever hangs."""

import atexit
import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from rabbit import terminal

#: How much longer an end may take that goes its way: exit handlers, buffers, the last lines.
MARGIN_SECONDS = 3.0

#: How much later the process ends if not even the watchdog's own thread gets on: a handler holds
#: the interpreter, or the interpreter's own end hangs.
LAST_RESORT_SECONDS = 2.0

#: How long the last line and what a stage has printed may take to be written.
FLUSH_SECONDS = 1.0

#: What the threads are called that run the code of users.
USER_THREADS = ("handler", "source")


_guards_exit = False


@contextmanager
def exit_guarded() -> Iterator[None]:
    """Say that this process is a stage's, and has to end when that does."""
    global _guards_exit  # noqa: PLW0603 - it is said of the process
    _guards_exit = True
    try:
        yield
    finally:
        _guards_exit = False


class Watchdog:
    """Ends the process if it has not ended by itself so long after it was armed.

    One that is made within `exit_guarded` does so until the process is gone: for exit handlers and
    threads of the user's code, too. Another one until `disarm`.
    """

    def __init__(
        self, seconds: float, say: Callable[[str], None], exit_code: Callable[[], int]
    ) -> None:
        """Prepare; a halt must not fail for want of a thread.

        Args:
            seconds: how long the process may take.
            say: told where the process hangs.
            exit_code: asked for the exit code.
        """
        self._seconds = seconds + MARGIN_SECONDS
        self._say = say
        self._exit_code = exit_code
        self._guards_exit = _guards_exit
        self._armed = threading.Event()
        self._disarmed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def arm(self) -> None:
        """Begin to count, once; safe from any thread."""
        if self._armed.is_set():
            return
        self._armed.set()
        if self._guards_exit:
            # Of C, it needs no interpreter. What it would print might not be read.
            with suppress(OSError, RuntimeError):
                null = Path(os.devnull).open("w")  # noqa: SIM115 - used until the process is gone
                faulthandler.dump_traceback_later(
                    self._seconds + LAST_RESORT_SECONDS, exit=True, file=null
                )

    def disarm(self) -> None:
        """Let the process live: what had to end has ended."""
        if not self._guards_exit:
            self._disarmed.set()
            self._armed.set()

    def _watch(self) -> None:
        self._armed.wait()
        if self._disarmed.wait(self._seconds):
            return
        self._say(_where_it_hangs())
        terminal.flush(FLUSH_SECONDS)
        os._exit(self._exit_code())


def _where_it_hangs() -> str:
    """Name the place in the main thread's code, or in the threads that keep the process alive."""
    main = threading.main_thread()
    waited_for = [
        thread
        for thread in threading.enumerate()
        if thread is not main and not thread.daemon and not main.is_alive()
    ]
    frames = sys._current_frames()  # noqa: SLF001 - documented
    for thread in waited_for or [main]:
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            code = frame.f_code
            place = f"{code.co_filename}:{frame.f_lineno} ({code.co_name})"
            return f"{thread.name} at {place}"
    return "unknown"


def leave(code: int) -> NoReturn:
    """End the process, with exit handlers run and buffers written, although a thread hangs.

    The interpreter's own end fails when a daemon thread holds sys.stdout, say in a pipe that nobody
    reads: so it is left out while a handler has not returned.
    """
    hanging = [each for each in threading.enumerate() if each.name.startswith(USER_THREADS)]
    for thread in hanging:
        thread.join(FLUSH_SECONDS / (10 * len(hanging)))
    if any(thread.is_alive() for thread in hanging):
        leave_at_once(code)
    sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
    """Do the same without waiting for any thread."""
    with suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - as the interpreter does it
    flusher = threading.Thread(target=_flush_stdout, daemon=True)
    with suppress(RuntimeError):
        flusher.start()
        flusher.join(FLUSH_SECONDS)
    os._exit(code)


def _flush_stdout() -> None:
    with suppress(Exception):
        sys.stdout.flush()
