"""A connection that comes back by itself, and its users with it.

Everything here runs on the loop's thread.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, Protocol

from pika.channel import Channel as PikaChannel
from pika.exceptions import ChannelClosedByBroker, NoFreeChannels

from rabbit.amqp import frames
from rabbit.amqp.backoff import STABLE_SECONDS, Backoff
from rabbit.amqp.channel import Channel
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.loop import Loop
from rabbit.amqp.outage_log import OutageLog
from rabbit.amqp.outages import Outage, Phase, Where, explain
from rabbit.amqp.services import Services
from rabbit.amqp.wire import Wire, outage_of, parameters, reaching
from rabbit.settings import Settings

#: Pause before a new attempt to connect: random, up to a bound that doubles from first to last.
FIRST_BACKOFF_SECONDS = 0.25
LAST_BACKOFF_SECONDS = 10.0

#: How long one attempt may take, from the TCP connect to connection.open-ok. With several hosts the
#: first round is a quick one: one that is frozen takes the connection and says nothing.
ATTEMPT_SECONDS = 10.0
QUICK_ATTEMPT_SECONDS = 3.0

#: Of connections that were lost before that, so many in a row are put to use at once; further ones
#: only when they have lasted this long. What is delivered on a connection and lost with it counts
#: towards the delivery limit of each message.
SHORT_LIVED = 2
PROBATION_SECONDS = 1.0

#: Pause before a channel is opened for which another one has to be closed first.
CLOSING_SECONDS = 0.1

#: AMQP's reply code for what is not allowed.
NOT_ALLOWED = 530


class User(Protocol):
    """What lives on a connection: it sets up its channels again each time."""

    def open(self) -> None:
        """Set up; the connection is open."""

    def lost(self) -> None:
        """Forget all channels; the connection is gone."""


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
        self.alarm = ""  # why, in the broker's words, as "low on memory"
        self.opened = 0  # how often it was
        self.outage_log = outage_log
        self.topology_is_given = settings.topology == "given"
        self._loop = loop
        self._settings = settings
        self._name = name
        self._endpoint = settings.endpoints[0]
        self._turns = count()  # which of the endpoints is the next one
        self._pika: Wire | None = None
        self._open = False
        self._frame_max = frames.FRAME_MAX
        self._closing = False
        self._backoff = Backoff(FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS)
        self._attempts = 0  # since it was open last
        self._short_lived = 0  # connections in a row
        self._pausing: Any = None  # the timer of the pause before the next attempt
        self._epoch = 0

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened now."""
        return self._open

    @property
    def user_id(self) -> str | None:
        """Who is logged in, as reports say it; the broker refuses another (validated user-id)."""
        return self._endpoint.username if self.topology_is_given else None

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
        try:
            endpoints = self._settings.renewed().endpoints
            self._endpoint = endpoints[next(self._turns) % len(endpoints)]
            seconds = self._attempt_seconds
            self._attempts += 1
            asked = parameters(self._endpoint, self._settings, self._name, seconds)
        except ValueError as error:  # of a file that was right when we started
            self._go_on(Outage(str(error), str(error)))
            return
        self._pika = Wire(
            asked,
            on_open_callback=self._opened,
            on_open_error_callback=self._failed,
            on_close_callback=self._failed,
            custom_ioloop=Services(self._loop),
        )

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
            self.outage_log.forget(self, *self.users)
            if self._pika and self._pika.is_open:
                self._pika.close()

    def drop(self) -> None:
        """Close the socket without a word: the loop has ended, or stayed in the parent process."""
        transport = self._pika and self._pika._transport  # noqa: SLF001
        if transport is not None:
            with suppress(OSError):
                transport._socket.close()  # noqa: SLF001

    def flush(self) -> int:
        """Send what this turn has produced; call it at the end of each turn.

        Returns:
            how many bytes the turn has sent and received.
        """
        return self._pika.flush() if self._pika and not self._pika.is_closed else 0

    def open_channel(
        self,
        on_open: Callable[[PikaChannel], None],
        on_closed_by_broker: Callable[[int, str], None],
        listener: ChannelListener,
    ) -> None:
        """Open a channel (channel.open); for `Channel`.

        Args:
            on_open: given pika's channel, once it is open.
            on_closed_by_broker: given the reply code and text of channel.close. A channel that
                goes down with its connection is no news: `User.lost` tells of that.
            listener: takes the channel's deliveries and confirms, those included that arrive
                between basic.cancel and its ok.
        """
        wire = self._pika
        if wire is None or not self._open or not wire.is_open:  # it may be closing
            return

        def opened(channel: PikaChannel) -> None:
            wire.listeners[channel.channel_number] = listener
            channel.add_on_close_callback(closed)
            on_open(channel)

        def closed(channel: PikaChannel, reason: Exception) -> None:
            if wire.listeners.pop(channel.channel_number, None) is None:
                return  # we closed it too, and whoever did has gone on already
            if isinstance(reason, ChannelClosedByBroker) and self._open:
                on_closed_by_broker(reason.reply_code, reason.reply_text)

        try:
            wire.channel(on_open_callback=opened)
        except NoFreeChannels:
            if wire.is_closing_a_channel:
                again = partial(self.open_channel, on_open, on_closed_by_broker, listener)
                self.call_later_if_open(CLOSING_SECONDS, again)
            else:
                refused = partial(on_closed_by_broker, NOT_ALLOWED, _too_few(wire))
                self.call_later_if_open(0, refused)

    def close_channel(self, channel: PikaChannel) -> None:
        """Close a channel (channel.close); what still arrives on it is for nobody."""
        if self._pika:
            self._pika.listeners.pop(channel.channel_number, None)
        if channel.is_open:  # else it is being closed already, with this connection say
            channel.close()

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send frames, in parts, with this turn's `flush`; the channel they belong to is open."""
        if self._pika:
            self._pika.unsent += frames

    def channel(
        self, listener: ChannelListener, purpose: str, *, is_wanted: bool = True
    ) -> Channel:
        """Return a channel that is opened whenever this connection is open; see `Channel`.

        Args:
            listener: hears what happens on it.
            purpose: what cannot be done without it, as in "cannot ...", for people.
            is_wanted: whether it is wanted from the beginning on.
        """
        channel = Channel(self, listener, purpose, is_wanted=is_wanted)
        self.users.append(channel)
        return channel

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed upon (connection.tune), in bytes."""
        return self._frame_max

    def call_later_if_open(self, seconds: float, function: Callable[[], None]) -> None:
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
        self.opened += 1
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
            for user in list(self.users):
                user.open()

    def _prove(self, epoch: int) -> None:
        """Note that this connection has lasted."""
        if epoch == self._epoch and self._pika and self._pika.is_open and not self._closing:
            self._short_lived = 0
            self._backoff.proved()
            self.outage_log.restored(self, self._endpoint)

    def _block(self, _connection: object, frame: Any) -> None:  # noqa: ANN401 - pika's
        """Note connection.blocked: an alarm, the broker reads nothing more from us."""
        self.blocked, self.alarm = True, str(frame.method.reason)

    def _unblock(self, _connection: object, _frame: object) -> None:
        self.blocked = False
        for go_on in self.on_unblocked:
            go_on()

    def _failed(self, _connection: object, error: BaseException) -> None:
        """Go on after a failed attempt or a lost connection."""
        wire, was_open, self._open, self._pika = self._pika, self._open, False, None
        self.blocked = False  # whether there is an alarm still, the next one is told anew
        self._epoch += 1
        if was_open:
            for user in list(self.users):
                user.lost()
        if not self._closing and wire:
            self._go_on(self._explain(wire, error))

    def _go_on(self, outage: Outage) -> None:
        """Try again after a pause."""
        self.outage_log.trouble(self, outage.reason, outage.kind)
        self._pausing = self._loop.call_later(self._backoff.pause(), self.connect)

    def _explain(self, wire: Wire, error: BaseException) -> Outage:
        """Say why there is no connection."""
        by_url = self._settings.rabbitmq_url is not None
        has_certificate = self._settings.rabbitmq_certificate_file is not None
        where = Where(self._endpoint, by_url, has_certificate)
        if wire.phase is Phase.REACHING:
            return explain(where, *reaching(error))
        return explain(where, wire.phase, outage_of(wire.cause))


def _too_few(wire: Wire) -> str:
    """Say, as the broker would, that no channel is left."""
    return (
        f"NOT_ALLOWED - channel_max is {wire.params.channel_max}, and this process needs more "
        "channels on a connection: raise channel_max in rabbitmq.conf"
    )
