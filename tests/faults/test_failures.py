"""What happens when messages cannot be handled: the others go on, and none of them is lost."""

import pytest

from tests.broker import Broker
from tests.faults.stream import Stream

#: Headers that RabbitMQ takes, and that pika cannot read or has no type for.
_TIME_BEYOND_ALL = b"\x01aT" + 8 * b"\x7f"
_NESTED = 200

#: What makes a replica hold a thousand messages, and what comes behind it: 400 MiB.
_SMALL, _LARGE = 20_000, 100
_LARGE_BYTES = 4 * 1024 * 1024
_BURST_SECONDS = 120.0
#: More than a replica has, and less than half of what it has when it holds all of that.
_MOST_MEBIBYTES = 200


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


def _id(number: int) -> str:
    return f"{number:08x}-6d0f-5a55-9a39-0b6f2f1f6f0e"


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

    with stream.fault("messages that are too large"):
        stream.put(
            "LARGE", [_properties(message_id=_id(number)) for number in range(count)], digits=2000
        )
        stream.wait_dead(count)


@pytest.mark.timeout(600)
def test_burst_of_large_messages(stream: Stream) -> None:
    """100 messages of 4 MiB for a worker that small ones have made hold a thousand in advance.

    With the prefetch as shipped: worker and sink give back what is beyond its bound of 16 MiB.
    """
    stream.environment["PREFETCH"] = "auto"
    stream.start()
    (worker,), (sink,) = stream.workers, stream.sinks

    with stream.fault("the 4 MB burst", backlog_seconds=_BURST_SECONDS):
        assert worker.halt() == 0
        stream.put("SMALL", [_properties(message_id=_id(number)) for number in range(_SMALL)])
        large = [_properties(message_id=_id(_SMALL + number)) for number in range(_LARGE)]
        stream.put("LARGE", large, padding=_LARGE_BYTES)
        worker.start()
        stream.wait_arrived("LARGE", _BURST_SECONDS)
        peaks = {each.stage: each.peak_mebibytes for each in (worker, sink)}
        assert max(peaks.values()) < _MOST_MEBIBYTES, peaks
