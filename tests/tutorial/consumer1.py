"""Step 2: print messages and do not ack them. Stop it with Ctrl-C, run it again: they are back."""

import signal
from typing import Any

from rabbit import MessageQueue


def callback(channel: Any, method: Any, properties: Any, message: str) -> None:
    """Print a message, and whether somebody has had it before."""
    print(message, "(redelivered)" if method.redelivered else "(new)")


with MessageQueue("my_queue") as queue:
    signal.signal(signal.SIGINT, lambda *_: queue.stop())
    queue.register(callback)
    queue.start()
