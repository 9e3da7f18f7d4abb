"""The tutorial's class: one queue to publish to, or to consume with a callback.

with MessageQueue("my_queue") as queue:
    queue.publish("hello")
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any, Self, TypeAlias

from rabbit.background import Background
from rabbit.batch import Batch, confirmed, refused
from rabbit.connection import Basic, BasicProperties, Connection, decode_properties
from rabbit.errors import RabbitError
from rabbit.logs import logger
from rabbit.message import Output, check_key, new_id, text_output
from rabbit.prefetch import FixedPrefetch
from rabbit.publisher import Publisher
from rabbit.settings import Kind, Settings
from rabbit.subscription import Delivery, Subscription
from rabbit.topology import Edge

#: `publish_many` waits while so many messages are not confirmed, and hands over so many at a time.
WINDOW = 1000
_CHUNK = 100


class CallbackChannel:
    """What a callback gets as its channel: safe to use from the callback's thread."""

    def __init__(self, ack: Callable[[Basic.Deliver], None], method: Basic.Deliver) -> None:
        """Ack this delivery with `ack`."""
        self._ack = ack
        self._method = method

    def basic_ack(self, delivery_tag: int) -> None:
        """Ack the callback's own message (basic.ack). Raises ValueError for any other tag."""
        if delivery_tag != self._method.delivery_tag:
            msg = f"delivery tag {delivery_tag} is not this message's: use MessageQueue.ack"
            raise ValueError(msg)
        self._ack(self._method)


Callback: TypeAlias = Callable[[CallbackChannel, Basic.Deliver, BasicProperties, str], object]


