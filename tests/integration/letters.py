"""Dead letters, as a test reads them."""

import base64
from typing import Any, NamedTuple

from tests.broker import Broker
from tests.waiting import wait_until

#: Short ones, so that a test does not take long; their queues are called after them.
DELAYS = "0.3,0.6"


class DeadLetter(NamedTuple):
    """A message as the management API shows it; it decodes what pika cannot."""

    body: bytes
    key: str
    properties: dict[str, Any]
    headers: dict[str, Any]


def letters(broker: Broker, queue: str, count: int, seconds: float = 20) -> list[DeadLetter]:
    """Wait until so many messages are in a queue; take them."""
    wait_until(
        lambda: broker.depth(queue) >= count, seconds, lambda: f"{count} messages in {queue}"
    )
    request = {"count": count + 1, "ackmode": "ack_requeue_false", "encoding": "base64"}
    taken = broker.api("POST", f"queues/%2F/{queue}/get", request)
    assert len(taken) == count
    return [
        DeadLetter(
            base64.b64decode(each["payload"]),
            each["routing_key"],
            {name: value for name, value in properties.items() if name != "headers"},
            properties.get("headers", {}),
        )
        for each in taken
        for properties in [dict(each["properties"])]  # none at all are an empty list
    ]
