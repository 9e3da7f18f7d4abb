"""Some of the messages of a queue, held on a channel of their own: what a visit consists of."""

from collections.abc import Callable

from rabbit.connection import Arrival, Channel, Lane, consume
from rabbit.ledger import Inputs
from rabbit.subscription import Delivery


class Portion(Lane):
    """Some of the messages of a queue, on a channel of their own.

    The broker looks for what is acked from the oldest unacked delivery of the channel on: one
    channel that holds many would make each ack expensive.
    """

    def __init__(
        self, number: int, size: int, taken: Callable[["Portion", Delivery], None]
    ) -> None:
        """Hold up to `size` messages at a time; `taken` is called with each."""
        self.size = size
        self.kept = 0
        self.inputs = Inputs()
        self.is_changing = True  # on the way to consume-ok or cancel-ok
        self.is_consuming = False
        self.is_filling = False  # nothing is acked until all credit is used up
        self._number = number
        self._taken = taken
        self._channel: Channel | None = None
        self._tag = ""

    @property
    def is_full(self) -> bool:
        """Whether all credit is used up, so that nothing is under way."""
        return len(self.inputs) + self.inputs.settled >= self.size

    def consume(self, channel: Channel, queue: str) -> None:
        """Register the consumer."""

        def registered(_frame: object) -> None:
            self.is_consuming, self.is_changing = True, False

        self._channel = channel
        channel.basic_qos(prefetch_count=self.size)
        self._tag = consume(channel, queue, self, registered)

    def cancel(self) -> None:
        """Get no more; what is held is held on.

        What is under way then comes back to the queue, and others may have overtaken it.
        """

        def cancelled(_frame: object) -> None:
            self.is_changing = self.is_filling = False

        assert self._channel is not None  # noqa: S101 - it is consuming
        self.is_consuming, self.is_changing = False, True
        self._channel.basic_cancel(self._tag, callback=cancelled)

    def delivered(self, arrivals: list[Arrival]) -> None:
        """Take deliveries."""
        self.inputs.receive(
            [arrival[0] for arrival in arrivals], [len(arrival[3]) for arrival in arrivals]
        )
        for arrival in arrivals:
            self._taken(self, Delivery(self._number, *arrival))

    def ack(self) -> None:
        """Send the acks of what was settled."""
        if self._channel and self._channel.is_open:
            for ack in self.inputs.acks():
                self._channel.basic_ack(ack.tag, ack.multiple)

    def give_back(self) -> None:
        """Return all that is held, with one basic.nack, which is no failure and keeps the order."""
        if self._channel and self._channel.is_open:
            self.inputs.give_back_all()
            for nack in self.inputs.returns(singles=0):
                self._channel.basic_nack(nack.tag, nack.multiple, requeue=True)
