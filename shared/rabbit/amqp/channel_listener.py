"""What the user of a channel hears of it."""

from rabbit.amqp.frames import Arrival
from rabbit.errors import TopologyError


class ChannelListener:
    """Hears what happens on a channel, on the loop's thread; here nothing is done with it.

    When the broker closes a channel, that is in this order: `lost`, `closed_by_broker`, and unless
    that has dealt with it, `failed`, or `opened` after a pause.
    """

    def opened(self) -> None:
        """The channel is open, for the first time or again: declare, consume, publish."""

    def lost(self) -> None:
        """The channel is gone, with its connection or alone: its tags mean nothing any more."""

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take deliveries (basic.deliver with its content) that came one behind the other.

        Args:
            exchange: by which all of them came to their queue.
            arrivals: what each has brought.
        """

    def consumer_cancelled(self) -> None:
        """The broker has cancelled the consumer; `explain_cancel` says why that may be."""

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Take a publisher confirm: the broker is responsible for the message now."""

    def nacked(self, tag: int, *, multiple: bool) -> None:
        """Take a publisher confirm that says no: no queue has the message."""

    def returned(self, exchange: str, key: str, properties: bytes) -> None:
        """Take a message that no queue is bound for (basic.return).

        Args:
            exchange: where it was published to.
            key: its routing key.
            properties: its properties, as they were sent.
        """

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Tell whether all is done about a channel that the broker has closed.

        By default nothing is: it is opened again, or `failed` is called.

        Args:
            code: AMQP's reply code; `lost` has been called before.
            text: the broker's words.
        """
        del code, text
        return False

    def failed(self, error: TopologyError) -> None:
        """The broker has closed the channel for something that another one does not cure."""
