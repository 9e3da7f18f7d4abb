"""One publisher for several threads, each of which waits for what it publishes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rabbit.background import Background
from rabbit.batch import Batch, confirmed, refused
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.message import Output
from rabbit.publisher import Publisher
from rabbit.topology import Edge

_ALARM = "a memory or disk alarm (connection.blocked): see the broker's log, or its console"


class Outlet:
    """Publishes to one edge until it fails: then there has to be another one.

    Attributes:
        error: why nothing can be published any more; None: it can.
    """

    def __init__(self, background: Background, edge: Edge, log: Logger) -> None:
        """Connect, on a connection of its own."""
        self.error: RabbitError | None = None
        self._background = background
        self._log = log
        self._batches: list[Batch] = []
        self._connection = background.connection(f"publishes to {edge.name}")
        self._publisher: Publisher[Batch] = Publisher(
            self._connection,
            edge,
            log,
            on_confirmed=confirmed,
            on_refused=refused,
            on_failed=self._fail,
        )
        background.call(self._connection.connect)
        background.begin(self._tell_of_alarms())

    @property
    def reason(self) -> str | None:
        """What keeps the broker from taking messages, as far as is known."""
        return _ALARM if self._connection.blocked else self._background.availability.reason

    @contextmanager
    def taking(self, batch: Batch) -> Iterator[None]:
        """Have a batch fail when this fails, or the loop ends; whoever waits for it is woken.

        Raises:
            RabbitError: either has happened already.
        """
        self._batches.append(batch)  # before the look: `fail` does it the other way round
        try:
            with self._background.waking(batch.fail):
                self._check()
                yield
        except BaseException:  # nobody waits for the rest: it must not pile up
            with suppress(RabbitError):
                self._background.call(self._publisher.discard, lambda owner: owner is batch)
            raise
        finally:
            with suppress(ValueError):
                self._batches.remove(batch)

    def send(self, outputs: list[Output], batch: Batch) -> None:
        """Publish, now or as soon as possible. Raises RabbitError when that cannot be."""
        self._check()
        batch.add(len(outputs))
        self._background.call(self._publisher.send, outputs, batch)

    def fail(self, error: RabbitError) -> None:
        """Publish no more; safe from any thread."""
        self.error = self.error or error
        for batch in list(self._batches):
            batch.fail(self.error)

    def _tell_of_alarms(self) -> Iterator[None]:
        """Say that publishing waits for the end of an alarm, once for each: a story."""
        was_blocked = False
        while self.error is None:
            if self._connection.blocked and not was_blocked:
                self._log.warning("broker takes no messages, waiting", reason=_ALARM)
            elif was_blocked and not self._connection.blocked:
                self._log.info("broker takes messages again")
            was_blocked = self._connection.blocked
            yield

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    def _fail(self, error: RabbitError) -> None:
        self.fail(error)
        self._background.begin(self._background.disconnect([self._connection]))
