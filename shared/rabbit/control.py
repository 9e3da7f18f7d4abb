"""Commands to all replicas, and what they answer: the roll call."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
)

from rabbit.availability import LONGEST_REASON
from rabbit.connection import (
    Arrival,
    Channel,
    Connection,
    Frame,
    Lane,
    consume,
    declare,
    decode_properties,
)
from rabbit.errors import TopologyError
from rabbit.logs import Logger
from rabbit.refusals import explain_refusal, is_hopeless
from rabbit.topology import CONTROL_EXCHANGE, control_queue, control_subscription

#: The version of the commands and reports in this file. Unknown fields are ignored, so that
#: neighbours of different versions understand each other; a higher version is not understood.
VERSION: Literal[1] = 1


#: What a command or a report holds at most: anybody who may publish can send one.
MOST_BYTES = 16 * 1024
_Name = Annotated[str, Field(max_length=80, pattern=r"^[\w.-]+$")]  # as in the settings
_Queue = Annotated[str, Field(max_length=255)]
_Id = Annotated[str, Field(max_length=200)]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]

#: How long more ignored messages are only counted, once one was told, in seconds.
TELL_SECONDS = 5.0


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("too far away") from error


class State(StrEnum):
    """What a replica is doing."""

    STARTING = "starting"
    RUNNING = "running"
    BLOCKED = "blocked"  # the broker takes no messages from it now
    HALTING = "halting"
    HALTED = "halted"
    GAVE_UP = "gave_up"  # halting took longer than DRAIN_TIMEOUT: it ends with something left


#: How a replica has ended, as the routing key of a binding of its control queue.
SAID_BY_BINDING = {each.value: each for each in (State.HALTED, State.GAVE_UP)}


class Command(BaseModel):
    """What is broadcast on the control exchange, as JSON.

    Attributes:
        version: of this format.
        id: names this command; a report repeats it.
        command: `halt` stops the replica, `report` asks for its state.
        target: a stage, or a stage and a replica as `stage/replica`; None: everybody.
        time: when it was sent, for people; nothing is decided by it.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    id: _Id = Field(default_factory=lambda: str(uuid.uuid4()))
    command: Literal["halt", "report"]
    target: _Id | None = None
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))

    def concerns(self, stage: str, replica: str) -> bool:
        """Tell whether this replica is meant."""
        return self.target in {None, stage, f"{stage}/{replica}"}


