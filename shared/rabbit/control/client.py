"""The asking side of the control exchange: send commands, hear reports, ask the broker."""

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Self, TypeAlias

from rabbit.amqp.channel import Channel, Count
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.amqp.loop_thread import LoopThread
from rabbit.amqp.pika_types import decode_properties
from rabbit.control.messages import Command, Report, bounded
from rabbit.errors import BrokerUnavailableError, PublishError, RabbitError, UnroutableError
from rabbit.logs import Logger
from rabbit.message import new_id
from rabbit.messaging.consumer import QueueConsumer
from rabbit.messaging.prefetch import FixedPrefetch
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import new_output
from rabbit.settings import Settings
from rabbit.topology import CONTROL_EXCHANGE, REPLIES_EXCHANGE, Edge, Exchange

#: How long connecting, and then each answer of the broker, may take unless it is said.
PATIENCE_SECONDS = 60.0

#: How long the broker may take to confirm a command; after that the command goes another way, too.
CONFIRM_SECONDS = 5.0

#: How long to wait before a question is asked again that the broker cannot answer now.
AGAIN_SECONDS = 0.5

_NOT_FOUND = 404
_ABSENT = "NOT_FOUND - no "  # what it says of a queue whose node is down is 404 as well

#: How many reports are held that nobody has asked for yet, and how many more are delivered.
MOST_HEARD = 1000
#: How many kinds of refused reports are told.
MOST_TOLD = 20
PREFETCH = 200


#: Given what the broker answers: a count, or nothing but that it is done.
Answer: TypeAlias = Callable[[Count | None], None]


class _Question(ChannelListener):
    """Something asked of the broker on a channel of its own, until it answers."""

    def __init__(
        self, connection: Connection, trouble: str, ask: Callable[[Channel, Answer], None]
    ) -> None:
        """Have `ask` ask; `trouble` is what cannot be done when the broker refuses it."""
        self.answer: Count | RabbitError | None = None
        self.is_answered = False
        self._connection = connection
        self._trouble = trouble
        self._ask = ask
        self._channel: Channel

    def wait(self) -> Iterator[None]:
        """Ask, again after a lost connection; a step task that ends with the answer."""
        self._channel = self._connection.channel(self, self._trouble, is_wanted=False)
        self._channel.want()
        while not self.is_answered:
            yield
        self._channel.close()
        self._channel.forget()

    def opened(self) -> None:
        """Ask."""
        self._ask(self._channel, self._take)

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Take a refusal for an answer, unless the queue's node has failed: ask again then."""
        if code == _NOT_FOUND and not text.startswith(_ABSENT):  # no other node leads it yet
            self._connection.call_later_if_open(AGAIN_SECONDS, self._channel.open)
        else:
            absent = code == _NOT_FOUND
            self._take(None if absent else RabbitError(f"{self._trouble}: {code} {text}"))
        return True

    def _take(self, answer: Count | RabbitError | None) -> None:
        self.answer, self.is_answered = answer, True


