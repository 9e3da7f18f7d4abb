"""What a replica runs: a dispatcher, which takes messages through `work`, or a source."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rabbit.amqp.connection import Connection
from rabbit.amqp.loop import Loop
from rabbit.errors import RabbitError
from rabbit.messaging.publisher import Publisher
from rabbit.messaging.retry import describe
from rabbit.runtime.handler_times import HandlerTimes


class Connections(NamedTuple):
    """What a runner lives on. Two, since an alarm stops what publishes, and acks must still pass.

    Attributes:
        loop: everything but `work` runs on its thread.
        consuming: nothing is published on it.
        publishing: nothing is consumed on it.
    """

    loop: Loop
    consuming: Connection
    publishing: Connection


class End(NamedTuple):
    """Why a runner wants its replica to halt.

    Attributes:
        reason: for the log.
        error: what the replica ends with; None: it ends well.
    """

    reason: str
    error: BaseException | None = None


class Runner(ABC):
    """Moves messages; the replica calls it on the loop's thread, and halts when it is told to.

    Attributes:
        publishers: what messages are settled through.
        end: set when the replica is to halt.
        handled: messages handled and acked; for a source, confirmed.
        failed: messages that `work` failed to handle; each attempt counts.
    """

    def __init__(self) -> None:
        """Begin to count."""
        self.publishers: list[Publisher[Any]] = []
        self.end: End | None = None
        self.handled = 0
        self.failed = 0

    def ask_to_end(self, reason: str, error: BaseException | None = None) -> None:
        """Have the replica halt at the end of this turn; the first error counts."""
        if self.end is None or self.end.error is None:
            self.end = End(reason, error)

    def fail(self, error: BaseException) -> None:
        """Have the replica halt because of an error."""
        self.ask_to_end(reason_of(error), error)

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether messages flow, or would if there were any."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Count what is neither settled nor requeued."""

    @property
    def unsettled(self) -> int:
        """Count the same with what is settled and the broker has not been told of yet."""
        return self.in_flight

    @property
    def retried(self) -> int:
        """Count those of the failed that come again after a delay."""
        return 0

    @property
    def dead_lettered(self) -> int:
        """Count those of the failed that were given up."""
        return 0

    @property
    def requeued(self) -> int:
        """Count what has been given back to the queue."""
        return 0

    @property
    def prefetch(self) -> int | None:
        """How many messages are held at most now; None: none are consumed."""
        return None

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest call of `work` that runs on a message has been running; 0: none."""
        return 0.0

    def handler_times(self) -> HandlerTimes:
        """Return how long calls of `work` on messages have taken."""
        return HandlerTimes()

    @abstractmethod
    def turn(self) -> None:
        """Do what one turn of the loop has brought."""

    @abstractmethod
    def tick(self) -> None:
        """Look, now and then, at what does not announce itself."""

    @abstractmethod
    def take_long(self) -> Sequence[str | None]:
        """Return the calls of `work` that take long, now or lately; see `Standstills`."""

    @abstractmethod
    def hold(self) -> None:
        """Begin nothing new before it is known whether to: `pause` or `resume` tells."""

    @abstractmethod
    def pause(self, *, alone: bool) -> None:
        """Take nothing new, finish what runs, requeue the rest; `is_paused` tells when.

        Args:
            alone: the other replicas of the stage go on.
        """

    @abstractmethod
    def resume(self) -> None:
        """Go on."""

    @property
    @abstractmethod
    def is_paused(self) -> bool:
        """Whether it has paused, and nothing is in flight."""

    @abstractmethod
    def halt(self) -> Iterator[None]:
        """Stop in order: a step task that yields while there is something to wait for."""

    @abstractmethod
    def let_go(self) -> str:
        """Let go of what is in flight; say what is left."""

    @abstractmethod
    def release(self) -> None:
        """Let no thread wait any more for a loop that has failed."""


def reason_of(error: BaseException) -> str:
    """Return what an error says, for the log; with its type, unless it is one of ours."""
    said = describe(error)
    return said if isinstance(error, RabbitError) else f"{type(error).__name__}: {said}"
