"""Spans for OpenTelemetry: one for each message that is handled, one for each that is published.

They follow OpenTelemetry's semantic conventions for messaging, and those for RabbitMQ. Only a stage
that exports spans imports this, and runs the classes that are made here: see `Telemetry.traced`. It
needs the extra `telemetry`.
"""

import logging
import os
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from rabbit.amqp.properties import HEADERS_BIT, read_headers, read_ids, with_headers
from rabbit.logs import LONGEST_VALUE, Logger
from rabbit.message import Message
from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.messaging.publisher import Owner, Publication, Publisher
from rabbit.messaging.retry import describe
from rabbit.output import Output
from rabbit.runtime.batches import BatchHandler
from rabbit.runtime.dispatcher import Dispatcher
from rabbit.runtime.handler import Call, Handler, M
from rabbit.runtime.source import Source
from rabbit.settings import Settings
from rabbit.terminal import shortened
from rabbit.topology import Edge

#: How long the end of a stage waits, in seconds, for its last spans to be exported; and how long
#: where that has just failed.
EXPORT_SECONDS = 5.0
FAILING_SECONDS = 0.5

#: Where the collector is, the more particular one first.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

K = TypeVar("K")


class Telemetry:
    """Makes and exports the spans of one replica. Whatever fails here, messages go on."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        input: Edge | None,  # noqa: A002 - as everywhere
        output: Edge | None,
        log: Logger,
        *,
        is_process: bool,
    ) -> None:
        """Prepare; nothing is exported before `begin`.

        Args:
            settings: the replica's name, which is the id of the service's instance, and the broker.
            stage: the name of the service. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
            input: what is consumed.
            output: what is published to.
            log: told, once, when spans cannot be exported.
            is_process: the process is the stage's: its other spans are exported, too.
        """
        self._own = Resource({"service.name": stage, "service.instance.id": settings.replica})
        self._system: dict[str, str | int] = {"messaging.system": "rabbitmq"}
        if len(settings.endpoints) == 1:
            (broker,) = settings.endpoints
            self._system |= {"server.address": broker.host, "server.port": broker.port}
        self._input, self._output = input, output
        self._log = log
        self._is_process = is_process
        self._tracer: trace.Tracer = trace.NoOpTracer()
        self._provider: TracerProvider | None = None
        self._exporter: _Exporter | None = None
        self._handled: set[Span] = set()  # not ended yet
        self._about_input = lru_cache(maxsize=1000)(self._of_input)
        self._about_output = lru_cache(maxsize=1000)(self._of_output)
        # By these headers a trace goes on: `traceparent` and `tracestate`, or those of
        # OTEL_PROPAGATORS. Baggage is no part of it.
        self._trace_headers = set(propagate.get_global_textmap().fields) - {"baggage"}
        self._has_failed = False

    def begin(self) -> None:
        """Begin to export; to where, how, and how many of the spans is said by OTEL_... variables.

        If the program has a provider of its own, the spans are given to that.
        """
        with self._harmless():
            given = trace.get_tracer_provider()
            if not isinstance(given, TracerProvider):
                given = self._make_provider()
            self._tracer = given.get_tracer("rabbit")

    def end(self, seconds: float) -> None:
        """Export what is left, for so many seconds at most; what takes longer is given up."""
        for span in list(self._handled):
            _fail(span, "_OTHER", "the stage has ended before the message was handled")
            span.end()
        self._handled.clear()
        self._tracer = trace.NoOpTracer()
        provider, self._provider = self._provider, None
        if provider is None or self._exporter is None:
            return
        most = FAILING_SECONDS if self._exporter.is_failing else min(seconds, EXPORT_SECONDS)
        thread = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        with suppress(RuntimeError):  # no thread is left
            thread.start()
            thread.join(most)
        if thread.is_alive() and not self._exporter.is_failing:
            self._log.warning("gave up exporting the last spans", seconds=most)
        self._exporter.shutdown()  # ends a pause between two attempts

    def traced(self, kind: type[K]) -> type[K]:
        """Return what is to run in place of a class: a subclass of it that makes spans."""
        mixins: dict[type, type] = {
            BatchHandler: _TracedBatchHandler,
            Handler: _TracedHandler,
            Dispatcher: _Traced,
            Source: _TracedSource,
            Publisher: _TracedPublisher,
        }
        mixin = next(mixin for base, mixin in mixins.items() if issubclass(kind, base))
        if hasattr(kind, "run_async"):  # an AsyncHandler, which is not imported for its name's sake
            mixin = _TracedAsyncHandler
        its: dict[str, object] = {"telemetry": self}
        if issubclass(kind, Dispatcher | Source):
            its["publisher_class"] = self.traced(Publisher)
            its["keyed_publisher_class"] = self.traced(KeyedPublisher)
        return cast("type[K]", type(f"Traced{kind.__name__}", (mixin, kind), its))

    # A span for each message

    def handling(self, message: Message) -> tuple[Span, object] | None:
        """Begin the span of a message; it is the current one of this thread.

        Its parent is what has published the message, so that all of it is one trace.
        """
        with self._harmless():
            parent = propagate.extract(_carrier(message.properties))
            begun = self._handling(parent, [parent], message.routing_key)
            if begun[0].is_recording():
                begun[0].set_attributes(_of_one(message.body, message.id, message.correlation_id))
            return begun
        return None

    def handling_batch(self, messages: Sequence[Message]) -> tuple[Span, object] | None:
        """Begin the span of messages that are handled at once: linked to each, a child of none."""
        with self._harmless():
            senders = [propagate.extract(_carrier(message.properties)) for message in messages]
            begun = self._handling(context.Context(), senders, "")
            sizes = sum(len(message.body) for message in messages)
            begun[0].set_attribute("messaging.batch.message_count", len(messages))
            begun[0].set_attribute("messaging.message.body.size", sizes)
            return begun
        return None

    def _handling(
        self, parent: context.Context, senders: list[context.Context], key: str
    ) -> tuple[Span, object]:
        linked = [trace.get_current_span(each).get_span_context() for each in senders]
        name, said = self._about_input(key)
        span = self._tracer.start_span(
            name,
            parent,
            SpanKind.CONSUMER,
            said,
            [Link(sender) for sender in linked if sender.is_valid],
        )
        self._handled.add(span)
        return span, context.attach(trace.set_span_in_context(span, parent))

    def handled(self, begun: tuple[Span, object] | None, error: BaseException | None) -> None:
        """End the span of a message, of a failed one with its error."""
        if begun is None:
            return
        span, token = begun
        self._handled.discard(span)
        if error is not None:
            with self._harmless():
                _fail(span, _type_of(error), describe(error))
                # As `record_exception` does it, which has no bound: an error may quote a message.
                trace_of = "".join(traceback.format_exception(error))
                said = {
                    "exception.type": _type_of(error),
                    "exception.message": describe(error),
                    "exception.stacktrace": shortened(trace_of, LONGEST_VALUE),
                }
                span.add_event("exception", said)
        with self._harmless():
            span.end()
        with self._harmless():
            context.detach(cast("Any", token))

    def publishing(self, output: Output, received: Message | None) -> Output:
        """Begin the span of an output; return the output with its context in the headers.

        It is exported when the broker has confirmed the output, and not if that never happens: a
        `work` that fails has published nothing.

        Args:
            output: as it was written.
            received: what is being handled; None in a source.
        """
        with self._harmless():
            had = _carrier(output.properties)
            own = self._set_by_work(had, received)
            name, said = self._about_output(output.key)
            links = [Link(own)] if own else []
            span = self._tracer.start_span(name, None, SpanKind.PRODUCER, said, links)
            if span.is_recording():
                span.set_attributes(_of_one(output.body, *read_ids(output.properties)))
            properties = output.properties
            if own is None:
                properties = self._with_context(span, properties, had)
            return _TracedOutput.of(output, properties, span)
        return output

    def _set_by_work(self, had: Mapping[str, str], received: Message | None) -> SpanContext | None:
        """Return a context that `work` has given to an output: it stays, as the conventions ask.

        One that came, and is passed through, is the sender's.
        """
        if self._trace_headers.isdisjoint(had):
            return None
        came = {} if received is None else _carrier(received.properties)
        if all(had.get(name) == came.get(name) for name in self._trace_headers):
            return None
        own = trace.get_current_span(propagate.extract(had)).get_span_context()
        return own if own.is_valid else None

    def _with_context(self, span: Span, properties: bytes, had: Mapping[str, str]) -> bytes:
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        new = {
            name: value
            for name, value in carrier.items()
            if name in self._trace_headers or name not in had
        }
        return (
            with_headers(properties, new, self._trace_headers.__contains__) if new else properties
        )

    def confirmed(self, output: Output) -> None:
        """End the span of an output, if it has one."""
        if isinstance(output, _TracedOutput):
            with self._harmless():
                output.span.end()

    # What they say

    def _of_input(self, key: str) -> tuple[str, dict[str, str | int]]:
        """Return the name of a span, and what samplers may look at."""
        name, queue = (self._input.name, self._input.queue) if self._input else ("", "")
        # A queue that is called like its exchange or the key is named once.
        parts = [name, key, *({queue} - ({key} if key else {name}))]
        return f"process {name}", self._of("process", "process", parts, key)

    def _of_output(self, asked: str | None) -> tuple[str, dict[str, str | int]]:
        """Return the name of an output's span, and what samplers may look at."""
        name, key = (self._output.name, self._output.key(asked)) if self._output else ("", "")
        return f"publish {name}", self._of("publish", "send", [name, key], key)

    def _of(self, name: str, kind: str, parts: list[str], key: str) -> dict[str, str | int]:
        found: dict[str, str | int] = {
            **self._system,
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": ":".join(filter(None, parts)),
        }
        if key:
            found["messaging.rabbitmq.destination.routing_key"] = key
        return found

    def _make_provider(self) -> TracerProvider:
        self._exporter = _Exporter(self._log)
        resource = Resource.create().merge(self._own).merge(OTELResourceDetector().detect())
        # At exit it would wait as long as a collector does not answer: `end` does not.
        self._provider = provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(self._exporter))
        if self._is_process:
            trace.set_tracer_provider(provider)
        return provider

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Have nothing come of an error but a line in the log, and that once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of somebody else's code, and no message's failure
            if not self._has_failed:
                self._has_failed = True
                self._log.warning("no spans, or not all: messages go on", exc_info=error)


