"""Where the messages of a worker or a sink come from: its queue, through its handlers."""

from collections.abc import Callable, Iterator

from rabbit.connection import Connection, Loop
from rabbit.errors import PublishError, TopologyError
from rabbit.handler import Handler, Outcome
from rabbit.logs import Logger
from rabbit.prefetch import AutoPrefetch, FixedPrefetch
from rabbit.publisher import Publication, Publisher
from rabbit.settings import Settings
from rabbit.subscription import Delivery, Subscription
from rabbit.topology import Edge
from rabbit.workers import Workers

#: A message whose handler raised is returned to its queue after so long.
RETURN_PAUSE_SECONDS = 1.0


#: Results that no handler thread has announced are looked for after so long.
LOOK_SECONDS = 0.002


class QueueIntake:
    """Takes deliveries through the handlers: deliver → work → publish → confirm → ack."""

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        edge: Edge,
        settings: Settings,
        handler: Handler,
        log: Logger,
        *,
        on_pill: Callable[[], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Consume `edge` on `connection` and run `handler` on each message.

        Args:
            loop: the loop everything but the handler runs on.
            connection: a connection that nothing is published on.
            edge: what to consume.
            settings: prefetch, concurrency and the poison pill.
            handler: runs in the handler threads.
            log: told of each handler call that fails.
            on_pill: called when the poison pill has been received.
            on_failed: called when the broker refuses the edge.
        """
        self.publisher: Publisher[Delivery] | None = None
        self.handled = 0
        self.failed = 0
        self._loop = loop
        self._handler = handler
        self._log = log
        self._on_pill = on_pill
        self._prefetch = (
            AutoPrefetch(settings.concurrency)
            if settings.prefetch == "auto"
            else FixedPrefetch(settings.prefetch)
        )
        self._subscription = Subscription(
            connection,
            edge,
            self._prefetch,
            log,
            on_surplus=self._give_back_unstarted,
            on_lost=self._lost,
            on_failed=on_failed,
        )
        self._workers: Workers[Delivery, tuple[Delivery, Outcome]] = Workers(
            self._handle, concurrency=settings.concurrency, name="handler", wake=loop.wake
        )
        self._is_looking = False
        self._paused: set[Delivery] = set()
        self._pill = settings.poison_pill.encode() if settings.poison_pill else None
        self._pill_delivery: Delivery | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the consumer is registered."""
        return self._subscription.is_consuming

    @property
    def in_flight(self) -> int:
        """Count what has been delivered and not acked."""
        return self._subscription.in_flight

    def turn(self) -> None:
        """Do what one loop turn brought: hand over arrivals, take results, send acks."""
        arrived = self._subscription.take_arrived()
        if arrived:
            self._workers.submit(self._until_pill(arrived) if self._pill else arrived)
        results, seconds = self._workers.take_results()
        if results:
            size = sum(len(delivery.body) for delivery, _ in results)
            self._prefetch.handled(seconds, len(results), size)
            for delivery, outcome in results:
                self._take(delivery, outcome)
            if self.publisher:
                self.publisher.pump()
        if self._workers.busy and not self._is_looking:
            self._is_looking = True
            self._loop.call_later(LOOK_SECONDS, self._look)
        self._subscription.flush()

    def _look(self) -> None:
        """Let the end of this turn take results that were too quick to be announced."""
        self._is_looking = False

    def tick(self) -> None:
        """Notice, now and then, a handler that takes long."""
        self._prefetch.running(self._workers.longest_running())

    def halt(self) -> Iterator[None]:
        """Stop in order; yields while there is something to wait for.

        What no handler has started goes back to the queue, unless the poison pill stops us: that
        comes behind everything that was delivered before it.
        """
        self._subscription.cancel()
        if self._pill_delivery is None:
            self._give_back_unstarted()
        for delivery in list(self._paused):
            self._end_pause(delivery)
        while not self._subscription.is_cancelled or self._is_busy():
            self._give_back_stuck()
            yield
        if self._pill_delivery is not None:
            yield from self._pass_pill_on(self._pill_delivery)
        yield from self._subscription.close()
        self._workers.stop()

    def give_up(self) -> str:
        """Return what is in flight to the queue, finished or not; say what that is."""
        count = self._subscription.give_back_all()
        self._subscription.flush()
        return f"{count} messages not settled: they are in their queue, but may be handled twice"

    def confirmed(self, delivery: Delivery) -> None:
        """Note one confirmed output; with the last one the input is settled."""
        delivery.awaiting -= 1
        if not delivery.awaiting:
            self._settle(delivery)

    def refused(self, publication: Publication[Delivery], error: PublishError) -> None:
        """Try again while the input is ours; its input stays unacked meanwhile."""
        _, delivery = publication
        if self.publisher and self._subscription.is_current(delivery):
            self.publisher.retry(publication, error)

    def _handle(self, delivery: Delivery) -> tuple[Delivery, Outcome]:
        """Run in a handler thread."""
        return delivery, self._handler.run(delivery)

    def _take(self, delivery: Delivery, outcome: Outcome) -> None:
        if not self._subscription.is_current(delivery):
            return  # it comes again; what it has written, it will write again
        if outcome.error is not None:
            self._fail(delivery, outcome.error)
        elif outcome.outputs and self.publisher:
            delivery.awaiting = len(outcome.outputs)
            self.publisher.put(outcome.outputs, delivery)
        else:
            self._settle(delivery)

    def _settle(self, delivery: Delivery) -> None:
        if self._subscription.settle(delivery):
            self.handled += 1

    def _fail(self, delivery: Delivery, error: BaseException) -> None:
        """Return the message after a pause: retries and dead letters belong here."""
        self.failed += 1
        self._log.error(
            "handler failed, message returned to its queue",
            message_id=delivery.id,
            exc_info=error,
        )
        self._paused.add(delivery)
        self._loop.call_later(RETURN_PAUSE_SECONDS, lambda: self._end_pause(delivery))

    def _end_pause(self, delivery: Delivery) -> None:
        if delivery in self._paused:
            self._paused.remove(delivery)
            self._subscription.give_back(delivery)

    def _give_back_unstarted(self) -> None:
        for delivery in [*self._workers.take_unstarted(), *self._subscription.take_arrived()]:
            self._subscription.give_back(delivery)

    def _give_back_stuck(self) -> None:
        """Return the inputs whose outputs the broker does not take now."""
        if self.publisher:
            for delivery in dict.fromkeys(self.publisher.abandon()):
                delivery.awaiting = 0
                self._subscription.give_back(delivery)

    def _lost(self) -> None:
        """Drop what is void: the broker gives it out again."""
        self._workers.take_unstarted()
        self._paused.clear()
        self._pill_delivery = None
        if self.publisher:
            self.publisher.discard(lambda delivery: not self._subscription.is_current(delivery))

    def _is_busy(self) -> bool:
        held = 0 if self._pill_delivery is None else 1
        return self._workers.busy > 0 or self._subscription.in_flight > held

    def _until_pill(self, arrived: list[Delivery]) -> list[Delivery]:
        """Keep the pill and give back what came behind it; return what came before it."""
        for index, delivery in enumerate(arrived):
            if delivery.body == self._pill:
                for late in arrived[index + 1 :]:
                    self._subscription.give_back(late)
                if self._pill_delivery is None:
                    self._pill_delivery = delivery
                    self._on_pill()
                else:
                    self._subscription.give_back(delivery)
                return arrived[:index]
        return arrived

    def _pass_pill_on(self, pill: Delivery) -> Iterator[None]:
        """Leave the pill to the next consumer of the queue; the last one sends it downstream.

        A quorum queue counts a cancelled consumer for as long as it holds a message, so the
        count includes this one, which holds the pill.
        """
        counted: list[int] = []
        self._subscription.count_consumers(counted.append)
        while not counted and self._subscription.is_current(pill):
            yield
        if counted and counted[0] > 1:
            self._subscription.give_back(pill)
        else:
            self._take(pill, Outcome([self._handler.forward(pill)], None))
            if self.publisher:
                self.publisher.pump()
            while self._subscription.in_flight:
                self._give_back_stuck()
                yield
