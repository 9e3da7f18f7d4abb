"""What becomes of a channel that the broker closes, with the connection's part played by hand."""

from collections.abc import Callable, Iterable, MutableMapping
from itertools import pairwise
from typing import Any

import pytest
import structlog
from pika import frame, spec
from pika.callback import CallbackManager
from pika.channel import Channel as PikaChannel

from rabbit.amqp.channel import LAST_REOPEN_SECONDS, Channel
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.frames import FRAME_MAX
from rabbit.amqp.outage_log import OutageLog
from rabbit.errors import TopologyError
from rabbit.topology import Exchange

TOO_MANY = (406, "PRECONDITION_FAILED - queues limit of vhost is reached")
REFUSED = f"broker refuses a channel, trying again: consume 'x': {TOO_MANY[1]}"
FORBIDDEN = (403, "ACCESS_REFUSED - access to queue 'x' refused for user 'u'")


class Host:
    """Opens no channel: the broker closes each that is asked for, when the test says so."""

    def __init__(self) -> None:
        """Be open."""
        self.users: list[Any] = []
        self.is_open = True
        self.topology_is_given = False
        self.frame_max = FRAME_MAX
        self.said: list[str] = []
        self.outage_log = OutageLog(
            structlog.wrap_logger(
                None, processors=[self._hear], wrapper_class=structlog.BoundLogger
            )
        )
        self.asked: list[Callable[[int, str], None]] = []
        self.on_open: list[Callable[[Any], None]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def _hear(self, _logger: object, _level: str, event: MutableMapping[str, Any]) -> str:
        told = [event["event"], event.get("channel"), event.get("reason")]
        self.said.append(": ".join(filter(None, told)))
        raise structlog.DropEvent

    def open_channel(
        self,
        on_open: Callable[[Any], None],
        on_closed_by_broker: Callable[[int, str], None],
        _listener: ChannelListener,
    ) -> None:
        """Note that one is asked for."""
        self.on_open.append(on_open)
        self.asked.append(on_closed_by_broker)

    def close_channel(self, channel: Any) -> None:
        """As a connection does it."""
        if channel.is_open:
            channel.close()

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send nothing."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Note what is to be done when time has passed."""
        self.timers.append((seconds, function))

    call_later_if_open = call_later

    def pass_time(self) -> list[float]:
        """Do what waits; return how long it was to wait."""
        due, self.timers = self.timers, []
        for _, function in due:
            function()
        return [seconds for seconds, _ in due]


class Listener(ChannelListener):
    """Hears of the channel, and may deal with its end itself."""

    def __init__(self, *, deals_with_it: bool = False) -> None:
        """Have heard nothing."""
        self.heard: list[object] = []
        self._deals_with_it = deals_with_it

    def lost(self) -> None:
        """Note it."""
        self.heard.append("lost")

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Note it."""
        self.heard.append((code, text))
        return self._deals_with_it

    def failed(self, error: TopologyError) -> None:
        """Note it."""
        self.heard.append(error)

    def consumer_cancelled(self) -> None:
        """Note it."""
        self.heard.append("cancelled")


@pytest.fixture
def host() -> Host:
    """Return a connection that is open."""
    return Host()


def channel_of(host: Host, listener: ChannelListener, *, is_wanted: bool = True) -> Channel:
    """Return a channel of it."""
    return Channel(host, listener, "consume 'x'", is_wanted=is_wanted)


def test_it_is_opened_again_after_a_pause_that_grows(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ever, and the reason is told once."""
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    listener = Listener()
    channel_of(host, listener).open()

    pauses: list[float] = []
    for number in range(1, 9):
        assert len(host.asked) == number
        host.asked[-1](*TOO_MANY)
        assert len(host.asked) == number, "not at once"
        pauses.append(max(host.pass_time()))

    assert all(before <= after for before, after in pairwise(pauses))
    assert pauses[-1] == LAST_REOPEN_SECONDS
    assert host.said == [REFUSED]
    assert listener.heard[:2] == ["lost", TOO_MANY]


def test_another_reason_is_told_too(host: Host) -> None:
    """In the broker's words."""
    channel_of(host, Listener()).open()
    for text in ("one", "one", "another"):
        host.asked[-1](541, text)
        host.pass_time()

    assert [said.rpartition(": ")[2] for said in host.said] == ["one", "another"]


def test_what_another_channel_does_not_cure_is_an_error(host: Host) -> None:
    """It names what cannot be done, and why; no other channel is opened."""
    listener = Listener()
    channel_of(host, listener).open()

    host.asked[-1](*FORBIDDEN)
    host.pass_time()

    assert len(host.asked) == 1
    error = listener.heard[-1]
    assert isinstance(error, TopologyError)
    assert str(error) == f"cannot consume 'x': {FORBIDDEN[1]}"


def test_a_listener_may_deal_with_it(host: Host) -> None:
    """Nothing is opened then, or told."""
    channel_of(host, Listener(deals_with_it=True)).open()

    host.asked[-1](*FORBIDDEN)
    host.pass_time()

    assert (len(host.asked), host.said) == (1, [])


def test_one_that_is_not_wanted_is_not_opened(host: Host) -> None:
    """Neither with its connection, nor when a pause is over; it may be wanted again."""
    channel = channel_of(host, Listener(), is_wanted=False)
    channel.open()
    assert host.asked == []

    channel.want()
    assert len(host.asked) == 1

    host.asked[-1](*TOO_MANY)
    channel.is_wanted = False
    host.pass_time()
    assert len(host.asked) == 1


def test_one_that_is_replaced_says_so_to_its_listener(host: Host) -> None:
    """Its tags mean nothing any more; without a reason another is asked for at once."""
    listener = Listener()
    channel = channel_of(host, listener)
    channel.open()

    channel.replace()
    assert (listener.heard, len(host.asked)) == (["lost"], 2)

    channel.replace("no queue takes failed messages")
    assert len(host.asked) == 2
    host.pass_time()
    assert len(host.asked) == 3
    assert host.said == ["channel is set up again: consume 'x': no queue takes failed messages"]


def test_it_is_told_too_when_no_other_is_wanted(host: Host) -> None:
    """As at the end of a stage."""
    channel = channel_of(host, Listener())
    channel.open()
    channel.is_wanted = False

    host.asked[-1](*TOO_MANY)
    host.pass_time()

    assert host.said == [f"broker has closed a channel: consume 'x': {TOO_MANY[1]}"]
    assert len(host.asked) == 1
    assert host.outage_log.reason is None


class Wire:
    """What a channel of pika's asks of its connection: the test says what the broker answers."""

    publisher_confirms = basic_nack = True

    def __init__(self, host: Host) -> None:
        """Have a channel open that was asked for last."""
        self.callbacks = CallbackManager()
        self.server_properties: dict[str, str] = {}
        self.sent: list[str] = []
        self.channel = PikaChannel(self, 1, host.on_open[-1])  # type: ignore[arg-type]
        self.channel.open()
        self.says(spec.Channel.OpenOk())  # type: ignore[no-untyped-call]

    def _send_method(self, _number: int, method: Any, _content: object = None) -> None:
        self.sent.append(method.NAME)

    def says(self, method: Any) -> None:
        """Have a method arrive."""
        self.callbacks.process(1, method, self, frame.Method(1, method))


def ignore(*_: object) -> None:
    """Wait for no answer."""


ASKED: dict[str, Callable[[Channel], None]] = {
    "declare": lambda channel: channel.declare([Exchange("x", "fanout")]),
    "declare_lock": lambda channel: channel.declare_lock("x", ignore),
    "count": lambda channel: channel.count("x", ignore),
    "bind": lambda channel: channel.bind("x", "x", "", ignore),
    "unbind": lambda channel: channel.unbind("x", "x"),
    "delete": lambda channel: channel.delete("x", ignore),
    "keep_alive": lambda channel: channel.keep_alive("x"),
    "get": lambda channel: channel.get("x", ignore),
    "consume": lambda channel: channel.consume("x", 1, ignore),
    "cancel": lambda channel: channel.cancel(ignore),
    "ack": lambda channel: channel.ack(1),
    "requeue": lambda channel: channel.requeue(1),
    "reject": lambda channel: channel.reject(1, requeue=False),
    "select_confirms": lambda channel: channel.select_confirms(ignore),
    "close": Channel.close,
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_what_is_asked_of_a_channel_that_is_being_closed_is_too_late(
    host: Host, asked: Callable[[Channel], None]
) -> None:
    """Nothing is sent, and it is no error: what crosses the close may be what it is asked for."""
    channel = channel_of(host, Listener())
    channel.open()
    wire = Wire(host)
    wire.channel.close()  # as its connection does when that is closed
    sent = list(wire.sent)

    asked(channel)

    assert wire.sent == sent


def test_a_cancel_that_crosses_the_close_is_not_told(host: Host) -> None:
    """There is nothing to set up again: the consumer ends with the channel anyway."""
    listener = Listener()
    channel = channel_of(host, listener)
    channel.open()
    wire = Wire(host)
    channel.consume("x", 0, ignore, tag="me")
    wire.says(spec.Basic.ConsumeOk("me"))  # type: ignore[no-untyped-call]
    channel.close()

    wire.says(spec.Basic.Cancel("me"))  # type: ignore[no-untyped-call]

    assert listener.heard == []


def test_one_that_is_replaced_while_it_is_being_closed_is_lost_once(host: Host) -> None:
    """The end of the closing one is no news."""
    listener = Listener()
    channel = channel_of(host, listener)
    channel.open()
    wire = Wire(host)
    channel.close()

    channel.replace()
    wire.says(spec.Channel.CloseOk())  # type: ignore[no-untyped-call]

    assert listener.heard == ["lost"]


class Opened:
    """A channel that is open."""

    is_open = True

    def add_on_cancel_callback(self, _function: object) -> None:
        """Cancel nothing."""

    add_on_close_callback = add_on_cancel_callback

    def close(self) -> None:
        """Be closed."""


def test_a_channel_that_is_not_needed_any_more_has_lasted(host: Host) -> None:
    """As that of a name's lock, which does one thing and is closed."""
    channel = channel_of(host, Listener())
    channel.open()
    host.asked[-1](*TOO_MANY)
    host.pass_time()

    host.on_open[-1](Opened())
    channel.close()

    assert host.said == [REFUSED, "broker takes the channel again: consume 'x'"]
    assert host.outage_log.reason is None


def test_a_reason_counts_until_a_channel_has_lasted(host: Host) -> None:
    """One that was lost with its connection has not; the next one that lasts ends the trouble."""
    channel = channel_of(host, Listener())
    channel.open()
    host.asked[-1](*TOO_MANY)
    host.pass_time()

    host.on_open[-1](Opened())
    channel.lost()
    host.pass_time()
    assert host.outage_log.reason == TOO_MANY[1]

    channel.open()
    host.on_open[-1](Opened())
    host.pass_time()
    assert host.outage_log.reason is None
    assert host.said == [REFUSED, "broker takes the channel again: consume 'x'"]

    host.asked[-1](*TOO_MANY)
    assert host.said[2:] == [REFUSED], "another time"
