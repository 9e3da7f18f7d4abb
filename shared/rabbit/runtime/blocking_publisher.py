"""One publisher for several threads, each of which waits for what it publishes."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic

from rabbit.amqp.loop_thread import WAIT_SECONDS, LoopThread
from rabbit.errors import BrokerUnavailableError, PublishError, RabbitError
from rabbit.logs import Logger
from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import Output
from rabbit.topology import Edge


class PendingConfirms:
    """Lets the thread that publishes wait for what the loop's thread learns."""

    def __init__(self, reason: Callable[[], str | None] = lambda: None) -> None:
        """Start with nothing under way; `reason` tells what keeps it from being confirmed."""
        self._reason = reason
        self._error: Exception | None = None
        self._open = 0
        self._changed = threading.Condition()

    def add(self, count: int) -> None:
        """Note that `count` messages are handed over to the loop."""
        with self._changed:
            self._open += count

    def confirmed(self) -> None:
        """Note that a queue has taken one of them."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Note what went wrong; the first error counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def is_over(self, most: int) -> bool:
        """Tell whether more than that are under way, or something went wrong."""
        return self._open > most or self._error is not None

    def wait(self, at_most: int, timeout: float | None) -> None:
        """Wait until no more than `at_most` are under way.

        Args:
            at_most: a number of messages.
            timeout: seconds without progress; None: for ever.

        Raises:
            PublishError: what went wrong with one of them.
            BrokerUnavailableError: none was confirmed for `timeout`.
        """
        with self._changed:
            while self._error is None and self._open > at_most:
                if not self._progresses(timeout):
                    why = self._reason() or "is RabbitMQ up, or is there an alarm?"
                    msg = f"{self._open} messages not confirmed for {timeout:g} s: {why}"
                    raise BrokerUnavailableError(msg)
            if self._error is not None:
                raise self._error

    def _progresses(self, timeout: float | None) -> bool:
        """Wait until something has happened; return whether that was within `timeout`."""
        before = self._open
        deadline = inf if timeout is None else monotonic() + timeout
        while self._error is None and self._open >= before:
            left = deadline - monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, WAIT_SECONDS))
        return True


def confirmed(batches: list[PendingConfirms]) -> None:
    """Tell the batches of messages that a queue has taken them."""
    for batch in batches:
        batch.confirmed()


def nacked(publication: Publication[PendingConfirms], error: PublishError) -> None:
    """Tell a message's batch that no queue has taken it."""
    publication[1].fail(error)


_ALARM = "a memory or disk alarm (connection.blocked): see the broker's log, or its console"


class BlockingPublisher:
    """Publishes to one edge until it fails: then there has to be another one.

    Attributes:
        error: why nothing can be published any more; None: it can.
    """

    def __init__(self, loop_thread: LoopThread, edge: Edge, log: Logger) -> None:
        """Connect, on a connection of its own."""
        self.error: RabbitError | None = None
        self._loop_thread = loop_thread
        self._log = log
        self._batches: list[PendingConfirms] = []
        self._given: deque[tuple[Output, PendingConfirms]] = deque()  # from any thread
        self._is_told = False  # the loop has yet to take what is given
        self._connection = loop_thread.connection(f"publishes to {edge.name}")
        kind: type[Publisher[PendingConfirms]] = KeyedPublisher if edge.is_ordered else Publisher
        self._publisher = kind(
            self._connection,
            edge,
            log,
            on_confirmed=confirmed,
            on_nacked=nacked,
            on_failed=self._fail,
        )
        loop_thread.call(self._connection.connect)
        loop_thread.begin(self._tell_of_alarms())

    @property
    def reason(self) -> str | None:
        """What keeps the broker from taking messages, as far as is known."""
        return _ALARM if self._connection.blocked else self._loop_thread.outage_log.reason

    @contextmanager
    def taking(self, batch: PendingConfirms) -> Iterator[None]:
        """Have a batch fail when this fails, or the loop ends; whoever waits for it is woken.

        Raises:
            RabbitError: either has happened already.
        """
        self._batches.append(batch)  # before the look: `fail` does it the other way round
        try:
            with self._loop_thread.waking(batch.fail):
                self._check()
                yield
        except BaseException:  # nobody waits for the rest: it must not pile up
            with suppress(RabbitError):
                self._loop_thread.call(self._publisher.discard, lambda owner: owner is batch)
            raise
        finally:
            with suppress(ValueError):
                self._batches.remove(batch)

    def send(self, output: Output, batch: PendingConfirms) -> None:
        """Publish, now or as soon as possible. Raises RabbitError when that cannot be.

        The loop is told once of all that is given until it comes to take it.
        """
        self._check()
        batch.add(1)
        self._given.append((output, batch))
        if not self._is_told:
            self._is_told = True
            self._loop_thread.call(self._take)

    def _take(self) -> None:
        self._is_told = False  # first: what is given from now on is told of anew
        while self._given:
            output, batch = self._given.popleft()
            self._publisher.put([output], batch)
        self._publisher.pump()

    def fail(self, error: RabbitError) -> None:
        """Publish no more; safe from any thread."""
        self.error = self.error or error
        for batch in list(self._batches):
            batch.fail(self.error)

    def _tell_of_alarms(self) -> Iterator[None]:
        """Say that publishing waits for the end of an alarm, once for each: a step task.

        One that ends with the connection has not ended for certain: the outage is told then.
        """
        was_blocked = False
        while self.error is None:
            is_blocked = self._connection.blocked
            if is_blocked and not was_blocked:
                self._log.warning("broker takes no messages, waiting", reason=_ALARM)
            elif was_blocked and not is_blocked and self._connection.is_open:
                self._log.info("broker takes messages again")
            was_blocked = is_blocked
            yield

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _fail(self, error: RabbitError) -> None:
        self.fail(error)
        self._loop_thread.begin(self._loop_thread.disconnect([self._connection]))
