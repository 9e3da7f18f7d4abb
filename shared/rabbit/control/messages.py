"""Commands to all replicas, and what they report."""

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
)

from rabbit.amqp.outage_log import LONGEST_REASON
from rabbit.topology import MOST_PARTITIONS, partition_queues

#: The version of the commands and reports in this file. Unknown fields are ignored, so that
#: neighbours of different versions understand each other; a higher version is not understood.
VERSION: Literal[1] = 1


#: What a command or a report holds at most: anybody who may publish can send one.
MOST_BYTES = 16 * 1024
_Name = Annotated[str, Field(max_length=80, pattern=r"^[\w.-]+$")]  # as in the settings
_Queue = Annotated[str, Field(max_length=255)]
_Id = Annotated[str, Field(max_length=200)]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Version = Annotated[str, Field(max_length=80)]

#: Bounds of the buckets in which a report counts how long calls of `work` have taken, in seconds.
#: What is as quick as the first one is not timed one by one: see `HandlerTimes`.
HANDLER_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 600.0)


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
    PAUSING = "pausing"
    PAUSED = "paused"  # nothing is in flight, and nothing is taken before it is resumed
    HALTING = "halting"
    HALTED = "halted"
    GAVE_UP = "gave_up"  # halting took longer than DRAIN_TIMEOUT: it ends with something left


#: How a replica has ended, as the routing key of a binding of its control queue.
SAID_BY_BINDING = {each.value: each for each in (State.HALTED, State.GAVE_UP)}

#: How long leaving may take, in seconds, once everything is settled or given up, and a replica has
#: said so: it deletes its control queue, for which a lost connection has to come back, and closes
#: its connections.
LAST_WORDS_SECONDS = 2.0


class Command(BaseModel):
    """What is broadcast on the control exchange, as JSON.

    Attributes:
        version: of this format.
        id: names this command; a report repeats it.
        command: `halt` stops the replica, `report` asks for its state. `pause` and `resume` with
            `stage/replica` as target are about this replica alone; with another one they have it
            look whether its stage is marked as paused, and who sends them has set or taken away
            that mark before.
        target: a stage, or a stage and a replica as `stage/replica`; None: everybody.
        time: when it was sent, for people; nothing is decided by it.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = VERSION
    id: _Id = Field(default_factory=lambda: str(uuid.uuid4()))
    command: Literal["halt", "report", "pause", "resume"]
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
        consumes: the queue it reads; None for a source. See `queues`.
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
        requeued: messages that it has given back to their queue, since it started.
        prefetch: how many messages it holds at most now; None for a source.
        handler_seconds: how long calls of `work` have taken, added up.
        handler_buckets: how many calls took up to each of HANDLER_BOUNDS and longer than the bound
            before it, and last how many took longer than all of them; empty for a source.
        oldest_seconds: how long the oldest call that runs now has been running; 0: none runs.
        confirm_seconds: how long the broker took to confirm outputs, added up: of some of them, one
            at a time.
        confirms_timed: how many these were.
        confirm_wait_seconds: how long the one that is timed now has been waiting; 0: there is none.
        reconnects: how often a connection has come back.
        blocked_seconds: how long it was `blocked`, added up.
        partitions: how many queues an ordered edge has that it reads; 0: it is of another kind.
        library: the version of the library that it runs.
        python: the version of Python.
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
    # From here on: an older version does not say.
    requeued: _Number = 0
    prefetch: _Number | None = None
    handler_seconds: _Seconds = 0.0
    handler_buckets: tuple[_Number, ...] = Field(default=(), max_length=len(HANDLER_BOUNDS) + 1)
    oldest_seconds: _Seconds = 0.0
    confirm_seconds: _Seconds = 0.0
    confirms_timed: _Number = 0
    confirm_wait_seconds: _Seconds = 0.0
    reconnects: _Number = 0
    blocked_seconds: _Seconds = 0.0
    partitions: int = Field(default=0, ge=0, le=MOST_PARTITIONS)
    library: _Version | None = None
    python: _Version | None = None

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that it reads: of an ordered edge there are several."""
        if self.consumes is None:
            return ()
        name, number = self.consumes, self.partitions
        return partition_queues(name, number) if number else (name,)


def bounded(body: bytes) -> bytes:
    """Return what may be a command or a report. Raises ValueError when it is too large for that."""
    if len(body) > MOST_BYTES:
        msg = f"{len(body)} bytes, more than the {MOST_BYTES} of a command or a report"
        raise ValueError(msg)
    return body
