"""The only file that knows pika: the loop, a connection that comes back, declarations.

Everything here runs on the loop's thread; only `Loop.call` may be used from another one.
"""

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from typing import Any, Protocol

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.adapters.utils.connection_workflow import (
    AMQPConnectorStackTimeout,
    AMQPConnectorTransportSetupError,
)
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter
from pika.channel import Channel
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    BodyTooLongError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    DuplicateGetOkCallback,
    NoFreeChannels,
    ProtocolVersionMismatch,
    UnexpectedFrameError,
)
from pika.frame import Header
from pika.frame import Method as Frame
from pika.spec import Basic, BasicProperties

from rabbit.amqp import frames
from rabbit.amqp.backoff import Backoff
from rabbit.amqp.field_table import decode_table
from rabbit.amqp.frames import Arrival, ChannelListener
from rabbit.amqp.outage_log import OutageLog
from rabbit.amqp.outages import Closed, Outage, Phase, Silence, Where, explain
from rabbit.amqp.properties import HEADERS_BIT, split_headers
from rabbit.amqp.transport import Lookup, Transport
from rabbit.errors import ProtocolError, UndecodableError
from rabbit.settings import Endpoint, Settings
from rabbit.topology import Binding, Declaration, Exchange, Queue, QueueType

__all__ = [
    "Arrival",
    "Basic",
    "BasicProperties",
    "Channel",
    "ChannelListener",
    "Connection",
    "Frame",
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

#: How long one attempt may take, from the TCP connect to connection.open-ok. With several hosts the
#: first round is a quick one: one that is frozen takes the connection and says nothing.
ATTEMPT_SECONDS = 10.0
QUICK_ATTEMPT_SECONDS = 3.0

#: Likewise before a channel that the broker has closed is opened again.
FIRST_REOPEN_SECONDS = 1.0
LAST_REOPEN_SECONDS = 30.0

#: What has lasted so long works again: pauses are short, and the outage is over. A line that is
#: cut again and again is one outage.
STABLE_SECONDS = 5.0

#: Of connections that were lost before that, so many in a row are put to use at once; further ones
#: only when they have lasted this long. What is delivered on a connection and lost with it counts
#: towards the delivery limit of each message.
SHORT_LIVED = 2
PROBATION_SECONDS = 1.0

#: Pause before a channel is opened for which another one has to be closed first.
CLOSING_SECONDS = 0.1

#: AMQP's reply code for what is not allowed.
NOT_ALLOWED = 530

#: How long a consumer may hold a message unacked: in a handler that takes its time, or waiting for
#: it. RabbitMQ's own default is 30 minutes (consumer_timeout). Who is gone for good loses its
#: messages by its heartbeat; a handler that hangs, by HANDLER_TIMEOUT. So this is a week.
CONSUMER_TIMEOUT_MILLISECONDS = 7 * 24 * 60 * 60 * 1000


class _Hush(threading.local):
    """Whether what this thread does with pika is ours, and our own log tells of it."""

    is_ours = False

    def filter(self, _record: logging.LogRecord) -> bool:
        """Keep pika from telling it a second time; what a program does with pika itself stays."""
        return not self.is_ours


_hush = _Hush()


@contextmanager
def _hushed() -> Iterator[None]:
    """Have pika log nothing that this thread does meanwhile."""
    # Each of its modules has a logger of its own; a filter does not concern those below one.
    for name in list(logging.root.manager.loggerDict):
        if name == "pika" or name.startswith("pika."):
            logging.getLogger(name).addFilter(_hush)
    before, _hush.is_ours = _hush.is_ours, True
    try:
        yield
    finally:
        _hush.is_ours = before


class Loop(IOLoop):
    """pika's I/O loop, with an end to each turn and a door for other threads."""

    def __init__(self, on_turn: Callable[[], None]) -> None:
        """Call `on_turn` at the end of each turn: when all that was ready has been read."""
        with _hushed():
            super().__init__()
        # A finaliser may wake us within any allocation, one of `wake_threadsafe` itself included.
        self._poller._waking_mutex = threading.RLock()  # type: ignore[assignment] # noqa: SLF001
        self._on_turn = on_turn
        self._error: BaseException | None = None

    def start(self) -> None:
        """Run in this thread until stopped, and have pika log nothing from here."""
        with _hushed():
            super().start()

    def close(self) -> None:
        """Let go of what it has open."""
        with _hushed():
            super().close()

    def add_callback_threadsafe(self, callback: Callable[[], None]) -> None:
        """Do what pika does here, without its log line: other threads than the loop's come by."""
        self._callbacks.append(callback)
        self._poller.wake_threadsafe()

    add_callback = add_callback_threadsafe

    def process_timeouts(self) -> None:
        """Run what is due, then end the turn (pika calls this once a turn)."""
        if self._error is not None:  # before pika tells us what it makes of it
            raise self._error
        super().process_timeouts()
        if self._error is not None:
            raise self._error
        self._on_turn()

    def fail(self, error: BaseException) -> None:
        """Have this turn end by an error, and with it `start`, whoever catches it meanwhile."""
        self._error = self._error or error

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
        self.unsent: list[bytes | memoryview] = []
        self.lanes: dict[int, frames.ChannelListener] = {}
        self._moved = 0  # bytes, since the last flush
        self._decoder = frames.Decoder(self.lanes, self._leave_to_pika)
        self._state_before_the_end: int | None = None
        self._cause: BaseException | None = None
        self.on_error: Callable[[BaseException], None]  # given what fails here by our own fault
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
        try:
            self._decoder.feed(data_in)
        except ProtocolError:
            raise
        except BaseException as error:
            # Ours, not the network's; which pika's transport for TLS would take it for.
            self.on_error(error)
            raise

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


class Connection:
    """One connection to the broker that comes back by itself, and its users with it."""

    def __init__(self, loop: Loop, settings: Settings, name: str, outage_log: OutageLog) -> None:
        """Prepare; nothing is sent before `connect`.

        Args:
            loop: the loop it lives on.
            settings: where to connect and with which credentials.
            name: what the management console shows it as.
            outage_log: told of every failure and success.
        """
        self.users: list[User] = []
        self.on_unblocked: list[Callable[[], None]] = []
        self.blocked = False
        self._loop = loop
        self._settings = settings
        self._name = name
        self._outage_log = outage_log
        self._endpoints: Iterator[Endpoint] = cycle(settings.endpoints)
        self._endpoint = settings.endpoints[0]
        self._pika: _Wire | None = None
        self._open = False
        self._frame_max = frames.FRAME_MAX
        self._closing = False
        self._backoff = Backoff(FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS)
        self._attempts = 0  # since it was open last
        self._short_lived = 0  # connections in a row
        self._pausing: Any = None  # the timer of the pause before the next attempt
        self._epoch = 0
        self._reopenings: dict[User, _Reopenings] = {}

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened now."""
        return self._open

    @property
    def epoch(self) -> int:
        """A number that changes when it opens or is lost: what was asked before is lost too."""
        return self._epoch

    @property
    def _attempt_seconds(self) -> float:
        """Give a round of attempts twice the time of the one before; one host all of it."""
        hosts = len(self._settings.endpoints)
        if hosts == 1:
            return ATTEMPT_SECONDS
        rounds = min(self._attempts // hosts, 9)
        return min(ATTEMPT_SECONDS, QUICK_ATTEMPT_SECONDS * 2.0**rounds)

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
        try:
            seconds = self._attempt_seconds
            self._attempts += 1
            parameters = _parameters(self._endpoint, self._settings, self._name, seconds)
        except ValueError as error:  # of a file that was right when we started
            self._go_on(Outage(str(error), str(error)))
            return
        self._pika = _Wire(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._failed,
            on_close_callback=self._failed,
            custom_ioloop=_Services(self._loop),
        )
        self._pika.on_error = self._loop.fail

    def hurry(self) -> None:
        """Try again at once, not after the pause."""
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
            self._outage_log.forget(self, *self.users)
            if self._pika and self._pika.is_open:
                self._pika.close()

    def drop(self) -> None:
        """Close the socket without a word: the loop has ended, or stayed in the parent process."""
        transport = self._pika and self._pika._transport  # noqa: SLF001
        copy = getattr(transport, "_socket", None) or getattr(transport, "_sock", None)
        if copy is not None:
            with suppress(OSError):
                copy.close()

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
        lane: ChannelListener | None = None,
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

        def refused() -> None:
            allowed = wire.params.channel_max if wire else 0
            on_closed_by_broker(
                NOT_ALLOWED,
                f"NOT_ALLOWED - channel_max is {allowed}, and this process needs more channels on "
                "a connection: raise channel_max in rabbitmq.conf",
            )

        if wire and self._open and wire.is_open:  # it may be closing
            try:
                wire.channel(on_open_callback=opened)
            except NoFreeChannels:
                if wire.is_closing_a_channel:
                    again = partial(self.channel, on_open, on_closed_by_broker, lane)
                    self._later(CLOSING_SECONDS, again)
                else:
                    self._later(0, refused)

    def close_channel(self, channel: Channel) -> None:
        """Close a channel (channel.close); what still arrives on it is for nobody."""
        if self._pika:
            self._pika.lanes.pop(channel.channel_number, None)
        channel.close()

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send frames, in parts, with this turn's `flush`; the channel they belong to is open."""
        if self._pika:
            self._pika.unsent += frames

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed upon (connection.tune), in bytes."""
        return self._frame_max

    def reopen(self, user: User, reason: str) -> None:
        """Let a user whose channel the broker has closed open a new one, after a pause.

        Args:
            user: one of `users`.
            reason: why, in the broker's words; told once.
        """
        self._outage_log.refused(user, reason)
        known = self._reopenings.setdefault(user, _Reopenings())
        known.count += 1
        count = known.count

        def prove() -> None:
            if known.count == count:
                known.backoff.proved()
                self._outage_log.accepted(user)

        def reopen() -> None:
            user.open()
            self._later(STABLE_SECONDS, prove)

        self._later(known.backoff.pause(), reopen)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` after `seconds`, unless this connection is lost by then."""
        epoch = self._epoch

        def run() -> None:
            if self._open and epoch == self._epoch:
                function()

        self.call_later(seconds, run)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` on the loop's thread after `seconds`."""
        self._loop.call_later(seconds, function)

    def _opened(self, connection: Any) -> None:  # noqa: ANN401 - pika's
        if self._closing:
            connection.close()
            return
        self._frame_max = int(connection.params.frame_max)
        self._attempts = 0
        self.blocked = False
        self._epoch += 1
        connection.add_on_connection_blocked_callback(self._block)
        connection.add_on_connection_unblocked_callback(self._unblock)
        if self._short_lived < SHORT_LIVED:
            self._begin(self._epoch)
        else:
            self.call_later(PROBATION_SECONDS, partial(self._begin, self._epoch))
        self._short_lived += 1
        self.call_later(STABLE_SECONDS, partial(self._prove, self._epoch))

    def _begin(self, epoch: int) -> None:
        """Put this connection to use."""
        if epoch == self._epoch and self._pika and self._pika.is_open and not self._closing:
            self._open = True
            for user in self.users:
                user.open()

    def _prove(self, epoch: int) -> None:
        """Note that this connection has lasted."""
        if epoch == self._epoch and self._pika and self._pika.is_open and not self._closing:
            self._short_lived = 0
            self._backoff.proved()
            self._outage_log.restored(self, self._endpoint)

    def _block(self, _connection: object, _frame: object) -> None:
        """Note connection.blocked: an alarm, the broker reads nothing more from us."""
        self.blocked = True

    def _unblock(self, _connection: object, _frame: object) -> None:
        self.blocked = False
        for go_on in self.on_unblocked:
            go_on()

    def _failed(self, _connection: object, error: BaseException) -> None:
        """Go on after a failed attempt or a lost connection."""
        wire, was_open, self._open, self._pika = self._pika, self._open, False, None
        self._epoch += 1
        if was_open:
            for user in self.users:
                user.lost()
        if not self._closing and wire:
            self._go_on(self._explain(wire, error))

    def _go_on(self, outage: Outage) -> None:
        """Try again after a pause."""
        self._outage_log.trouble(self, outage.reason, outage.kind)
        self._pausing = self._loop.call_later(self._backoff.pause(), self.connect)

    def _explain(self, wire: _Wire, error: BaseException) -> Outage:
        """Say why there is no connection."""
        by_url = self._settings.rabbitmq_url is not None
        has_certificate = self._settings.rabbitmq_certificate_file is not None
        where = Where(self._endpoint, by_url, has_certificate)
        if wire.phase is Phase.REACHING:
            return explain(where, *_reaching(error))
        return explain(where, wire.phase, _ours(wire.cause))


class _Reopenings:
    """How often the channel of one user was closed by the broker."""

    def __init__(self) -> None:
        self.count = 0
        self.backoff = Backoff(FIRST_REOPEN_SECONDS, LAST_REOPEN_SECONDS)


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
    channel: Channel,
    queue: str,
    lane: ChannelListener,
    on_registered: Callable[[object], None],
    *,
    queue_type: QueueType = "quorum",
) -> str:
    """Register a consumer (basic.consume) whose deliveries its channel's lane takes.

    Args:
        channel: a channel that was opened with `lane`.
        queue: what to consume; it is acked by hand.
        lane: as above; it is given those deliveries, too, that the codec has left to pika.
        on_registered: called with basic.consume-ok.
        queue_type: what the queue is.

    Returns:
        the consumer's tag.
    """

    def left_to_pika(
        channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        if channel.is_open:
            raw = encode_properties(properties)
            arrival = (method.delivery_tag, method.routing_key, raw, body, method.redelivered)
            lane.delivered(method.exchange, [arrival])

    is_patient = queue_type == "quorum" and _knows_consumer_timeout(channel)
    arguments = {"x-consumer-timeout": CONSUMER_TIMEOUT_MILLISECONDS} if is_patient else {}
    return channel.basic_consume(queue, left_to_pika, callback=on_registered, arguments=arguments)


def _knows_consumer_timeout(channel: Channel) -> bool:
    """Tell whether the broker takes `x-consumer-timeout`; one that does not refuses the consumer.

    Quorum queues do since RabbitMQ 4.3. Classic ones refuse it, and have no such time-out there.
    """
    version = str((channel.connection.server_properties or {}).get("version", ""))
    numbers = re.search(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (4, 3)


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
        UndecodableError: they cannot be decoded.
    """
    properties = BasicProperties()  # type: ignore[no-untyped-call]
    try:
        rest, table = split_headers(raw)
        properties.decode(rest)  # type: ignore[no-untyped-call]
        if raw[0] & HEADERS_BIT:
            properties.headers = decode_table(table)  # pika would make whole numbers of floats
    except Exception as error:
        msg = f"properties that cannot be decoded: {error!r}"
        raise UndecodableError(msg) from error
    return properties


def _parameters(
    endpoint: Endpoint, settings: Settings, name: str, attempt_seconds: float
) -> pika.ConnectionParameters:
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


def _reaching(error: BaseException) -> tuple[Phase, BaseException]:
    """Say how far an attempt came that did not come to AMQP, and what ended it.

    A host may have several addresses; what came furthest tells most.
    """
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, AMQPConnectorTransportSetupError):
            return Phase.SECURING, _ours(cause.exception)
    return Phase.REACHING, _ours(chain[-1])


def _ours(cause: Any) -> Any:  # noqa: ANN401 - None, or an exception
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
