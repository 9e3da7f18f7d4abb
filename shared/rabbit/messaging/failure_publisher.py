"""Failed messages on their way to where they wait for another attempt, or are kept."""

from collections.abc import Iterator
from itertools import cycle

from rabbit.amqp import frames
from rabbit.amqp.channel import Channel
from rabbit.messaging.publisher import Owner, Publisher
from rabbit.topology import Declaration

#: How often one of the queues that would expire is used; there are at most 20 of them.
RENEW_SECONDS = 60.0


class FailurePublisher(Publisher[Owner]):
    """Publishes to the retry queues and the dead letters of one edge, all on one channel.

    The channel is there before the first failure: who is ready can put failures somewhere.
    """

    def _make_channel(self) -> Channel:
        return self._connection.channel(self, f"publish what has failed in {self.edge.name!r}")

    @property
    def is_blocked(self) -> bool:
        """Whether failed messages wait for the broker; where there are none, none do."""
        return self.pending > 0 and super().is_blocked

    @property
    def is_open(self) -> bool:
        """Whether there is a channel; an alarm may have to end before there can be one."""
        return self._connection.blocked or super().is_open

    @property
    def most_property_bytes(self) -> int:
        """How long the properties of a message may be, as far as is known."""
        return frames.most_property_bytes(self._channel.frame_max)

    def _declarations(self) -> Iterator[Declaration]:
        return self.edge.for_consuming()

    def _begin(self) -> None:
        super()._begin()
        if self.edge.private and self.edge.delays:
            self._renew(cycle(map(self.edge.retry, self.edge.delays)))

    def _renew(self, queues: Iterator[str]) -> None:
        """Keep the queues of a replica's own from expiring while messages may wait in them."""

        def renew() -> None:
            self._channel.keep_alive(next(queues))
            self._renew(queues)

        self._channel.call_later(RENEW_SECONDS, renew)

    def returned(self, properties: bytes) -> None:
        """Set everything up anew: somebody has removed a queue or a binding.

        Which message it was cannot be told: it may have come without an id. So all that are not
        confirmed are published again.
        """
        del properties
        self._log.warning("failed messages have no queue, setting it up again")
        self._channel.replace("no queue takes failed messages")
