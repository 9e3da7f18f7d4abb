"""Where the messages of a worker or a sink come from: its queue, through its handlers."""

from collections.abc import Callable, Iterator

from rabbit.amqp.connection import Connection
from rabbit.amqp.loop import Loop
from rabbit.errors import HandlerTimeoutError, PublishError, RabbitError, TooLargeError
from rabbit.logs import Logger
from rabbit.messaging.consumer import Delivery, QueueConsumer
from rabbit.messaging.failure_publisher import FailurePublisher
from rabbit.messaging.prefetch import AutoPrefetch, FixedPrefetch
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.messaging.retry import RetryPolicy, describe
from rabbit.runtime.handler import Call, Handler
from rabbit.runtime.handler_threads import HandlerThreads, HandlerWatchdog
from rabbit.settings import Settings
from rabbit.topology import Edge

#: Results that no handler thread has announced are looked for after so long.
LOOK_SECONDS = 0.002


class Dispatcher:
    """Takes deliveries through the handlers: deliver → work → publish → confirm → ack."""

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        edge: Edge,
        settings: Settings,
        handler: Handler,
        failures: RetryPolicy,
        log: Logger,
        *,
        on_pill: Callable[[], None],
        on_failed: Callable[[RabbitError], None],
    ) -> None:
        """Consume `edge` on `connection` and run `handler` on each message.

        Args:
            loop: the loop everything but the handler runs on.
            connection: a connection that nothing is published on.
            edge: what to consume.
            settings: prefetch, concurrency, the poison pill and the handlers' time limit.
            handler: runs in the handler threads.
            failures: decides what becomes of a message whose handler failed.
            log: told of each handler call that fails.
            on_pill: called when the poison pill has been received.
            on_failed: called when the broker refuses the edge, or a handler takes too long.
        """
        self.publisher: Publisher[Delivery] | None = None
        self.failure_publisher: FailurePublisher[Delivery]
        self.handled = 0
        self.failed = 0
        self.retried = 0
        self.dead_lettered = 0
        self._loop = loop
        self._handler = handler
        self._failures = failures
        self._log = log
        self._on_pill = on_pill
        self._on_failed = on_failed
        self._handler_timeout = settings.handler_timeout
        self._prefetch = (
            AutoPrefetch(settings.concurrency)
            if settings.prefetch == "auto"
            else FixedPrefetch(settings.prefetch)
        )
        self._consumer = QueueConsumer(
            connection,
            edge,
            self._prefetch,
            log,
            on_surplus=self._give_back_unstarted,
            on_lost=self._lost,
            on_failed=on_failed,
        )
        limit = settings.handler_timeout
        self._stopwatch: HandlerWatchdog[Delivery, Call[Delivery]] | None = (
            None if limit is None else HandlerWatchdog(handler.run, limit)
        )
        self._abandoned: set[Delivery] = set()  # with a handler that ran out of time
        self._workers: HandlerThreads[Delivery, Call[Delivery]] = HandlerThreads(
            self._stopwatch.handle if self._stopwatch else handler.run,
            concurrency=settings.concurrency,
            name="handler",
            wake=loop.wake,
            fail=lambda error: loop.call(on_failed, _thread_failed(error)),
        )
        self._is_moving = False  # since the last look was planned
        self._is_looking = False
        self._pill = settings.poison_pill.encode() if settings.poison_pill else None
        self._pill_delivery: Delivery | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the consumer is registered."""
        return self._consumer.is_consuming

    @property
    def in_flight(self) -> int:
        """Count what has been delivered and not acked."""
        return self._consumer.in_flight

    def turn(self) -> None:
        """Do what one loop turn brought: hand over arrivals, take results, send acks."""
        arrived = self._consumer.take_arrived()
        if arrived:
            self._workers.submit(self._until_pill(arrived) if self._pill else arrived)
        calls, seconds = self._workers.take_results()
        if self._abandoned:
            calls = self._without_late(calls)
        if calls:
            size = sum([len(call.message.body) for call in calls])
            self._prefetch.handled(seconds, len(calls), size)
            for call in calls:
                self._take(call)
            if self.publisher:
                self.publisher.pump()
        if arrived or calls:
            self._is_moving = True
        if self._is_moving and self._workers.busy and not self._is_looking:
            self._is_moving, self._is_looking = False, True
            self._loop.call_later(LOOK_SECONDS, self._look)
        self._consumer.flush()

    def _look(self) -> None:
        """Let the end of this turn take results that were too quick to be announced.

        If nothing has moved since it was planned, then what runs now takes long, and will be
        announced: there is nothing to look for until then.
        """
        self._is_looking = False

    def tick(self) -> None:
        """Notice, now and then, handlers that take long."""
        self._prefetch.running(self._workers.longest_running(), self.in_flight)
        for delivery in self._stopwatch.overdue() if self._stopwatch else ():
            self._abandon(delivery)

    def take_long(self) -> list[str]:
        """Return the ids of the messages that have been with a handler for long, now or lately."""
        return [delivery.id for delivery in self._workers.take_long()]

    def halt(self) -> Iterator[None]:
        """Stop in order; yields while there is something to wait for.

        What no handler has started goes back to the queue, unless the poison pill stops us: that
        comes behind everything that was delivered before it.
        """
        self._consumer.cancel()
        if self._pill_delivery is None:
            self._give_back_unstarted()
        while not self._consumer.is_cancelled or self._is_busy():
            self._give_back_stuck()
            yield
        if self._pill_delivery is not None:
            yield from self._pass_pill_on(self._pill_delivery)
        yield from self._consumer.close()
        self._workers.stop()

    def give_up(self) -> str:
        """Return what is in flight to the queue, finished or not; say what that is."""
        count = self._consumer.give_back_all()
        self._consumer.flush()
        return f"{count} messages not settled: they are in their queue, but may be handled twice"

    def abandon(self) -> None:
        """Let the handler threads end; what is in flight comes again."""
        self._workers.take_unstarted()
        self._workers.stop()

    def confirmed(self, deliveries: list[Delivery]) -> None:
        """Note a confirmed output of each; with its last one an input is settled."""
        for delivery in deliveries:
            delivery.awaiting -= 1
            if not delivery.awaiting:
                self._settle(delivery)

    def refused(self, publication: Publication[Delivery], error: PublishError) -> None:
        """Try again while the input is ours; its input stays unacked meanwhile."""
        _, delivery = publication
        if self.publisher is None or not self._consumer.is_current(delivery):
            return
        if not isinstance(error, TooLargeError):
            self.publisher.retry(publication, error)
        elif delivery.awaiting > 0:
            delivery.awaiting = 0  # a confirm of its other outputs does not settle it now
            self.publisher.discard(lambda owner: owner is delivery)
            self._fail(delivery, error)

    def parted(self, deliveries: list[Delivery]) -> None:
        """Settle deliveries that wait elsewhere for another attempt now, or are dead letters."""
        for delivery in deliveries:
            self._consumer.settle(delivery)

    def refused_failure(self, publication: Publication[Delivery], error: PublishError) -> None:
        """Try again while the input is ours: what has failed is not lost either.

        What is too large for ever is left to the broker, which dead-letters it as it is.
        """
        output, delivery = publication
        if not self._consumer.is_current(delivery):
            return
        if not isinstance(error, TooLargeError):
            self.failure_publisher.retry(publication, error)
            return
        if output.exchange != self._consumer.edge.dead:  # there is no other attempt
            self.retried -= 1
            self.dead_lettered += 1
        self._consumer.dead_letter(delivery, error)

    def _take(self, call: Call[Delivery]) -> None:
        """Take what a handler call has come to, unless its message is not ours any more."""
        delivery = call.message
        if not self._consumer.is_current(delivery):
            return  # it comes again; what it has written, it will write again
        if call.error is not None:
            self._fail(delivery, call.error)
        elif call.outputs:
            if self.publisher is None:
                self._fail(delivery, RuntimeError("an output was written, and no edge takes it"))
                return
            delivery.awaiting = len(call.outputs)
            self.publisher.put(call.outputs, delivery)
        else:
            self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        if self._consumer.settle(delivery):
            self.handled += 1

    def _fail(self, delivery: Delivery, error: BaseException) -> None:
        """Send the message to where it waits for another attempt, or is kept as a dead letter.

        As with outputs, it is acked when the broker has confirmed that.
        """
        self.failed += 1
        output, attempt, delay, trace = self._failures.fate(
            delivery, error, self.failure_publisher.most_property_bytes
        )
        self.retried += delay is not None
        self.dead_lettered += delay is None
        self._log.warning(
            "message failed",
            message_id=delivery.id,
            attempt=attempt,
            next="dead-lettered" if delay is None else f"again in {delay:g} s",
            **({"exc_info": error} if trace else {"reason": describe(error)}),
        )
        self.failure_publisher.send([output], delivery)

    def _abandon(self, delivery: Delivery) -> None:
        """Give up waiting for a handler: a thread cannot be ended, so the process ends."""
        self._abandoned.add(delivery)
        error = HandlerTimeoutError(
            f"work() has not returned within HANDLER_TIMEOUT={self._handler_timeout:g} s for "
            f"message {delivery.id}; it counts as failed, and this replica ends"
        )
        if self._consumer.is_current(delivery):
            self._fail(delivery, error)
        self._on_failed(error)

    def _without_late(self, calls: list[Call[Delivery]]) -> list[Call[Delivery]]:
        """Drop the calls of those that were given up, and wait for these no more."""
        late = self._abandoned.intersection(call.message for call in calls)
        self._abandoned -= late
        return [call for call in calls if call.message not in late]

    def _give_back_unstarted(self) -> None:
        for delivery in [*self._workers.take_unstarted(), *self._consumer.take_arrived()]:
            self._consumer.give_back(delivery)

    def _give_back_stuck(self) -> None:
        """Return the inputs whose outputs, or which themselves, the broker does not take now."""
        for publisher in self._publishers():
            for delivery in dict.fromkeys(publisher.abandon()):
                delivery.awaiting = 0
                self._consumer.give_back(delivery)

    def _publishers(self) -> list[Publisher[Delivery]]:
        return [*([self.publisher] if self.publisher else []), self.failure_publisher]

    def _lost(self) -> None:
        """Drop what is void: the broker gives it out again."""
        self._workers.take_unstarted()
        self._pill_delivery = None
        for publisher in self._publishers():
            publisher.discard(lambda delivery: not self._consumer.is_current(delivery))

    def _is_busy(self) -> bool:
        held = 0 if self._pill_delivery is None else 1
        return self._workers.busy > len(self._abandoned) or self._consumer.in_flight > held

    def _until_pill(self, arrived: list[Delivery]) -> list[Delivery]:
        """Keep the pill and give back what came behind it; return what came before it."""
        for index, delivery in enumerate(arrived):
            if delivery.body == self._pill:
                for late in arrived[index + 1 :]:
                    self._consumer.give_back(late)
                if self._pill_delivery is None:
                    self._pill_delivery = delivery
                    self._on_pill()
                else:
                    self._consumer.give_back(delivery)
                return arrived[:index]
        return arrived

    def _pass_pill_on(self, pill: Delivery) -> Iterator[None]:
        """Leave the pill to the next consumer of the queue; the last one sends it downstream.

        A quorum queue counts a cancelled consumer for as long as it holds a message, so the
        count includes this one, which holds the pill. That of a classic queue does not.
        """
        ours = 1 if self._consumer.edge.type == "quorum" else 0
        counted: list[int] = []
        self._consumer.count_consumers(counted.append)
        while not counted and self._consumer.is_current(pill):
            yield
        if counted and counted[0] > ours:
            self._consumer.give_back(pill)
        else:
            self._take(Call(pill, [self._handler.forward(pill)] if self.publisher else []))
            if self.publisher:
                self.publisher.pump()
            while self._consumer.in_flight:
                self._give_back_stuck()
                yield


def _thread_failed(cause: BaseException) -> RabbitError:
    """Say that a handler thread has ended; what it was handling comes again."""
    error = RabbitError(f"a handler thread has failed: {cause!r}")
    error.__cause__ = cause
    return error
