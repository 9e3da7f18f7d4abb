"""Messages on their way from one queue to another: confirm, then ack."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from rabbit.amqp.loop_thread import CLOSE_SECONDS, LoopThread
from rabbit.amqp.properties import read_ids
from rabbit.dead_letters.browser import Found, QueueBrowser
from rabbit.errors import PublishError, RabbitError
from rabbit.logs import Logger
from rabbit.messaging.delivery import Delivery
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import Output
from rabbit.topology import Edge

#: Makes of a message what is published for it; None: it stays. Raises ValueError: why it has to.
Make: TypeAlias = Callable[[Found], Output | None]

#: How much of its rate a transfer may catch up on after it had to wait, in seconds.
_CATCH_UP_SECONDS = 0.1
#: The longest it sleeps at a time, so that the browser hears of it.
_NAP_SECONDS = 1.0


@dataclass(frozen=True)
class Terms:
    """How messages are transferred.

    Attributes:
        limit: how many at most; None: all of them.
        per_second: how many a second at most; None: as fast as the broker takes them.
        stays: whether they stay where they are, too: a copy is made.
    """

    limit: int | None = None
    per_second: float | None = None
    stays: bool = False


class Transfer:
    """One transfer out of one queue; a `QueueBrowser` brings what is in it to `act`.

    Attributes:
        count: how many messages the broker has taken, and no longer has where they were.
        stays: why others that were meant stay, and how many.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        way: Edge,
        make: Make,
        log: Logger,
        terms: Terms | None = None,
    ) -> None:
        """Publish what `make` makes, on a connection of its own.

        Args:
            loop_thread: has the browser, too.
            way: where to, for those outputs that name no exchange.
            make: called with each message until there are enough.
            log: told what the broker refuses.
            terms: how many, and how fast; default: all, at once.
        """
        self.count = 0
        self.stays: Counter[str] = Counter()
        self._make = make
        self._terms = terms or Terms()
        self._begun = 0
        self._loop_thread = loop_thread
        self._browser: QueueBrowser | None = None
        self._error: RabbitError | None = None
        self._due = 0.0  # when the next one may leave
        self._waiting: deque[tuple[QueueBrowser, Output, Delivery]] = deque()
        self._under_way: set[str] = set()  # message ids
        self._twins: defaultdict[str, deque[tuple[Output, Delivery]]] = defaultdict(deque)
        self._connection = loop_thread.connection(f"publishes to {way.name}")
        self._publisher: Publisher[tuple[QueueBrowser, Delivery]] = Publisher(
            self._connection,
            way,
            log,
            on_confirmed=self._confirmed,
            on_nacked=self._nacked,
            on_failed=self._fail,
        )
        loop_thread.call(self._connection.connect)

    def act(self, browser: QueueBrowser, delivery: Found) -> None:
        """Publish what is made of a message."""
        self._browser = browser
        if self._error:
            raise self._error
        try:
            output = None if self._begun == self._terms.limit else self._make(delivery)
        except ValueError as error:
            self._stay(browser, delivery, str(error))
            return
        if output is None:
            browser.keep(delivery)
            return
        self._begun += 1
        if self._begun == self._terms.limit:
            browser.enough()
        if self._terms.per_second is None:
            self._dispatch(browser, output, delivery)
            return
        self._waiting.append((browser, output, delivery))
        if len(self._waiting) == 1:  # or a timer is set already
            self._release()

    def finish(self) -> None:
        """Publish no more, and count what is confirmed yet, while there is a connection."""
        with suppress(RabbitError):
            self._loop_thread.call(self._let_go)
            self._loop_thread.see_through(self._last_confirms(), CLOSE_SECONDS)

    def close(self) -> None:
        """Disconnect."""
        with suppress(RabbitError):  # the loop has ended: told by what waits for it
            self._loop_thread.see_through(self._loop_thread.disconnect([self._connection]))

    def _let_go(self) -> None:
        self._waiting.clear()
        self._twins.clear()
        self._publisher.discard(lambda _owner: True)

    def _last_confirms(self) -> Iterator[None]:
        while self._publisher.is_open and self._publisher.pending:
            yield

    def _release(self) -> None:
        """Publish what is due, at the rate that was asked for."""
        now = monotonic()
        while self._waiting and self._due <= now:
            self._due = max(self._due, now - _CATCH_UP_SECONDS) + 1 / (self._terms.per_second or 1)
            self._dispatch(*self._waiting.popleft())
        if self._waiting:
            if not self._under_way:
                self._waiting[0][0].wait()
            self._connection.call_later(min(_NAP_SECONDS, self._due - now), self._release)

    def _dispatch(self, browser: QueueBrowser, output: Output, delivery: Delivery) -> None:
        """Publish; a return tells no more of a message than its id, so only one of an id at a time.

        Its twins wait until it has landed.
        """
        if output.id in self._under_way:
            self._twins[output.id].append((output, delivery))
            return
        self._under_way.add(output.id)
        self._publisher.send([output], (browser, delivery))

    def _confirmed(self, owners: list[tuple[QueueBrowser, Delivery]]) -> None:
        for browser, delivery in owners:
            if self._terms.stays:
                browser.keep(delivery)
            else:
                browser.ack(delivery)
            self.count += 1
            self._landed(browser, read_ids(delivery.properties)[0] or "")

    def _nacked(
        self, publication: Publication[tuple[QueueBrowser, Delivery]], error: PublishError
    ) -> None:
        output, (browser, delivery) = publication
        self._stay(browser, delivery, str(error))
        self._landed(browser, output.id)

    def _landed(self, browser: QueueBrowser, message_id: str) -> None:
        self._under_way.discard(message_id)
        twins = self._twins.get(message_id)
        if twins:
            self._loop_thread.call(self._dispatch, browser, *twins.popleft())
        else:
            self._twins.pop(message_id, None)

    def _stay(self, browser: QueueBrowser, delivery: Delivery, reason: str) -> None:
        browser.keep(delivery)
        self.stays[reason] += 1

    def _fail(self, error: RabbitError) -> None:
        self._error = error
        if self._browser:
            self._browser.fail(error)
