"""Promise 9: bad input never stops a stage. What fails is retried, then kept; the rest flows."""

import base64
from collections import Counter
from time import monotonic
from typing import Any, NamedTuple

import pika
import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.waiting import wait_until

FALLIBLE = ("-m", "tests.integration.stages.fallible")
RECORDER = ("-m", "tests.integration.stages.recorder")
COUNTER = ("-m", "tests.integration.stages.counter")

#: Short ones, so that a test does not take long; their queues are called after them.
DELAYS = "0.3,0.6"

#: Properties that pika cannot decode: a header that is a time beyond all time.
UNDECODABLE = (
    b"\x30\x80"  # headers, delivery mode and message id
    b"\x00\x00\x00\x0e\x04when" + b"T" + (2**62).to_bytes(8, "big") + b"\x02\x03odd"
)


class Letter(NamedTuple):
    """A message as the management API shows it; it decodes what pika cannot."""

    body: bytes
    key: str
    properties: dict[str, Any]
    headers: dict[str, Any]


class Raw(pika.BasicProperties):
    """Properties that are sent as they are given."""

    def encode(self) -> list[bytes]:
        """Return what pika would refuse to make."""
        return [UNDECODABLE]


def letters(broker: Broker, queue: str, count: int, seconds: float = 20) -> list[Letter]:
    """Wait until so many messages are in a queue; take them."""
    wait_until(
        lambda: broker.depth(queue) >= count, seconds, lambda: f"{count} messages in {queue}"
    )
    request = {"count": count + 1, "ackmode": "ack_requeue_false", "encoding": "base64"}
    taken = broker.api("POST", f"queues/%2F/{queue}/get", request)
    assert len(taken) == count
    return [
        Letter(
            base64.b64decode(each["payload"]),
            each["routing_key"],
            {name: value for name, value in each["properties"].items() if name != "headers"},
            each["properties"].get("headers", {}),
        )
        for each in taken
    ]


@pytest.fixture
def edges(unique: Unique) -> dict[str, Any]:
    """Name the two queues of a worker, and let retries come soon."""
    return {
        "INPUT_QUEUE": unique("in"),
        "OUTPUT_QUEUE": unique("out"),
        "RETRY_DELAYS": DELAYS,
    }


