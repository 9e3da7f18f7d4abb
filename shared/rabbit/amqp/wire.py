"""The seam to pika: a connection of its that leaves the frequent frames to us, both ways."""

from collections.abc import Iterator
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
    AMQPConnectorTransportSetupError,
)
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    BodyTooLongError,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    ProtocolVersionMismatch,
    UnexpectedFrameError,
)
from pika.frame import Header
from pika.spec import BasicProperties

from rabbit.amqp import frames
from rabbit.amqp.outages import Closed, Phase, Silence
from rabbit.errors import ProtocolError
from rabbit.settings import Endpoint, Settings


class Wire(SelectConnection):
    """A connection of pika that gives the frequent frames to the codec, in both directions.

    pika sends each frame with a system call of its own, and makes a dozen objects of a message.
    `_adapter_emit_data` and `_on_data_available` are the methods by which its connections and its
    adapters speak to each other; overriding them is the seam. All frames that the codec does not
    know go through it unchanged.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        """Begin to connect, as pika's `SelectConnection` does with these arguments."""
        self.unsent: list[bytes | memoryview] = []
        self.listeners: dict[int, frames.FrameListener] = {}
        self._moved = 0  # bytes, since the last flush
        self._decoder = frames.Decoder(self.listeners, self._leave_to_pika)
        self._state_before_the_end: int | None = None
        self._cause: BaseException | None = None
        super().__init__(*arguments, **options)

    @property
    def phase(self) -> Phase:
        """How far it has come, or had come when it ended."""
        return _PHASES.get(self._state_before_the_end, Phase.REACHING)

    @property
    def cause(self) -> BaseException | None:
        """What has ended it after the TLS handshake; None: the peer. pika keeps only a text."""
        return self._cause

    @property
    def is_closing_a_channel(self) -> bool:
        """Whether the number of a channel will be free again soon."""
        return any(channel.is_closing for channel in self._channels.values())

    def _adapter_connect_stream(self) -> None:
        super()._adapter_connect_stream()
        workflow: Any = self._connection_workflow
        make = workflow._connector_factory  # noqa: SLF001 - the seam: it makes each attempt
        workflow._connector_factory = lambda: _guarded(make())  # noqa: SLF001

    def _set_connection_state(self, connection_state: int) -> None:
        super()._set_connection_state(connection_state)
        if connection_state in _PHASES:
            self._state_before_the_end = connection_state

    def _proto_connection_lost(self, error: BaseException | None) -> None:
        self._cause = error or self._error  # which pika replaces by what it takes for more likely
        super()._proto_connection_lost(error)

    def _on_connection_tune(self, method_frame: Any) -> None:  # noqa: ANN401 - pika's
        super()._on_connection_tune(method_frame)
        self._decoder.frame_max = int(self.params.frame_max)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.unsent.append(data)

    def flush(self) -> int:
        """Send what has come together, with one system call if it is small; see `Connection.flush`.

        The frames of a large body each take one more: that costs less than to copy them.
        """
        moved, self._moved = self._moved, 0
        if self.unsent:
            parts, self.unsent = self.unsent, []
            for piece in frames.joined(parts):
                moved += len(piece)
                super()._adapter_emit_data(piece)  # type: ignore[arg-type]
        return moved

    def _on_data_available(self, data_in: bytes) -> None:
        self._moved += len(data_in)
        self.bytes_received += len(data_in)  # pika's heartbeat checker looks at it
        self._decoder.feed(data_in)

    def _leave_to_pika(self, frame: bytes) -> None:
        self.bytes_received -= len(frame)  # pika counts it
        try:
            super()._on_data_available(frame)
        except (BodyTooLongError, ProtocolVersionMismatch, UnexpectedFrameError) as error:
            raise ProtocolError(repr(error)) from error
        except Exception as error:
            if self.phase is Phase.OPEN:
                raise
            raise ProtocolError(f"no AMQP handshake: {error!r}") from error  # it is all pika's

    def _read_frame(self) -> Any:  # noqa: ANN401 - pika's
        """Decode a frame; what pika raises then is the peer's fault, not ours."""
        try:
            return _content_header(self._frame_buffer) or super()._read_frame()
        except Exception as error:
            raise ProtocolError(f"a frame that cannot be decoded: {error!r}") from error


