"""The only file that knows pika: the loop, a connection that comes back, declarations.

Everything here runs on the loop's thread; only `Loop.call` may be used from another one.
"""

import random
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any, Protocol

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter
from pika.channel import Channel
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    DuplicateGetOkCallback,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)
from pika.frame import Method as Frame
from pika.spec import Basic, BasicProperties

from rabbit import codec
from rabbit.availability import Availability
from rabbit.codec import Arrival, Lane
from rabbit.errors import UndecodableError
from rabbit.lookup import Lookup
from rabbit.settings import Endpoint, Settings
from rabbit.topology import Binding, Declaration, Exchange, Queue
from rabbit.transport import Transport

__all__ = [
    "Arrival",
    "Basic",
    "BasicProperties",
    "Channel",
    "Connection",
    "Frame",
    "Lane",
    "Loop",
    "User",
    "consume",
    "declare",
    "decode_properties",
    "encode_properties",
    "keep_alive",
]

#: Pause before a new attempt to connect: random, up to a bound that doubles from first to last.
FIRST_BACKOFF_SECONDS = 0.25
LAST_BACKOFF_SECONDS = 10.0

#: How long one attempt may take, from the TCP connect to connection.open-ok.
ATTEMPT_SECONDS = 10.0

#: Pause before a channel that the broker has closed is opened again.
REOPEN_SECONDS = 1.0


