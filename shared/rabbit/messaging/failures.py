"""A message that failed, on its way: publish to where it waits or is kept → confirm → ack."""

from collections.abc import Callable, Iterator
from itertools import cycle

from rabbit.amqp import frames
from rabbit.amqp.channel import Channel
from rabbit.amqp.connection import Connection
from rabbit.errors import PublishError, TooLargeError, TopologyError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.edge_consumer import EdgeConsumer
from rabbit.messaging.publisher import Owner, Publication, Publisher
from rabbit.messaging.retry import Disposition, RetryPolicy, describe
from rabbit.topology import Declaration

#: How often one of the queues that would expire is used; there are at most 20 of them.
RENEW_SECONDS = 60.0


class Failures:
    """Sends the messages of one consumer that failed to their retry queues, or dead letters.

    Attributes:
        publisher: what they are published with.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: EdgeConsumer,
        retry_policy: RetryPolicy,
        log: Logger,
        *,
        on_failed: Callable[[TopologyError], None],
        wait_here: Callable[[Delivery, float], bool] = lambda _delivery, _seconds: False,
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is consumed on.
            consumer: what the messages were delivered to; it acks them.
            retry_policy: decides what becomes of each.
            log: told of each.
            on_failed: called when the broker refuses the queues themselves.
            wait_here: given what is to have another attempt, and the seconds until then; tells
                whether it waits without a retry queue. By default nothing does.
        """
        self._kept_here = self._left_to_broker = 0
        self._consumer = consumer
        self._retry_policy = retry_policy
        self._log = log
        self._wait_here = wait_here
        self.publisher: FailurePublisher[Delivery] = FailurePublisher(
            connection,
            consumer.edge,
            log,
            on_confirmed=self._confirmed,
            on_nacked=self._nacked,
            on_failed=on_failed,
            is_void=lambda delivery: not consumer.is_current(delivery),
        )

    @property
    def retried(self) -> int:
        """Count the messages that come again after a delay, once they are where they wait."""
        return self.publisher.retried + self._kept_here

    @property
    def dead_lettered(self) -> int:
        """Count the messages that were given up, once the dead letters have them."""
        return self.publisher.dead_lettered + self._left_to_broker

    def send(self, delivery: Delivery, error: BaseException) -> None:
        """Publish a message, as it came, to where it waits for another attempt, or is kept.

        It stays unacked until the broker has confirmed that.

        Args:
            delivery: it has to be current.
            error: why it could not be handled.
        """
        decided = self._retry_policy.decide(delivery, error, self.publisher.most_property_bytes)
        log_failure(self._log, delivery, decided, error)
        if decided.delay is not None and self._wait_here(delivery, decided.delay):
            self._kept_here += 1
        else:
            self.publisher.send([decided.output], delivery)

    def _confirmed(self, deliveries: list[Delivery]) -> None:
        """Allow the ack of what a queue has now, in this turn; what is void comes again."""
        for delivery in deliveries:
            self._consumer.allow_ack(delivery)

    def _nacked(self, publication: Publication[Delivery], error: PublishError) -> None:
        """Publish a failed message again while it is ours: it is not lost either.

        What is too large for ever is left to the broker: the queue dead-letters it byte for byte,
        whatever the size, and so without a reason of ours.
        """
        _, delivery = publication
        if not self._consumer.is_current(delivery):
            return  # it comes again
        if not isinstance(error, TooLargeError):
            self.publisher.publish_again(publication, error)
            return
        self._left_to_broker += 1  # there is no other attempt
        self._log.warning(
            "left to the broker to dead-letter: without a reason, and with no other attempt",
            message_id=delivery.id,
            dead_letters=self._consumer.edge.dead,
            reason=str(error),
        )
        self._consumer.dead_letter(delivery)


class FailurePublisher(Publisher[Owner]):
    """Publishes to the retry queues and the dead letters of one edge, all on one channel.

    The channel is there before the first failure: who is ready can put failures somewhere.

    Attributes:
        retried: how many a retry queue has taken.
        dead_lettered: how many the dead letters have taken.
    """

    what = "failed message"
    retried = 0
    dead_lettered = 0

    def _confirm(self, publications: list[Publication[Owner]]) -> None:
        given_up = sum(output.exchange == self.edge.dead for output, _ in publications)
        self.dead_lettered += given_up
        self.retried += len(publications) - given_up
        super()._confirm(publications)

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
        return self.edge.for_failures()

    def _begin(self) -> None:
        super()._begin()
        if self.edge.private and self.edge.delays:
            self._renew(cycle(map(self.edge.retry_queue, self.edge.delays)))

    def _renew(self, queues: Iterator[str]) -> None:
        """Keep the queues of a replica's own from expiring while messages may wait in them."""

        def renew() -> None:
            self._channel.keep_alive(next(queues))
            self._renew(queues)

        self._channel.call_later(RENEW_SECONDS, renew)

    def returned(self, exchange: str, key: str, properties: bytes) -> None:
        """Set everything up anew: somebody has removed a queue or a binding.

        Which message it was cannot be told: it may have come without an id. So all that are not
        confirmed are published again.
        """
        del exchange, key, properties
        self._channel.replace("no queue takes failed messages")


def log_failure(log: Logger, message: Message, decided: Disposition, error: BaseException) -> None:
    """Tell, once, of a message that has failed: why, and what becomes of it."""
    log.warning(
        "message failed",
        message_id=message.id,
        attempt=decided.attempt,
        next="dead-lettered" if decided.delay is None else f"again in {decided.delay:g} s",
        **({"exc_info": error} if decided.trace else {"reason": describe(error)}),
    )