class Report(BaseModel):
    """What a replica answers to a command, as JSON.

    Attributes:
        version: of this format.
        command_id: the command it answers.
        stage: the replica's stage.
        replica: the replica's name within its stage.
        consumes: the queue it reads; None for a source.
        exchange: the exchange that this queue is bound to; None for a source.
        produces: the exchange it writes to; None for a sink.
        state: what it is doing.
        in_flight: messages delivered to it and not acked; for a source, not confirmed.
        handled: messages handled and acked since it started.
        failed: messages that it failed to handle, since it started; each attempt counts.
        retried: those of them that come again after a delay.
        dead_lettered: those of them that were given up.
        since: when it started.
        process: names the process: another one, later or beside it, has another name.
        trouble: what the broker refuses it, or has refused it last, in one line of up to
            LONGEST_REASON characters; None: nothing.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    command_id: _Id
    stage: _Name
    replica: _Name
    consumes: _Queue | None
    exchange: _Queue | None
    produces: _Queue | None
    state: State
    in_flight: _Number
    handled: _Number
    failed: _Number
    retried: _Number = 0  # an older version does not say
    dead_lettered: _Number = 0
    since: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    process: _Id | None = None  # an older version does not say
    trouble: str | None = Field(default=None, max_length=LONGEST_REASON)


def bounded(body: bytes) -> bytes:
    """Return what may be a command or a report. Raises ValueError when it is too large for that."""
    if len(body) > MOST_BYTES:
        msg = f"{len(body)} bytes, more than the {MOST_BYTES} of a command or a report"
        raise ValueError(msg)
    return body


class ControlRoom(Lane):
    """Hears commands on a durable queue of this replica's own (see `control_subscription`)."""

    def __init__(
        self,
        connection: Connection,
        stage: str,
        replica: str,
        log: Logger,
        *,
        on_command: Callable[[Command, str | None], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, whose user this becomes.

        Args:
            connection: a connection that nothing is published on.
            stage: the replica's stage.
            replica: the replica's name.
            log: told of commands that are not understood.
            on_command: given each command that concerns this replica, and its reply_to.
            on_failed: called when the broker refuses the subscription.
        """
        self.ignored = 0
        self.is_subscribed = False
        self.is_heard = False
        self.is_removed = False
        self._connection = connection
        self._stage = stage
        self._replica = replica
        self._log = log
        self._on_command = on_command
        self._on_failed = on_failed
        self._channel: Channel | None = None
        self._fresh = True
        self._leaving = False
        self._removing = False
        self._unsaid: State | None = None
        self._is_counting = False
        self._ignored_told = 0
        self._ignored_for = ""
        connection.users.append(self)

    def open(self) -> None:
        """Open a channel and subscribe."""
        self._connection.channel(self._subscribe, self._closed, lane=self)

    def lost(self) -> None:
        """Forget the channel; commands wait in the queue meanwhile."""
        self._channel = None
        self.is_subscribed = False

    def leave(self) -> None:
        """Let no more commands come (queue.unbind), and hear those that have: `is_heard` tells.

        Whoever has seen a bound queue after its command was confirmed gets an answer to it.
        While the connection is away the queue stays. It goes if that is back before we have ended.
        """
        self._leaving = True
        if self._channel is not None:
            self._unbind(self._channel)
        elif self._fresh:
            self.is_heard = True  # the queue has not begun to be ours
        else:
            self._connection.hurry()

    def remove(self, unsaid: State | None) -> None:
        """Delete the queue: this replica has ended, and nobody has to wait for it.

        Args:
            unsaid: what could not be published: the broker takes no messages now. The queue stays
                and says it, by a binding, to who has asked; that is who deletes it.
        """
        self._removing, self._unsaid = True, unsaid
        if self._channel is not None:
            self._delete(self._channel)
        elif self._fresh:
            self.is_removed = True

    def _unbind(self, channel: Channel) -> None:
        def counted(frame: "Frame[Any]") -> None:
            self.is_heard = frame.method.message_count == 0
            if not self.is_heard:
                channel.queue_declare(queue, passive=True, callback=counted)

        queue = control_queue(self._stage, self._replica)
        channel.queue_unbind(queue, CONTROL_EXCHANGE, routing_key="")
        channel.queue_declare(queue, passive=True, callback=counted)

    def _delete(self, channel: Channel) -> None:
        def removed(_frame: object) -> None:
            self.is_removed = True

        queue = control_queue(self._stage, self._replica)
        if self._unsaid is None:
            channel.queue_delete(queue, callback=removed)
        else:
            key = self._unsaid.value
            channel.queue_bind(queue, CONTROL_EXCHANGE, routing_key=key, callback=removed)

    def _subscribe(self, channel: Channel) -> None:
        def subscribed(_frame: object) -> None:
            self.is_subscribed = True
            self._fresh = False
            if self._leaving:
                self._unbind(channel)

        if self._removing:
            self._delete(channel)
            return
        self._channel = channel
        channel.add_on_cancel_callback(lambda _frame: self._cancelled_by_broker(channel))
        declare(channel, control_subscription(self._stage, self._replica, purge=self._fresh))
        queue = control_queue(self._stage, self._replica)
        if self._fresh:
            for key in SAID_BY_BINDING:  # by an earlier process of this name
                channel.queue_unbind(queue, CONTROL_EXCHANGE, routing_key=key)
        consume(channel, queue, self, subscribed)

    def delivered(self, arrivals: list[Arrival]) -> None:
        """Obey commands. Acked by hand: what a dead connection swallows comes back only so."""
        for tag, _, properties, body, _ in arrivals:
            if self._channel is not None:
                self._channel.basic_ack(tag)
                self._hear(properties, body)

    def _hear(self, properties: bytes, body: bytes) -> None:
        try:
            command = Command.model_validate_json(bounded(body))
            reply_to = decode_properties(properties).reply_to
        except ValueError as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            self._ignore(first)
            return
        if command.concerns(self._stage, self._replica):
            self._on_command(command, reply_to)

    def _ignore(self, reason: str) -> None:
        """Count what is no command; the first one is told at once, more of them now and then."""
        self.ignored += 1
        self._ignored_for = reason
        if not self._is_counting:
            self._tell_ignored()

    def _tell_ignored(self) -> None:
        self._is_counting = self.ignored > self._ignored_told
        if self._is_counting:
            self._ignored_told = self.ignored
            self._log.warning(
                "control message ignored", reason=self._ignored_for, ignored=self.ignored
            )
            self._connection.call_later(TELL_SECONDS, self._tell_ignored)

    def _cancelled_by_broker(self, channel: Channel) -> None:
        """Subscribe anew when somebody has deleted the queue: once for each channel."""
        if self._leaving or channel is not self._channel:
            return
        self._connection.close_channel(channel)
        self.lost()
        self.open()

    def _closed(self, code: int, text: str) -> None:
        self.lost()
        if is_hopeless(code, text):
            self.is_heard = self.is_removed = True  # as good: nobody opens another channel
            self._on_failed(
                TopologyError(f"cannot hear the control exchange: {explain_refusal(text)}")
            )
        else:
            self._connection.reopen(self, text)
