"""Failed messages on their way to where they wait for another attempt, or are kept."""

from collections.abc import Iterable, Iterator
from itertools import cycle

from rabbit.amqp import frames
from rabbit.amqp.connection import BasicProperties, Channel, keep_alive
from rabbit.message import Output
from rabbit.messaging.publisher import Owner, Publisher
from rabbit.topology import Declaration

#: How often one of the queues that would expire is used; there are at most 20 of them.
RENEW_SECONDS = 60.0


class FailurePublisher(Publisher[Owner]):
    """Publishes to the retry queues and the dead letters of one edge, all on one channel.

    The channel is opened with the first failure: most replicas never need it.
    """

    _has_begun = False
    _is_opening = False

    @property
    def _is_needed(self) -> bool:
        """Whether to have a channel; what would expire has to be used from the beginning on."""
        return self._has_begun or (self.edge.private and bool(self.edge.delays))

    @property
    def is_flowing(self) -> bool:
        """Whether the broker takes what is published, or soon will, as far as is known."""
        is_opening = self._is_opening and not self._connection.blocked
        return is_opening or super().is_flowing

    @property
    def is_blocked(self) -> bool:
        """Whether failed messages wait, or would, for the broker; before the first one none do."""
        return self._has_begun and super().is_blocked

    @property
    def is_open(self) -> bool:
        """Whether there is a channel, if one is needed; an alarm may have to end before."""
        is_awaited = self._is_opening and self._connection.blocked
        return not self._is_needed or is_awaited or super().is_open

    @property
    def most_property_bytes(self) -> int:
        """How long the properties of a message may be, as far as is known."""
        return frames.most_property_bytes(self._connection.frame_max)

    def open(self) -> None:
        """Open a channel if there has been a failure, declare the edge, switch confirms on."""
        if self._is_needed:
            self._is_opening = True
            super().open()

    def lost(self) -> None:
        """Put what was not confirmed back in front, to be published again."""
        self._is_opening = False
        super().lost()

    def send(self, outputs: Iterable[Output], owner: Owner) -> None:
        """Publish, now or as soon as possible."""
        self.put(outputs, owner)
        is_first = not self._is_needed
        self._has_begun = True
        if is_first and self._connection.is_open:
            self.open()
        self.pump()

    def _declarations(self) -> Iterator[Declaration]:
        return self.edge.for_consuming()

    def _is_ready(self, channel: Channel) -> None:
        self._is_opening = False
        super()._is_ready(channel)
        if self.edge.private and self.edge.delays:
            self._renew(channel, cycle(map(self.edge.retry, self.edge.delays)))

    def _renew(self, channel: Channel, queues: Iterator[str]) -> None:
        """Keep the queues of a replica's own from expiring while messages may wait in them."""

        def renew() -> None:
            if channel is self._channel:
                keep_alive(channel, next(queues))
                self._renew(channel, queues)

        self._connection.call_later(RENEW_SECONDS, renew)

    def _note_return(
        self, channel: Channel, _method: object, _properties: BasicProperties, _body: bytes
    ) -> None:
        """Set everything up anew: somebody has removed a queue or a binding.

        Which message it was cannot be told: it may have come without an id. So all that are not
        confirmed are published again.
        """
        if channel is self._channel:
            self._log.warning("failed messages have no queue, setting it up again")
            self._connection.close_channel(channel)
            self.lost()
            self._connection.reopen(self, "no queue takes failed messages")
