"""The asking side of the control exchange: send commands, hear reports, ask the broker."""

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from rabbit.background import Background
from rabbit.connection import Channel, Connection, Frame
from rabbit.control import Command, Report, bounded
from rabbit.errors import BrokerUnavailableError, RabbitError
from rabbit.logs import Logger
from rabbit.message import new_id, text_output
from rabbit.prefetch import FixedPrefetch
from rabbit.publisher import Publisher
from rabbit.settings import Settings
from rabbit.subscription import Subscription
from rabbit.topology import CONTROL_EXCHANGE, REPLIES_EXCHANGE, Edge

#: How long connecting, and then each answer of the broker, may take unless it is said.
PATIENCE_SECONDS = 60.0

#: How many reports are held that nobody has asked for yet, and how many more are delivered.
MOST_HEARD = 1000
PREFETCH = 200


class Count(NamedTuple):
    """What the broker counts at a queue (a passive queue.declare): exact, unlike statistics.

    Attributes:
        ready: messages that wait for a consumer; those in flight do not count.
        consumers: registered consumers, and cancelled ones that still hold messages.
    """

    ready: int
    consumers: int


class RollCall:
    """Asks all replicas over the control exchange who is there and in which state.

    Attributes:
        id: where replies go: the reply_to of each command.
        ignored: how many answers were none that can be understood here.
    """

    def __init__(
        self, settings: Settings, log: Logger, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Connect to any of the brokers, and wait until replies can be heard.

        Args:
            settings: which brokers there are.
            log: told when none can be reached.
            patience_seconds: how long that may take, and later each answer of the broker.

        Raises:
            BrokerUnavailableError: not connected in this time.
        """
        self._patience = patience_seconds
        self.id = uuid.uuid4().hex[:12]
        self.ignored = 0
        self._heard: list[Report] = []
        self._error: RabbitError | None = None
        self._background = Background(settings, log, self._turn)
        self._asking = self._background.connection("asks")
        self._hearing = self._background.connection("hears")
        self._commands: Publisher[None] = Publisher(
            self._asking,
            Edge(CONTROL_EXCHANGE, "broadcast"),
            log,
            on_confirmed=_no_matter,
            on_refused=_no_matter,  # unroutable: no replica is there
            on_failed=self._fail,
        )
        self._replies = Subscription(
            self._hearing,
            Edge(REPLIES_EXCHANGE, "direct", (self.id,), self.id, private=True),
            FixedPrefetch(PREFETCH),
            log,
            on_surplus=_no_matter,
            on_lost=_no_matter,
            on_failed=self._fail,
        )
        self._background.call(self._asking.connect)
        self._background.call(self._hearing.connect)
        try:
            self._background.wait(self._ready(), patience_seconds, "no connection to RabbitMQ")
        except BrokerUnavailableError:
            self._background.close()
            raise

    def __enter__(self) -> Self:
        """Return the roll call itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the queue of replies and disconnect."""
        self._background.close(self._replies.delete())

    @property
    def is_blocked(self) -> bool:
        """Whether an alarm keeps the broker from taking commands."""
        return self._asking.blocked

    def send(self, command: Command) -> None:
        """Broadcast a command."""
        message_id = new_id()
        body = command.model_dump_json().encode()
        output = text_output(body, message_id, message_id, reply_to=self.id)
        self._background.call(self._commands.send, [output], None)

    def reports(self) -> list[Report]:
        """Return what replicas have said since the last call. Raises what the broker refused."""
        if self._error:
            raise self._error
        heard, self._heard = self._heard, []
        return heard

    def count(self, queue: str) -> Count | None:
        """Ask the broker about a queue; None when there is no such queue.

        Raises:
            BrokerUnavailableError: no answer, of whichever broker, in time.
        """
        answers: list[Count | None] = []
        story = self._count(self._asking, queue, answers)
        self._background.wait(story, self._patience, "no answer from RabbitMQ")
        return answers[0]

    def _ready(self) -> Iterator[None]:
        while not (self._replies.is_consuming and self._commands.is_flowing) and not self._error:
            yield

    def _count(
        self, connection: Connection, queue: str, answers: list[Count | None]
    ) -> Iterator[None]:
        def opened(channel: Channel) -> None:
            def counted(frame: "Frame[Any]") -> None:
                answers.append(Count(frame.method.message_count, frame.method.consumer_count))
                channel.close()

            channel.queue_declare(queue, passive=True, callback=counted)

        asked = None
        while not answers:
            if connection.is_open and connection.epoch != asked:  # or it was lost with the question
                asked = connection.epoch
                connection.channel(opened, lambda _code, _text: answers.append(None))
            yield

    def _turn(self) -> None:
        # What is not taken is not acked: no more comes than is asked for, whoever sends it.
        for delivery in self._replies.take_arrived() if len(self._heard) < MOST_HEARD else ():
            self._replies.settle(delivery)
            try:
                self._heard.append(Report.model_validate_json(bounded(delivery.body)))
            except ValueError:  # no report, or one of a version that is not understood here
                self.ignored += 1
        self._replies.flush()

    def _fail(self, error: RabbitError) -> None:
        self._error = error


def _no_matter(*_: object) -> None:
    """Take no notice."""