def _guarded(connector: Any) -> Any:  # noqa: ANN401 - pika's AMQPConnector
    """Have an attempt fail for which there is no socket, as it does when nothing listens.

    pika lets that error out, into the loop: for instance when no file descriptor is left.
    """
    begin = connector.start

    def start(**given: Any) -> None:  # noqa: ANN401 - as it is called
        try:
            begin(**given)
        except OSError as error:
            failed = AMQPConnectorSocketConnectError(error)
            connector._report_completion_and_cleanup(failed)  # noqa: SLF001 - its own way out

    connector.start = start
    return connector


class _AsTheyCame(BasicProperties):
    """Properties that pika passes on without a look at them."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._raw = raw

    def encode(self) -> list[bytes]:
        return [self._raw]


def _content_header(frame: bytes) -> tuple[int, Header] | None:
    """Return how long a content header is, and the header; None: it is another frame, or broken.

    pika would read the properties: it makes whole numbers of floats, and what it does not know ends
    the connection. `decode_properties` reads them, where somebody wants to.
    """
    found = frames.split_content_header(frame)
    if found is None:
        return None
    channel, body_size, properties = found
    return len(frame), Header(channel, body_size, _AsTheyCame(properties))


#: How far a connection has come, by pika's states.
_PHASES: dict[int | None, Phase] = {
    SelectConnection.CONNECTION_INIT: Phase.REACHING,
    SelectConnection.CONNECTION_PROTOCOL: Phase.GREETING,
    SelectConnection.CONNECTION_START: Phase.LOGIN,
    SelectConnection.CONNECTION_TUNE: Phase.OPENING,
    SelectConnection.CONNECTION_OPEN: Phase.OPEN,
}


def parameters(
    endpoint: Endpoint, settings: Settings, name: str, attempt_seconds: float
) -> pika.ConnectionParameters:
    """Return what pika needs for one attempt to connect.

    Args:
        endpoint: the broker.
        settings: heartbeat and TLS.
        name: what the management console shows the connection as.
        attempt_seconds: how long the attempt may take.

    Raises:
        ValueError: a file of TLS cannot be used now.
    """
    return pika.ConnectionParameters(
        host=endpoint.host,
        port=endpoint.port,
        virtual_host=endpoint.vhost,
        credentials=pika.PlainCredentials(endpoint.username, endpoint.password),
        heartbeat=settings.rabbitmq_heartbeat,
        socket_timeout=attempt_seconds,
        stack_timeout=attempt_seconds,
        ssl_options=_tls(endpoint, settings),
        client_properties={"connection_name": name},
    )


def _tls(endpoint: Endpoint, settings: Settings) -> pika.SSLOptions | None:
    return pika.SSLOptions(settings.ssl_context(), endpoint.host) if endpoint.tls else None


def reaching(error: BaseException) -> tuple[Phase, BaseException]:
    """Say how far an attempt came that did not come to AMQP, and what ended it.

    A host may have several addresses; what came furthest tells most.
    """
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, AMQPConnectorTransportSetupError):
            return Phase.SECURING, outage_of(cause.exception)
    return Phase.REACHING, outage_of(chain[-1])


def outage_of(cause: Any) -> Any:  # noqa: ANN401 - None, or an exception
    """Return a cause in words without pika."""
    match cause:
        case ConnectionClosedByBroker():
            return Closed(cause.reply_code, cause.reply_text)
        case AMQPConnectorStackTimeout() | ConnectionOpenAborted() | TimeoutError():
            return Silence()
        case AMQPHeartbeatTimeout():
            return OSError("no heartbeat, is the network up?")
    return cause


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go through an error of pika and the errors it wraps in its arguments and attributes."""
    yield error
    wrapped = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner)
