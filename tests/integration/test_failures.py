"""What is promised of bad input: it never stops a stage, is retried, then kept; the rest flows."""

import struct
from collections import Counter
from functools import partial
from time import monotonic
from typing import Any

import pika
import pytest

from rabbit import Consumer
from rabbit.topology import QueueType
from tests.broker import USERNAME, Broker
from tests.conftest import Start, Unique
from tests.integration.background import Running
from tests.integration.letters import letters
from tests.process import Process
from tests.variations import variations
from tests.waiting import wait_until

FALLIBLE = ("-m", "tests.integration.stages.fallible")
RECORDER = ("-m", "tests.integration.stages.recorder")

#: Properties that pika cannot decode: a header that is a time beyond all time.
UNDECODABLE = (
    b"\x30\x80"  # headers, delivery mode and message id
    b"\x00\x00\x00\x0e\x04when" + b"T" + (2**62).to_bytes(8, "big") + b"\x02\x03odd"
)


#: Numbers of types that pika cannot send: a double, a float in a table, a short integer.
NUMBERS = b"".join(
    [
        b"\x05shorts" + struct.pack(">h", 2),
        b"\x05priced" + struct.pack(">d", 1.5),
        b"\x04deepF" + (7).to_bytes(4, "big") + b"\x01af" + struct.pack(">f", -0.25),
    ]
)
PROPERTIES_WITH_NUMBERS = b"\x30\x80" + len(NUMBERS).to_bytes(4, "big") + NUMBERS + b"\x02\x01n"

#: Prints the headers it sees; fails until its message has been tried `MESSAGE` times.
NUMBERS_STAGE = """
import json, sys
from rabbit import Worker

class Numbers(Worker):
    def work(self, message: str) -> None:
        sys.stdout.write(json.dumps(dict(self.message.headers), default=str) + "\\n")
        sys.stdout.flush()
        if self.message.failures < int(message):
            raise ValueError
        self.write(json.dumps(self.message.headers["price"]))

Numbers.main()
"""


class Raw(pika.BasicProperties):
    """Properties that are sent as they are given."""

    def __init__(self, raw: bytes = UNDECODABLE) -> None:
        """Send these."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._raw = raw

    def encode(self) -> list[bytes]:
        """Return what pika would refuse to make."""
        return [self._raw]


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


def test_a_stage_chooses_the_delay_and_what_it_gives_up_on(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """The shortest delay that is long enough; a dead letter at once; one line for what is asked."""
    broker.put(unique("in"), ["retry 0.4", "lookup gone", "a"])
    worker = start(*FALLIBLE, **edges)

    [letter] = letters(broker, f"{unique('in')}.dead", 1)
    outputs = [output.text for output in broker.take(unique("out"), 2)]

    assert outputs == ["a", "retry 0.4"]
    assert letter.body == b"lookup gone"
    assert (letter.headers["x-error-type"], letter.headers["x-attempts"]) == ("KeyError", 1)
    assert [each["attempt"] for each in worker.objects if each["text"] == "retry 0.4"] == [1, 2]
    assert worker.halt() == 0
    assert "again in 0.6 s" in worker.log
    assert "(after 0.4 s)" in worker.log
    assert worker.log.count("Traceback") == 1


@pytest.mark.parametrize("queue_type", variations(["quorum", "classic"]))
def test_attempts_that_a_sender_has_made_up_do_not_count(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], queue_type: QueueType
) -> None:
    """Only what has come back from a retry queue has been tried before."""
    forged = {"x-attempts": 9, "x-delivery-count": 7, "mine": "kept"}
    broker.put(unique("in"), ["fail 1", "fail"], queue_type=queue_type, headers=forged)
    worker = start(*FALLIBLE, **edges | {"QUEUE_TYPE": queue_type})

    [output] = broker.take(unique("out"), 1)
    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    assert output.text == "fail 1"
    for text, attempts in (("fail 1", [1, 2]), ("fail", [1, 2, 3])):
        seen = [each for each in worker.objects if each["text"] == text]
        assert [each["attempt"] for each in seen] == attempts
        assert [each["failures"] + 1 for each in seen] == attempts
    assert letter.headers["x-attempts"] == 3
    assert letter.headers["mine"] == "kept"
    assert worker.halt() == 0


def test_headers_keep_their_numbers(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Floats and all: to `work`, through retries and a return by the broker, to the dead letter."""
    queue = unique("in")
    worker = start("-c", NUMBERS_STAGE, **edges)
    with broker.channel() as channel:
        for text in ("9", "0"):
            channel.basic_publish(queue, queue, text.encode(), Raw(PROPERTIES_WITH_NUMBERS))
    letters(broker, f"{queue}.dead", 1)
    broker.unbind(f"{queue}.retry.300ms", f"{queue}.retry.300ms", "")  # the next one is returned
    with broker.channel() as channel:
        for text in ("9", "1"):
            channel.basic_publish(queue, queue, text.encode(), Raw(PROPERTIES_WITH_NUMBERS))

    [letter] = letters(broker, f"{queue}.dead", 1)
    outputs = [each.text for each in broker.take(unique("out"), 2)]

    assert outputs == ["1.5", "1.5"]
    assert len(worker.objects) >= 3 + 1 + 3 + 2
    expected = {"price": 1.5, "deep": {"a": -0.25}, "short": 2}
    for seen in [*worker.objects, letter.headers]:
        assert {name: value for name, value in seen.items() if name in expected} == expected
    assert "channel is set up again" in worker.log
    assert "unavailable" not in worker.log
    assert worker.halt() == 0


