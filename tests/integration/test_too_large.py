"""Messages that the broker refuses as too large (max_message_size): each alone is given up."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rabbit import MessageQueue, TooLargeError
from rabbit.topology import QueueType
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import Running
from tests.integration.letters import letters
from tests.process import Process
from tests.variations import variations
from tests.waiting import wait_until

FALLIBLE = ("-m", "tests.integration.stages.fallible")
RECORDER = ("-m", "tests.integration.stages.recorder")


@pytest.fixture
def limit(broker: Broker) -> Iterator[int]:
    """Have the broker refuse larger messages than usual; return how large they may be."""
    set_limit(broker, 1000)
    yield 1000
    set_limit(broker, 16777216)


def set_limit(broker: Broker, size: int) -> None:
    """Set max_message_size in the running broker, in bytes."""
    broker.control("eval", f"persistent_term:put(max_message_size, {size}).")


def texts(sink: Process) -> set[str]:
    """Return what a recorder has seen."""
    return {each["text"] for each in sink.objects}


def test_what_writes_too_much_is_a_dead_letter(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], limit: int
) -> None:
    """The broker closes the channel for the first one; the others flow, and the next is known."""
    broker.put(unique("in"), ["a", f"large {limit + 1}", "b"])
    worker = start(*FALLIBLE, **edges | {"PREFETCH": 10})

    [letter] = letters(broker, f"{unique('in')}.dead", 1)
    assert letter.body.decode() == f"large {limit + 1}"
    assert letter.headers["x-error-type"] == "TooLargeError"
    assert f"takes up to {limit}" in letter.headers["x-error-message"]
    sink = start(*RECORDER, INPUT_QUEUE=unique("out"))
    # What was published just before may come twice: the channel closed before it was confirmed.
    wait_until(lambda: texts(sink) == {"small", "a", "b"}, 10, "the others are written")

    broker.put(unique("in"), [f"large {limit + 2}", f"large {limit}", "c"])

    assert letters(broker, f"{unique('in')}.dead", 1)[0].body.decode() == f"large {limit + 2}"
    wait_until(lambda: texts(sink) == {"small", "a", "b", "c", limit * "x"}, 10, "they flow on")
    assert Counter(each["text"] for each in sink.objects)["small"] <= 2  # this time, all or nothing
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0
    assert "Traceback" not in worker.log


def test_a_source_that_writes_too_much_ends(
    broker: Broker, unique: Unique, start: Start, limit: int
) -> None:
    """Exit code 1, and the last line says what is too large for whom and what to do."""
    text = (limit + 1) * "x"
    source = start("-m", "services.producer", ready=False, OUTPUT_QUEUE=unique("out"), MESSAGE=text)

    assert source.wait() == 1

    last = source.log.splitlines()[-1]
    assert last.startswith(f"producer: a message of {limit + 1} bytes for {unique('out')!r}: ")
    assert f"takes up to {limit}; make it smaller, or raise max_message_size" in last
    assert broker.depth(unique("out")) == 0


@pytest.mark.thorough
def test_what_a_source_has_written_beside_it_is_confirmed(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path, limit: int
) -> None:
    """It ends at once, not with DRAIN_TIMEOUT, and all that fits is queued."""
    lines = [str(number) for number in range(100)]
    lines[50:50] = lines[20:20] = [(limit + 1) * "x"]
    (tmp_path / "lines").write_text("\n".join(lines))
    arguments = ("-m", "services.producer", "--file", str(tmp_path / "lines"))
    source = start(*arguments, ready=False, OUTPUT_QUEUE=unique("out"), DRAIN_TIMEOUT=300)

    assert source.wait() == 1

    queued = {message.text for message in broker.take_all(unique("out"))}
    assert queued <= set(lines)
    assert queued >= set(lines[:20])
    assert "Traceback" not in source.log


def test_publishing_too_much_raises(broker: Broker, unique: Unique, limit: int) -> None:
    """The queue can be used again afterwards."""
    with MessageQueue(unique("out"), **broker.settings) as queue:
        for _ in range(2):
            with pytest.raises(TooLargeError, match=f"takes up to {limit}"):
                queue.publish((limit + 1) * "x", timeout=10)
            queue.publish("fits", timeout=10)
        with pytest.raises(TooLargeError):
            queue.publish_many(["before", (limit + 1) * "x", "after"], timeout=10)
        queue.publish("fits", timeout=10)

    texts = [message.text for message in broker.take_all(unique("out"))]
    behind = [text for text in texts if text == "after"]  # it may have been published, or not
    assert texts == ["fits", "fits", "before", *behind, "fits"]
    assert len(behind) <= 1


@pytest.mark.thorough
def test_a_limit_that_was_raised_counts_from_the_next_connection_on(
    broker: Broker, unique: Unique, limit: int
) -> None:
    """What an operator is told to do helps: nobody has to be started again."""
    with MessageQueue(unique("out"), **broker.settings) as queue:
        with pytest.raises(TooLargeError):
            queue.publish((limit + 1) * "x", timeout=10)
        set_limit(broker, 2 * limit)
        wait_until(lambda: broker.close_connections(f"publishes to {unique('out')}"), 10, "closed")
        queue.publish("after", timeout=10)
        queue.publish((limit + 1) * "x", timeout=10)

    texts = [message.text for message in broker.take_all(unique("out"))]
    assert [len(text) for text in texts] == [5, limit + 1]


@pytest.mark.parametrize(
    ("command", "queue_type"),
    variations(
        [("fail", "quorum"), ("reject", "classic"), ("fail", "classic"), ("reject", "quorum")]
    ),
)
def test_what_has_become_too_large_to_be_sent_on_is_dead_lettered_by_the_broker(
    broker: Broker,
    unique: Unique,
    start: Start,
    edges: dict[str, Any],
    command: str,
    queue_type: QueueType,
) -> None:
    """The limit was lowered after it was queued: it is kept byte for byte, and the rest flows."""
    large = f"{command} {2000 * 'x'}" if command == "reject" else f"fail {2000 * '9'}"
    broker.put(unique("in"), ["a", large, "b"], queue_type=queue_type, headers={"mine": "kept"})
    set_limit(broker, 1000)
    try:
        worker = start(*FALLIBLE, **edges | {"QUEUE_TYPE": queue_type})
        [letter] = letters(broker, f"{unique('in')}.dead", 1)
        texts = [output.text for output in broker.take(unique("out"), 2)]
        assert worker.halt() == 0
    finally:
        set_limit(broker, 16777216)

    assert texts == ["a", "b"]
    assert letter.body.decode() == large
    assert letter.headers["mine"] == "kept"
    assert letter.headers["x-first-death-reason"] == "rejected"
    assert broker.depth(unique("in")) == 0
    assert worker.log.count("left to the broker to dead-letter") == 1
    assert "takes up to 1000" in worker.log


@pytest.mark.thorough
def test_what_is_no_text_and_too_large_is_dead_lettered_by_the_broker(
    broker: Broker, unique: Unique
) -> None:
    """A MessageQueue's callback never sees it, and it holds up nothing."""
    broker.put(unique("in"), [2000 * b"\xff", "b"])
    seen: list[str] = []
    set_limit(broker, 1000)
    try:
        with MessageQueue(unique("in"), **broker.settings) as queue:

            def callback(channel: Any, method: Any, _properties: object, message: str) -> None:
                seen.append(message)
                channel.basic_ack(method.delivery_tag)

            queue.register(callback)
            with Running(queue):
                [letter] = letters(broker, f"{unique('in')}.dead", 1)
                wait_until(lambda: seen == ["b"], 10, "the other is seen")
    finally:
        set_limit(broker, 16777216)

    assert letter.body == 2000 * b"\xff"
    assert letter.headers["x-first-death-reason"] == "rejected"
    assert broker.depth(unique("in")) == 0
