"""The peers: each relays what to_upper relays, in two configurations.

A peer is one module with a function `documented`, which does as the library's documentation says
for at-least-once, and a function `tuned`, the fastest that was found with the same guarantee. The
first sentence of each function's docstring says which guarantee it gives: it goes into the table. A
framework that wraps messages in an envelope of its own has a third function, `send`, which sends
the text `text()` as the framework does; that message is then replicated.

They run in containers of their own image: `python -m peers MODULE FUNCTION`.
"""

import os

HOST = os.environ.get("RABBITMQ_HOST", "localhost")
USERNAME = os.environ.get("RABBITMQ_USERNAME", "guest")
PASSWORD = os.environ.get("RABBITMQ_PASSWORD", "guest")
#: The CA of a broker that is to be spoken to with TLS.
CA_FILE = os.environ.get("RABBITMQ_CA_FILE")
URL = f"amqp://{USERNAME}:{PASSWORD}@{HOST}:5672/%2F"

#: The queues are there already, each bound to an exchange of its name by its name as key; but a
#: framework that has an envelope makes its own.
INPUT = os.environ.get("INPUT_QUEUE", "in")
OUTPUT = os.environ.get("OUTPUT_QUEUE", "out")
QUEUE_TYPE = os.environ.get("QUEUE_TYPE", "quorum")


def text() -> str:
    """Return the text that `send` sends: the benchmark puts other numbers in its place."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    room = int(os.environ.get("SIZE", "16")) - len("000000000=")
    return "000000000=" + (letters * (room // len(letters) + 1))[:room]
