"""What happens when messages cannot be handled: the others go on, and none of them is lost."""

from tests.broker import Broker
from tests.faults.stream import Stream

#: Headers that RabbitMQ takes, and that pika cannot read or has no type for.
_TIME_BEYOND_ALL = b"\x01aT" + 8 * b"\x7f"
_NESTED = 200


def _properties(*headers: bytes, message_id: str) -> bytes:
    """Return properties with these headers and an id, as they stand in a content header."""
    table = b"".join(headers)
    flags = (1 << 13 | 1 << 7).to_bytes(2, "big")
    return (
        flags
        + len(table).to_bytes(4, "big")
        + table
        + bytes([len(message_id)])
        + message_id.encode()
    )


def _nested(depth: int) -> bytes:
    """Return a header that is a table in a table, and so on."""
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + len(table).to_bytes(4, "big") + table
    return table


def test_failing_at_random(stream: Stream) -> None:
    """One call in five fails: another attempt, on any replica, or the dead letters in the end."""
    stream.environment["RETRY_DELAYS"] = "0.2,0.5,1"
    stream.worker("fallible", FAILING=0.2)
    stream.worker("fallible", FAILING=0.2)
    stream.may_be_dead = True
    stream.start()

    with stream.fault("a handler that fails one time in five"):
        stream.wait_sent(2000)


def test_deadly_message(stream: Stream, broker: Broker) -> None:
    """A message that kills its process is given up at the delivery limit, here lowered to 3.

    With the prefetch as shipped: what is held beside it, again and again, would share its fate.
    """
    limit = 3
    stream.environment["PREFETCH"] = "auto"
    policy = {"pattern": f"^{stream.input}$", "definition": {"delivery-limit": limit}}
    broker.api("PUT", f"policies/%2F/{stream.input}", {**policy, "apply-to": "queues"})
    stream.worker("fallible", DEADLY="DEADLY")
    stream.may_be_dead = True
    stream.start()

    with stream.fault("a message that kills its process", worker=limit + 1):
        stream.put("DEADLY", [_properties(message_id="4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e")])
        stream.wait_dead(1)
    broker.clear_policy(stream.input)


def test_poison_headers(stream: Stream) -> None:
    """Headers that nobody can read: handled all the same, as long as nobody reads them."""
    stream.may_be_dead = True
    stream.start()
    poison = [
        _properties(_TIME_BEYOND_ALL, message_id="4a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e"),
        _properties(_nested(_NESTED), message_id="5a3c9c7e-6d0f-5a55-9a39-0b6f2f1f6f0e"),
    ]

    with stream.fault("headers that cannot be read"):
        stream.put("POISON", poison)


def test_too_large(stream: Stream) -> None:
    """More than MAX_MESSAGE_BYTES: a dead letter at once."""
    stream.environment["MAX_MESSAGE_BYTES"] = "1000"
    stream.may_be_dead = True
    stream.start()
    count = 50
    ids = [f"{number:08x}-6d0f-5a55-9a39-0b6f2f1f6f0e" for number in range(count)]

    with stream.fault("messages that are too large"):
        stream.put("LARGE", [_properties(message_id=each) for each in ids], digits=2000)
        stream.wait_dead(count)
