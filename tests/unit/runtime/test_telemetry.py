"""Spans, and the headers by which a trace goes on, without a broker."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rabbit import Worker
from rabbit.amqp.pika_types import Properties, encode_properties
from rabbit.amqp.properties import decode_headers
from rabbit.logs import logger
from rabbit.message import Message
from rabbit.output import Output, new_output
from rabbit.runtime.async_handlers import AsyncHandler
from rabbit.runtime.batches import BatchHandler, BatchSize
from rabbit.runtime.handler import Call, Handler
from rabbit.runtime.telemetry import Telemetry
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.collector import Collector
from tests.unit.scripted import log

TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SENDER}-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-a7ad6b7169203331-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Have a provider of the program's own, which keeps its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@pytest.fixture
def telemetry(exporter: InMemorySpanExporter) -> Telemetry:
    """Have spans made for a stage that reads `in` and writes `out`, by its key."""
    assert exporter
    made = Telemetry(
        Settings.load(rabbitmq_host="a,b", replica="r1"),
        "relay",
        Edge("in", "topic", ("#",), group="relay"),
        Edge("out", "topic"),
        log,
        is_process=False,
    )
    made.begin()
    return made


def handler(telemetry: Telemetry, work: Callable[[Handler, str], None]) -> Handler:
    """Return a handler whose `work` gets the handler too."""
    made: Handler = telemetry.traced(Handler)(lambda text: work(made, text), "relay")
    return made


def message(**headers: Any) -> Message:
    """Return a message with these headers."""
    properties = Properties(message_id="m1", correlation_id="c1", headers=headers or None)  # type: ignore[no-untyped-call]
    return Message(
        b"hello", encode_properties(properties), redelivered=False, routing_key="order.paid"
    )


def test_a_message_is_handled_in_the_trace_that_it_brings(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """So is what `work` does itself, and what it writes; baggage goes on too."""

    def work(made: Handler, _text: str) -> None:
        assert baggage.get_baggage("tenant") == "t1"
        with trace.get_tracer_provider().get_tracer("own").start_as_current_span("own"):
            made.write("HELLO", "order.done")

    call = handler(telemetry, work).run(message(traceparent=TRACEPARENT, baggage="tenant=t1"))
    (output,) = call.outputs
    telemetry.confirmed(output)

    own, process, publish = exporter.get_finished_spans()
    assert [span.name for span in (process, own, publish)] == ["process in", "own", "publish out"]
    assert {span.context.trace_id for span in (process, own, publish)} == {int(TRACE, 16)}
    assert process.parent
    assert process.parent.span_id == int(SENDER, 16)
    assert own.parent
    assert own.parent.span_id == process.context.span_id
    assert publish.parent
    assert publish.parent.span_id == own.context.span_id
    headers = decode_headers(output.properties)
    assert headers["traceparent"] == f"00-{TRACE}-{publish.context.span_id:016x}-01"
    assert headers["baggage"] == "tenant=t1"
    assert process.attributes
    assert publish.attributes
    assert process.attributes["messaging.destination.name"] == "in:order.paid:in.relay"
    assert publish.attributes["messaging.destination.name"] == "out:order.done"
    assert "server.address" not in process.attributes  # there are two, and it may be either
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_work_that_fails_has_published_nothing(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """There is only its own span, with the error; without a sender's, it begins a trace."""

    def work(made: Handler, text: str) -> None:
        made.write(text, "key")
        raise KeyboardInterrupt(1_000_000 * text)

    assert handler(telemetry, work).run(message()).error is not None

    (span,) = exporter.get_finished_spans()
    assert (span.parent, list(span.links)) == (None, [])
    assert span.attributes
    assert span.attributes["error.type"] == "KeyboardInterrupt"
    assert span.status.description == 100 * "hello"
    (event,) = span.events
    assert event.attributes
    assert {name: len(str(value)) < 20_000 for name, value in event.attributes.items()} == {
        "exception.type": True,
        "exception.message": True,
        "exception.stacktrace": True,
    }


@pytest.mark.parametrize(
    "headers", [{"traceparent": "garbage"}, {"traceparent": 7}, {"traceparent": ["x"]}]
)
def test_a_context_that_cannot_be_read_is_none(
    telemetry: Telemetry, exporter: InMemorySpanExporter, headers: dict[str, Any]
) -> None:
    """The message is handled all the same."""
    call = handler(telemetry, lambda made, text: made.write(text, "key")).run(message(**headers))

    assert call.error is None
    assert [span.parent for span in exporter.get_finished_spans()] == [None]


