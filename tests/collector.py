"""A collector of OpenTelemetry's spans: takes OTLP over HTTP, as its published protobufs say."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.waiting import wait_until


class Received(NamedTuple):
    """One span, as it has come.

    Attributes:
        service: `service.name` of its resource.
        instance: `service.instance.id` of it.
        name: the span's.
        kind: CONSUMER, PRODUCER, INTERNAL and so on.
        trace: the trace's id, in hexadecimal digits.
        id: its own.
        parent: that of its parent; empty: it has none.
        links: those of the spans that it is linked to.
        attributes: by their names.
        is_error: its status.
        events: the names of its events.
        seconds: from its start to its end.
    """

    service: str
    instance: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: list[str]
    attributes: dict[str, Any]
    is_error: bool
    events: list[str]
    seconds: float


class Collector:
    """Listens on a port of its own within a `with`.

    Attributes:
        spans: all that have come.
        environment: by which a stage finds it.
        status: what it answers; with another one than 200 it drops what has come.
        asked: released with each request.
    """

    def __init__(self) -> None:
        """Begin with no spans."""
        self.spans: list[Received] = []
        self.status = 200
        self.asked = threading.Semaphore(0)
        self._answers = threading.Event()
        self._answers.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.environment: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}

    def __enter__(self) -> Self:
        """Listen."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        self._answers.set()
        self._server.shutdown()
        self._server.server_close()

    def hang(self) -> None:
        """Answer nothing more."""
        self._answers.clear()

    def wait_spans(self, count: int, seconds: float = 20.0) -> list[Received]:
        """Wait until so many spans have come; return all of them."""
        wait_until(lambda: len(self.spans) >= count, seconds, lambda: f"{count} of {self.spans}")
        return list(self.spans)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            """Takes what is posted to `/v1/traces`."""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                """Note the spans, and say so."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.release()
                collector._answers.wait()
                status = collector.status if self.path.startswith("/v1/traces") else 404
                if status == 200:
                    collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - likewise
                """Be quiet."""

        return Handler


def _spans(request: ExportTraceServiceRequest) -> list[Received]:
    found = []
    for resource in request.resource_spans:
        its = _values(resource.resource.attributes)
        found += [
            Received(
                its["service.name"],
                its["service.instance.id"],
                span.name,
                ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                [link.span_id.hex() for link in span.links],
                _values(span.attributes),
                span.status.code == Status.STATUS_CODE_ERROR,
                [event.name for event in span.events],
                (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            )
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    return found


def _values(attributes: Any) -> dict[str, Any]:
    """Return attributes as Python's values."""
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}
