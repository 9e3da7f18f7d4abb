"""The tutorial's class: one queue to publish to, or to consume with a callback.

with MessageQueue("my_queue") as queue:
    queue.publish("hello")
"""

import inspect
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self, TypeAlias, get_args

from pydantic import BaseModel

from rabbit.amqp.loop import check_may_wait, may_wait
from rabbit.amqp.loop_thread import CLOSE_SECONDS, LoopThread
from rabbit.amqp.pika_types import Deliver, Properties, decode_properties
from rabbit.errors import ClosedError, ConfigurationError, RabbitError
from rabbit.logs import logger
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.retry import RetryPolicy
from rabbit.output import Extras, Output, first_output, make_extras
from rabbit.payloads import MOST_UNPACKED_BYTES, Payload, encoded
from rabbit.runtime.blocking_publisher import BlockingPublisher, PendingConfirms
from rabbit.runtime.callback_consumer import CallbackConsumer, Received
from rabbit.runtime.handler import is_async
from rabbit.settings import Settings
from rabbit.topology import Edge, Kind, check_declarations, check_name

#: `publish_many` waits while more messages than these are not confirmed.
WINDOW = 1000
#: Then there has to be room for so many: one in for one out would take a switch of threads each.
_ROOM = 100

#: What a callback may return that is not done yet, and that nobody would do.
_UNRUN = (inspect.isawaitable, inspect.isgenerator, inspect.isasyncgen)

#: basic.qos carries 16 bits, and 0 would be no limit.
_PREFETCHES = range(1, 65536)

_ASYNC = (
    "is asynchronous, and would be called without being run: register a plain function, which "
    "may use asyncio.run, or asyncio.run_coroutine_threadsafe for a loop that runs elsewhere"
)


