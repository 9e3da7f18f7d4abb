"""Dead letters on their way back to the queue they came from: confirm, then ack."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeAlias

from rabbit.amqp.loop_thread import CLOSE_SECONDS, LoopThread
from rabbit.amqp.properties import read_ids, set_aside, with_headers
from rabbit.dead_letters.browser import QueueBrowser
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.errors import PublishError, RabbitError
from rabbit.logs import Logger
from rabbit.message import Message, is_added
from rabbit.messaging.consumer import Delivery
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import Output
from rabbit.topology import Edge

Selects: TypeAlias = Callable[[DeadLetter], bool]


class Replay:
    """One replay of one queue's dead letters.

    Attributes:
        count: how many letters are in their queue again, and no dead letters any more.
        stays: why others that were selected stay, and how many.
    """

    def __init__(self, loop_thread: LoopThread, queue: str, selects: Selects, log: Logger) -> None:
        """Publish those that `selects` is true of, on a connection of its own."""
        self.count = 0
        self.stays: Counter[str] = Counter()
        self._queue = queue
        self._selects = selects
        self._loop_thread = loop_thread
        self._browser: QueueBrowser | None = None
        self._error: RabbitError | None = None
        self._under_way: set[str] = set()  # message ids
        self._twins: defaultdict[str, deque[tuple[Output, Delivery]]] = defaultdict(deque)
        self._connection = loop_thread.connection(f"replays {queue}")
        self._publisher: Publisher[tuple[QueueBrowser, Delivery]] = Publisher(
            self._connection,
            Edge(Edge(queue).back, "broadcast"),
            log,
            on_confirmed=self._confirmed,
            on_nacked=self._nacked,
            on_failed=self._fail,
        )
        loop_thread.call(self._connection.connect)

    def act(self, browser: QueueBrowser, delivery: Delivery) -> None:
        """Publish a letter if it is selected."""
        self._browser = browser
        if self._error:
            raise self._error
        if not self._selects(DeadLetter.of(self._queue, delivery)):
            browser.keep(delivery)
            return
        try:
            output = _anew(delivery)
        except ValueError as error:
            self._stay(browser, delivery, str(error))
            return
        # A return tells no more of a message than its id: only one of an id at a time.
        if output.id in self._under_way:
            self._twins[output.id].append((output, delivery))
        else:
            self._send(browser, output, delivery)

    def finish(self) -> None:
        """Publish no more, and count what is confirmed yet, while there is a connection."""
        with suppress(RabbitError):
            self._loop_thread.call(self._let_go)
            self._loop_thread.see_through(self._last_confirms(), CLOSE_SECONDS)

    def _let_go(self) -> None:
        self._twins.clear()
        self._publisher.discard(lambda _owner: True)

    def _last_confirms(self) -> Iterator[None]:
        while self._publisher.is_open and self._publisher.pending:
            yield

    def close(self) -> None:
        """Disconnect."""
        with suppress(RabbitError):  # the loop has ended: told by what waits for it
            self._loop_thread.see_through(self._loop_thread.disconnect([self._connection]))

    def _send(self, browser: QueueBrowser, output: Output, delivery: Delivery) -> None:
        self._under_way.add(output.id)
        self._publisher.send([output], (browser, delivery))

    def _confirmed(self, owners: list[tuple[QueueBrowser, Delivery]]) -> None:
        for browser, delivery in owners:
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
            self._loop_thread.call(self._send, browser, *twins.popleft())
        else:
            self._twins.pop(message_id, None)

    def _stay(self, browser: QueueBrowser, delivery: Delivery, reason: str) -> None:
        browser.keep(delivery)
        self.stays[reason] += 1

    def _fail(self, error: RabbitError) -> None:
        self._error = error
        if self._browser:
            self._browser.fail(error)


def _anew(delivery: Message) -> Output:
    """Return a letter as it was before it failed. Raises ValueError when it cannot be read."""
    properties, aside = set_aside(delivery.properties)
    properties = with_headers(properties, aside, without=is_added)
    return Output(delivery.body, properties, key=delivery.routing_key)
