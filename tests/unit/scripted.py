"""A broker by hand: channels whose other end is the test's, in whatever order it likes."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import pytest
import structlog
from pika import frame

from rabbit.amqp.channel import Channel, Count
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import FRAME_MAX, Arrival
from rabbit.amqp.loop import Loop
from rabbit.amqp.outage_log import OutageLog
from rabbit.amqp.pika_types import Properties, encode_properties, text_of
from rabbit.messaging.pace import ACK_INTERVAL_SECONDS

log = structlog.wrap_logger(None, processors=[lambda *_: ""], wrapper_class=structlog.BoundLogger)


class Published(NamedTuple):
    """What has been published: where to, and what."""

    exchange: str
    message_id: str
    body: str
    key: str


class Clock:
    """The time in seconds; it passes with `ScriptedLoop.pass_time` only, where it is asked."""

    def __init__(self) -> None:
        """Begin some time after the machine's start, as the real one."""
        self.now = 1000.0

    def replace_monotonic(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have consumers ask it, in place of the machine's."""
        for module in ("census", "consumer", "partition"):
            monkeypatch.setattr(f"rabbit.messaging.{module}.monotonic", lambda: self.now)


clock = Clock()


class ScriptedLoop:
    """Runs nothing by itself: the test says when a turn is, and when time has passed."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self.woken = threading.Semaphore(0)
        self.calls: deque[Callable[[], object]] = deque()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def wake(self) -> None:
        """Note that another thread wants a turn."""
        self.woken.release()

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Note what another thread wants to be called."""
        self.calls.append(lambda: function(*arguments))
        self.wake()

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Note what is to be called later."""
        self.timers.append((seconds, function))

    def pass_time(self) -> None:
        """Have so much time pass that all is run that waits for a time, and acks are due."""
        due, self.timers = self.timers, []
        clock.now += max([ACK_INTERVAL_SECONDS, *(seconds for seconds, _ in due)])
        for _, function in due:
            function()


class ScriptedRaw:
    """Pika's part of a channel: there is none."""

    channel_number = 1

    def __init__(self) -> None:
        """Be open."""
        self.is_open = True
        self._on_close: list[Callable[..., object]] = []

    def add_on_cancel_callback(self, _callback: object) -> None:
        """The test tells the listener itself."""

    def add_on_close_callback(self, callback: Callable[..., object]) -> None:
        """Note who is told."""
        self._on_close.append(callback)

    def close(self) -> None:
        """Be closed at once."""
        self.is_open = False
        for tell in self._on_close:
            tell()


class ScriptedChannel(Channel):
    """A channel that notes what is sent on it; the test says what the broker answers.

    How it is opened, closed and opened again is a channel's own; see `ScriptedConnection`.
    """

    def __init__(
        self,
        connection: "ScriptedConnection",
        listener: ChannelListener,
        purpose: str,
        *,
        is_wanted: bool,
    ) -> None:
        """Be open from `open` on."""
        super().__init__(connection, listener, purpose, is_wanted=is_wanted)
        self.listener = listener
        self.sent: list[tuple[str, object]] = []
        self.published: list[Published] = []
        self.ready: Counter[str] = Counter()  # messages, by queue, as they are counted
        self.consumers: Counter[str] = Counter()  # by queue, as they are counted
        self.to_get: dict[str, list[Arrival | None]] = {}  # what basic.get finds
        self.is_slow = False  # consume-ok takes a while, as cancel-ok always does
        self._buffer = b""
        self._last_tag = 0

    # What is asked of a channel

    def declare(self, declarations: Iterable[object]) -> None:
        """Have whatever there is to be."""

    def count(self, queue: str, tell: Callable[[Count], None]) -> None:
        """Count what the test says."""
        tell(Count(self.ready[queue], self.consumers[queue]))

    def get(self, queue: str, tell: Callable[[Arrival | None], None]) -> None:
        """Have what the test says, whatever is counted."""
        there = self.to_get.get(queue)
        tell(there.pop(0) if there else None)

    def bind(self, queue: str, exchange: str, key: str, on_done: Callable[[], None]) -> None:
        """Note it, and have it done at once."""
        del exchange
        self.sent.append(("bind", f"{queue} {key}"))
        on_done()

    def unbind(self, queue: str, exchange: str, key: str = "") -> None:
        """Note it."""
        del exchange
        self.sent.append(("unbind", f"{queue} {key}"))

    def consume(
        self,
        queue: str,
        prefetch: int,
        on_registered: Callable[[], None],
        queue_type: str = "quorum",
        tag: str | None = None,
    ) -> None:
        """Register a consumer, at once unless the test says when."""
        del queue, queue_type, tag
        self.sent.append(("consume", prefetch))
        if self.is_slow:
            self.call_later(0, on_registered)
        else:
            on_registered()

    def forget_consumer(self) -> None:
        """Note it."""
        self.sent.append(("forget the consumer", None))

    def cancel(self, on_cancelled: Callable[[], None]) -> None:
        """Cancel it when some time has passed."""
        self.sent.append(("cancel", None))
        self.call_later(0, on_cancelled)

    def select_confirms(self, on_ready: Callable[[], None]) -> None:
        """Switch confirms on at once."""
        on_ready()

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Note it."""
        self.sent.append(("ack up to" if multiple else "ack", tag))

    def requeue(self, tag: int, *, multiple: bool = False) -> None:
        """Note it."""
        self.sent.append(("requeue up to" if multiple else "requeue", tag))

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Note it."""
        self.sent.append(("reject and requeue" if requeue else "reject", tag))

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Note what is published."""
        self._buffer += b"".join(frames)
        while self._buffer:
            method = self._next().method
            header = self._next()
            body = self._next().fragment.decode() if header.body_size else ""
            self.published.append(
                Published(
                    method.exchange,
                    header.properties.message_id,
                    body,
                    text_of(method.routing_key),
                )
            )

    def close(self) -> None:
        """Note it, and be lost at once."""
        self.sent.append(("close", None))
        super().close()

    def replace(self, reason: str | None = None) -> None:
        """Note it, and be another one."""
        self.sent.append(("replace", reason))
        super().replace(reason)

    def _next(self) -> Any:
        consumed, decoded = frame.decode_frame(self._buffer)
        self._buffer = self._buffer[consumed:]
        return decoded

    # What the test says

    def open(self) -> None:
        """Be open, for the first time or again."""
        if not self.is_open:
            self._last_tag = 0
            super().open()

    def lose(self) -> None:
        """Go down with the connection."""
        if self.is_open:
            self.lost()

    def close_by_broker(self, code: int, text: str) -> None:
        """Be closed for a reason, and opened again when some time has passed."""
        self._closed_by_broker(code, text)

    def deliver(self, *bodies: str, exchange: str = "in", key: str = "", in_vain: int = 0) -> None:
        """Bring messages whose ids are their texts.

        Args:
            bodies: their texts.
            exchange: what they have come by.
            key: their routing key.
            in_vain: how often the broker has delivered them in vain.
        """
        headers = {"x-delivery-count": in_vain} if in_vain else None
        arrivals = []
        for body in bodies:
            self._last_tag += 1
            properties = encode_properties(Properties(message_id=body, headers=headers))  # type: ignore[no-untyped-call]
            arrivals.append((self._last_tag, key, properties, body.encode(), in_vain > 0))
        self.listener.delivered(exchange, arrivals)

    def returns(self, published: Published) -> None:
        """Return a message that has no queue."""
        properties = Properties(message_id=published.message_id)  # type: ignore[no-untyped-call]
        self.listener.returned(published.exchange, published.key, encode_properties(properties))


class ScriptedConnection:
    """Makes scripted channels."""

    def __init__(self, loop: ScriptedLoop) -> None:
        """Be open."""
        self.blocked = False
        self.is_open = True
        self.frame_max = FRAME_MAX
        self.topology_is_given = False
        self.users: list[ScriptedChannel] = []
        self.on_unblocked: list[Callable[[], None]] = []
        self.outage_log = OutageLog(log)
        self._loop = loop

    def channel(
        self, listener: ChannelListener, purpose: str, *, is_wanted: bool = True
    ) -> ScriptedChannel:
        """Make one."""
        channel = ScriptedChannel(self, listener, purpose, is_wanted=is_wanted)
        self.users.append(channel)
        return channel

    def open_channel(
        self, on_open: Callable[[Any], None], _on_closed_by_broker: object, _listener: object
    ) -> None:
        """Open it at once."""
        on_open(ScriptedRaw())

    def close_channel(self, channel: Any) -> None:
        """Close it at once."""
        channel.close()

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Channels note it themselves."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """As its loop does."""
        self._loop.call_later(seconds, function)

    call_later_if_open = call_later


def as_loop(loop: ScriptedLoop) -> Loop:
    """Pass for the loop."""
    return cast("Loop", loop)


def as_connection(connection: ScriptedConnection) -> Connection:
    """Pass for a connection."""
    return cast("Connection", connection)