def depths(broker: Broker, queue: str) -> dict[str, int]:
    """Count what waits in a queue and in those that belong to it."""
    return {name: broker.depth(name) for name in broker.queues() if name.startswith(queue)}


@pytest.mark.parametrize("queue_type", variations(["quorum", "classic"]))
def test_after_the_last_delay_it_is_a_dead_letter_that_says_why(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], queue_type: str
) -> None:
    """The reason, the stage, the replica and the attempts are in its headers."""
    worker = start(*FALLIBLE, REPLICA="host-1", QUEUE_TYPE=queue_type, **edges)
    with broker.channel() as channel:
        for text in ("fail", "a"):
            broker.send(channel, unique("in"), unique("in"), text)

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
    message_id = letter.properties.pop("message_id")  # it came without one
    assert {**letter.properties, "headers": given["headers"]} == given
    assert [each["id"] for each in worker.objects] == [message_id, message_id]
    assert worker.log.count(message_id) == 2
    assert [each["failures"] for each in worker.objects] == [0, 1]


def test_what_the_broker_acts_upon_is_set_aside(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Another user's id would be refused, and an expiration would remove what is to be kept."""
    user: dict[str, Any] = {"RABBITMQ_USERNAME": unique("user"), "RABBITMQ_PASSWORD": "another"}
    broker.add_user(user["RABBITMQ_USERNAME"], user["RABBITMQ_PASSWORD"])
    start(*FALLIBLE, **edges, **user)
    with broker.channel() as channel:
        broker.send(
            channel, unique("in"), unique("in"), "fail", user_id=USERNAME, expiration="60000"
        )

    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    assert set(letter.properties) == {"message_id"}
    assert letter.headers["x-original-user-id"] == USERNAME
    assert letter.headers["x-original-expiration"] == "60000"
    assert letter.headers["x-attempts"] == 3


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
        channel.basic_publish(unique("in"), unique("in"), b"odd", Raw())
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


def test_a_dead_letter_queue_that_is_full_loses_nothing(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """The message stays unacked in its queue meanwhile, and is kept when there is room."""
    dead = f"{broker.declare(unique('in'))}.dead"
    full = broker.fill(dead)
    broker.put(unique("in"), ["reject", "a"])
    worker = start(*FALLIBLE, ready=False, **edges | {"PREFETCH": 10})
    worker.wait_log("refuses messages")
    assert f"'{dead}' refuses messages" in worker.log
    assert [output.text for output in broker.take(unique("out"), 1)] == ["a"]
    assert broker.depth(dead) == full

    broker.clear_policy(dead)

    assert letters(broker, dead, full + 1)[-1].body == b"reject"
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0


def test_a_halt_gives_back_what_the_dead_letters_do_not_take(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Exit code 0: the message is in its queue, without a mark against it."""
    broker.fill(f"{broker.declare(unique('in'))}.dead")
    broker.put(unique("in"), ["reject"])
    worker = start(*FALLIBLE, ready=False, **edges)
    worker.wait_log("refuses messages")

    assert worker.halt() == 0

    [left] = broker.take(unique("in"), 1)
    assert left.text == "reject"
    assert not {"x-delivery-count", "x-attempts"} & set(left.headers)


@pytest.mark.thorough
def test_a_halt_under_an_alarm_gives_back_what_has_just_failed(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """What has failed cannot be published now: the halt does not wait for it."""
    broker.put(unique("in"), ["a", "fail"])
    with broker.memory_alarm():
        worker = start(*FALLIBLE, PREFETCH=2, **edges)
        worker.wait_log("message failed")
        worker.wait_log("blocked")

        assert worker.halt() == 0

    # What was on its way to the retry queue, the broker may take once the alarm is over: a message
    # whose confirm never came may come twice.
    assert {message.text for message in broker.take_all(unique("in"))} == {"a", "fail"}


def test_a_missing_dead_letter_queue_is_made_anew(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Also for messages without an id, of which the broker does not tell which ones it returns."""
    dead = f"{broker.declare(unique('in'))}.dead"
    worker = start(*FALLIBLE, **edges)
    broker.put(unique("in"), ["reject first"])
    letters(broker, dead, 1)
    broker.delete_queue(dead)
    with broker.channel() as channel:
        for number in range(20):
            broker.send(channel, unique("in"), unique("in"), f"reject {number}")

    dead_letters = letters(broker, dead, 20)

    assert {letter.body.decode() for letter in dead_letters} == {f"reject {n}" for n in range(20)}
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0


def is_decided(broker: Broker, dead: str, worker: Process) -> bool:
    """Tell whether a message has killed the process, or has been given up."""
    return broker.depth(dead) > 0 or not worker.is_running


def test_what_kills_its_process_is_given_up_by_the_broker(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """At its delivery limit; what waits behind it has no part in it."""
    broker.put(unique("in"), ["a", "kill", "b", "c"])
    dead = f"{unique('in')}.dead"
    workers = []
    while not broker.depth(dead):
        workers.append(start(*FALLIBLE, ready=False, **edges))
        wait_until(partial(is_decided, broker, dead, workers[-1]), 20, "killed, or given up")
    assert 20 <= len(workers) <= 22

    workers.append(start(*FALLIBLE, **edges))  # the one before it may be running

    [letter] = letters(broker, dead, 1)

    assert letter.body == b"kill"
    assert letter.headers["x-first-death-reason"] == "delivery_limit"
    assert [output.text for output in broker.take(unique("out"), 3)] == ["a", "b", "c"]
    handled = [each for worker in workers for each in worker.objects if each["text"] in "bc"]
    assert {each["attempt"] for each in handled} == {1}
    assert workers[-1].halt() == 0
    assert broker.depth(unique("in")) == 0


def test_a_broadcast_is_retried_by_its_replica_and_kept_for_its_stage(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Each replica has its own attempts; the dead letters stay when both are gone."""
    news: dict[str, Any] = {"INPUT_QUEUE": unique("news"), "INPUT_KIND": "broadcast"}
    given = {**news, "OUTPUT_QUEUE": unique("out"), "RETRY_DELAYS": "0.2"}
    workers = [start(*FALLIBLE, REPLICA=name, **given) for name in ("one", "two")]
    with broker.channel() as channel:
        broker.send(channel, unique("news"), "", "fail")

    dead = letters(broker, f"{unique('news')}.fallible.dead", 2)

    assert {letter.headers["x-failed-replica"] for letter in dead} == {"one", "two"}
    assert {letter.headers["x-attempts"] for letter in dead} == {2}
    assert [[each["attempt"] for each in worker.objects] for worker in workers] == [[1, 2], [1, 2]]


class Stubborn(Consumer):
    """Fails once with each message."""

    handled = 0

    def work(self, message: str) -> None:
        """Fail at first."""
        if not self.message.failures:
            raise ValueError(message)
        self.handled += 1


@pytest.mark.thorough
def test_what_waits_for_another_attempt_at_a_broadcast_does_not_expire(
    broker: Broker, unique: Unique, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue would go with all that is in it, but it is used while its replica is there.

    After two seconds without use; the broker looks at that every five seconds.
    """
    monkeypatch.setattr("rabbit.topology.RETRY_EXPIRES_MILLISECONDS", -10_000)
    monkeypatch.setattr("rabbit.messaging.failures.RENEW_SECONDS", 0.3)
    given: dict[str, Any] = {"input_kind": "broadcast", "retry_delays": (12.0,), **broker.settings}
    stage = Stubborn(unique("replica"), unique("news"), **given)
    with Running(stage):
        queue = f"{unique('news')}.stubborn.{unique('replica')}"
        wait_until(lambda: broker.consumers(queue), 10, "it consumes")
        with broker.channel() as channel:
            broker.send(channel, unique("news"), "", "a")

        wait_until(lambda: stage.handled == 1, 30, "it comes again")

    def left() -> set[str]:
        names = {each["name"] for each in broker.api("GET", "exchanges")} | set(broker.queues())
        return {name for name in names if name.startswith(f"{queue}.retry")}

    wait_until(lambda: not left(), 20, "nothing stays when the replica is gone")


#: A sink that makes an output all the same, behind the library's back.
OUTPUT_OF_A_SINK = """
from rabbit import Consumer
class Sink(Consumer):
    def work(self, message):
        self.__rabbit_handler__.write(message, None)
Sink.main()
"""


def test_an_output_that_no_edge_takes_is_a_failure(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It is never acked with its output dropped: it is a dead letter that says why."""
    broker.put(unique("in"), ["a"])
    sink = start("-c", OUTPUT_OF_A_SINK, INPUT_QUEUE=unique("in"), RETRY_DELAYS="0.1")

    [letter] = broker.take(f"{unique('in')}.dead", 1)

    assert letter.text == "a"
    assert letter.headers["x-error-message"] == "an output was written, and no edge takes it"
    assert sink.halt() == 0
    assert "handled=0" in sink.log
