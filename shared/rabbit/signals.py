"""SIGTERM and Ctrl-C: the first one halts in order, the second one ends at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rabbit.connection import Loop

#: A second signal ends the process with this code: it gave up.
GAVE_UP = 1


@contextmanager
def stop_signals(loop: Loop, halt: Callable[[str], None]) -> Iterator[None]:
    """Call `halt` on the loop's thread when this process is asked to stop.

    The signal handler only notes the signal. It must not touch pika, whose locks are not
    reentrant; and a loop that waits would not see a flag, so the wake-up fd tells it.
    Only the main thread can handle signals: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            os._exit(GAVE_UP)
        received.append(number)

    def tell() -> None:
        if received:
            halt(signal.Signals(received[0]).name)

    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    # In this order: who is told nothing of a signal that has been noted waits for ever.
    loop.watch(reader, tell)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
