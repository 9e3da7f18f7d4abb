"""Step 3: ack what is printed. An acked message does not come back."""

import signal
from typing import Any

from rabbit import MessageQueue


def callback(channel: Any, method: Any, properties: Any, message: str) -> None:
    """Print a message, and whether somebody has had it before; then ack it."""
    print(message, "(redelivered)" if method.redelivered else "(new)")
    queue.ack(method)


with MessageQueue("my_queue") as queue:
    signal.signal(signal.SIGINT, lambda *_: queue.stop())
    queue.register(callback)
    queue.start()