class _TracedOutput(Output):
    """An output, and its span.

    Attributes:
        span: ended when the broker has confirmed the output.
    """

    __slots__ = ("span",)
    span: Span

    @classmethod
    def of(cls, output: Output, properties: bytes, span: Span) -> "_TracedOutput":
        """Return `output` with other properties and a span."""
        given = {field.name: getattr(output, field.name) for field in fields(output)}
        made = cls(**{**given, "properties": properties})
        made.span = span
        return made


class _Traced:
    """A part of `Telemetry.traced`."""

    telemetry: ClassVar[Telemetry]


class _TracedWrites(_Traced, Handler):
    def write(self, *arguments: Any, **given: Any) -> None:  # noqa: ANN401 - as they are
        """Add an output, with its span's context."""
        with self.writing:
            super().write(*arguments, **given)
            call = self._call
            call.outputs[-1] = self.telemetry.publishing(call.outputs[-1], call.message)


class _TracedHandler(_TracedWrites):
    def run(self, message: M) -> Call[M]:
        """Handle one message, in its span."""
        begun = self.telemetry.handling(message)
        call = super().run(message)
        self.telemetry.handled(begun, call.error)
        return call


class _TracedAsyncHandler(_TracedWrites):
    async def run_async(self, message: M) -> Call[M]:
        """Handle one message, in its span, which is the current one of its task."""
        begun = self.telemetry.handling(message)
        call: Call[M] = await super().run_async(message)  # type: ignore[misc]
        self.telemetry.handled(begun, call.error)
        return call


