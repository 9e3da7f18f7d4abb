"""Promise 10: one replica with concurrency 1 keeps order."""

from functools import partial
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")

NUMBERS = [str(number) for number in range(5000)]


def test_one_replica_keeps_the_order(broker: Broker, unique: Unique, start: Start) -> None:
    """5,000 messages through one worker with PREFETCH=auto come out as they went in."""
    broker.put(unique("in"), NUMBERS)
    start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    outputs = [output.text for output in broker.take(unique("out"), len(NUMBERS), 60)]

    assert outputs == NUMBERS


@pytest.mark.thorough
@pytest.mark.parametrize("prefetch", ["auto", "300"])
def test_a_successor_goes_on_where_it_stopped(
    broker: Broker, unique: Unique, start: Start, prefetch: str
) -> None:
    """SIGTERM in mid-stream, with many messages prefetched: each message exactly once.

    In order too, but for what came back: when a consumer is cancelled, RabbitMQ itself returns what
    it had under way, before what the stage returns.
    """

    def is_filled(enough: int) -> bool:
        return broker.depth(unique("out")) > enough

    edges: dict[str, Any] = {
        "INPUT_QUEUE": unique("in"),
        "OUTPUT_QUEUE": unique("out"),
        "DELAY": 0.0002,
        "PREFETCH": prefetch,
    }
    broker.put(unique("in"), NUMBERS)
    for enough in (500, 2000):
        worker = start(*RELAY, **edges)
        wait_until(partial(is_filled, enough), 30, "the worker is in mid-stream")
        assert worker.halt() == 0
    assert broker.depth(unique("in")) > 0

    start(*RELAY, **edges)

    outputs = [output.text for output in broker.take(unique("out"), len(NUMBERS), 60)]
    assert sorted(outputs) == sorted(NUMBERS)
    assert outputs[:500] == NUMBERS[:500]
