"""A message's way through a replica that reads an ordered edge: of each key one at a time."""

from rabbit.amqp.connection import Connection
from rabbit.errors import Reject
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.held import KeyedDelivery
from rabbit.messaging.ordered_consumer import OrderedConsumer
from rabbit.messaging.prefetch import FixedPrefetch
from rabbit.runtime.dispatcher import Dispatcher
from rabbit.runtime.handler import Call
from rabbit.settings import Settings
from rabbit.topology import Edge


class OrderedDispatcher(Dispatcher):
    """Takes messages through `work`; the next of a key begins after the one before.

    That is when `work` has returned, or it is confirmed as a dead letter. What has failed is tried
    again here, and keeps its key until then.
    """

    _consumer: OrderedConsumer

    def _make_consumer(self, connection: Connection, edge: Edge, who: str) -> OrderedConsumer:
        return OrderedConsumer(
            connection,
            edge,
            who,
            self._log,
            put_back_unstarted=self._requeue_unstarted,
            on_lost=self._drop_void,
            on_hopeless=self._give_up_hope,
            on_failed=self.fail,
        )

    def _chosen_prefetch(self, settings: Settings) -> FixedPrefetch:
        """Measure nothing: all replicas hold as many messages of a partition."""
        if settings.prefetch != "auto":
            self._log.warning(
                f"PREFETCH={settings.prefetch} has no effect: of each partition of an ordered edge "
                "every replica has to hold as many as the others, for the order's sake"
            )
        return FixedPrefetch(settings.concurrency)

    def pause(self, *, alone: bool) -> None:
        """Start nothing, and hold what there is; who is paused alone lets the others have it."""
        self._is_to_pause = alone  # then what the broker does not take now goes, too
        self._consumer.pause()
        if alone:
            self._consumer.stand_aside()
        else:
            self._consumer.stand_in_line()

    def turn(self) -> None:
        """Take every message as far as it can go; then start those whose turn has come by that."""
        super().turn()
        next_ones = self._consumer.take_arrived()
        if next_ones:
            self._handlers.submit(next_ones)
            self._look_again(has_progress=True)

    def _take_calls(self) -> list[Call[Delivery]]:
        calls = super()._take_calls()
        for call in calls:
            self._consumer.handler_ended(_keyed(call.message))
        return calls

    def _wait_here(self, delivery: Delivery, seconds: float) -> bool:
        """Have another attempt in its place: it keeps its key until then."""
        keyed = _keyed(delivery)
        self._consumer.wait_for_retry(keyed)
        self._loop.call_later(seconds, lambda: self._consumer.put_back(keyed))
        return True

    def _time_out(self, delivery: Delivery) -> None:
        """Count what the broker counts, too: with this process our own count of attempts ends."""
        _keyed(delivery).count_in_vain()
        super()._time_out(delivery)

    def _give_up_hope(self, delivery: KeyedDelivery) -> None:
        """Make a dead letter of what ends each process, and let its key go on."""
        error = Reject(
            f"delivered {delivery.in_vain} times, and each time the process ended before it was "
            "handled: it is not tried again"
        )
        self._message_failed(delivery, error)

    def _requeue_unstarted(self) -> None:
        """Put it back into its lane: it goes back to its queue when its channel ends."""
        for delivery in self._handlers.take_unstarted():
            self._consumer.put_back(_keyed(delivery))

    def _drop_void(self) -> None:
        """Drop what is void: the broker gives it out again."""
        self._requeue_unstarted()
        for publisher in self.publishers:
            publisher.drop_void()

    def tick(self) -> None:
        """Notice handlers that take long, and other replicas."""
        super().tick()
        self._consumer.look()


def _keyed(delivery: Delivery) -> KeyedDelivery:
    assert isinstance(delivery, KeyedDelivery)  # noqa: S101 - our consumer gives no others
    return delivery