class _TracedBatchHandler(_Traced, BatchHandler):
    def _call_work(self, messages: Sequence[Message], values: list[Any]) -> BaseException | None:
        if len(messages) == 1:
            begun = self.telemetry.handling(messages[0])
        else:
            begun = self.telemetry.handling_batch(messages)
        error = super()._call_work(messages, values)
        self.telemetry.handled(begun, error)
        return error

    def _readable(self, messages: Sequence[M]) -> tuple[list[M], list[Any], list[Call[M]]]:
        readable, values, calls = super()._readable(messages)
        for call in calls:  # `work` never sees these
            self.telemetry.handled(self.telemetry.handling(call.message), call.error)
        return readable, values, calls


class _TracedSource(_Traced, Source):
    def __init__(self, *arguments: Any, **given: Any) -> None:  # noqa: ANN401 - as they are
        super().__init__(*arguments, **given)
        queue = self._queue
        self._queue = lambda output: queue(self.telemetry.publishing(output, None))


class _TracedPublisher(_Traced, Publisher[Owner]):
    def _confirm(self, publications: list[Publication[Owner]]) -> None:
        for output, _ in publications:
            self.telemetry.confirmed(output)
        super()._confirm(publications)


class _Exporter(SpanExporter):
    """Exports by OTLP over HTTP, and tells once when that begins to fail, and once when it ends.

    Attributes:
        is_failing: the last export has failed.
    """

    def __init__(self, log: Logger) -> None:
        self.is_failing = False
        self._exporter = OTLPSpanExporter()
        self._log = log
        self._lost = 0
        self._is_over = self._has_dropped = False
        self._hush = _Hush(self)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in {"opentelemetry", "urllib3"}:
                logging.getLogger(name).addFilter(self._hush)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; what cannot be exported is dropped."""
        self._hush.said, self._hush.is_ours = "", True
        try:
            result = self._exporter.export(spans)
        finally:
            self._hush.is_ours = False
        if result is SpanExportResult.SUCCESS:
            if self.is_failing:
                self._log.info("spans are exported again", lost=self._lost)
            self.is_failing, self._lost = False, 0
            return result
        self._lost += len(spans)
        if not self.is_failing and not self._is_over:
            self.is_failing = True
            self._log.warning(
                "spans are not exported, messages go on: does the collector take OTLP over HTTP "
                "there (its port is 4318)?",
                collector=_collector(),
                reason=self._hush.said,
            )
        return result

    def tell_dropped(self) -> None:
        """Say, once, that there are too many."""
        if not (self._has_dropped or self.is_failing):
            self._has_dropped = True
            self._log.warning(
                "spans are dropped, more are made than can be exported: have fewer traces sampled, "
                "OTEL_TRACES_SAMPLER=parentbased_traceidratio with OTEL_TRACES_SAMPLER_ARG=0.01"
            )

    def shutdown(self) -> None:
        """Export nothing more, and wait for nothing; once."""
        if not self._is_over:
            self._is_over = True
            self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Hush(threading.local):
    """Keeps what the exporter says from being told each time: a filter for loggers."""

    is_ours = False
    said = ""

    def __init__(self, exporter: _Exporter) -> None:
        self._exporter = exporter

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is of interest: not while spans cannot be exported anyway."""
        if self.is_ours:
            if record.levelno >= logging.WARNING:
                self.said = self.said or _without_url(record)
            return False
        if str(record.msg).startswith("Queue full"):
            self._exporter.tell_dropped()
            return False
        return not self._exporter.is_failing


def _without_url(record: logging.LogRecord) -> str:
    """Return what a record says, of errors the type only: they may quote a URL, and its secrets."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    shown = tuple(
        type(each).__name__ if isinstance(each, BaseException) else each for each in arguments
    )
    with suppress(Exception):
        return str(record.msg) % shown
    return str(record.msg)


def _collector() -> str:
    """Return the host and the port that spans are sent to."""
    given = next(filter(None, map(os.environ.get, ENDPOINTS)), "")
    with suppress(ValueError):
        parts = urlsplit(given)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return "?"


def _carrier(properties: bytes) -> dict[str, str]:
    """Return the headers of a message that are texts."""
    if not properties[0] & HEADERS_BIT:
        return {}
    try:
        found = read_headers(properties)
    except ValueError:  # `work` never sees it
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _of_one(
    body: bytes, message_id: str | None, correlation_id: str | None
) -> dict[str, str | int]:
    """Return what is said of one message."""
    found: dict[str, str | int] = {"messaging.message.body.size": len(body)}
    if message_id:
        found["messaging.message.id"] = message_id
    if correlation_id:
        found["messaging.message.conversation_id"] = correlation_id
    return found


def _fail(span: Span, kind: str, said: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, said))


def _type_of(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
