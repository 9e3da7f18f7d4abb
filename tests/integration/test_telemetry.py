"""OpenTelemetry: what is exported of messages, to a real collector, and what if there is none."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from tests.broker import Broker
from tests.collector import Collector, Received
from tests.conftest import Start, Unique
from tests.ports import free_port
from tests.waiting import wait_until

RELAY = "-m", "tests.integration.stages.relay"
FALLIBLE = "-m", "tests.integration.stages.fallible"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Run a collector."""
    with Collector() as made:
        yield made


def _wait_depth(broker: Broker, queue: str, depth: int) -> None:
    wait_until(lambda: broker.depth(queue) == depth, 60, f"{queue} has {depth} messages")


def _children(spans: list[Received], parent: str) -> list[Received]:
    return [span for span in spans if span.parent == parent]


def test_one_trace_from_the_source_to_the_sink(
    broker: Broker, unique: Unique, start: Start, collector: Collector
) -> None:
    """Through all stages, with each attempt; by the names and values of the conventions."""
    first, second, third = unique("first"), unique("second"), unique("third")
    given = {**collector.environment, "RETRY_DELAYS": "0.1", "REPLICA": "r1"}
    stages = [
        start("-m", "services.printer", INPUT_QUEUE=third, **given),
        start("-m", "services.to_upper", INPUT_QUEUE=second, OUTPUT_QUEUE=third, **given),
        start(*FALLIBLE, INPUT_QUEUE=first, OUTPUT_QUEUE=second, **given),
    ]
    producer = start(
        "-m",
        "services.producer",
        ready=False,
        MESSAGE="fail 1",
        OUTPUT_QUEUE=first,
        **collector.environment,
    )
    assert producer.wait() == 0, producer.log
    stages[0].wait_printed("FAIL 1")
    assert [stage.halt() for stage in stages] == [0, 0, 0]

    spans = collector.wait_spans(7)
    assert len(spans) == 7
    assert len({span.trace for span in spans}) == 1
    (root,) = _children(spans, "")
    assert (root.service, root.name, root.kind) == ("producer", f"publish {first}", "PRODUCER")
    failed, again = sorted(_children(spans, root.id), key=lambda span: not span.is_error)
    for span in (failed, again):
        assert (span.service, span.name, span.kind) == ("fallible", f"process {first}", "CONSUMER")
        assert (span.instance, span.links) == ("r1", [root.id])
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.events == ["exception"]
    assert _children(spans, failed.id) == []
    assert not again.is_error
    (sent,) = _children(spans, again.id)
    (upper,) = _children(spans, sent.id)
    (written,) = _children(spans, upper.id)
    (printed,) = _children(spans, written.id)
    assert [(span.service, span.name) for span in (sent, upper, written, printed)] == [
        ("fallible", f"publish {second}"),
        ("to_upper", f"process {second}"),
        ("to_upper", f"publish {third}"),
        ("printer", f"process {third}"),
    ]
    _check_attributes(broker, written, printed)


def _check_attributes(broker: Broker, written: Received, printed: Received) -> None:
    queue = printed.attributes["messaging.rabbitmq.destination.routing_key"]
    message_id = printed.attributes["messaging.message.id"]
    common: dict[str, Any] = {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": f"{queue}:{queue}",
        "messaging.rabbitmq.destination.routing_key": queue,
        "messaging.message.id": message_id,
        "messaging.message.conversation_id": printed.attributes[
            "messaging.message.conversation_id"
        ],
        "messaging.message.body.size": 6,
        "server.address": broker.host,
        "server.port": broker.port,
    }
    assert printed.attributes == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }
    assert written.attributes == {
        **common,
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }


@pytest.mark.thorough
def test_messages_go_on_without_a_collector(broker: Broker, unique: Unique, start: Start) -> None:
    """It is told once, and a halt does not wait for what is not there."""
    broker.put(unique("in"), map(str, range(3000)))
    stage = start(
        *RELAY,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        LOG_LEVEL="debug",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://user:s3cret@127.0.0.1:{free_port()}/?key=s3cret",
        OTEL_EXPORTER_OTLP_TIMEOUT=1.5,  # seconds; the first pause is at most 1.2
        OTEL_BSP_SCHEDULE_DELAY=100,
    )
    _wait_depth(broker, unique("out"), 3000)
    stage.wait_log("spans are not exported")
    broker.put(unique("in"), map(str, range(3000)))
    _wait_depth(broker, unique("out"), 6000)
    before = monotonic()

    assert stage.halt() == 0
    assert monotonic() - before < 8
    assert stage.log.count("spans are not exported, messages go on") == 1
    assert "ConnectionError" in stage.log, stage.log
    assert stage.log.count("spans are dropped") <= 1
    assert "opentelemetry" not in stage.log
    assert "s3cret" not in stage.log


@pytest.mark.thorough
def test_a_collector_that_hangs_ends_nothing(
    broker: Broker, unique: Unique, start: Start, collector: Collector
) -> None:
    """Messages flow; a halt waits for it, but not for long, and never beyond DRAIN_TIMEOUT."""
    collector.hang()
    broker.put(unique("in"), ["a"])
    stage = start(
        *RELAY,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        DRAIN_TIMEOUT=2,
        OTEL_BSP_SCHEDULE_DELAY=100,
        **collector.environment,
    )
    assert collector.asked.acquire(timeout=20)
    broker.put(unique("in"), ["b"])
    _wait_depth(broker, unique("out"), 2)
    before = monotonic()

    assert stage.halt() == 0
    assert monotonic() - before < 8
    assert "gave up exporting the last spans" in stage.log


def test_a_stage_without_the_extra_goes_on(broker: Broker, unique: Unique, start: Start) -> None:
    """It says what is missing, and where it is to be added; a trace goes on through it."""
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    broker.put(unique("in"), ["a"], headers={"traceparent": context})
    program = (
        "import runpy, sys; sys.modules['opentelemetry'] = None; "
        "runpy.run_module('tests.integration.stages.relay', run_name='__main__')"
    )
    stage = start(
        "-c",
        program,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
    )

    (taken,) = broker.take(unique("out"), 1)
    assert (taken.text, taken.headers["traceparent"]) == ("a", context)
    assert stage.halt() == 0
    assert "add opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http" in stage.log