class ControlClient:
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
        self._users_are_stages = settings.topology == "given"
        self._told: set[str] = set()
        self._log = log
        self._heard: list[Report] = []
        self._error: RabbitError | None = None
        self._loop_thread = LoopThread(settings, log, self._turn)
        self._asking = self._loop_thread.connection("asks")
        self._hearing = self._loop_thread.connection("hears")
        self._taken: set[str] = set()  # ids of commands that the broker has taken, or nobody gets
        self._commands: Publisher[str] = Publisher(
            self._asking,
            Edge(CONTROL_EXCHANGE, "broadcast"),
            log,
            on_confirmed=self._taken.update,
            on_nacked=self._nacked,
            on_failed=self._fail,
        )
        self._replies = QueueConsumer(
            self._hearing,
            Edge(REPLIES_EXCHANGE, "direct", (self.id,), self.id, private=True),
            FixedPrefetch(PREFETCH),
            requeue_unstarted=_no_matter,
            on_lost=_no_matter,
            on_failed=self._fail,
        )
        self._loop_thread.call(self._asking.connect)
        self._loop_thread.call(self._hearing.connect)
        try:
            self._loop_thread.wait(self._ready(), patience_seconds, "no connection to RabbitMQ")
        except BrokerUnavailableError:
            self._loop_thread.close()
            raise

    def __enter__(self) -> Self:
        """Return the roll call itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the queue of replies and disconnect."""
        self._loop_thread.close(self._replies.delete())

    @property
    def epoch(self) -> int:
        """A number that changes when the connection that answers come on is lost."""
        return self._hearing.epoch

    @property
    def alarm(self) -> str | None:
        """The alarm for which the broker takes no messages, as `low on memory`; None: none.

        It is the same for all nodes and all who publish. The broker tells who has published, or
        tries to: send a command before.
        """
        return self._asking.alarm if self._asking.blocked else None

    def send(self, command: Command) -> bool:
        """Broadcast a command; return whether the broker has taken it, within a few seconds."""
        message_id = new_id()
        body = command.model_dump_json().encode()
        output = new_output(body, message_id, message_id, reply_to=self.id)
        self._loop_thread.call(self._commands.send, [output], command.id)
        self._loop_thread.see_through(self._taking(command.id), CONFIRM_SECONDS)
        is_taken = command.id in self._taken
        self._taken.clear()
        return is_taken

    def _taking(self, command_id: str) -> Iterator[None]:
        while command_id not in self._taken and not self._asking.blocked:
            yield

    def _nacked(self, publication: Publication[str], error: PublishError) -> None:
        """Take it for sent when no replica is there; what a full queue refuses is sent again."""
        if isinstance(error, UnroutableError):
            self._taken.add(publication[1])

    def reports(self) -> list[Report]:
        """Return what replicas have said since the last call. Raises what the broker refused."""
        if self._error:
            raise self._error
        heard, self._heard = self._heard, []
        return heard

    def count(self, queue: str, *, for_certain: bool = False) -> Count | None:
        """Ask the broker about a queue; None when there is no such queue.

        Args:
            queue: which.
            for_certain: something is deleted if it is empty: see `Channel.count_for_certain`.

        Raises:
            BrokerUnavailableError: no answer, of whichever broker, in time.
            RabbitError: the broker does not say: this user may not look at it, for instance.
        """
        count = Channel.count_for_certain if for_certain else Channel.count
        return self._ask(f"cannot look at {queue!r}", lambda to, tell: count(to, queue, tell))

    def bind(self, queue: str) -> None:
        """Bind a control queue to the control exchange again; there is nothing to do without one.

        Raises as `count` does.
        """

        def ask(channel: Channel, answer: Answer) -> None:
            channel.declare([Exchange(CONTROL_EXCHANGE, "fanout")])
            channel.bind(queue, CONTROL_EXCHANGE, "", partial(answer, None))

        self._ask(f"cannot bind {queue!r}", ask)

    def delete(self, queue: str) -> None:
        """Delete a queue, with what is in it. Raises as `count` does."""
        self._ask(
            f"cannot delete {queue!r}", lambda to, tell: to.delete(queue, partial(tell, None))
        )

    def lock(self, queue: str) -> None:
        """Make a queue that nobody else can declare while this client lives. Raises as `count`."""
        self._ask(
            f"cannot take {queue!r}", lambda to, tell: to.declare_lock(queue, partial(tell, None))
        )

    def _ask(self, trouble: str, ask: Callable[[Channel, Answer], None]) -> Count | None:
        """Have `ask` ask on a channel of its own; return the answer, or None for not found."""
        question = _Question(self._hearing, trouble, ask)  # an alarm blocks the one that publishes
        self._loop_thread.wait(question.wait(), self._patience, "no answer from RabbitMQ")
        if isinstance(question.answer, RabbitError):
            raise question.answer
        return question.answer

    def _ready(self) -> Iterator[None]:
        while not (self._replies.is_consuming and self._commands.is_flowing) and not self._error:
            yield

    def _turn(self) -> None:
        # What is not taken is not acked: no more comes than is asked for, whoever sends it.
        for delivery in self._replies.take_arrived() if len(self._heard) < MOST_HEARD else ():
            self._replies.allow_ack(delivery)
            try:
                report = Report.model_validate_json(bounded(delivery.body))
                if self._users_are_stages:
                    self._check_user(report, decode_properties(delivery.properties).user_id)
            except ValueError:  # no report, or one of a version that is not understood here
                self.ignored += 1
            else:
                self._heard.append(report)
        self._replies.send_settlements()

    def _check_user(self, report: Report, user: str | None) -> None:
        """Raise ValueError for what another stage says, or who does not say who it is.

        The broker refuses a `user_id` that is not the sender's, but takes a message without one.
        """
        if user == report.stage:
            return
        who = f"the user {user!r}" if user else "nobody who says so"
        told = f"{who} reports as {report.stage}/{report.replica}"
        if told not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(told)
            why = f"{told}: with TOPOLOGY=given only the user of the stage's name may"
            self._log.warning("report refused", reason=why)
        raise ValueError(told)

    def _fail(self, error: RabbitError) -> None:
        self._error = error


def _no_matter(*_: object) -> None:
    """What is lost comes again, and nobody else is to have it."""