class MessageQueue:
    """A queue by name. It connects when it is first used and reconnects by itself."""

    def __init__(
        self,
        name: str,
        kind: Kind = "work",
        keys: Iterable[str] = (),
        group: str | None = None,
        *,
        prefetch: int = 1000,
        **given: Any,  # noqa: ANN401 - checked by Settings
    ) -> None:
        """Read the settings; nothing is connected yet.

        Args:
            name: the name of the queue, and of its exchange.
            kind: work (the default: each message to one consumer), broadcast, direct or topic.
            keys: the routing keys to consume; for direct and topic.
            group: consumers of the same group share the messages; not for work. Without a group
                each MessageQueue that consumes gets every message.
            prefetch: how many unacked messages to hold at most, 1 to 65535.
            given: settings by name, such as rabbitmq_host; they win over the environment.

        Raises:
            ConfigurationError: when a setting is wrong.
        """
        self.name = name
        self._settings = Settings.load(**given)
        self._log = logger(self._settings, queue=name)
        self._prefetch = prefetch
        private = kind != "work" and group is None
        group = group or uuid.uuid4().hex[:12]
        self._edge = Edge(name, kind, tuple(keys), group, private, self._settings.queue_type)
        self._lock = threading.RLock()
        self._background: Background | None = None
        self._publisher: Publisher[Batch] | None = None
        self._subscription: Subscription | None = None
        self._callback: Callback | None = None
        self._inbox: SimpleQueue[Delivery | RabbitError | None] = SimpleQueue()
        self._is_stopping = False
        self._held: dict[int, tuple[Basic.Deliver, Delivery]] = {}  # by the id() of its method
        self._batches: set[Batch] = set()

    def __enter__(self) -> Self:
        """Return the queue itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def publish(self, text: str, key: str | None = None, timeout: float | None = None) -> None:
        """Publish one message; return once the broker has confirmed it.

        Args:
            text: any text.
            key: the routing key, for direct and topic.
            timeout: seconds to wait; None: for as long as it takes.

        Raises:
            RefusedError: the queue is full or not available.
            TooLargeError: it is larger than the broker allows.
            UnroutableError: no queue is bound for it.
            BrokerUnavailableError: not confirmed in time.
            TopologyError: the broker refuses the queue itself.
        """
        self.publish_many([text], key, timeout)

    def publish_many(
        self, texts: Iterable[str], key: str | None = None, timeout: float | None = None
    ) -> int:
        """Publish all of `texts` in order, many at a time; return how many were confirmed: all.

        Args:
            texts: any texts; read only as fast as they are confirmed.
            key: the routing key, for direct and topic.
            timeout: seconds without progress after which to give up; None: never.

        Raises:
            RefusedError, TooLargeError, UnroutableError, BrokerUnavailableError, TopologyError: as
                `publish`; messages after the first that failed may or may not have been published.
        """
        background, publisher = self._open_publisher()
        batch, count, remaining = Batch(), 0, iter(texts)
        self._batches.add(batch)
        try:
            while chunk := list(islice(remaining, _CHUNK)):
                batch.add(len(chunk))
                background.call(publisher.send, [self._output(text, key) for text in chunk], batch)
                count += len(chunk)
                batch.wait(WINDOW, timeout)
            batch.wait(0, timeout)
        except BaseException:  # nobody waits for the rest: it must not pile up
            background.call(publisher.discard, lambda owner: owner is batch)
            raise
        finally:
            self._batches.discard(batch)
        return count

    def register(self, callback: Callback) -> None:
        """Set what `start` calls per message: `callback(channel, method, properties, text)`."""
        self._callback = callback

    def ack(self, method: Basic.Deliver) -> None:
        """Ack the message that came with `method`; a message that is not acked comes again."""
        held = self._held.pop(id(method), None)
        if held is not None and self._background and self._subscription:
            self._background.call(self._subscription.settle, held[1])

    def start(self) -> None:
        """Consume, and call the callback in this thread for each message, until `stop`.

        Raises:
            RabbitError: when no callback is registered.
            TopologyError: the broker refuses the queue.
        """
        if self._callback is None:
            msg = f"nothing to do with the messages of {self.name!r}: register a callback first"
            raise RabbitError(msg)
        background, connection, subscription = self._open_subscription()
        try:
            while not self._is_stopping:
                item = self._inbox.get()
                if isinstance(item, RabbitError):
                    raise item
                if item is not None and subscription.is_current(item):
                    self._call_back(self._callback, item)
        finally:
            background.see_through(self._unsubscribe(subscription))
            background.see_through(background.disconnect([connection]))
            self._subscription = None
            self._held.clear()
            self._inbox = SimpleQueue()
            self._is_stopping = False

    def stop(self) -> None:
        """Make `start` return after the running callback. Safe anywhere, even in a signal."""
        self._is_stopping = True
        self._inbox.put(None)  # wakes `start` up; SimpleQueue.put is reentrant

    @property
    def is_consuming(self) -> bool:
        """Whether the broker has registered the consumer that `start` asked for."""
        return self._subscription is not None and self._subscription.is_consuming

    def close(self) -> None:
        """Close the connections in order. The queue can be used again afterwards."""
        with self._lock:
            if self._background is not None:
                self._background.close()
            self._background = self._publisher = None

    def _open(self) -> Background:
        if self._background is None:
            self._background = Background(self._settings, self._log, self._turn)
        return self._background

    def _open_publisher(self) -> tuple[Background, Publisher[Batch]]:
        with self._lock:
            background = self._open()
            if self._publisher is None:
                connection = background.connection(f"publishes to {self.name}")
                self._publisher = Publisher(
                    connection,
                    self._edge,
                    self._log,
                    on_confirmed=confirmed,
                    on_refused=refused,
                    on_failed=self._fail,
                )
                background.call(connection.connect)
            return background, self._publisher

    def _open_subscription(self) -> tuple[Background, Connection, Subscription]:
        with self._lock:
            background = self._open()
            connection = background.connection(f"consumes {self.name}")
            self._subscription = Subscription(
                connection,
                self._edge,
                FixedPrefetch(self._prefetch),
                self._log,
                on_surplus=_keep,
                on_lost=self._held.clear,
                on_failed=self._fail,
            )
            background.call(connection.connect)
            return background, connection, self._subscription

    def _unsubscribe(self, subscription: Subscription) -> Iterator[None]:
        """Stop consuming, give back what is not acked, and leave."""
        subscription.cancel()
        while not subscription.is_cancelled:
            yield
        subscription.take_arrived()
        subscription.give_back_all()
        if self._edge.private:
            yield from subscription.delete()
            return
        yield from subscription.close()

    def _call_back(self, callback: Callback, delivery: Delivery) -> None:
        method = Basic.Deliver(  # type: ignore[no-untyped-call]
            None, delivery.tag, delivery.redelivered, self._edge.name, delivery.routing_key
        )
        self._held[id(method)] = method, delivery
        try:
            text, properties = delivery.text, decode_properties(delivery.properties)
        except ValueError as error:
            self._log.warning("not readable, left unacked", message_id=delivery.id, reason=error)
            return
        callback(CallbackChannel(self.ack, method), method, properties, text)

    def _turn(self) -> None:
        """End a turn of the loop: hand over what arrived, send what is to be sent."""
        subscription = self._subscription
        if subscription is not None:
            for delivery in subscription.take_arrived():
                self._inbox.put(delivery)
            subscription.flush()

    def _fail(self, error: RabbitError) -> None:
        self._inbox.put(error)
        for batch in list(self._batches):
            batch.fail(error)

    @staticmethod
    def _output(text: str, key: str | None) -> Output:
        message_id = new_id()
        return text_output(text.encode(), message_id, message_id, check_key(key))


def _keep() -> None:
    """Give back nothing early: what the callback has not seen is given back by `stop`."""
