"""POISON_PILL: one pill ends all replicas of every stage, in flow order."""

import re
from typing import get_args

import pytest

from rabbit.topology import QueueType
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.process import Process
from tests.variations import variations
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
RECORDER = ("-m", "tests.integration.stages.recorder")


def moment(process: Process, event: str) -> str:
    """Return the time of the line in its log in which it says `event`."""
    found = re.search(rf"^(\S+) \[info +\] {event}", process.log, re.MULTILINE)
    assert found, process.log
    return found[1]


@pytest.mark.parametrize("queue_type", variations(get_args(QueueType)))
def test_one_pill_ends_all_replicas_in_flow_order(
    broker: Broker, unique: Unique, start: Start, queue_type: QueueType
) -> None:
    """3 workers and 2 sinks end with 0; all that came before the pill is handled, once."""
    texts = [str(number) for number in range(300)]
    broker.declare(unique("two"), queue_type=queue_type)
    broker.put(unique("one"), [*texts, "HALT"], queue_type=queue_type)
    workers = [
        start(
            *RELAY,
            ready=False,
            DELAY=0.01,
            POISON_PILL="HALT",
            QUEUE_TYPE=queue_type,
            INPUT_QUEUE=unique("one"),
            OUTPUT_QUEUE=unique("two"),
        )
        for _ in range(3)
    ]
    sinks = [
        start(
            *RECORDER,
            ready=False,
            POISON_PILL="HALT",
            QUEUE_TYPE=queue_type,
            INPUT_QUEUE=unique("two"),
        )
        for _ in range(2)
    ]

    assert [each.wait(60) for each in (*workers, *sinks)] == [0] * 5
    handled = sorted(each["text"] for sink in sinks for each in sink.objects)
    assert handled == sorted(texts)
    # Each worker hands the pill to the next one, and the last one to the sinks.
    begun = max(moment(worker, "halting") for worker in workers)
    assert begun < min(moment(sink, "halting") for sink in sinks)
    assert broker.depth(unique("one")) == 0
    assert broker.depth(unique("two")) == 0


def test_what_comes_behind_the_pill_stays_queued(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The pill ends the only replica; messages behind it wait for the next one."""
    broker.put(unique("in"), ["a", "HALT", "b"])

    sink = start(*RECORDER, ready=False, POISON_PILL="HALT", PREFETCH=10, INPUT_QUEUE=unique("in"))

    assert sink.wait() == 0
    assert [each["text"] for each in sink.objects] == ["a"]
    assert [each.text for each in broker.take_all(unique("in"))] == ["b"]


def test_the_pill_is_only_text_unless_it_is_switched_on(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Without POISON_PILL the text HALT is a message like any other."""
    broker.put(unique("in"), ["HALT", "a"])
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"))

    wait_until(lambda: len(sink.lines) == 2, 20, "both messages are handled")

    assert [each["text"] for each in sink.objects] == ["HALT", "a"]
    assert sink.is_running
