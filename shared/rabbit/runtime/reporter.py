"""What a replica answers to commands: its state, and as its last word how it has halted."""

import platform
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NamedTuple

from rabbit.amqp.connection import Connection
from rabbit.amqp.outage_log import LONGEST_REASON, OutageLog
from rabbit.amqp.properties import short_string
from rabbit.amqp.sent_properties import TEXT, sent_properties_with
from rabbit.control.messages import Command, Report, State
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.message import new_id
from rabbit.messaging.publisher import Publisher
from rabbit.output import Output
from rabbit.runtime.runner import Runner
from rabbit.topology import REPLIES_EXCHANGE, Edge
from rabbit.version import __version__

#: While so many answers wait to be published, as in an alarm, only a halt is answered beside them.
MOST_WAITING = 100


class Identity(NamedTuple):
    """Who a replica is and what it connects.

    Attributes:
        stage: the stage's name.
        replica: this replica's name.
        input: the edge it consumes; None for a source.
        output: the edge it publishes to; None for a sink.
    """

    stage: str
    replica: str
    input: Edge | None
    output: Edge | None


class Reporter:
    """Answers who asks, by the address that a command names.

    Attributes:
        last_word: how the halt has ended, once that is said: nobody hears more.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        identity: Identity,
        runner: Runner,
        outage_log: OutageLog,
        log: Logger,
        on_failed: Callable[[RabbitError], None],
    ) -> None:
        """Publish on the last of the connections.

        Args:
            connections: all that the replica has; nothing is consumed on the last one.
            identity: who answers.
            runner: its counts are told.
            outage_log: what is wrong with the broker is told.
            log: told when answers are not taken.
            on_failed: called when the broker refuses the exchange of replies.
        """
        self.last_word: State | None = None
        self._connections = connections
        self._connection = connections[-1]
        self._identity = identity
        self._runner = runner
        self._outage_log = outage_log
        self._since = datetime.now(UTC)
        self._process = new_id()
        self._halted_by: dict[str, str] = {}  # reply_to → the halt command's id
        self._blocked_seconds = 0.0
        self._noted: tuple[State, float] = State.STARTING, monotonic()
        self._replies: Publisher[str] = Publisher(
            self._connection,
            Edge(REPLIES_EXCHANGE, "direct"),
            log,
            on_confirmed=_no_matter,
            on_nacked=_no_matter,
            on_failed=on_failed,
        )

    @property
    def is_unsaid(self) -> bool:
        """Whether somebody who commanded the halt has not been told, as far as is known."""
        return bool(self._halted_by) and self._replies.pending > 0

    def note(self, state: State) -> None:
        """Note, now and then, what the replica is doing: for how long it is blocked is told."""
        before, since = self._noted
        self._noted = state, monotonic()
        if before is State.BLOCKED:
            self._blocked_seconds += self._noted[1] - since

    def answer(self, command: Command, reply_to: str, state: State) -> None:
        """Answer a command; after the last word only a halt is, by that word."""
        is_halt = command.command == "halt"
        if is_halt:
            self._halted_by[reply_to] = command.id
        if is_halt or (self.last_word is None and self._replies.pending < MOST_WAITING):
            self._say(reply_to, command.id, self.last_word or state)

    def say_last(self, state: State) -> None:
        """Tell all who have commanded this halt how it has ended."""
        self.last_word = state
        for reply_to, command_id in self._halted_by.items():
            self._say(reply_to, command_id, state)

    def flushed(self) -> Iterator[None]:
        """Wait until the broker has taken all answers, unless it takes none: a step task."""
        while self._replies.pending and self._replies.is_flowing:
            yield

    def _say(self, reply_to: str, command_id: str, state: State) -> None:
        who, runner = self._identity, self._runner
        report = Report(
            command_id=command_id,
            stage=who.stage,
            replica=who.replica,
            consumes=who.input.queue if who.input else None,
            exchange=who.input.name if who.input else None,
            partitions=who.input.partitions if who.input else 0,
            produces=who.output.name if who.output else None,
            state=state,
            in_flight=runner.in_flight,
            handled=runner.handled,
            failed=runner.failed,
            retried=runner.retried,
            dead_lettered=runner.dead_lettered,
            since=self._since,
            process=self._process,
            trouble=self._trouble(),
            **self._numbers(),
        )
        # What waits to be told to the same address is old by now.
        self._replies.discard(lambda address: address == reply_to)
        body, own_id = report.model_dump_json().encode(), new_id()
        user, correlation = self._connection.user_id, short_string(own_id)
        properties = sent_properties_with(TEXT, correlation, own_id.encode(), user_id=user)
        self._replies.send([Output(body, properties, reply_to)], reply_to)

    def _trouble(self) -> str | None:
        """Return what the broker refuses: a connection, a channel, or messages."""
        refusals = [each.refusal for each in self._runner.publishers if each.refusal]
        trouble = self._outage_log.reason or next(iter(refusals), None)
        return trouble and trouble[:LONGEST_REASON]

    def _numbers(self) -> dict[str, Any]:
        """Return what a report says of how much, how long and how often."""
        runner, times = self._runner, self._runner.handler_times()
        confirms = [each.confirm_times for each in runner.publishers]
        return {
            "requeued": runner.requeued,
            "prefetch": runner.prefetch,
            "handler_seconds": times.seconds,
            "handler_buckets": times.buckets,
            "oldest_seconds": runner.oldest_seconds,
            "confirm_seconds": sum(each.seconds for each in confirms),
            "confirms_timed": sum(each.count for each in confirms),
            "confirm_wait_seconds": max((each.waiting for each in confirms), default=0.0),
            "reconnects": sum(max(0, each.opened - 1) for each in self._connections),
            "blocked_seconds": self._blocked_seconds,
            "library": __version__,
            "python": platform.python_version(),
        }


def _no_matter(*_: object) -> None:
    """Who asked may be gone, and then nobody waits for the answer."""