def test_what_fails_comes_again_after_each_delay_while_others_flow(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Two failures, two delays, then success: nothing had to wait for it, nothing is left."""
    broker.put(unique("in"), ["fail 2", "a", "b"])
    began = monotonic()
    worker = start(*FALLIBLE, **edges)

    outputs = [output.text for output in broker.take(unique("out"), 3)]

    assert monotonic() - began > 0.9
    assert outputs == ["a", "b", "fail 2"]
    attempts = [each["attempt"] for each in worker.objects if each["text"] == "fail 2"]
    assert attempts == [1, 2, 3]
    assert worker.halt() == 0
    assert worker.log.count("message failed") == 2
    assert worker.log.count("again in 0.3 s") == worker.log.count("again in 0.6 s") == 1
    assert "ValueError: fail 2" in worker.log
    assert all(depth == 0 for depth in depths(broker, unique("in")).values())


def depths(broker: Broker, queue: str) -> dict[str, int]:
    """Count what waits in a queue and in those that belong to it."""
    return {name: broker.depth(name) for name in broker.queues() if name.startswith(queue)}


def test_after_the_last_delay_it_is_a_dead_letter_that_says_why(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """The reason, the stage, the replica and the attempts are in its headers."""
    broker.put(unique("in"), ["fail", "a"])
    worker = start(*FALLIBLE, REPLICA="host-1", **edges)

    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    assert letter.body == b"fail"
    assert "+00:00" in letter.headers.pop("x-failed-at")
    assert letter.headers == {
        "x-attempts": 3,
        "x-error-type": "ValueError",
        "x-error-message": "fail",
        "x-failed-stage": "fallible",
        "x-failed-replica": "host-1",
    }
    assert [output.text for output in broker.take(unique("out"), 1)] == ["a"]
    assert worker.halt() == 0
    assert "dead-lettered" in worker.log
    assert all(depth == 0 for depth in depths(broker, unique("in")).values())


def test_properties_and_routing_key_are_kept(broker: Broker, unique: Unique, start: Start) -> None:
    """After a retry and in the dead letters, nothing but the reason has been added."""
    queue = f"{unique('in')}.fallible"
    worker = start(
        *FALLIBLE,
        INPUT_QUEUE=unique("in"),
        INPUT_KIND="topic",
        INPUT_KEYS="order.*",
        OUTPUT_QUEUE=unique("out"),
        RETRY_DELAYS="0.1",
    )
    given = {
        "content_type": "odd/type",
        "priority": 3,
        "correlation_id": "c",
        "app_id": "me",
        "type": "t",
        "headers": {"mine": {"deep": [1, "two"]}},
    }
    with broker.channel() as channel:
        broker.send(channel, unique("in"), "order.paid", "fail", **given)

    [letter] = letters(broker, f"{queue}.dead", 1)

    added = {name for name in letter.headers if name.startswith(("x-error-", "x-failed-"))}
    kept = {name: value for name, value in letter.headers.items() if name not in added}
    assert kept == {"mine": {"deep": [1, "two"]}, "x-attempts": 2}
    assert letter.key == "order.paid"
    assert {**letter.properties, "headers": given["headers"]} == given
    assert [each["failures"] for each in worker.objects] == [0, 1]


def test_attempts_are_counted_across_replicas(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Whichever replica gets it next knows how often it has failed before."""
    workers = [start(*FALLIBLE, REPLICA=name, **edges) for name in ("one", "two")]
    broker.put(unique("in"), ["fail"] * 10)

    dead = letters(broker, f"{unique('in')}.dead", 10)

    assert {letter.headers["x-attempts"] for letter in dead} == {3}
    seen = Counter(each["attempt"] for worker in workers for each in worker.objects)
    assert seen == {1: 10, 2: 10, 3: 10}
    assert all(worker.objects for worker in workers)


def test_reject_is_a_dead_letter_at_once(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """With the reason that the handler gives, and one line without a traceback."""
    broker.put(unique("in"), ["reject for a reason", "a"])
    worker = start(*FALLIBLE, **edges)

    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    assert letter.headers["x-error-type"] == "Reject"
    assert letter.headers["x-error-message"] == "for a reason"
    assert letter.headers["x-attempts"] == 1
    assert [output.text for output in broker.take(unique("out"), 1)] == ["a"]
    assert worker.halt() == 0
    assert len(worker.objects) == 2
    assert "for a reason" in worker.log
    assert "Traceback" not in worker.log


def test_bad_input_never_reaches_a_handler(broker: Broker, unique: Unique, start: Start) -> None:
    """No UTF-8, too large, or headers beyond us: each is kept byte for byte, the rest flows."""
    broker.put(unique("in"), [b"\xff\x00", 2000 * b"x"])
    with broker.channel() as channel:
        channel.basic_publish(unique("in"), unique("in"), b"odd", Raw())  # type: ignore[no-untyped-call]
    broker.put(unique("in"), ["a"])
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), MAX_MESSAGE_BYTES=1000)

    dead = letters(broker, f"{unique('in')}.dead", 3)

    assert {letter.headers["x-error-type"]: letter.body for letter in dead} == {
        "UnicodeDecodeError": b"\xff\x00",
        "TooLargeError": 2000 * b"x",
        "UndecodableError": b"odd",
    }
    [odd] = [letter for letter in dead if letter.body == b"odd"]
    assert odd.properties["message_id"] == "odd"
    assert odd.headers["when"] == 2**62
    assert [each["text"] for each in sink.objects] == ["a"]
    assert sink.halt() == 0
    assert sink.log.count("dead-lettered") == 3
    assert "Traceback" not in sink.log
    assert "broker unavailable" not in sink.log


def test_without_delays_the_first_failure_is_a_dead_letter(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """RETRY_DELAYS is empty: there are no queues for retries."""
    broker.put(unique("in"), ["fail"])
    start(*FALLIBLE, **edges | {"RETRY_DELAYS": ""})

    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    assert letter.headers["x-attempts"] == 1
    assert not [name for name in depths(broker, unique("in")) if "retry" in name]


def test_what_waits_for_another_attempt_survives_a_halt(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """It waits in the broker, comes back to the queue, and the next replica gets it."""
    broker.put(unique("in"), ["fail 1"])
    worker = start(*FALLIBLE, **edges | {"RETRY_DELAYS": "2"})
    wait_until(lambda: broker.depth(f"{unique('in')}.retry.2s"), 10, "it waits")
    assert worker.halt() == 0
    wait_until(lambda: broker.depth(unique("in")) == 1, 10, "it is back in its queue")

    successor = start(*FALLIBLE, **edges)

    assert [output.text for output in broker.take(unique("out"), 1)] == ["fail 1"]
    assert [each["attempt"] for each in successor.objects] == [2]