def test_a_context_that_work_sets_itself_stays(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """As the conventions ask; the span of publishing it is linked to that."""
    written = Output(b"x", message(traceparent=OTHER, baggage="own=1").properties, "key")
    output = telemetry.publishing(written, message(traceparent=TRACEPARENT))
    telemetry.confirmed(output)

    (span,) = exporter.get_finished_spans()
    assert [f"{link.context.span_id:x}" for link in span.links] == [OTHER.split("-")[2]]
    assert decode_headers(output.properties) == {"traceparent": OTHER, "baggage": "own=1"}


def test_what_passes_through_is_replaced(telemetry: Telemetry) -> None:
    """An output that has the sender's headers gets a context of its own."""
    received = message(traceparent=TRACEPARENT, tracestate="theirs=1", tenant="t1")
    output = telemetry.publishing(Output(b"x", received.properties, "key"), received)

    headers = decode_headers(output.properties)
    assert headers.keys() == {"traceparent", "tenant"}
    assert headers["traceparent"] != TRACEPARENT


def test_a_batch_is_linked_to_each_of_its_messages(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """It is no part of one message's trace."""
    begun = telemetry.handling_batch(
        [message(traceparent=TRACEPARENT), message(), message(traceparent=OTHER)]
    )
    telemetry.handled(begun, None)

    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE, OTHER.split("-")[1]]
    assert span.attributes
    assert span.attributes["messaging.batch.message_count"] == 3
    assert span.attributes["messaging.destination.name"] == "in:in.relay"


def test_tasks_keep_their_traces_apart(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """Two at a time on one event loop: what each writes is in the trace of its own message."""
    both = asyncio.Barrier(2)

    async def work(text: str) -> None:
        await both.wait()
        made.write(text, "key")
        await both.wait()

    made = telemetry.traced(AsyncHandler)(work, "relay")

    async def run() -> list[Call[Message]]:
        received = message(traceparent=TRACEPARENT), message(traceparent=OTHER)
        return await asyncio.gather(*map(made.run_async, received))

    calls = asyncio.run(run())
    made.event_loop.close()

    assert [call.error for call in calls] == [None, None]
    spans = exporter.get_finished_spans()
    assert sorted(f"{span.context.trace_id:032x}" for span in spans) == [
        TRACE,
        OTHER.split("-")[1],
    ]
    for call, began in zip(calls, (TRACE, OTHER.split("-")[1]), strict=True):
        (output,) = call.outputs
        assert decode_headers(output.properties)["traceparent"].split("-")[1] == began


def test_a_batch_that_fails_is_taken_apart(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """Its span is an error; then each message has one in its own trace, unreadable ones too."""

    def work(texts: list[str]) -> None:
        raise ValueError(texts)

    made = telemetry.traced(BatchHandler)(work, "sink", size=BatchSize(9, 0), log=log)
    bad = Message(
        b"\xff", message(traceparent=OTHER).properties, redelivered=False, routing_key="key"
    )
    calls, alone = made.run_batch([message(traceparent=TRACEPARENT), bad, message()])
    assert [call.message for call in calls] == [bad]
    assert len(alone) == 2
    made.run_batch(alone[:1])

    unreadable, batch, single = exporter.get_finished_spans()
    assert [span.status.is_ok for span in (unreadable, batch, single)] == [False] * 3
    assert f"{unreadable.context.trace_id:032x}" == OTHER.split("-")[1]
    assert (batch.parent, len(batch.links)) == (None, 1)
    assert f"{single.context.trace_id:032x}" == TRACE


class _Broken:
    """A tracer that fails."""

    def start_span(self, *_arguments: object) -> None:
        """Fail."""
        raise RuntimeError


def test_messages_go_on_when_spans_fail(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no message's failure."""
    monkeypatch.setattr(telemetry, "_tracer", _Broken())
    call = handler(telemetry, lambda made, text: made.write(text, "key")).run(message())

    assert call.error is None
    assert [output.properties for output in call.outputs] == [
        new_output(b"", call.outputs[0].id, "c1").properties
    ]


def test_a_message_that_is_not_finished_is_told(
    telemetry: Telemetry, exporter: InMemorySpanExporter
) -> None:
    """When the stage gives up, its span is an error."""
    begun = telemetry.handling(message())
    telemetry.end(1.0)
    (span,) = exporter.get_finished_spans()
    telemetry.handled(begun, None)

    assert span.status.description == "the stage has ended before the message was handled"
    assert context.get_current() == {}


def test_a_collector_that_refuses_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And once that it takes spans again; what it could quote of its address is not told."""
    settings = Settings.load(replica="r1")
    with Collector() as collector:
        address = collector.environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{address}/v1/traces?key=s3cret")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,team=a")
        made = Telemetry(settings, "relay", Edge("in"), None, logger(settings), is_process=False)
        made.begin()
        for collector.status in (403, 403, 200, 200):
            assert handler(made, lambda *_: None).run(message()).error is None
            assert made._provider  # noqa: SLF001 - a span at a time
            made._provider.force_flush()  # noqa: SLF001 - likewise
        made.end(10)

    assert [(span.service, span.instance) for span in collector.spans] == [("theirs", "r1")] * 2
    refused, again = capsys.readouterr().err.splitlines()
    assert f"collector={address.removeprefix('http://')}" in refused
    assert "code: 403, reason: Forbidden" in refused
    assert "s3cret" not in refused
    assert again.endswith("spans are exported again lost=2")


class Relay(Worker):
    """Passes on."""

    def work(self, message: str) -> None:
        """Pass it on."""
        self.write(message)


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}


@pytest.mark.parametrize(
    ("variables", "made"),
    [
        ({}, "Handler"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "Handler"),
        (ENDPOINT, "TracedHandler"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "TracedHandler"),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, "Handler"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, "Handler"),
    ],
)
def test_spans_are_made_where_they_are_exported(
    variables: dict[str, str], made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, a stage runs the very classes that it runs without OpenTelemetry."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stage = Relay(input="in", output="out")

    assert made == type(stage.__rabbit_handler__).__name__


def test_the_packages_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so, and the stage is built without."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    monkeypatch.delitem(sys.modules, "rabbit.runtime.telemetry")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    stage = Relay(input="in", output="out")

    (line,) = capsys.readouterr().err.splitlines()
    assert "add opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http" in line
    assert type(stage.__rabbit_handler__) is Handler
