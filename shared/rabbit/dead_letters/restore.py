"""Exported letters on their way back among the dead letters, until they are confirmed."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from time import monotonic

from rabbit.amqp.loop_thread import LoopThread
from rabbit.dead_letters.archive import Archived
from rabbit.errors import BrokerUnavailableError, PublishError, RabbitError
from rabbit.logs import Logger
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.topology import Edge

#: How many are under way at a time.
BATCH = 200

#: How long nothing may be confirmed before it gives up.
STALL_SECONDS = 30.0


def _in_batches(letters: Iterator[Archived]) -> Iterator[list[Archived]]:
    """Take BATCH at a time. What came before an error is given out before that is raised."""
    error: RabbitError | None = None
    while error is None:
        batch: list[Archived] = []
        try:
            batch.extend(islice(letters, BATCH))
        except RabbitError as raised:
            error = raised
        if batch:
            yield batch
        elif error is None:
            return
    raise error


class Restore:
    """One import.

    Attributes:
        done: how many the broker has confirmed, by the queue they came from.
        refused: why others were not taken, and how many, likewise.
    """

    def __init__(self, loop_thread: LoopThread, log: Logger, patience_seconds: float) -> None:
        """Publish on a connection of its own, which may take so long."""
        self.done: Counter[str] = Counter()
        self.refused: Counter[tuple[str, str]] = Counter()
        self._loop_thread = loop_thread
        self._log = log
        self._patience = patience_seconds
        self._error: RabbitError | None = None
        self._settled_at = 0.0
        self._connection = loop_thread.connection("imports dead letters")
        self._publisher: Publisher[str]

    def run(self, letters: Iterable[Archived]) -> None:
        """Publish all of them. Raises what is wrong with the broker, or with a letter."""
        batches = _in_batches(iter(letters))
        first = next(batches, None)
        if first is None:
            return
        self._publisher = Publisher(
            self._connection,
            Edge(Edge(first[0].queue).dead, "broadcast"),  # of the others, each letter says it
            self._log,
            on_confirmed=self._confirmed,
            on_nacked=self._nacked,
            on_failed=self._fail,
        )
        self._loop_thread.call(self._connection.connect)
        try:
            self._loop_thread.wait(self._ready(), self._patience, "no connection to RabbitMQ")
            for batch in chain([first], batches):
                self._publish(batch)
        finally:
            with suppress(RabbitError):  # the loop has ended: told by what waits for it
                self._loop_thread.see_through(self._loop_thread.disconnect([self._connection]))

    def _publish(self, batch: list[Archived]) -> None:
        self._settled_at = monotonic()
        self._loop_thread.call(self._send, batch)
        self._loop_thread.see_through(self._settled(), None)
        if self._error:
            raise self._error

    def _send(self, batch: list[Archived]) -> None:
        for queue, output in batch:
            output.exchange = Edge(queue).dead
            self._publisher.put([output], queue)
        self._publisher.pump()

    def _ready(self) -> Iterator[None]:
        while not (self._publisher.is_open or self._error):
            yield

    def _settled(self) -> Iterator[None]:
        """Wait until all is confirmed or refused; a step task."""
        while self._publisher.pending and not self._error:
            if monotonic() - self._settled_at > STALL_SECONDS:
                self._error = BrokerUnavailableError(
                    f"the broker has confirmed nothing for {STALL_SECONDS:g} s: "
                    "is there a memory or disk alarm? What was under way may have arrived"
                )
            yield

    def _confirmed(self, queues: list[str]) -> None:
        self._settled_at = monotonic()
        self.done.update(queues)

    def _nacked(self, publication: Publication[str], error: PublishError) -> None:
        self._settled_at = monotonic()
        self.refused[publication[1], str(error)] += 1

    def _fail(self, error: RabbitError) -> None:
        self._error = error
