"""What becomes of a consumer's deliveries: the book of its channel, and the acks and nacks."""

from math import inf
from time import monotonic

from rabbit.amqp.channel import Channel
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.logs import Logger
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.pace import SettlementPace
from rabbit.messaging.unsettled import UnackedDeliveries
from rabbit.topology import Edge


class SettlingConsumer(ChannelListener):
    """Keeps the book of what it was given on its present channel, and settles from that.

    Nothing else acks: what the book has not been told of as done stays unacked. A delivery of an
    earlier channel is void: the broker gives it out again, and nothing is sent for it.

    Attributes:
        edge: what is consumed.
        requeued: how many deliveries have been requeued.
    """

    def __init__(self, connection: Connection, edge: Edge, purpose: str, log: Logger) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: what to consume.
            purpose: what the channel is for, as in "cannot ...".
            log: told when the broker cancels the consumer.
        """
        self.edge = edge
        self.requeued = 0
        self._connection = connection
        self._log = log
        self._channel: Channel = connection.channel(self, purpose)
        self._generation = 0
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()
        self._turn_at = inf  # a turn is planned for then

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are not settled."""
        return len(self._unacked)

    @property
    def outstanding(self) -> int:
        """Count the deliveries that the broker awaits an ack or nack for."""
        return len(self._unacked) + self._unacked.to_ack

    def is_current(self, delivery: Delivery) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        same_channel = delivery.generation == self._generation
        return same_channel and delivery.tag in self._unacked

    # Noted now, and sent with `send_settlements`

    def expect(self, delivery: Delivery, outputs: int) -> bool:
        """Note that the work on a delivery is done: it is acked after so many confirms.

        Returns:
            whether it is ours still; otherwise it comes again, or has been settled.

        Raises:
            KeyError: something is expected of it already, which is a fault of the caller's.
        """
        if delivery.generation != self._generation:
            return False
        try:
            self._unacked.expect(delivery.tag, outputs)
        except KeyError:
            if self.is_current(delivery):
                raise
            return False
        return True

    def may_ack(self, delivery: Delivery) -> bool:
        """Note that a delivery may be acked, for nothing is expected; tell whether it was open."""
        return self.expect(delivery, 0)

    def output_confirmed(self, delivery: Delivery) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        return delivery.generation == self._generation and self._unacked.confirmed(delivery.tag)

    def withdraw(self, delivery: Delivery) -> bool:
        """Expect no more outputs of a delivery, which stays unacked; tell whether some were."""
        return self.is_current(delivery) and self._unacked.withdraw(delivery.tag)

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

    # Its channel

    def _forget_deliveries(self) -> None:
        """Begin a new book, for a new channel."""
        self._generation += 1
        self._unacked = UnackedDeliveries()
