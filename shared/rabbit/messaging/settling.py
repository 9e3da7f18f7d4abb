"""What becomes of a consumer's deliveries: the acks and nacks that its book says."""

from math import inf
from time import monotonic

from rabbit.amqp.channel import Channel
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.messaging.book import DeliveryBook
from rabbit.messaging.delivery import Delivery
from rabbit.topology import Edge


class SettlingConsumer(DeliveryBook[Delivery], ChannelListener):
    """Settles what it was given on its present channel by its book, and in no other way.

    What the book has not been told of as done stays unacked. Of ordered edges, `Partition` does it.

    Attributes:
        edge: what is consumed.
        requeued: how many deliveries have been requeued.
    """

    def __init__(self, connection: Connection, edge: Edge, purpose: str) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: what to consume.
            purpose: what the channel is for, as in "cannot ...".
        """
        super().__init__()
        self.edge = edge
        self.requeued = 0
        self._connection = connection
        self._channel: Channel = connection.channel(self, purpose)
        self._turn_at = inf  # a turn is planned for then

    # Noted now, as what the book is told, and sent with `send_settlements`

    def requeue(self, delivery: Delivery) -> None:
        """Return a delivery to its queue: it comes again, which counts as no failure."""
        if self.is_current(delivery):
            self._unacked.requeue(delivery.tag)

    def requeue_all(self) -> int:
        """Return every open delivery to the queue; say how many these are."""
        return self._unacked.requeue_all()

    def _send(self, *, acks_at_once: bool) -> None:
        """Send the acks and nacks that are due; plan a turn for the others."""
        unacked = self._unacked
        to_requeue = unacked.to_requeue
        due = self._pace.take_due(unacked, monotonic(), acks_at_once=acks_at_once)
        self.requeued += to_requeue - unacked.to_requeue
        for ack in due.acks:
            self._channel.ack(ack.tag, multiple=ack.multiple)
        for nack in due.nacks:
            self._channel.requeue(nack.tag, multiple=nack.multiple)
        if due.next_at < inf:
            self._take_turn_at(due.next_at)

    def _take_turn_at(self, moment: float) -> None:
        """Make the loop take a turn then, in which we send, though nothing else may happen."""

        def take_turn() -> None:
            self._turn_at = inf

        if moment < self._turn_at:
            self._turn_at = moment
            self._connection.call_later(max(0.0, moment - monotonic()), take_turn)

    # Sent at once: the next ack may reach beyond it

    def reject(self, delivery: Delivery, *, requeue: bool) -> None:
        """Return a delivery to its queue as a failure, or to the dead letters (basic.reject)."""
        if self.is_current(delivery) and self._channel.is_open:
            self._unacked.drop(delivery.tag)
            self._channel.reject(delivery.tag, requeue=requeue)

    def dead_letter(self, delivery: Delivery) -> None:
        """Have the broker dead-letter a delivery as it is (basic.reject), if it is current.

        Its queue has a dead-letter exchange: nothing else is sent to dead letters (`Edge.dead`).
        """
        self.reject(delivery, requeue=False)
