"""The control listener: a replica hears commands on a durable queue of its own."""

from collections.abc import Callable

from pydantic import ValidationError

from rabbit.amqp.channel import Count
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.close_reasons import explain_cancel
from rabbit.amqp.connection import Connection
from rabbit.amqp.frames import Arrival
from rabbit.amqp.pika_types import decode_properties
from rabbit.control.messages import SAID_BY_BINDING, Command, State, bounded
from rabbit.control.pauses import Pauses
from rabbit.errors import TopologyError
from rabbit.logs import Logger
from rabbit.topology import CONTROL_EXCHANGE, control_queue, control_subscription, pause_mark

#: How long more ignored messages are only counted, once one was told, in seconds.
TELL_SECONDS = 5.0

#: How many times in a row a queue has to say that it is empty: see `_hear_rest`.
ENOUGH_ANSWERS = 2

#: How often a replica that has seen no mark of its stage looks again, in seconds.
LOOK_AGAIN_SECONDS = 5.0


class ControlListener(ChannelListener):
    """Hears commands on a durable queue of this replica's own (see `control_subscription`)."""

    def __init__(
        self,
        connection: Connection,
        stage: str,
        replica: str,
        log: Logger,
        *,
        on_command: Callable[[Command, str | None], None],
        on_told: Callable[[bool], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is published on.
            stage: the replica's stage.
            replica: the replica's name.
            log: told of commands that are not understood.
            on_command: given each command that concerns this replica, and its reply_to.
            on_told: called whenever it is known, or known again, whether to pause.
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
        self._on_told = on_told
        self._on_failed = on_failed
        self._channel = connection.channel(self, "hear the control exchange")
        self._queue = control_queue(stage, replica)
        self._pauses = Pauses(stage, replica)
        self._fresh = True
        self._looking: list[Callable[[], None]] = []  # called after a look at the mark, each
        self._is_caught_up = False
        self._leaving = False
        self._removing = False
        self._unsaid: State | None = None
        self._is_counting = False
        self._ignored_told = 0
        self._ignored_for = ""

    @property
    def is_paused_alone(self) -> bool:
        """Whether this replica is to pause while its stage goes on."""
        return self._pauses.is_alone

    def opened(self) -> None:
        """Subscribe, or go on with leaving."""
        if self._removing:
            self._delete()
            return
        self._channel.declare(control_subscription(self._stage, self._replica))
        if self._fresh:
            for key in SAID_BY_BINDING:  # by an earlier process of this name
                self._channel.unbind(self._queue, CONTROL_EXCHANGE, key)
            self._channel.get(self._queue, self._pass_over)
        else:
            self._subscribe()

    def _pass_over(self, arrival: Arrival | None) -> None:
        """Hear what was sent to an earlier process: no halt; a pause is meant for the replica."""
        if arrival is None:
            self._subscribe()
            return
        for settled in self._hear(arrival, is_old=True):
            self._channel.ack(settled)
        self._channel.get(self._queue, self._pass_over)

    def _subscribe(self) -> None:
        self._look_at_mark(self._tell)  # bound before: a command that comes later is heard
        self._channel.call_later(LOOK_AGAIN_SECONDS, self._look_again)
        self._channel.consume(self._queue, 0, self._subscribed)

    def lost(self) -> None:
        """Hear nothing for a while; commands wait in the queue meanwhile."""
        self.is_subscribed = self._is_caught_up = False
        self._looking.clear()
        self._pauses.lost()

    def leave(self) -> None:
        """Let no more commands come (queue.unbind), and hear those that have: `is_heard` tells.

        Whoever has seen a bound queue after its command was confirmed gets an answer to it.
        While the connection is away the queue stays. It goes if that is back before we have ended.
        """
        self._leaving = True
        if self._channel.is_open:
            self._unbind()
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
        if self._channel.is_open:
            self._delete()
        elif self._fresh:
            self.is_removed = True

    def _subscribed(self) -> None:
        self.is_subscribed = True
        self._fresh = False
        if self._leaving:
            self._unbind()
        self._hear_rest(self._catch_up)

    def _hear_rest(self, then: Callable[[], None], *, answers: int = ENOUGH_ANSWERS) -> None:
        """Hear what is still in the queue, then call `then`; a count of none would not be certain.

        What the queue has delivered before it says that it is empty may come after that, but not
        after it has said so again.
        """

        def got(arrival: Arrival | None) -> None:
            if arrival is not None:
                self.delivered("", [arrival])
                self._hear_rest(then)
            elif answers > 1:
                self._hear_rest(then, answers=answers - 1)
            else:
                then()

        self._channel.get(self._queue, got)

    def _catch_up(self) -> None:
        """Know whether to pause only when all is heard that has waited: a `pause` may be there."""
        self._is_caught_up = True
        self._tell()

    def _look_at_mark(self, then: Callable[[], None]) -> None:
        """Look, one after the other. A count of none is not believed at once: see `Channel.get`.

        Nor is an empty queue: another replica may be looking that way, for a moment. Two may even
        do so at the same time again and again: so it is not the last look, see `_look_again`.
        """
        self._looking.append(then)
        if len(self._looking) == 1:
            self._look()

    def _look(self) -> None:
        self._channel.count_for_certain(
            pause_mark(self._stage), lambda count: self._looked(is_marked=count.ready > 0)
        )

    def _look_again(self) -> None:
        """Count now and then, as long as there seems to be no mark; only one that is seen matters.

        That a mark is gone is not concluded: whoever takes it away sends a command.
        """

        def counted(count: Count) -> None:
            if count.ready and not self._looking and not self._pauses.is_marked:
                self._pauses.is_marked = True
                self._tell()

        if not (self._leaving or self._looking or self._pauses.is_marked):
            self._channel.count(pause_mark(self._stage), counted)
        self._channel.call_later(LOOK_AGAIN_SECONDS, self._look_again)

    def _looked(self, *, is_marked: bool) -> None:
        self._pauses.is_marked = is_marked
        self._looking.pop(0)()
        if self._looking:
            self._look()

    def _tell(self) -> None:
        if self._is_caught_up and self._pauses.is_paused is not None:
            self._on_told(self._pauses.is_paused)

    def _unbind(self) -> None:
        self._channel.unbind(self._queue, CONTROL_EXCHANGE)
        self._hear_rest(self._heard_all)

    def _heard_all(self) -> None:
        self.is_heard = True

    def _delete(self) -> None:
        if self._unsaid is None:
            self._channel.delete(self._queue, self._removed)
        else:
            self._channel.bind(self._queue, CONTROL_EXCHANGE, self._unsaid.value, self._removed)

    def _removed(self) -> None:
        self.is_removed = True

    def delivered(self, _exchange: str, arrivals: list[Arrival]) -> None:
        """Obey commands. Acked by hand: what a dead connection swallows comes back only so.

        What comes after the last word stays in the queue, with whoever deletes that, or reads it
        next. There is some where the queue is bound again: see `remove`.
        """
        if self._removing:
            return
        for arrival in arrivals:
            for settled in self._hear(arrival):
                self._channel.ack(settled)

    def _hear(self, arrival: Arrival, *, is_old: bool = False) -> list[int]:
        """Obey a command; return which deliveries to ack."""
        tag, _, properties, body, _ = arrival
        try:
            command = Command.model_validate_json(bounded(body))
            reply_to = decode_properties(properties).reply_to
        except ValueError as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            self._ignore(first)
            return [tag]
        if not command.concerns(self._stage, self._replica):
            return [tag]
        if command.command in {"pause", "resume"}:
            settled = self._pauses.hear(command, tag)
            if not is_old:
                self._look_at_mark(lambda: self._steered(command, reply_to))
            return settled
        if not is_old:
            self._on_command(command, reply_to)
        return [tag]

    def _steered(self, command: Command, reply_to: str | None) -> None:
        self._tell()
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

    def consumer_cancelled(self) -> None:
        """Subscribe anew when somebody has deleted the queue."""
        if not self._leaving:
            self._channel.replace(explain_cancel(self._queue))

    def failed(self, error: TopologyError) -> None:
        """Tell that nothing can be heard; as good as heard and removed: there is no other way."""
        self.is_heard = self.is_removed = True
        self._on_failed(error)
