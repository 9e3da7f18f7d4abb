"""A channel that is opened again whenever it is lost, and what its user hears of it.

Consumers, publishers, the control listener and the queue browser differ in what they do on a
channel. What can happen to one is the same for all of them, and stands here.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from pika.channel import Channel as PikaChannel
from pika.exceptions import DuplicateGetOkCallback
from pika.frame import Method as Frame
from pika.spec import Basic, BasicProperties

from rabbit.amqp.backoff import STABLE_SECONDS, Backoff
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.close_reasons import explain_refusal, is_hopeless
from rabbit.amqp.frames import Arrival
from rabbit.amqp.outage_log import OutageLog
from rabbit.amqp.pika_types import encode_properties, text_of
from rabbit.errors import TopologyError
from rabbit.topology import Binding, Declaration, Exchange, Queue, QueueType, own_part

#: Pause before a channel that the broker has closed is opened again: see `Backoff`.
FIRST_REOPEN_SECONDS = 1.0
LAST_REOPEN_SECONDS = 30.0

#: How long what was put back, to be counted, may take to be in its queue again.
COUNT_AGAIN_SECONDS = 0.5

#: How long a consumer may hold a message unacked: in a handler that takes its time, or waiting for
#: it. RabbitMQ's own default is 30 minutes (consumer_timeout). Who is gone for good loses its
#: messages by its heartbeat; a handler that hangs, by HANDLER_TIMEOUT. So this is a week.
CONSUMER_TIMEOUT_MILLISECONDS = 7 * 24 * 60 * 60 * 1000


class Count(NamedTuple):
    """What the broker counts at a queue (a passive queue.declare): exact, unlike statistics.

    But it says 0 and 0 of a quorum queue whose leader does not answer within a quarter of a second,
    or is not there yet. Where much depends on it, there is `Channel.count_for_certain`.

    Attributes:
        ready: messages that wait for a consumer; those in flight do not count.
        consumers: registered consumers, and cancelled ones that still hold messages.
    """

    ready: int
    consumers: int


class ChannelHost(Protocol):
    """What a channel asks of its connection; see `Connection`."""

    users: list[Any]
    outage_log: OutageLog
    topology_is_given: bool

    @property
    def is_open(self) -> bool:
        """Whether channels can be opened now."""

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed upon (connection.tune), in bytes."""

    def open_channel(
        self,
        on_open: Callable[[PikaChannel], None],
        on_closed_by_broker: Callable[[int, str], None],
        listener: ChannelListener,
    ) -> None:
        """Open a channel (channel.open)."""

    def close_channel(self, channel: PikaChannel) -> None:
        """Close a channel (channel.close)."""

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send frames with this turn's flush."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` after `seconds`."""

    def call_later_if_open(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` after `seconds`, unless the connection is lost by then."""


class Channel:
    """One channel of a connection, for one listener; for the loop's thread.

    Attributes:
        is_wanted: whether it is opened, again and again, when its connection is open.
    """

    def __init__(
        self, connection: ChannelHost, listener: ChannelListener, purpose: str, *, is_wanted: bool
    ) -> None:
        """Live on `connection`, which makes it: see `Connection.channel`."""
        self.is_wanted = is_wanted
        self._connection = connection
        self._listener = listener
        self._purpose = purpose
        self._raw: PikaChannel | None = None
        # What is to be got, and who is told; the first one is asked for.
        self._gets: deque[tuple[str, Callable[[Arrival | None], None]]] = deque()
        self._consumer_tag = ""
        self._backoff = Backoff(FIRST_REOPEN_SECONDS, LAST_REOPEN_SECONDS)
        self._is_on_trial = False  # one before it was closed, and this one has not lasted yet

    # Its life

    @property
    def is_open(self) -> bool:
        """Whether something can be sent on it now."""
        return self._sendable is not None

    @property
    def _sendable(self) -> PikaChannel | None:
        """Pika's part of it, while something can be sent.

        Not while it is being closed, alone or with its connection: pika raises an error then. What
        has crossed the close is told to the listener, and what that does about it is too late.
        """
        return self._raw if self._raw is not None and self._raw.is_open else None

    @property
    def is_lost(self) -> bool:
        """Whether there is none now: not opened yet, gone with its connection, or closed."""
        return self._raw is None

    @property
    def number(self) -> int:
        """What it is called in each frame; it is open."""
        assert self._raw is not None  # noqa: S101 - as promised
        return self._raw.channel_number

    @property
    def frame_max(self) -> int:
        """The largest frame that was agreed upon (connection.tune), in bytes."""
        return self._connection.frame_max

    def open(self) -> None:
        """Open it (channel.open); its connection calls this whenever that is open."""
        if self.is_wanted:
            self._connection.open_channel(self._opened, self._closed_by_broker, self._listener)

    def want(self) -> None:
        """Have it opened from now on."""
        self.is_wanted = True
        if self._connection.is_open:
            self.open()

    def lost(self) -> None:
        """Forget it; its connection calls this when that is lost."""
        self._raw = None
        self._gets.clear()
        self._listener.lost()

    def close(self) -> None:
        """Close it for good (channel.close); `is_lost` tells when that is done."""
        self.is_wanted = False
        if raw := self._sendable:
            if self._is_on_trial:
                self._has_lasted()  # for as long as it was needed
            raw.add_on_close_callback(lambda *_: self._on(raw, self.lost))
            self._connection.close_channel(raw)

    def forget(self) -> None:
        """Let the connection know nothing of it any more: it is lost, or was never opened."""
        with suppress(ValueError):
            self._connection.users.remove(self)

    def replace(self, reason: str | None = None) -> None:
        """Close it, and open another one.

        Args:
            reason: why, which is told once, and after a pause that grows; None: at once.
        """
        if self._raw is not None:
            self._connection.close_channel(self._raw)
        self.lost()
        if reason is None:
            self.open()
        elif self.is_wanted:
            self._connection.outage_log.replaced(self, self._purpose, reason)
            self._reopen()

    def forget_consumer(self) -> None:
        """Have the consumer end with the channel, or the connection, and not by a basic.cancel.

        pika cancels before it closes. Of a single active consumer that holds messages, RabbitMQ
        would let the next one overtake them; when a channel ends, they come before what is behind.
        """
        if self._raw is not None:
            consumers: dict[str, object] = self._raw._consumers  # noqa: SLF001 - no other way
            self._raw._cancelled.update(consumers)  # noqa: SLF001 - what still comes is dropped
            consumers.clear()

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` after `seconds`, unless this channel is lost by then."""
        raw = self._raw
        self._connection.call_later(seconds, lambda: self._on(raw, function))

    def _opened(self, raw: PikaChannel) -> None:
        if not self.is_wanted:
            raw.close()
            return
        self._raw = raw
        raw.add_on_cancel_callback(lambda _frame: self._on(raw, self._consumer_cancelled))
        if self._is_on_trial:
            lasted = partial(self._on, raw, self._has_lasted)
            self._connection.call_later_if_open(STABLE_SECONDS, lasted)
        self._listener.opened()

    def _consumer_cancelled(self) -> None:
        """Tell of it, unless the consumer ends with the channel anyway."""
        if self.is_open:
            self._listener.consumer_cancelled()

    def _closed_by_broker(self, code: int, text: str) -> None:
        """Open another one, unless that is hopeless; say why in either case.

        A listener that asks for something once, such as a `QueueBrowser` or a look of control's,
        takes the answer by itself (`closed_by_broker`): then that is all.
        """
        self.lost()
        if self._listener.closed_by_broker(code, text):
            return
        if is_hopeless(code, text):
            why = explain_refusal(text)
            self._listener.failed(TopologyError(f"cannot {self._purpose}: {why}"))
        elif self.is_wanted:
            self._connection.outage_log.refused(self, self._purpose, text)
            self._reopen()
        else:
            self._connection.outage_log.closed(self._purpose, text)

    def _reopen(self) -> None:
        """Open another one after a pause, which is short again once that has lasted."""
        self._is_on_trial = True
        self._connection.call_later_if_open(self._backoff.pause(), self.open)

    def _has_lasted(self) -> None:
        self._is_on_trial = False
        self._backoff.proved()
        self._connection.outage_log.accepted(self)

    def _on(self, raw: PikaChannel | None, tell: Callable[[], None]) -> None:
        """Tell what has happened on a channel, if that is the present one."""
        if raw is not None and raw is self._raw:
            tell()

    def _answered(self, tell: Callable[[Any], None]) -> Callable[["Frame[Any]"], None]:
        """Return a callback for the broker's answer to what is asked on this channel."""
        raw = self._raw

        def answered(frame: "Frame[Any]") -> None:
            if raw is self._raw:
                tell(frame.method)

        return answered

    # Exchanges, queues, bindings

    def declare(self, declarations: Iterable[Declaration]) -> None:
        """Send declarations: see `declare`; those of one replica only where the rest is given."""
        if raw := self._sendable:
            given = self._connection.topology_is_given
            declare(raw, own_part(declarations) if given else declarations)

    def declare_lock(self, name: str, on_taken: Callable[[], None]) -> None:
        """Declare a queue that no other connection can have while this one lives (exclusive)."""
        if raw := self._sendable:
            arguments = {"x-queue-type": "classic"}
            taken = self._answered(lambda _: on_taken())
            raw.queue_declare(name, exclusive=True, arguments=arguments, callback=taken)

    def count(self, queue: str, tell: Callable[[Count], None]) -> None:
        """Ask the broker about a queue (a passive queue.declare): 404 closes the channel."""

        def counted(method: Any) -> None:  # noqa: ANN401 - pika's
            tell(Count(method.message_count, method.consumer_count))

        if raw := self._sendable:
            raw.queue_declare(queue, passive=True, callback=self._answered(counted))

    def count_for_certain(self, queue: str, tell: Callable[[Count], None]) -> None:
        """Count, and do not believe that there is nothing and nobody: see `Count`.

        Whoever leads the queue is made to answer, by basic.get. What that takes out goes back
        behind what was put back before, for once. If nobody leads it, the channel is closed.
        """

        def counted(count: Count) -> None:
            if count.ready or count.consumers:
                tell(count)
            else:
                self.get(queue, got)

        def got(arrival: Arrival | None) -> None:
            if arrival is None:
                self.count(queue, tell)  # whoever leads it has just answered
            else:
                self.requeue(arrival[0])
                self.call_later(COUNT_AGAIN_SECONDS, partial(self.count_for_certain, queue, tell))

        self.count(queue, counted)

    def bind(self, queue: str, exchange: str, key: str, on_done: Callable[[], None]) -> None:
        """Bind a queue (queue.bind)."""
        if raw := self._sendable:
            done = self._answered(lambda _: on_done())
            raw.queue_bind(queue, exchange, routing_key=key, callback=done)

    def unbind(self, queue: str, exchange: str, key: str = "") -> None:
        """Take a binding away (queue.unbind)."""
        if raw := self._sendable:
            raw.queue_unbind(queue, exchange, routing_key=key)

    def delete(self, queue: str, on_done: Callable[[], None]) -> None:
        """Delete a queue with what is in it (queue.delete)."""
        if raw := self._sendable:
            raw.queue_delete(queue, callback=self._answered(lambda _: on_done()))

    def keep_alive(self, queue: str) -> None:
        """Use a queue, so that it does not expire: take a message out (basic.get), put it back.

        Declaring a quorum queue again is no use of it (RabbitMQ's guide to them); this is.
        """

        def put_back(raw: PikaChannel, method: Basic.GetOk, _properties: object, _: bytes) -> None:
            if raw.is_open:
                raw.basic_nack(method.delivery_tag, requeue=True)

        if raw := self._sendable:
            with suppress(DuplicateGetOkCallback):  # an alarm: the one before is not answered yet
                raw.basic_get(queue, put_back)

    # Messages in

    def get(self, queue: str, tell: Callable[[Arrival | None], None]) -> None:
        """Take one message out of a queue (basic.get); one is asked for after the other.

        Args:
            queue: which; it is acked by hand.
            tell: given what it was; None: the queue is empty. Other than by `count`, that is
                certain: where a quorum queue's leader is slow or away, that tells of nothing.
        """
        if raw := self._sendable:
            self._gets.append((queue, tell))
            if len(self._gets) == 1:
                self._get(raw, queue)

    def _get(self, raw: PikaChannel, queue: str) -> None:
        def empty(_: object) -> None:
            self._on(raw, lambda: self._got(None))

        def got(
            raw: PikaChannel, method: Basic.GetOk, properties: BasicProperties, body: bytes
        ) -> None:
            raw.callbacks.remove(str(raw.channel_number), Basic.GetEmpty, empty)
            key, tag, again = text_of(method.routing_key), method.delivery_tag, method.redelivered
            arrival = (tag, key, encode_properties(properties), body, again)
            self._on(raw, lambda: self._got(arrival))

        raw.add_callback(empty, [Basic.GetEmpty], one_shot=True)
        raw.basic_get(queue, got)

    def _got(self, arrival: Arrival | None) -> None:
        _, tell = self._gets.popleft()
        if self._gets and (raw := self._sendable):
            self._get(raw, self._gets[0][0])
        tell(arrival)

    def consume(
        self,
        queue: str,
        prefetch: int,
        on_registered: Callable[[], None],
        queue_type: QueueType = "quorum",
        tag: str | None = None,
    ) -> None:
        """Register a consumer (basic.qos, basic.consume) whose deliveries the listener takes.

        Args:
            queue: what to consume; it is acked by hand.
            prefetch: how many unacked deliveries there may be; 0: any number.
            on_registered: called with basic.consume-ok.
            queue_type: what the queue is.
            tag: what the broker tells the consumer as; None: whatever the library makes up.
        """
        raw = self._sendable
        if raw is None:
            return

        # Nearly all deliveries go from the socket to the listener: `frames.Decoder`. Those that it
        # leaves to pika come by here.
        def left_to_pika(
            raw: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
        ) -> None:
            if raw.is_open:
                encoded = encode_properties(properties)
                arrival = (
                    method.delivery_tag,
                    text_of(method.routing_key),
                    encoded,
                    body,
                    method.redelivered,
                )
                self._listener.delivered(method.exchange, [arrival])

        is_patient = queue_type == "quorum" and _knows_consumer_timeout(raw)
        arguments = {"x-consumer-timeout": CONSUMER_TIMEOUT_MILLISECONDS} if is_patient else {}
        registered = self._answered(lambda _: on_registered())
        if prefetch:
            raw.basic_qos(prefetch_count=prefetch)
        self._consumer_tag = raw.basic_consume(
            queue, left_to_pika, callback=registered, arguments=arguments, consumer_tag=tag
        )

    def cancel(self, on_cancelled: Callable[[], None]) -> None:
        """Consume no more (basic.cancel); what is under way arrives before `on_cancelled`."""
        if raw := self._sendable:
            cancelled = self._answered(lambda _: on_cancelled())
            raw.basic_cancel(self._consumer_tag, callback=cancelled)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Take a delivery out of its queue (basic.ack); `multiple`: all up to this one."""
        if raw := self._sendable:
            raw.basic_ack(tag, multiple)

    def requeue(self, tag: int, *, multiple: bool = False) -> None:
        """Give a delivery back to its queue (basic.nack), which is no failure."""
        if raw := self._sendable:
            raw.basic_nack(tag, multiple, requeue=True)

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Give a delivery back as a failure, or have it dead-lettered (basic.reject)."""
        if raw := self._sendable:
            raw.basic_reject(tag, requeue=requeue)

    # Messages out

    def select_confirms(self, on_ready: Callable[[], None]) -> None:
        """Switch publisher confirms on (confirm.select), which the listener takes.

        It hears of them in the order in which they come, also where `frames.Decoder` takes some
        and pika others: a basic.return before the basic.ack that is about it.
        """
        raw = self._sendable
        if raw is None:
            return

        # As with deliveries: this is for what `frames.Decoder` leaves to pika.
        def confirmed(frame: "Frame[Any]") -> None:
            tell = (
                self._listener.acked
                if isinstance(frame.method, Basic.Ack)
                else self._listener.nacked
            )
            tag, multiple = frame.method.delivery_tag, frame.method.multiple
            # On a channel that is closed it is about what is published again on another one.
            self._on(raw, lambda: tell(tag, multiple=multiple))

        def returned(
            raw: PikaChannel, method: Basic.Return, properties: BasicProperties, _body: bytes
        ) -> None:
            key = text_of(method.routing_key)
            encoded = encode_properties(properties)
            self._on(raw, lambda: self._listener.returned(method.exchange, key, encoded))

        raw.add_on_return_callback(returned)
        raw.confirm_delivery(confirmed, callback=self._answered(lambda _: on_ready()))

    def send(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send frames, in parts, with this turn's flush; they are of this channel's `number`."""
        self._connection.send(frames)


def declare(raw: PikaChannel, declarations: Iterable[Declaration]) -> None:
    """Send the declarations; what is sent after them on this channel finds them done.

    The broker closes the channel when it refuses one (406 when something of that name exists
    with other arguments, 403 without permission).
    """
    for item in declarations:
        match item:
            case Exchange(name, kind, auto_delete):
                raw.exchange_declare(name, kind, durable=True, auto_delete=auto_delete)
            case Queue(name, arguments):
                raw.queue_declare(name, durable=True, arguments=dict(arguments))
            case Binding(exchange, queue, key):
                raw.queue_bind(queue, exchange, routing_key=key)


def _knows_consumer_timeout(raw: PikaChannel) -> bool:
    """Tell whether the broker takes `x-consumer-timeout`; one that does not refuses the consumer.

    Quorum queues do since RabbitMQ 4.3. Classic ones refuse it, and have no such time-out there.
    """
    version = str((raw.connection.server_properties or {}).get("version", ""))
    numbers = re.search(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (4, 3)
