"""What is promised of a delivery: confirm, then ack; all or nothing; same input, same ids."""

from pathlib import Path
from typing import Any

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
MOODY = ("-m", "tests.integration.stages.moody")
PACED = ("-m", "tests.integration.stages.paced")
RECORDER = ("-m", "tests.integration.stages.recorder")


def test_every_output_is_queued_and_every_input_acked(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A message becomes as many outputs as were written, persistent, and is gone from its queue."""
    broker.put(unique("in"), ["a", "b"])
    worker = start(*RELAY, COPIES=3, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    outputs = broker.take(unique("out"), 6)

    assert [output.text for output in outputs] == ["a", "a", "a", "b", "b", "b"]
    assert all(output.persistent for output in outputs)
    assert worker.halt() == 0
    assert broker.depth(unique("in")) == 0


def test_queues_may_be_classic(broker: Broker, unique: Unique, start: Start) -> None:
    """QUEUE_TYPE=classic: the same stage on queues of the other type."""
    worker = start(
        *RELAY, QUEUE_TYPE="classic", INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out")
    )
    listed = wait_until(lambda: broker.queues().get(unique("in"), {}), 20, "it is listed")
    assert listed["type"] == "classic"
    with broker.channel() as channel:
        broker.send(channel, unique("in"), unique("in"), "a")

    assert [output.text for output in broker.take(unique("out"), 1)] == ["a"]
    assert worker.halt() == 0


def test_a_quick_output_does_not_wait_for_the_slow_message_behind_it(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """With both delivered together, the first one's output is there while the second one works."""
    broker.put(unique("in"), ["0", f"1 {tmp_path / 'gate'}"])
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    worker = start(*PACED, PREFETCH=2, **edges)
    worker.wait_printed("1")

    assert len(broker.take(unique("out"), 1)) == 1
    (tmp_path / "gate").touch()
    assert len(broker.take(unique("out"), 1)) == 1


def test_nothing_is_acked_before_every_output_is_confirmed(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """One of two outputs is queued, the other has nowhere to go: the input stays unacked."""
    broker.put(unique("in"), ["here nowhere"])
    broker.declare_direct(unique("out"), "here")
    worker = start(
        *RELAY, KEYED=1, OUTPUT_KIND="direct", INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out")
    )
    worker.wait_log("output refused")
    assert broker.depth(unique("out")) == 1

    worker.kill()

    wait_until(lambda: broker.depth(unique("in")) == 1, 20, "the input is back in its queue")


def test_a_handler_that_raises_after_writing_has_published_nothing(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """A failed handler publishes nothing; its message comes back and both outputs leave then."""
    mood = tmp_path / "bad"
    mood.touch()
    broker.put(unique("in"), ["a"])
    worker = start(*MOODY, MOOD=mood, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))
    wait_until(lambda: worker.log.count("message failed") >= 2, 20, "it fails twice")
    assert broker.depth(unique("out")) == 0

    mood.unlink()

    texts = [output.text for output in broker.take(unique("out"), 2)]
    assert texts == ["a first", "a second"]
    assert worker.halt() == 0
    assert broker.depth(unique("out")) == 0
    assert broker.depth(unique("in")) == 0


def test_a_redelivered_input_gives_outputs_with_the_same_ids(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """SIGKILL in mid-message: it comes back, and its outputs have the ids they had before."""
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    broker.put(unique("in"), ["here nowhere"])
    broker.declare_direct(unique("out"), "here")
    worker = start(*RELAY, KEYED=1, OUTPUT_KIND="direct", **edges)
    worker.wait_log("output refused")
    [before] = broker.take(unique("out"), 1)
    worker.kill()
    broker.bind(unique("out"), unique("out"), "nowhere")

    start(*RELAY, KEYED=1, OUTPUT_KIND="direct", **edges)

    here, nowhere = broker.take(unique("out"), 2)
    assert (here.key, nowhere.key) == ("here", "nowhere")
    assert before.id == here.id
    assert nowhere.id != here.id


def test_the_correlation_id_is_carried_from_the_source_to_the_sink(
    unique: Unique, start: Start
) -> None:
    """What a source sets, every message that descends from it has; ids differ at each step."""
    producer = start("-m", "services.producer", ready=False, OUTPUT_QUEUE=unique("one"))
    assert producer.wait() == 0
    start(*RELAY, STAGE="first", INPUT_QUEUE=unique("one"), OUTPUT_QUEUE=unique("two"))
    start(*RELAY, STAGE="second", INPUT_QUEUE=unique("two"), OUTPUT_QUEUE=unique("three"))

    sink = start(*RECORDER, INPUT_QUEUE=unique("three"))
    wait_until(lambda: len(sink.lines) == 2, 20, "two messages arrive")

    hello, world = sink.objects
    assert (hello["text"], world["text"]) == ("hello", "world")
    assert hello["correlation_id"] != world["correlation_id"]
    assert len({each[name] for each in (hello, world) for name in ("id", "correlation_id")}) == 4


def test_a_given_correlation_id_is_kept(broker: Broker, unique: Unique, start: Start) -> None:
    """The correlation id of somebody else's message passes through a worker unchanged."""
    broker.put(unique("in"), ["a"], correlation_id="order 66")
    start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    [output] = broker.take(unique("out"), 1)

    assert output.correlation_id == "order 66"


def test_a_killed_sink_loses_nothing(broker: Broker, unique: Unique, start: Start) -> None:
    """SIGKILL with many messages in flight: all that were not acked come to the next replica."""
    texts = [str(number) for number in range(200)]
    broker.put(unique("in"), texts)
    killed = start(*RECORDER, INPUT_QUEUE=unique("in"), DELAY=0.005, PREFETCH=50)
    wait_until(lambda: len(killed.lines) >= 40, 20, "40 messages handled")
    killed.kill()

    successor = start(*RECORDER, INPUT_QUEUE=unique("in"), PREFETCH=50)

    def seen() -> set[str]:
        return {each["text"] for process in (killed, successor) for each in process.objects}

    wait_until(lambda: seen() == set(texts), 30, "every message is handled")
    first = {each["text"]: each["id"] for each in killed.objects}
    again = {each["text"]: each["id"] for each in successor.objects if each["text"] in first}
    assert again.items() <= first.items()
    assert len(again) <= 51  # in flight, or acked in the very moment
