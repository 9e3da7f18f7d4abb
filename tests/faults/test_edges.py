"""What happens to queues, exchanges and bindings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.broker import Broker
from tests.faults.stream import PREFETCH, Stream
from tests.waiting import wait_until

_SECONDS = 60.0
#: How long messages are held for which two seconds are allowed.
_HELD_SECONDS = 8.0


@contextmanager
def _policy(broker: Broker, queue: str, definition: dict[str, Any]) -> Iterator[None]:
    """Have a policy for a queue, for the time of a `with`."""
    body = {"pattern": f"^{queue}$", "apply-to": "queues", "definition": definition}
    broker.api("PUT", f"policies/%2F/{queue}", body)
    try:
        yield
    finally:
        broker.clear_policy(queue)


def _messages(broker: Broker, queue: str) -> int:
    """Count what is in a queue, in flight or not."""
    path = f"queues/%2F/{queue}?disable_stats=true&enable_queue_totals=true"
    return int(broker.api("GET", path)["messages"])


def test_input_queue_deleted(stream: Stream, broker: Broker) -> None:
    """Somebody deletes the empty input queue: the worker makes it again."""
    stream.start()
    (source,), (worker,) = stream.sources, stream.workers

    with stream.fault("input queue deleted"):
        assert source.halt() == 0
        wait_until(lambda: not stream.account().lost, _SECONDS, "all has arrived")
        wait_until(lambda: _messages(broker, stream.input) == 0, _SECONDS, "all is acked")
        broker.delete_queue(stream.input)
        worker.wait_said("is consumed no more")
        source.start()


@pytest.mark.thorough
def test_exchanges_deleted(stream: Stream, broker: Broker) -> None:
    """Somebody deletes both exchanges in mid-stream: who publishes makes them again."""
    stream.start()

    with stream.fault("exchanges deleted", source=1, worker=1):
        for exchange in (stream.input, stream.output):
            broker.api("DELETE", f"exchanges/%2F/{exchange}")


def test_binding_removed(stream: Stream, broker: Broker) -> None:
    """Outputs that nobody takes keep their inputs where they are."""
    stream.start()
    (worker,) = stream.workers

    with stream.fault("binding removed"):
        broker.unbind(stream.output, stream.output, stream.output)
        worker.wait_said("has no queue for this message")
        stream.wait_backlog(2 * PREFETCH)
        broker.bind(stream.output, stream.output, stream.output)


def test_output_queue_full(stream: Stream, broker: Broker) -> None:
    """A full queue refuses: its inputs wait, and none is dropped."""
    stream.start()
    (worker,), (sink,) = stream.workers, stream.sinks

    with stream.fault("output queue full"):
        assert sink.halt() == 0
        with _policy(broker, stream.output, {"max-length": 10}):
            worker.wait_said("output refused")
            stream.wait_backlog(2 * PREFETCH)
        sink.start()


def test_consumer_timeout(stream: Stream, broker: Broker) -> None:
    """What a broker allows by default is for others: a stage may hold a message for a week."""
    stream.environment["RABBITMQ_HEARTBEAT"] = "600"
    with _policy(broker, stream.input, {"consumer-timeout": 2000}):
        stream.start()
        (worker,) = stream.workers
        with stream.fault("consumer timeout"), worker.paused():
            begun = time.monotonic()  # only the worker is told of a cancel
            wait_until(lambda: time.monotonic() > begun + _HELD_SECONDS, 10, "long enough")
        assert "is consumed no more" not in worker.said