class CallbackChannel:
    """What a callback gets as its channel: safe to use from any thread.

    Each of its methods is about the callback's own message. Saying the same twice changes nothing,
    and neither does what is said after the connection was lost: the message comes again then.

    Raises:
        ValueError: for another message's tag, `multiple`, or the contrary of what was said before.
    """

    def __init__(self, consuming: CallbackConsumer, method: Received) -> None:
        """Settle this delivery."""
        self._consuming = consuming
        self._method = method

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:  # noqa: FBT001, FBT002
        """Ack the message (basic.ack): it is done."""
        self._consuming.ack(self._own(delivery_tag, multiple=multiple))

    def basic_nack(
        self,
        delivery_tag: int,
        multiple: bool = False,  # noqa: FBT001, FBT002 - as in pika
        requeue: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        """Give the message back to its queue, which is no failure (basic.nack).

        Args:
            delivery_tag: that of the callback's `method`.
            multiple: False.
            requeue: False: to the dead letters instead; a queue of one process only has none.
        """
        method = self._own(delivery_tag, multiple=multiple)
        self._consuming.nack(method, requeue=requeue)

    def basic_reject(self, delivery_tag: int, requeue: bool = True) -> None:  # noqa: FBT001, FBT002
        """Give the message back as one that has failed: that counts for the delivery limit.

        Args:
            delivery_tag: that of the callback's `method`.
            requeue: as with `basic_nack`.
        """
        self._consuming.reject(self._own(delivery_tag), requeue=requeue)

    def _own(self, tag: int, *, multiple: bool = False) -> Received:
        if tag != self._method.delivery_tag:
            msg = f"delivery tag {tag} is not this message's: use MessageQueue.ack"
            raise ValueError(msg)
        if multiple:
            msg = "multiple=True: only the callback's own message can be settled here"
            raise ValueError(msg)
        return self._method


#: Called with the channel, the method, the properties, and the message: str or bytes.
Callback: TypeAlias = Callable[[CallbackChannel, Deliver, Properties, Any], object]


class MessageQueue:
    """A queue by name. It connects when it is first used and reconnects by itself.

    Any number of threads may use it. One that nobody holds any more closes itself; one that is
    used again after `close`, after an error, or in a process that was forked connects anew.
    """

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
            kind: work (the default: each message to one consumer), broadcast, direct, topic, or
                ordered, which can only be published to.
            keys: the routing keys to consume; for direct and topic.
            group: consumers of the same group share the messages; not for work. Without a group
                each MessageQueue that consumes gets every message.
            prefetch: how many unacked messages to hold at most, 1 to 65535.
            given: settings by name, such as rabbitmq_host; they win over the environment.

        Raises:
            ConfigurationError: when a setting or an argument is wrong.
        """
        self._settings = Settings.load(**given)
        self._edge = _edge(name, kind, keys, group, self._settings)
        if type(prefetch) is not int or prefetch not in _PREFETCHES:
            raise ConfigurationError(f"prefetch: {prefetch!r} is not a number from 1 to 65535")
        self.name = name
        self._prefetch = prefetch
        self._log = logger(self._settings, queue=name)
        self._callback: Callback | None = None
        self._payload = Payload(str)
        self._is_stopping = False
        self._begin_anew()
        _queues.add(self)

    def _begin_anew(self) -> None:
        """Have no connection, and locks that nobody holds."""
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._loop_thread: LoopThread | None = None
        self._finalizer: weakref.finalize[[LoopThread], MessageQueue] | None = None
        self._outlet: BlockingPublisher | None = None
        self._consuming: CallbackConsumer | None = None

    def __enter__(self) -> Self:
        """Return the queue itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def publish(
        self,
        text: object,
        key: str | None = None,
        timeout: float | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        priority: int | None = None,
        expiration: float | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publish one message; return once the broker has confirmed it.

        When it was not confirmed in time, or the queue was closed meanwhile, whether the message
        has arrived is unknown. Whoever publishes it again had better give both the same
        `message_id`, by which a consumer can drop the second one.

        Args:
            text: a text, bytes, or what is sent as JSON: a pydantic model, a dataclass, a dict, a
                list or a tuple.
            key: the routing key, for direct and topic.
            timeout: seconds to wait, above 0; None: for as long as it takes. While the broker is
                away, refuses us or has an alarm, the log says so.
            headers: its headers, by name.
            priority: 0 to 255, for a queue that has priorities.
            expiration: seconds, 0 to 4294967, after which the broker takes it out of its queue if
                nobody has handled it: then it is a dead letter.
            message_id: 1 to 255 bytes; None: a new one.

        Raises:
            RefusedError: the queue is full or not available.
            TooLargeError: it is larger than the broker allows.
            UnroutableError: no queue is bound for it.
            BrokerUnavailableError: not confirmed in time.
            ClosedError: the queue was closed meanwhile.
            TopologyError: the broker refuses the queue itself.
            ValueError, TypeError: an argument is wrong; nothing was published.
        """
        extras = make_extras(headers, priority, expiration, message_id)
        output = self._output(text, key, extras)
        self._publish(iter([output]), _check_timeout(timeout))

    def publish_many(
        self, texts: Iterable[object], key: str | None = None, timeout: float | None = None
    ) -> int:
        """Publish all of `texts` in order, many at a time; return how many were confirmed: all.

        Each gets a message id of its own; see `publish` for one of yours.

        Args:
            texts: as for `publish`; read only as fast as they are confirmed. Each is published when
                it has come, however long the next one takes.
            key: the routing key, for direct and topic.
            timeout: seconds without progress after which to give up; None: never.

        Raises:
            RefusedError, TooLargeError, UnroutableError, BrokerUnavailableError, ClosedError,
            TopologyError, ValueError, TypeError: as `publish`; messages after the first that
                failed may or may not have been published.
        """
        if isinstance(texts, str | bytes | Mapping | BaseModel):
            msg = "publish_many() takes many messages, and publish() one"
            raise TypeError(msg)
        outputs = (self._output(text, key) for text in texts)
        return self._publish(outputs, _check_timeout(timeout))

    def register(self, callback: Callback, type: object = str) -> None:  # noqa: A002 - the word for it
        """Set what `start` calls per message: `callback(channel, method, properties, message)`.

        Args:
            callback: a plain function; each message is acked by `ack`, or by its channel.
            type: what a message is: str, bytes, or what pydantic reads JSON into: a model, a
                dataclass, a TypedDict, dict, list[...]. What is something else, say no UTF-8, never
                reaches the callback; likewise what has properties that cannot be decoded. It is a
                dead letter at once; a queue of one process only has none, and drops it.

        Raises:
            TypeError: `callback` cannot be called, or is an `async def`.
            ConfigurationError: nothing can be read into that type.
        """
        if not callable(callback):
            msg = f"{callback!r} cannot be called: register a function"
            raise TypeError(msg)
        if is_async(callback):
            msg = f"{callback!r} {_ASYNC}"
            raise TypeError(msg)
        self._callback, self._payload = callback, Payload(type)

    def ack(self, method: Deliver) -> None:
        """Ack the message that came with `method`; a message that is not acked comes again.

        Safe from any thread. A second ack, or one after the connection was lost, does nothing.

        Raises:
            ValueError: it has been rejected or requeued already, or is not of this queue.
        """
        if not isinstance(method, Received) or method.consuming.edge is not self._edge:
            msg = f"{method!r} is not what a callback of {self.name!r} was given as its method"
            raise ValueError(msg)
        method.consuming.ack(method)

    def start(self) -> None:
        """Consume, and call the callback in this thread for each message, until `stop` or `close`.

        It may be called again after it has ended, but not while it runs. After a `stop` that found
        nothing to end, it returns at once.

        Raises:
            RabbitError: no callback is registered, or another `start` is running.
            ConfigurationError: of kind direct or topic, and there are no keys.
            TopologyError: the broker refuses the queue.
            TypeError: the callback returns a coroutine or the like, which nobody runs.
        """
        if self._callback is None:
            msg = f"nothing to do with the messages of {self.name!r}: register a callback first"
            raise RabbitError(msg)
        if self._edge.is_ordered:
            raise ConfigurationError(
                f"{self.name!r} is of kind ordered, which a MessageQueue only publishes to: read "
                "it with a Consumer or a Worker"
            )
        if self._edge.kind in {"direct", "topic"} and not self._edge.keys:
            raise ConfigurationError(f"keys: {self.name!r} is of kind {self._edge.kind}: name some")
        starting = self._starting
        if not starting.acquire(blocking=False):
            raise RabbitError(f"start() of {self.name!r} is running already: stop() ends it")
        try:
            if not self._is_stopping:
                self._start(self._callback)
        finally:
            self._is_stopping = False
            starting.release()

    def stop(self) -> None:
        """Make `start` return after the running callback; if none runs, the next one, at once.

        Safe anywhere, even in a signal.
        """
        self._is_stopping = True
        consuming = self._consuming
        if consuming is not None:
            consuming.wake()

    @property
    def is_consuming(self) -> bool:
        """Whether the broker has registered the consumer that `start` asked for."""
        consuming = self._consuming
        return consuming is not None and consuming.is_consuming

    def close(self) -> None:
        """Close the connections in order; it takes some seconds at most.

        A `start` that runs ends as with `stop`, and has five seconds for its callback; then what
        is not acked is requeued. A `publish` that waits raises ClosedError. Called by
        the callback, it closes as soon as that has returned. Used again, the queue connects anew.
        """
        with self._lock:
            loop_thread, outlet, consuming = self._loop_thread, self._outlet, self._consuming
            self._loop_thread = self._outlet = None
        if outlet is not None:
            outlet.fail(ClosedError())
        if loop_thread is None:
            return
        if consuming is None:
            loop_thread.close()
            return
        consuming.end()
        if consuming.thread is threading.current_thread():
            consuming.closes = True
            return
        if may_wait():
            consuming.left.wait(CLOSE_SECONDS)
        loop_thread.close(consuming.leave())

    def _open(self) -> LoopThread:
        if self._loop_thread is None or self._loop_thread.has_ended:
            if self._finalizer is not None:
                self._finalizer()  # a `close` that was interrupted has left it
            self._outlet = None
            opened = self._loop_thread = LoopThread(self._settings, self._log, _nothing)
            # Whoever has forgotten it waits for nothing; at exit, LoopThread sees to it itself.
            self._finalizer = weakref.finalize(self, _close_soon, opened)
            self._finalizer.atexit = False
            return opened  # a signal's handler may have closed it by now
        return self._loop_thread

    def _publish(self, outputs: Iterator[Output], timeout: float | None) -> int:
        check_may_wait()
        with self._lock:
            loop_thread = self._open()
            outlet = self._outlet
            if outlet is None or outlet.error is not None:
                outlet = self._outlet = BlockingPublisher(loop_thread, self._edge, self._log)
        batch, count = PendingConfirms(lambda: outlet.reason), 0
        with outlet.taking(batch):
            for output in outputs:  # none is held back: the next one may be long in coming
                outlet.send(output, batch)
                count += 1
                if batch.is_over(WINDOW):
                    batch.wait(WINDOW - _ROOM, timeout)
            batch.wait(0, timeout)
        return count

    def _start(self, callback: Callback) -> None:
        check_may_wait()
        with self._lock:
            loop_thread = self._open()
            retry_policy = RetryPolicy(
                self._edge, self._settings.stage or self.name, self._settings.replica
            )
            consuming = CallbackConsumer(
                loop_thread, self._edge, self._prefetch, retry_policy, self._log
            )
            self._consuming = consuming
        try:
            with loop_thread.waking(consuming.end):
                while not (self._is_stopping or consuming.is_ending):
                    delivery = consuming.next()
                    if delivery is not None and not (self._is_stopping or consuming.is_ending):
                        self._call_back(callback, consuming, delivery)
        finally:
            if self._consuming is consuming:  # not in a child that the callback has forked
                self._consuming = None
            with suppress(RabbitError):
                loop_thread.see_through(consuming.leave(), 2 * CLOSE_SECONDS)
            consuming.left.set()
            if consuming.closes:
                loop_thread.close()
        if consuming.error is not None:
            raise consuming.error

    def _call_back(
        self, callback: Callback, consuming: CallbackConsumer, delivery: Delivery
    ) -> None:
        most_bytes = self._settings.max_message_bytes or MOST_UNPACKED_BYTES
        try:
            message = self._payload.read(delivery, most_bytes)
            properties = decode_properties(delivery.properties)
        except ValueError as error:
            consuming.unreadable(delivery, error)
            return
        method = Received(consuming, delivery)
        returned = callback(CallbackChannel(consuming, method), method, properties, message)
        if any(is_kind(returned) for is_kind in _UNRUN):
            if inspect.iscoroutine(returned):
                returned.close()
            msg = f"{callback!r} {_ASYNC}"
            raise TypeError(msg)

    def _output(self, value: object, key: str | None, extras: Extras | None = None) -> Output:
        if key is not None and not isinstance(key, str):
            msg = f"a routing key is a text, not {type(key).__name__}"
            raise TypeError(msg)
        checked = self._edge.check_key(key)
        body, content = encoded(value)
        return first_output(body, checked, content, extras)

    def _leave_to_parent(self) -> None:
        """Use nothing that the parent process has, in a child that was forked."""
        error = RabbitError(f"{self.name!r} was in use when this process was forked: use it anew")
        if self._outlet is not None:
            self._outlet.error = error
        if self._consuming is not None:
            self._consuming.end(error)
        self._begin_anew()


def _edge(
    name: str, kind: Kind, keys: Iterable[str], group: str | None, settings: Settings
) -> Edge:
    """Check what a queue is given, before anything is connected."""
    if kind not in get_args(Kind):
        raise ConfigurationError(f"kind: {kind!r} is none of {', '.join(get_args(Kind))}")
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise ConfigurationError(f"keys: {keys!r} is no list of keys: give a list, even of one")
    keys = tuple(keys)
    if keys and kind not in {"direct", "topic"}:
        raise ConfigurationError(f"keys: {name!r} is of kind {kind}, which has no keys")
    if group is not None and kind in {"work", "ordered"}:
        raise ConfigurationError(f"group: {name!r} is of kind {kind}, whose consumers always share")
    if kind == "ordered" and settings.queue_type != "quorum":
        raise ConfigurationError(f"kind: {name!r} is ordered, which needs QUEUE_TYPE=quorum")
    for what, text in [("name", name), *(("keys", key) for key in keys), ("group", group or "-")]:
        if not isinstance(text, str):
            raise ConfigurationError(f"{what}: {text!r} is not a text")
    private = kind not in {"work", "ordered"} and group is None
    shared = uuid.uuid4().hex[:12] if group is None else group
    partitions = settings.partitions if kind == "ordered" else 0
    edge = Edge(name, kind, keys, shared, private, settings.queue_type, partitions=partitions)
    try:
        check_name(name)
        if group is not None:
            check_name(group)
        check_declarations(edge.for_consuming())
    except ValueError as error:
        raise ConfigurationError(f"MessageQueue: {error}") from None
    return edge


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        msg = f"timeout: {timeout!r} is not a number of seconds"
        raise TypeError(msg)
    if not timeout > 0:
        msg = f"timeout: {timeout!r} is not above 0; None waits for as long as it takes"
        raise ValueError(msg)
    return min(timeout, threading.TIMEOUT_MAX)


def _close_soon(loop_thread: LoopThread) -> None:
    loop_thread.begin_to_close()


def _nothing() -> None:
    """Do nothing at the end of a turn: what consumes has its own."""


_queues: weakref.WeakSet[MessageQueue] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for queue in list(_queues):
        queue._leave_to_parent()  # noqa: SLF001 - of this file


os.register_at_fork(after_in_child=_leave_all_to_parent)
