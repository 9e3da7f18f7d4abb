"""Dead letters: how to look at them, replay and purge them, and bring them in from a file."""

from collections.abc import Callable, Iterable
from typing import Self, TypeAlias

from rabbit.amqp.loop_thread import LoopThread
from rabbit.amqp.properties import set_aside, with_headers
from rabbit.dead_letters.archive import Archived
from rabbit.dead_letters.browser import Found, QueueBrowser, go_through
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.restore import Restore
from rabbit.dead_letters.transfer import Terms, Transfer
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.message import Message, is_added
from rabbit.messaging.delivery import Delivery
from rabbit.output import Output
from rabbit.settings import Settings
from rabbit.terminal import counted
from rabbit.topology import Edge

#: How long connecting may take unless it is said.
PATIENCE_SECONDS = 60.0

#: Given how many have been looked at, and how many there are.
Tell: TypeAlias = Callable[[int, int], None]
#: Tells whether a letter is meant.
Selects: TypeAlias = Callable[[DeadLetter], bool]


class DeadLetters:
    """Goes through queues of dead letters, on connections of its own.

    Attributes:
        all_seen: whether all letters were seen, when a queue was gone through last: those were not
            that somebody else held or took meanwhile.
    """

    def __init__(
        self, settings: Settings, log: Logger, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Connect when it is needed, to any of the brokers.

        Args:
            settings: which brokers there are.
            log: told when none can be reached.
            patience_seconds: how long that may take.
        """
        self.all_seen = True
        self._log = log
        self._patience = patience_seconds
        self._loop_thread = LoopThread(settings, log, _nothing)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._loop_thread.close()

    def look(self, queue: str, show: Callable[[DeadLetter, Delivery], None], tell: Tell) -> None:
        """Show every dead letter of a queue; all of them stay, in their order.

        Args:
            queue: the queue they came from.
            show: given one after the other, oldest first, in another thread.
            tell: as below.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
        """

        def act(browser: QueueBrowser, delivery: Delivery) -> None:
            show(DeadLetter.of(queue, delivery), delivery)
            browser.keep(delivery)

        self._go_through(queue, act, tell)

    def purge(self, queue: str, selects: Selects, tell: Tell) -> int:
        """Delete the dead letters that `selects` is true of; return how many.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
        """
        deleted = 0

        def act(browser: QueueBrowser, delivery: Delivery) -> None:
            nonlocal deleted
            if selects(DeadLetter.of(queue, delivery)):
                browser.ack(delivery)
                deleted += 1
            else:
                browser.keep(delivery)

        try:
            self._go_through(queue, act, tell)
        except RabbitError as error:  # what was said last may not have reached the broker
            msg = f"up to {deleted} dead letters of {queue!r} deleted, then: {error}"
            raise type(error)(msg) from None
        return deleted

    def replay(
        self,
        queue: str,
        selects: Selects,
        tell: Tell,
        *,
        to: str | None = None,
        limit: int | None = None,
        per_second: float | None = None,
        partitions: int = 0,
    ) -> Transfer:
        """Put the dead letters that `selects` is true of back into the queue they came from.

        Each is published with its routing key, its id and its body, without what the failure has
        left in its headers; it is removed from the dead letters once the broker has confirmed it.
        What fails again meanwhile is not looked at.

        Args:
            queue: that queue; its way back, the exchange `QUEUE.back`, exists.
            selects: what to replay; asked of no more than there may be.
            tell: given how far it has come.
            to: another queue that gets copies, by its own way back: the letters stay then.
            limit: how many at most, the oldest first; None: all.
            per_second: how many a second at most; None: as fast as the broker takes them.
            partitions: how many of them there are, if the letters go to an ordered edge.

        Raises:
            BrokerUnavailableError: no connection, it was lost, or nothing is confirmed.
            TopologyError: the broker refuses the way back.
        """

        def make(delivery: Delivery) -> Output | None:
            return _anew(delivery) if selects(DeadLetter.of(queue, delivery)) else None

        target, terms = to or queue, Terms(limit, per_second, stays=to is not None)
        way = Edge(target, "ordered", partitions=partitions) if partitions else None
        way = way or Edge(Edge(target).back, "broadcast")
        replay = Transfer(self._loop_thread, way, make, self._log, terms)
        try:
            self._go_through(queue, replay.act, tell)
        except RabbitError as error:
            replay.finish()
            verb = "copied" if to else "replayed"
            msg = (
                f"{replay.count} messages {verb} to {target!r}, then: {error}. "
                "What was under way may be in both queues, with the same id"
            )
            raise type(error)(msg) from None
        finally:
            replay.close()
        return replay

    def restore(self, letters: Iterable[Archived]) -> Restore:
        """Bring exported letters back among the dead letters of the queues they came from.

        Args:
            letters: taken one after the other, no faster than the broker confirms them. An error
                that this raises ends it: what came before is imported.

        Raises:
            BrokerUnavailableError: no connection, or nothing is confirmed.
            TopologyError: the broker refuses the exchange of a queue's dead letters.
        """
        restore = Restore(self._loop_thread, self._log, self._patience)
        try:
            restore.run(letters)
        except RabbitError as error:
            refused = restore.refused.total()
            but = f", {refused} refused" if refused else ""
            done = counted(restore.done.total(), "dead letter")
            msg = f"{done} imported{but}, then: {error}"
            raise type(error)(msg) from None
        return restore

    def _go_through(
        self, queue: str, act: Callable[[QueueBrowser, Found], None], tell: Tell
    ) -> None:
        dead = Edge(queue).dead
        self.all_seen = go_through(self._loop_thread, dead, act, tell, self._patience)
        if not self.all_seen:
            why = "somebody else reads it: what they hold, or have taken, was not seen"
            self._log.warning("not all dead letters were seen", queue=dead, reason=why)


def _nothing() -> None:
    """Do nothing at the end of a turn: a browser has its own."""


def _anew(delivery: Message) -> Output:
    """Return a letter as it was before it failed. Raises ValueError when it cannot be read."""
    properties, aside = set_aside(delivery.properties)
    properties = with_headers(properties, aside, without=is_added)
    return Output(delivery.body, properties, key=delivery.routing_key)
