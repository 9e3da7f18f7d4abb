"""Step 4: stop on a poison pill, a message with the text HALT."""

from typing import Any

from rabbit import MessageQueue


def callback(channel: Any, method: Any, properties: Any, message: str) -> None:
    """Print a message and ack it; on HALT, stop."""
    queue.ack(method)
    if message == "HALT":
        queue.stop()
    else:
        print(message)


with MessageQueue("my_queue") as queue:
    queue.register(callback)
    queue.start()
print("bye")
