"""Dead letters: how to look at them, replay and purge them."""

from collections.abc import Callable
from typing import Self, TypeAlias

from rabbit.amqp.loop_thread import CLOSE_SECONDS, LoopThread
from rabbit.dead_letters.browser import QueueBrowser
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.dead_letters.replay import Replay, Selects
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.messaging.consumer import Delivery
from rabbit.settings import Settings
from rabbit.topology import Edge

#: How long connecting may take unless it is said.
PATIENCE_SECONDS = 60.0

#: Given how many have been looked at, and how many there are.
Tell: TypeAlias = Callable[[int, int], None]


class DeadLetters:
    """Goes through queues of dead letters, on connections of its own."""

    def __init__(
        self, settings: Settings, log: Logger, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Connect when it is needed, to any of the brokers.

        Args:
            settings: which brokers there are.
            log: told when none can be reached.
            patience_seconds: how long that may take.
        """
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

    def replay(self, queue: str, selects: Selects, tell: Tell) -> Replay:
        """Put the dead letters that `selects` is true of back into the queue they came from.

        Each is published with its routing key, its id and its body, without what the failure has
        left in its headers; it is removed from the dead letters once the broker has confirmed it.
        What fails again meanwhile is not looked at.

        Args:
            queue: that queue; its way back, the exchange `QUEUE.back`, exists.
            selects: what to replay.
            tell: given how far it has come.

        Raises:
            BrokerUnavailableError: no connection, it was lost, or nothing is confirmed.
            TopologyError: the broker refuses the way back.
        """
        replay = Replay(self._loop_thread, queue, selects, self._log)
        try:
            self._go_through(queue, replay.act, tell)
        except RabbitError as error:
            replay.finish()
            msg = (
                f"{replay.count} messages replayed to {queue!r}, then: {error}. "
                "What was under way may be in both queues, with the same id"
            )
            raise type(error)(msg) from None
        finally:
            replay.close()
        return replay

    def _go_through(
        self, queue: str, act: Callable[[QueueBrowser, Delivery], None], tell: Tell
    ) -> None:
        name = Edge(queue).dead
        connection = self._loop_thread.connection(f"goes through {name}")
        browser = QueueBrowser(connection, name, lambda delivery: act(browser, delivery), tell)
        self._loop_thread.call(connection.connect)
        self._loop_thread.wait(browser.begin(), self._patience, "no connection to RabbitMQ")
        self._loop_thread.see_through(browser.run(), None)
        self._loop_thread.see_through(self._loop_thread.disconnect([connection]), CLOSE_SECONDS)
        if browser.error:
            raise browser.error


def _nothing() -> None:
    """Do nothing at the end of a turn: a browser has its own."""