class Loop(IOLoop):
    """pika's I/O loop, with an end to each turn and a door for other threads."""

    def __init__(self, on_turn: Callable[[], None]) -> None:
        """Call `on_turn` at the end of each turn: when all that was ready has been read."""
        super().__init__()
        self._on_turn = on_turn

    def process_timeouts(self) -> None:
        """Run what is due, then end the turn (pika calls this once a turn)."""
        super().process_timeouts()
        self._on_turn()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run `function` on the loop's thread, soon; safe from any thread.

        A loop that has stopped never runs it (pika's `add_callback_threadsafe`).
        """

        def run() -> None:
            function(*arguments)

        self.add_callback_threadsafe(run)

    def wake(self) -> None:
        """Make the loop take a turn; safe from any thread."""
        self.add_callback_threadsafe(_nothing)

    def watch(self, reader: socket.socket, function: Callable[[], None]) -> None:
        """Run `function` whenever `reader` has something to read; it is read empty before."""

        def readable(_fd: int, _events: int) -> None:
            reader.recv(4096)
            function()

        self.add_handler(reader.fileno(), readable, self.READ)


def _nothing() -> None:
    """Do nothing: what counts is that the loop wakes up for it."""


class User(Protocol):
    """What lives on a connection: it sets up its channels again each time."""

    def open(self) -> None:
        """Set up; the connection is open."""

    def lost(self) -> None:
        """Forget all channels; the connection is gone."""


class _Linkup:
    """A transport that is about to be put between a socket and its connection; pika may cancel."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket: socket.socket | None = sock

    def take(self) -> socket.socket | None:
        """Return the socket, once; None when that was cancelled."""
        taken, self._socket = self._socket, None
        return taken

    def cancel(self) -> bool:
        """Close the socket, unless it is too late; see pika's `AbstractIOReference`."""
        cancelled = self.take()
        if cancelled is not None:
            cancelled.close()
        return cancelled is not None


class _Services(SelectorIOServicesAdapter):
    """pika's I/O services, with a transport of our own for plain TCP, and our own name lookup."""

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[..., None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:  # noqa: ANN401 - pika's
        """Begin to look up a host's addresses; see pika's `AbstractIOServices`."""
        return Lookup(
            lambda: socket.getaddrinfo(host, port, family, socktype, proto, flags),
            on_done,
            self.add_callback_threadsafe,
        )

    def create_streaming_connection(
        self,
        protocol_factory: Any,  # noqa: ANN401 - pika's
        sock: socket.socket,
        on_done: Any,  # noqa: ANN401 - pika's
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Any:  # noqa: ANN401 - pika's
        """Begin to speak on a connected socket; see pika's `AbstractIOServices`."""
        if ssl_context is not None:
            return super().create_streaming_connection(
                protocol_factory, sock, on_done, ssl_context, server_hostname
            )
        linkup = _Linkup(sock)

        def link() -> None:
            taken = linkup.take()
            if taken is not None:
                protocol = protocol_factory()
                transport = Transport(taken, protocol, self)
                protocol.connection_made(transport)
                on_done((transport, protocol))

        self.add_callback_threadsafe(link)  # type: ignore[no-untyped-call]
        return linkup


class _Wire(SelectConnection):
    """A connection of pika that gives the frequent frames to the codec, in both directions.

    pika sends each frame with a system call of its own, and makes a dozen objects of a message.
    `_adapter_emit_data` and `_on_data_available` are the methods by which its connections and its
    adapters speak to each other; overriding them is the seam. All frames that the codec does not
    know go through it unchanged.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        self.unsent: list[bytes] = []
        self.lanes: dict[int, codec.Lane] = {}
        self._moved = 0  # bytes, since the last flush
        self._decoder = codec.Decoder(self.lanes, self._leave_to_pika)
        super().__init__(*arguments, **options)

    def _adapter_emit_data(self, data: bytes) -> None:
        self.unsent.append(data)

    def flush(self) -> int:
        """Send what has come together, with one system call; see `Connection.flush`."""
        moved, self._moved = self._moved, 0
        if self.unsent:
            data = b"".join(self.unsent)
            self.unsent.clear()
            moved += len(data)
            super()._adapter_emit_data(data)
        return moved

    def _on_data_available(self, data_in: bytes) -> None:
        self._moved += len(data_in)
        self.bytes_received += len(data_in)  # pika's heartbeat checker looks at it
        self._decoder.feed(data_in)

    def _leave_to_pika(self, frame: bytes) -> None:
        self.bytes_received -= len(frame)  # pika counts it
        super()._on_data_available(frame)


class Connection:
    """One connection to the broker that comes back by itself, and its users with it."""

    def __init__(
        self, loop: Loop, settings: Settings, name: str, availability: Availability
    ) -> None:
        """Prepare; nothing is sent before `connect`.

        Args:
            loop: the loop it lives on.
            settings: where to connect and with which credentials.
            name: what the management console shows it as.
            availability: told of every failure and success.
        """
        self.users: list[User] = []
        self.on_unblocked: list[Callable[[], None]] = []
        self.blocked = False
        self._loop = loop
        self._settings = settings
        self._name = name
        self._availability = availability
        self._endpoints: Iterator[Endpoint] = cycle(settings.endpoints)
        self._endpoint = settings.endpoints[0]
        self._pika: _Wire | None = None
        self._open = False
        self._closing = False
        self._failures = 0
        self._pausing: Any = None  # the timer of the pause before the next attempt
        self._epoch = 0

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened now."""
        return self._open

    @property
    def is_closed(self) -> bool:
        """Whether `close` has done its work."""
        return self._closing and self._pika is None

    def connect(self) -> None:
        """Start to connect, and go on trying for ever."""
        self._pausing = None
        if self._closing:
            return
        self._endpoint = next(self._endpoints)
        self._pika = _Wire(
            _parameters(self._endpoint, self._settings, self._name),
            on_open_callback=self._opened,
            on_open_error_callback=self._failed,
            on_close_callback=self._failed,
            custom_ioloop=_Services(self._loop),
        )

    def hurry(self) -> None:
        """Try again at once, not after the pause; the pauses from now on are short again."""
        self._failures = 0
        if self._pausing is not None:
            self._loop.remove_timeout(self._pausing)
            self.connect()

    def close(self) -> None:
        """Close in order (connection.close); `is_closed` tells when that is done.

        An attempt to connect that is under way first comes to its end: pika 1.4 fails with an
        AssertionError when it is interrupted in the handshake.
        """
        if not self._closing:
            self._closing = True
            if self._pika and self._open:
                self._pika.close()

    def flush(self) -> int:
        """Send what this turn has produced; call it at the end of each turn.

        Returns:
            how many bytes the turn has sent and received.
        """
        return self._pika.flush() if self._pika and not self._pika.is_closed else 0

    def channel(
        self,
        on_open: Callable[[Channel], None],
        on_closed_by_broker: Callable[[int, str], None],
        lane: Lane | None = None,
    ) -> None:
        """Open a channel (channel.open).

        Args:
            on_open: given the channel, once it is open.
            on_closed_by_broker: given the reply code and text of channel.close. A channel that
                goes down with its connection is no news: `User.lost` tells of that.
            lane: takes the channel's deliveries and confirms, those included that arrive
                between basic.cancel and its ok.
        """
        wire = self._pika

        def opened(channel: Channel) -> None:
            if lane and wire:
                wire.lanes[channel.channel_number] = lane
            channel.add_on_close_callback(closed)
            on_open(channel)

        def closed(channel: Channel, reason: Exception) -> None:
            # A lane that is gone: we closed it too, and whoever did has gone on already.
            if lane and wire and wire.lanes.pop(channel.channel_number, None) is None:
                return
            if isinstance(reason, ChannelClosedByBroker) and self._open:
                on_closed_by_broker(reason.reply_code, reason.reply_text)

        if wire and self._open:
            wire.channel(on_open_callback=opened)

    def close_channel(self, channel: Channel) -> None:
        """Close a channel (channel.close); what still arrives on it is for nobody."""
        if self._pika:
            self._pika.lanes.pop(channel.channel_number, None)
        channel.close()

    def send(self, frames: Iterable[bytes]) -> None:
        """Send frames, in parts, with this turn's `flush`; the channel they belong to is open."""
        if self._pika:
            self._pika.unsent += frames

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed upon (connection.tune), in bytes."""
        assert self._pika is not None  # noqa: S101 - there is one while a channel is open
        return int(self._pika.params.frame_max)

    def reopen(self, user: User) -> None:
        """Let a user whose channel the broker has closed open a new one, after a pause."""
        epoch = self._epoch

        def reopen() -> None:
            if self._open and epoch == self._epoch:
                user.open()

        self.call_later(REOPEN_SECONDS, reopen)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` on the loop's thread after `seconds`."""
        self._loop.call_later(seconds, function)

    def _opened(self, connection: Any) -> None:  # noqa: ANN401 - pika's
        if self._closing:
            connection.close()
            return
        self._open, self._failures, self.blocked = True, 0, False
        self._epoch += 1
        connection.add_on_connection_blocked_callback(self._block)
        connection.add_on_connection_unblocked_callback(self._unblock)
        self._availability.restored(self, self._endpoint)
        for user in self.users:
            user.open()

    def _block(self, _connection: object, _frame: object) -> None:
        """Note connection.blocked: an alarm, the broker reads nothing more from us."""
        self.blocked = True

    def _unblock(self, _connection: object, _frame: object) -> None:
        self.blocked = False
        for go_on in self.on_unblocked:
            go_on()

    def _failed(self, _connection: object, error: BaseException) -> None:
        """Go on after a failed attempt or a lost connection."""
        was_open, self._open, self._pika = self._open, False, None
        if was_open:
            for user in self.users:
                user.lost()
        if self._closing:
            return
        reason = _explain(error, self._endpoint)
        self._availability.trouble(self, reason, reason)
        bound = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 16))
        self._failures += 1
        pause = random.uniform(0, bound)  # noqa: S311 - no secret
        self._pausing = self._loop.call_later(pause, self.connect)


def declare(channel: Channel, declarations: Iterable[Declaration]) -> None:
    """Send the declarations; what is sent after them on this channel finds them done.

    The broker closes the channel when it refuses one (406 when something of that name exists
    with other arguments, 403 without permission).
    """
    for item in declarations:
        match item:
            case Exchange(name, kind, auto_delete):
                channel.exchange_declare(name, kind, durable=True, auto_delete=auto_delete)
            case Queue(name, arguments, purge):
                channel.queue_declare(name, durable=True, arguments=dict(arguments))
                if purge:
                    channel.queue_purge(name)
            case Binding(exchange, queue, key):
                channel.queue_bind(queue, exchange, routing_key=key)


def consume(
    channel: Channel, queue: str, lane: Lane, on_registered: Callable[[object], None]
) -> str:
    """Register a consumer (basic.consume) whose deliveries its channel's lane takes.

    Args:
        channel: a channel that was opened with `lane`.
        queue: what to consume; it is acked by hand.
        lane: as above; it is given those deliveries, too, that the codec has left to pika.
        on_registered: called with basic.consume-ok.

    Returns:
        the consumer's tag.
    """

    def left_to_pika(
        channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        if channel.is_open:
            raw = encode_properties(properties)
            lane.delivered(
                [(method.delivery_tag, method.routing_key, raw, body, method.redelivered)]
            )

    return channel.basic_consume(queue, left_to_pika, callback=on_registered)


def keep_alive(channel: Channel, queue: str) -> None:
    """Use a queue, so that it does not expire: take a message out (basic.get) and put it back.

    Declaring a quorum queue again is no use of it (RabbitMQ's guide to them); this is.
    """

    def put_back(channel: Channel, method: Basic.GetOk, _properties: object, _body: bytes) -> None:
        if channel.is_open:
            channel.basic_nack(method.delivery_tag, requeue=True)

    with suppress(DuplicateGetOkCallback):  # an alarm: the one before is not answered yet
        channel.basic_get(queue, put_back)


def encode_properties(properties: BasicProperties) -> bytes:
    """Encode the properties of a message, flags first as in its content header."""
    return b"".join(properties.encode())  # type: ignore[no-untyped-call]


def decode_properties(raw: bytes) -> BasicProperties:
    """Decode the properties of a message, flags first as in its content header.

    Raises:
        UndecodableError: pika cannot decode them; some headers are beyond it.
    """
    properties = BasicProperties()  # type: ignore[no-untyped-call]
    try:
        properties.decode(raw)  # type: ignore[no-untyped-call]
    except Exception as error:
        msg = f"properties that cannot be decoded: {error!r}"
        raise UndecodableError(msg) from error
    return properties


def _parameters(endpoint: Endpoint, settings: Settings, name: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=endpoint.host,
        port=endpoint.port,
        virtual_host=endpoint.vhost,
        credentials=pika.PlainCredentials(endpoint.username, endpoint.password),
        heartbeat=settings.rabbitmq_heartbeat,
        socket_timeout=ATTEMPT_SECONDS,
        stack_timeout=ATTEMPT_SECONDS,
        ssl_options=_tls(endpoint, settings),
        client_properties={"connection_name": name},
    )


def _tls(endpoint: Endpoint, settings: Settings) -> pika.SSLOptions | None:
    return pika.SSLOptions(settings.ssl_context(), endpoint.host) if endpoint.tls else None


#: Why there is no connection, and what a person can do about it.
_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (
        ProbableAuthenticationError,
        (
            "{endpoint} refuses user {endpoint.username!r} with this password: "
            "check RABBITMQ_USERNAME and RABBITMQ_PASSWORD"
        ),
    ),
    (
        ProbableAccessDeniedError,
        (
            "{endpoint} has no virtual host {endpoint.vhost!r} for user {endpoint.username!r}: "
            "check RABBITMQ_VHOST and the user's permissions"
        ),
    ),
    (socket.gaierror, "no such host {endpoint.host!r}: check RABBITMQ_HOST"),
    (
        ConnectionRefusedError,
        "nothing listens at {endpoint}: is RabbitMQ up? check RABBITMQ_HOST",
    ),
    (ssl.SSLError, "no TLS connection to {endpoint}: {cause}: check RABBITMQ_CA_FILE"),
    (ConnectionClosedByBroker, "{endpoint} closed the connection: {cause.reply_text}"),
    (AMQPHeartbeatTimeout, "no heartbeat from {endpoint}: is the network up?"),
    (StreamLostError, "connection to {endpoint} lost: {cause.args[0]}"),
)


def _explain(error: BaseException, endpoint: Endpoint) -> str:
    """Say why there is no connection."""
    chain = list(_causes(error))
    for cause in chain:
        for kind, reason in _REASONS:
            if isinstance(cause, kind):
                return reason.format(endpoint=endpoint, cause=cause)
    return f"{endpoint}: {chain[-1]!r}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Go through an error of pika and the errors it wraps in its arguments and attributes."""
    yield error
    wrapped = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner)
