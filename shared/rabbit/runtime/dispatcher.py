"""A message's way through a replica: deliver → work → publish → confirm → ack.

    deliver   QueueConsumer.delivered             notes it as unacked; the book holds it
    work      Handlers.submit, take_results       in a thread, or on an event loop
    publish   Dispatcher._publish                 expects so many confirms; Publisher.put, pump
    confirm   Publisher.acked                     → _outputs_confirmed → turn
                                                  → DeliveryBook.output_confirmed: the rule
    ack       QueueConsumer.send_settlements      → DeliveryBook.send_due → Channel.ack

Above is the `Replica` (runtime/replica.py), whose loop calls `Dispatcher.turn`. Below are whoever
has a part in it: the consumer (messaging/consumer.py) with its book, which has the rule of the ack
(messaging/book.py); the handlers (runtime/handler_threads.py); the publisher
(messaging/publisher.py); and what becomes of a failure (messaging/failures.py).
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from rabbit.amqp.connection import Connection
from rabbit.errors import HandlerTimeoutError, PublishError, RabbitError, TooLargeError
from rabbit.logs import Logger
from rabbit.messaging.consumer import QueueConsumer
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.edge_consumer import EdgeConsumer
from rabbit.messaging.failures import Failures
from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.messaging.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.messaging.retry import RetryPolicy
from rabbit.runtime.batches import BatchThreads
from rabbit.runtime.handler import Call, Handler
from rabbit.runtime.handler_threads import Handlers
from rabbit.runtime.handler_times import HandlerTimes
from rabbit.runtime.poison_pill import PoisonPill
from rabbit.runtime.runner import Connections, Runner
from rabbit.settings import Settings
from rabbit.topology import Edge

#: Results that no handler thread has announced are looked for after so long.
LOOK_SECONDS = 0.002


class Dispatcher(Runner):
    """Takes the messages of one edge through `work`; `turn` is the whole way of a message.

    A stage that exports spans runs a subclass of this, of its handler and of its publishers, which
    does the same and makes spans beside: see `Telemetry.traced`.

    Not in a `turn`, but when the broker says so: what is nacked is published again, before anything
    newer (`_output_nacked`); what is void with a lost channel is dropped (`_drop_void`); and what
    has failed is acked once it is confirmed where it waits (`Failures`).
    """

    publisher_class: ClassVar[type[Publisher[Any]]] = Publisher
    keyed_publisher_class: ClassVar[type[Publisher[Any]]] = KeyedPublisher

    def __init__(
        self,
        connections: Connections,
        edge: Edge,
        output: Edge | None,
        settings: Settings,
        handler: Handler,
        retry_policy: RetryPolicy,
        log: Logger,
    ) -> None:
        """Consume `edge`, run `handler` on each message, publish to `output`.

        Args:
            connections: where from and where to.
            edge: what to consume.
            output: what to publish to; None: nothing is written.
            settings: prefetch, concurrency, the poison pill and the handlers' time limit.
            handler: runs in the handler threads, or on an event loop: as `work` is.
            retry_policy: decides what becomes of a message whose handler failed.
            log: told of each handler call that fails.
        """
        super().__init__()
        self._loop = loop = connections.loop
        self._handler = handler
        self._log = log
        # Both are overridden, and may use what stands above them.
        self._prefetch = self._chosen_prefetch(settings)
        self._consumer = self._make_consumer(connections.consuming, edge, retry_policy.who)
        self._handler_timeout = settings.handler_timeout
        self._timed_out: set[Delivery] = set()  # whose handler has not returned yet
        self._handlers: Handlers[Delivery, Call[Delivery]] = handler.start(
            concurrency=settings.concurrency,
            limit=settings.handler_timeout,
            wake=loop.wake,
            fail=lambda error: loop.call(self.fail, _handlers_failed(error)),
            log=log,
        )
        batches = self._handlers if isinstance(self._handlers, BatchThreads) else None
        self._batches: BatchThreads[Delivery] | None = batches
        self._failures = Failures(
            connections.publishing,
            self._consumer,
            retry_policy,
            log,
            on_failed=self.fail,
            wait_here=self._wait_here,
        )
        self._newly_confirmed: list[Delivery] = []  # see `_outputs_confirmed`
        self._publisher: Publisher[Delivery] | None = None
        if output is not None:
            kind = self.keyed_publisher_class if output.is_ordered else self.publisher_class
            self._publisher = kind(
                connections.publishing,
                output,
                log,
                on_confirmed=self._outputs_confirmed,
                on_nacked=self._output_nacked,
                on_failed=self.fail,
                is_void=lambda delivery: not self._consumer.is_current(delivery),
            )
        outputs = [self._publisher] if self._publisher else []
        self.publishers = [self._failures.publisher, *outputs]
        self._is_to_pause = False
        self._has_progress = False  # since the last look was planned
        self._is_looking = False
        self._pill: PoisonPill | None = None
        if settings.poison_pill:
            self._pill = PoisonPill(settings.poison_pill, self._consumer, self.ask_to_end)

    def _make_consumer(self, connection: Connection, edge: Edge, _who: str) -> EdgeConsumer:
        return QueueConsumer(
            connection,
            edge,
            self._prefetch,
            requeue_unstarted=self._requeue_unstarted,
            on_lost=self._drop_void,
            on_failed=self.fail,
        )

    def _chosen_prefetch(self, settings: Settings) -> Prefetch:
        batch = self._handler.batch_size
        if settings.prefetch == "auto":
            return AutoPrefetch(settings.concurrency, batch)
        if settings.prefetch < batch:
            self._log.info(
                f"PREFETCH={settings.prefetch} is less than BATCH_SIZE={batch}: no batch is larger"
            )
        return FixedPrefetch(settings.prefetch)

    # A message's way

    def turn(self) -> None:
        """Take every message as far as it can go now: deliver → work → publish → confirm → ack.

        The broker holds each message until the last step. So whatever ends this process, or its
        connections, at whichever step: the message comes again, and none is lost.
        """
        # Deliver: what has come (basic.deliver). The consumer has noted each as unacked already.
        arrived = self._consumer.take_arrived()

        # Work: in the handler threads or on the event loop, in this order. What it writes waits
        # until it has returned: of a handler that fails half-way, nothing is published.
        if arrived:
            self._handlers.submit(self._pill.before(arrived) if self._pill else arrived)
        calls = self._take_calls()

        # Publish: all that was written. A message whose handler has failed goes, as it came, where
        # it waits for another attempt, or to the dead letters: confirm, then ack, there too.
        for call in calls:
            if call.error is None:
                self._publish(call)
            else:
                self._message_failed(call.message, call.error)
        if self._publisher and calls:
            self._publisher.pump()

        # Confirm: the broker has these outputs in a queue (basic.ack of the publisher's channel).
        # What it has refused (basic.nack, basic.return) is published again, and unacked till then.
        # The consumer passes it on to its book: `output_confirmed` in messaging/book.py.
        for delivery in self._newly_confirmed:
            if self._consumer.output_confirmed(delivery):  # the last one: it may be acked
                self.handled += 1
        self._newly_confirmed.clear()

        # Ack: what has all its outputs confirmed, or has failed and its copy is confirmed where it
        # waits, or was done without an output; and nothing else. The book knows which these are,
        # and sends basic.ack: `send_due` in messaging/book.py.
        if self._is_to_pause:
            self._requeue_stuck()
        self._consumer.send_settlements()
        if self._batches:  # which announce themselves
            self._batches.expect_more(more=not self._consumer.is_full)
        else:
            self._look_again(has_progress=bool(arrived or calls))

    def _take_calls(self) -> list[Call[Delivery]]:
        """Return the calls that have returned since the last turn."""
        calls, seconds = self._handlers.take_results()
        if self._timed_out:
            calls = self._drop_timed_out(calls)
        if calls:
            size = sum([len(call.message.body) for call in calls])
            self._prefetch.handled(seconds, len(calls), size)
        return calls

    def _publish(self, call: Call[Delivery]) -> None:
        """Publish what a call has written; without anything, its message is acked."""
        delivery, outputs = call.message, call.outputs
        if not outputs:
            if self._consumer.allow_ack(delivery):
                self.handled += 1
        elif self._publisher is None:
            error = RuntimeError("an output was written, and no edge takes it")
            self._message_failed(delivery, error)
        elif self._consumer.expect(delivery, len(outputs)):  # else it comes again, with them
            # Not before `expect`: what is too large is nacked at once, see `_output_nacked`.
            self._publisher.put(outputs, delivery)

    def _message_failed(self, delivery: Delivery, error: BaseException) -> None:
        """Send a message to where it waits for another attempt, or is kept as a dead letter."""
        if self._consumer.is_current(delivery):  # else it comes again
            self.failed += 1
            self._failures.send(delivery, error)

    def _outputs_confirmed(self, owners: list[Delivery]) -> None:
        """Note whose outputs a queue has, once for each output; `turn` counts them off.

        There, since it is where `handled` is counted and the ack is to be seen. What has failed is
        not counted off: `Failures` allows its ack by itself.
        """
        self._newly_confirmed += owners

    def _output_nacked(self, publication: Publication[Delivery], error: PublishError) -> None:
        """Publish an output again while its input is ours, which stays unacked meanwhile.

        What is too large would be refused each time: then its input has failed.
        """
        _, delivery = publication
        if self._publisher is None or not self._consumer.is_current(delivery):
            return
        if not isinstance(error, TooLargeError):
            self._publisher.publish_again(publication, error)
        elif self._consumer.expect_no_more(delivery):  # confirms of its others do not ack it now
            self._publisher.discard(lambda owner: owner is delivery)
            self._message_failed(delivery, error)

    def _drop_void(self) -> None:
        """Let go of what came on a channel that is lost: the broker gives it out again."""
        self._handlers.take_unstarted()
        if self._pill:
            self._pill.lost()
        for publisher in self.publishers:
            publisher.drop_void()

    def _wait_here(self, _delivery: Delivery, _seconds: float) -> bool:
        """Tell whether a message waits here for its next attempt: it does in a retry queue."""
        return False

    # What does not announce itself

    def _look_again(self, *, has_progress: bool) -> None:
        """Have another turn soon, for results that were too quick to be announced.

        A thread announces a quick one only if no other message waits for it: see `HandlerThreads`.

        If there was no progress since that was planned, then what runs now takes long, and will be
        announced: there is nothing to look for until then.
        """

        def look() -> None:
            self._is_looking = False

        self._has_progress = self._has_progress or has_progress
        if self._has_progress and self._handlers.busy and not self._is_looking:
            self._has_progress, self._is_looking = False, True
            self._loop.call_later(LOOK_SECONDS, look)

    def tick(self) -> None:
        """Notice, now and then, handlers that take long."""
        self._prefetch.running(self._handlers.longest_running(), self.in_flight)
        for delivery in self._handlers.overdue():
            self._time_out(delivery)

    def take_long(self) -> list[str]:
        """Return the ids of the messages that have been with a handler for long, now or lately."""
        return [delivery.id for delivery in self._handlers.take_long()]

    def _time_out(self, delivery: Delivery) -> None:
        """Wait no longer for a handler: nothing has ended it, so the process ends."""
        self._timed_out.add(delivery)
        error = HandlerTimeoutError(
            f"work() has not returned within HANDLER_TIMEOUT={self._handler_timeout:g} s for "
            f"message {delivery.id}; it counts as failed, and this replica ends"
        )
        self._message_failed(delivery, error)
        self.fail(error)

    def _drop_timed_out(self, calls: list[Call[Delivery]]) -> list[Call[Delivery]]:
        """Drop the calls of those that have timed out, and wait for these no more."""
        late = self._timed_out.intersection(call.message for call in calls)
        self._timed_out -= late
        return [call for call in calls if call.message not in late]

    # Its state, and its end

    @property
    def is_ready(self) -> bool:
        """Whether the consumer is registered."""
        return self._consumer.is_consuming

    @property
    def in_flight(self) -> int:
        """Count what has been delivered and not acked."""
        return self._consumer.in_flight

    @property
    def unsettled(self) -> int:
        """The same, with what is to be acked: acks are sent in steps."""
        return self._consumer.outstanding

    @property
    def retried(self) -> int:
        """Count those of the failed that come again after a delay."""
        return self._failures.retried

    @property
    def dead_lettered(self) -> int:
        """Count those of the failed that were given up."""
        return self._failures.dead_lettered

    @property
    def requeued(self) -> int:
        """Count what has been given back to the queue."""
        return self._consumer.requeued

    @property
    def prefetch(self) -> int | None:
        """How many messages are held at most now."""
        return self._consumer.depth

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest call of `work` that runs now has been running; 0: none."""
        return self._handlers.longest_running()

    def handler_times(self) -> HandlerTimes:
        """Return how long calls of `work` have taken."""
        return self._handlers.times()

    def hold(self) -> None:
        """Consume nothing for now."""
        self._consumer.pause()

    def pause(self, *, alone: bool) -> None:
        """Consume nothing, requeue what no handler has started, and what cannot be published."""
        del alone
        self._is_to_pause = True
        self._consumer.pause()

    def resume(self) -> None:
        """Consume again."""
        self._is_to_pause = False
        self._consumer.resume()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is consumed, and no handler is at work."""
        return self._consumer.is_paused and self._handlers.busy <= len(self._timed_out)

    def halt(self) -> Iterator[None]:
        """Stop in order: a step task that yields while there is something to wait for.

        What no handler has started goes back to the queue, unless the poison pill stops us: that
        comes behind everything that was delivered before it.
        """
        self._consumer.cancel()
        if not self._holds_pill:
            self._requeue_unstarted()
        while not self._consumer.is_cancelled or self._is_busy():
            self._requeue_stuck()
            yield
        if self._pill:
            yield from self._pill.pass_on(self._send_pill_downstream)
        while self._consumer.in_flight:
            self._requeue_stuck()
            yield
        yield from self._consumer.close()
        self._handlers.stop()
        while self._handlers.is_leaving:
            yield

    def let_go(self) -> str:
        """Requeue what is in flight, finished or not; say what that is."""
        count = self._consumer.requeue_all()
        self._consumer.send_settlements()
        self.release()
        return f"{count} messages not settled: they are in their queue, but may be handled twice"

    def release(self) -> None:
        """Let the handler threads end; what is in flight comes again."""
        self._handlers.take_unstarted()
        self._handlers.stop()

    def _is_busy(self) -> bool:
        held = 1 if self._holds_pill else 0
        return self._handlers.busy > len(self._timed_out) or self._consumer.in_flight > held

    @property
    def _holds_pill(self) -> bool:
        return self._pill is not None and self._pill.held is not None

    def _send_pill_downstream(self, pill: Delivery) -> None:
        """Have it stop the next stage, if there is one; it is acked when that has it."""
        self._publish(Call(pill, [self._handler.forward(pill)] if self._publisher else []))
        if self._publisher:
            self._publisher.pump()

    def _requeue_unstarted(self) -> None:
        for delivery in [*self._handlers.take_unstarted(), *self._consumer.take_arrived()]:
            self._consumer.requeue(delivery)

    def _requeue_stuck(self) -> None:
        """Requeue the inputs whose outputs, or which themselves, the broker does not take now."""
        for publisher in self.publishers:
            for delivery in dict.fromkeys(publisher.take_stuck()):
                self._consumer.requeue(delivery)


def _handlers_failed(cause: BaseException) -> RabbitError:
    """Say that what runs the handlers has ended; what they were handling comes again."""
    if isinstance(cause, RabbitError):
        return cause
    error = RabbitError(f"a handler thread has failed: {cause!r}")
    error.__cause__ = cause
    return error
