"""The book of a consumer: what was delivered on its present channel, and what may be sent of it."""

from typing import Generic, TypeVar

from rabbit.messaging.delivery import Delivery
from rabbit.messaging.pace import SettlementPace
from rabbit.messaging.unsettled import UnackedDeliveries

D = TypeVar("D", bound=Delivery)


class DeliveryBook(Generic[D]):
    """Takes note of what becomes of deliveries; whoever consumes sends the acks and nacks by it.

    Nothing is acked but what it has been told of as done. A delivery of an earlier channel is void:
    the broker gives it out again, and what is said of it changes nothing. Both kinds of consumers
    stand on this: `SettlingConsumer`, and for ordered edges `HeldDeliveries`.

    Attributes:
        generation: which channel it is, counted.
    """

    def __init__(self) -> None:
        """Begin with nothing delivered."""
        self.generation = 0
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()

    @property
    def in_flight(self) -> int:
        """Count the deliveries that are not settled."""
        return len(self._unacked)

    @property
    def to_ack(self) -> int:
        """Count what may be acked, and is not yet."""
        return self._unacked.to_ack

    @property
    def outstanding(self) -> int:
        """Count the deliveries that the broker awaits an ack or nack for."""
        return len(self._unacked) + self._unacked.to_ack

    def is_current(self, delivery: D) -> bool:
        """Tell whether a delivery can still be settled; otherwise it has been, or comes again."""
        return delivery.generation == self.generation and delivery.tag in self._unacked

    def expect(self, delivery: D, outputs: int) -> bool:
        """Note that the work on a delivery is done: it is acked after so many confirms.

        Returns:
            whether it is ours still; otherwise it comes again, or has been settled.

        Raises:
            KeyError: something is expected of it already, which is a fault of the caller's.
        """
        if delivery.generation != self.generation:
            return False
        try:
            self._unacked.expect(delivery.tag, outputs)
        except KeyError:
            if self.is_current(delivery):
                raise
            return False
        return True

    def may_ack(self, delivery: D) -> bool:
        """Note that a delivery may be acked, for nothing is expected; tell whether it was open."""
        return self.expect(delivery, 0)

    def output_confirmed(self, delivery: D) -> bool:
        """Note that an output is confirmed; tell whether the delivery may be acked by that."""
        return delivery.generation == self.generation and self._unacked.confirmed(delivery.tag)

    def withdraw(self, delivery: D) -> bool:
        """Expect no more outputs of a delivery, which stays unacked; tell whether some were."""
        return self.is_current(delivery) and self._unacked.withdraw(delivery.tag)

    def _begin_anew(self) -> None:
        """Begin a new book, for a new channel: all that is open is void."""
        self.generation += 1
        self._unacked = UnackedDeliveries()
        self._pace = SettlementPace()
