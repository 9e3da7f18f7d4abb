"""What one `MessageQueue.start` consumes: deliveries for its callback, and what becomes of them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

from rabbit.amqp.loop_thread import WAIT_SECONDS, LoopThread
from rabbit.amqp.pika_types import Deliver
from rabbit.errors import ClosedError, RabbitError
from rabbit.logs import Logger
from rabbit.messaging.consumer import QueueConsumer
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.failures import Failures
from rabbit.messaging.prefetch import FixedPrefetch
from rabbit.messaging.retry import RetryPolicy, describe
from rabbit.runtime.health import Standstills, WatchedCall
from rabbit.topology import Edge

#: How often it is looked whether the loop stands still; often, beside the shortest heartbeat.
LOOK_SECONDS = 0.5


class Received(Deliver):
    """The method (basic.deliver) that a callback gets, and what has become of its message."""

    __slots__ = ("consuming", "delivery", "settled")

    def __init__(self, consuming: "CallbackConsumer", delivery: Delivery) -> None:
        """Show what pika would show of a delivery."""
        name = consuming.edge.name
        super().__init__(  # type: ignore[no-untyped-call]
            None, delivery.tag, delivery.redelivered, name, delivery.routing_key
        )
        self.consuming = consuming
        self.delivery = delivery
        self.settled = ""


class CallbackConsumer:
    """A consumer on a connection of its own, from `start` until it has left.

    Attributes:
        edge: what it consumes.
        error: why it ended; None: it has not, or was told to.
        is_ending: whether the callback is to be called no more.
        closes: whether whoever calls the callback is to close the connections when it is left.
        thread: the one that calls the callback.
        left: set when that thread calls it no more.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        edge: Edge,
        prefetch: int,
        retry_policy: RetryPolicy,
        log: Logger,
    ) -> None:
        """Connect and consume."""
        self.edge = edge
        self.error: RabbitError | None = None
        self.is_ending = False
        self.closes = False
        self.thread = threading.current_thread()
        self.left = threading.Event()
        self._loop_thread = loop_thread
        self._retry_policy = retry_policy
        self._log = log
        self._prefetch = prefetch
        self._inbox: SimpleQueue[Delivery | None] = SimpleQueue()
        self._connections = [loop_thread.connection(f"consumes {edge.name}")]
        self._failures: Failures | None = None
        self._is_told_stuck = False
        self._is_leaving = self._has_left = False
        self._consumer = QueueConsumer(
            self._connections[0],
            edge,
            FixedPrefetch(prefetch),
            requeue_unstarted=_keep,
            on_lost=_keep,
            on_failed=self.end,
        )
        self._call = WatchedCall()
        self._standstills = Standstills(loop_thread.heartbeat, self._call.take_long, log)
        self._connections[0].users.append(self._standstills)
        loop_thread.call(self._connections[0].connect)
        loop_thread.call(self._look)
        loop_thread.begin(self._turns())

    @property
    def is_consuming(self) -> bool:
        """Whether the broker has registered the consumer."""
        return self._consumer.is_consuming

    def end(self, error: RabbitError | None = None) -> None:
        """Have the callback be called no more, because of an error or not; safe from any thread."""
        if not isinstance(error, ClosedError):
            self.error = self.error or error
        self.is_ending = True
        self.wake()

    def wake(self) -> None:
        """Have `next` return; safe anywhere, even in a signal (SimpleQueue.put is reentrant)."""
        self._inbox.put(None)

    def next(self) -> Delivery | None:
        """Wait for a delivery for the callback; None: there may be something else to do."""
        self._call.end()
        delivery = self._get()
        if delivery is None or not self._consumer.is_current(delivery):
            return None
        self._call.begin(delivery.id)
        return delivery

    def _get(self) -> Delivery | None:
        was_full = self._is_full()
        with suppress(Empty):
            return self._inbox.get(timeout=WAIT_SECONDS)
        if was_full and self._is_full() and not self._is_told_stuck:
            self._is_told_stuck = True
            self._log.warning(
                "no message comes until one is acked", unacked=self._prefetch, is_at="prefetch"
            )
        return None

    def _is_full(self) -> bool:
        return self._consumer.in_flight >= self._prefetch

    # What becomes of a message; the second of two words that agree says nothing new

    def ack(self, method: Received) -> None:
        """Take a message out of its queue (basic.ack)."""
        self._settle(method, "acked", self._consumer.allow_ack)

    def nack(self, method: Received, *, requeue: bool) -> None:
        """Requeue a message, which is no failure, or have the broker dead-letter it."""
        act = self._consumer.requeue if requeue else self._reject
        self._settle(method, "requeued" if requeue else "rejected", act)

    def reject(self, method: Received, *, requeue: bool) -> None:
        """Requeue a message, which counts as a failure, or have the broker dead-letter it."""
        act = self._requeue_as_failure if requeue else self._reject
        self._settle(method, "requeued" if requeue else "rejected", act)

    def unreadable(self, delivery: Delivery, error: ValueError) -> None:
        """Keep a message that cannot be read as a dead letter, byte for byte, as a stage does.

        A queue of one process only has no dead letters.
        """
        if self.edge.dead:
            self._loop_thread.call(self._send_to_dead_letters, delivery, error)
        else:
            self._log.warning(
                "message failed", message_id=delivery.id, next="dropped", reason=describe(error)
            )
            self._loop_thread.call(self._consumer.allow_ack, delivery)

    def leave(self) -> Iterator[None]:
        """Stop consuming, requeue what is not acked, disconnect: a step task."""
        if self._is_leaving:
            while not self._has_left:
                yield
            return
        self._is_leaving = self.is_ending = True
        self._consumer.cancel()
        while not self._consumer.is_cancelled or self._is_giving_up():
            yield
        self._consumer.take_arrived()
        self._consumer.requeue_all()
        yield from self._consumer.delete() if self.edge.private else self._consumer.close()
        self._has_left = True
        yield from self._loop_thread.disconnect(self._connections)

    def _turns(self) -> Iterator[None]:
        """Hand over what arrives, send what is to be sent: a step task."""
        while not self._has_left:
            if not self._is_leaving:
                for delivery in self._consumer.take_arrived():
                    self._inbox.put(delivery)
            self._consumer.send_settlements()
            yield

    def _look(self) -> None:
        """Notice, now and then, that the loop stands still while the callback runs."""
        if not self._has_left:
            self._standstills.look()
            self._connections[0].call_later(LOOK_SECONDS, self._look)

    def _settle(self, method: Received, how: str, act: Callable[[Delivery], object]) -> None:
        if method.settled == how:
            return
        if method.settled:
            msg = f"this message has been {method.settled} already: it cannot be {how} now"
            raise ValueError(msg)
        method.settled = how
        with suppress(RabbitError):  # closed: the message comes again
            self._loop_thread.call(act, method.delivery)

    def _reject(self, delivery: Delivery) -> None:
        self._consumer.reject(delivery, requeue=False)

    def _requeue_as_failure(self, delivery: Delivery) -> None:
        self._consumer.reject(delivery, requeue=True)

    def _send_to_dead_letters(self, delivery: Delivery, error: ValueError) -> None:
        if self._failures is None:
            connection = self._loop_thread.connection(f"dead-letters {self.edge.queue}")
            self._connections.append(connection)
            self._failures = Failures(
                connection, self._consumer, self._retry_policy, self._log, on_failed=self.end
            )
            connection.connect()
        if self._consumer.is_current(delivery):  # else it comes again
            self._failures.send(delivery, error)

    def _is_giving_up(self) -> bool:
        publisher = self._failures and self._failures.publisher
        return bool(publisher and publisher.pending and publisher.is_flowing)


def _keep(*_: object) -> None:
    """Requeue nothing early: what the callback has not seen is requeued when we leave."""
