"""How many replicas read an ordered edge: each is a consumer of a queue that stays empty."""

import random
from collections.abc import Callable
from time import monotonic

from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.errors import TopologyError
from rabbit.topology import Edge

#: How often it is counted, in seconds; up to half as long later, so that not all do it at once.
COUNT_SECONDS = 2.0


class Census(ChannelListener):
    """Counts the replicas, and is counted as one.

    The count decides only how partitions are spread, never what is safe.
    """

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        tag: str,
        on_counted: Callable[[int], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            edge: an ordered one.
            tag: what the broker tells the consumer as.
            on_counted: given the number of replicas, now and then.
            on_failed: called when the broker refuses the queue.
        """
        self._queue = edge.census
        self._tag = tag
        self._on_counted = on_counted
        self._on_failed = on_failed
        self._channel = connection.channel(self, f"consume {self._queue.name!r}")
        self._due = 0.0
        self._stands_aside = True

    def opened(self) -> None:
        """Be counted, unless it stands aside."""
        self._channel.declare([self._queue])
        if not self._stands_aside:
            self._consume()

    def _consume(self) -> None:
        self._channel.consume(self._queue.name, 1, self._registered, tag=self._tag)

    def _registered(self) -> None:
        self._due = 0.0

    def delivered(self, exchange: str, arrivals: list[Arrival]) -> None:
        """Take out what somebody has put there by hand: nobody would read it."""
        del exchange
        for arrival in arrivals:
            self._channel.reject(arrival[0], requeue=False)

    def consumer_cancelled(self) -> None:
        """Be counted again."""
        self._channel.replace("the queue that replicas are counted by is gone")

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the queue."""
        self._on_failed(error)

    def look(self) -> None:
        """Count, if it is time to."""
        if self._channel.is_open and not self._stands_aside and monotonic() >= self._due:
            self._due = monotonic() + COUNT_SECONDS * random.uniform(1, 1.5)  # noqa: S311 - no secret
            self._channel.count(self._queue.name, lambda count: self._on_counted(count.consumers))

    def stand_aside(self) -> None:
        """Be counted no more, until `stand_in_line`; so it begins."""
        self._stands_aside = True
        if not self._channel.is_lost:
            self._channel.replace()

    def stand_in_line(self) -> None:
        """Be counted."""
        self._stands_aside = False
        if self._channel.is_open:
            self._consume()

    def leave(self) -> None:
        """Be counted for good no more."""
        self._channel.close()

    @property
    def has_left(self) -> bool:
        """Whether the channel is closed."""
        return self._channel.is_lost
