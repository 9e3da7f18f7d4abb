"""Dead letters: what is known of each, and how to look at them, replay and purge them."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeAlias

from rabbit.background import CLOSE_SECONDS, Background
from rabbit.connection import decode_properties
from rabbit.errors import BrokerUnavailableError, PublishError, RabbitError
from rabbit.failures import is_added
from rabbit.logs import Logger
from rabbit.message import Message, Output
from rabbit.properties import read_headers, read_ids, with_headers
from rabbit.publisher import Publication, Publisher
from rabbit.settings import Settings
from rabbit.subscription import Delivery
from rabbit.topology import Edge
from rabbit.visit import Visit

#: How long connecting may take, in seconds.
CONNECT_SECONDS = 10.0

#: Given how many have been looked at, and how many there are.
Tell: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Letter:
    """What is known of one dead letter, without its body.

    Attributes:
        id: its message id; "" if it has none.
        queue: the queue it came from.
        reason: the type of the error, or what the broker gives as reason: delivery_limit.
        message: the error's message; "" if the broker gave it up.
        stage: the stage in which it failed.
        replica: the replica in which it failed.
        attempts: how many there were; None: not known.
        failed_at: when it was given up, in ISO 8601; "" if that is not known.
        size: of its body, in bytes.
    """

    id: str
    queue: str
    reason: str
    message: str
    stage: str
    replica: str
    attempts: int | None
    failed_at: str
    size: int

    @classmethod
    def of(cls, queue: str, message: Message) -> Self:
        """Read what the failure has left in the headers; what cannot be read counts as unknown."""
        try:
            headers, message_id = read_headers(message.properties), read_ids(message.properties)[0]
        except ValueError:
            headers, message_id = {}, None
        attempts = headers.get("x-attempts")
        return cls(
            id=message_id or "",
            queue=queue,
            reason=str(
                headers.get("x-error-type") or headers.get("x-first-death-reason") or "unknown"
            ),
            message=str(headers.get("x-error-message", "")),
            stage=str(headers.get("x-failed-stage", "")),
            replica=str(headers.get("x-failed-replica", "")),
            attempts=attempts if isinstance(attempts, int) else None,
            failed_at=str(headers.get("x-failed-at") or _given_up_at(message)),
            size=len(message.body),
        )


def _given_up_at(message: Message) -> str:
    """Return when the broker gave it up, which only the table `x-death` tells."""
    try:
        time = decode_properties(message.properties).headers["x-death"][0]["time"]
    except (ValueError, TypeError, LookupError):
        return ""
    return time.isoformat() + "Z" if isinstance(time, datetime) else ""


Selects: TypeAlias = Callable[[Letter], bool]


@dataclass(frozen=True)
class Replayed:
    """What came of a replay.

    Attributes:
        count: how many letters are in their queue again, and no dead letters any more.
        stays: why others that were selected stay, and how many.
    """

    count: int
    stays: Counter[str]


class DeadLetters:
    """Goes through queues of dead letters, on connections of its own."""

    def __init__(self, settings: Settings, log: Logger) -> None:
        """Connect when it is needed."""
        self._log = log
        self._background = Background(settings, log, _nothing)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._background.close()

    def look(self, queue: str, show: Callable[[Letter, Delivery], None], tell: Tell) -> None:
        """Show every dead letter of a queue; all of them stay, in their order.

        Args:
            queue: the queue they came from.
            show: given one after the other, oldest first, in another thread.
            tell: as below.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
        """

        def act(visit: Visit, delivery: Delivery) -> None:
            show(Letter.of(queue, delivery), delivery)
            visit.keep(delivery)

        self._visit(queue, act, tell)

    def purge(self, queue: str, selects: Selects, tell: Tell) -> int:
        """Delete the dead letters that `selects` is true of; return how many.

        Raises:
            BrokerUnavailableError: no connection, or it was lost.
        """
        deleted = 0

        def act(visit: Visit, delivery: Delivery) -> None:
            nonlocal deleted
            if selects(Letter.of(queue, delivery)):
                visit.settle(delivery)
                deleted += 1
            else:
                visit.keep(delivery)

        self._visit(queue, act, tell)
        return deleted

    def replay(self, queue: str, selects: Selects, tell: Tell) -> Replayed:
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
        replay = _Replay(self._background, queue, selects, self._log)
        try:
            self._visit(queue, replay.act, tell)
        except RabbitError as error:
            msg = f"{replay.count} messages replayed to {queue!r}, then: {error}"
            raise type(error)(msg) from None
        finally:
            replay.close()
        return Replayed(replay.count, replay.stays)

    def _visit(self, queue: str, act: Callable[[Visit, Delivery], None], tell: Tell) -> None:
        name = Edge(queue).dead
        connection = self._background.connection(f"goes through {name}")
        visit = Visit(connection, name, lambda delivery: act(visit, delivery), tell)
        self._background.call(connection.connect)
        if not self._background.see_through(visit.begin(), CONNECT_SECONDS):
            msg = f"no connection to RabbitMQ within {CONNECT_SECONDS:g} s: is it up?"
            raise BrokerUnavailableError(msg)
        self._background.see_through(visit.run(), None)
        self._background.see_through(self._background.disconnect([connection]), CLOSE_SECONDS)
        if visit.error:
            raise visit.error


class _Replay:
    """One replay of one queue's dead letters."""

    def __init__(self, background: Background, queue: str, selects: Selects, log: Logger) -> None:
        self.count = 0
        self.stays: Counter[str] = Counter()
        self._queue = queue
        self._selects = selects
        self._background = background
        self._visit: Visit | None = None
        self._error: RabbitError | None = None
        self._under_way: set[str] = set()  # message ids
        self._twins: defaultdict[str, deque[tuple[Output, Delivery]]] = defaultdict(deque)
        self._connection = background.connection(f"replays {queue}")
        self._publisher: Publisher[tuple[Visit, Delivery]] = Publisher(
            self._connection,
            Edge(Edge(queue).back, "broadcast"),
            log,
            on_confirmed=self._confirmed,
            on_refused=self._refused,
            on_failed=self._fail,
        )
        background.call(self._connection.connect)

    def act(self, visit: Visit, delivery: Delivery) -> None:
        """Publish a letter if it is selected."""
        self._visit = visit
        if self._error:
            raise self._error
        if not self._selects(Letter.of(self._queue, delivery)):
            visit.keep(delivery)
            return
        try:
            output = _anew(delivery)
        except ValueError as error:
            self._stay(visit, delivery, str(error))
            return
        # A return tells no more of a message than its id: only one of an id at a time.
        if output.id in self._under_way:
            self._twins[output.id].append((output, delivery))
        else:
            self._send(visit, output, delivery)

    def close(self) -> None:
        """Disconnect."""
        self._background.see_through(self._background.disconnect([self._connection]))

    def _send(self, visit: Visit, output: Output, delivery: Delivery) -> None:
        self._under_way.add(output.id)
        self._publisher.send([output], (visit, delivery))

    def _confirmed(self, owner: tuple[Visit, Delivery]) -> None:
        visit, delivery = owner
        visit.settle(delivery)
        self.count += 1
        self._landed(visit, read_ids(delivery.properties)[0] or "")

    def _refused(
        self, publication: Publication[tuple[Visit, Delivery]], error: PublishError
    ) -> None:
        output, (visit, delivery) = publication
        self._stay(visit, delivery, str(error))
        self._landed(visit, output.id)

    def _landed(self, visit: Visit, message_id: str) -> None:
        self._under_way.discard(message_id)
        twins = self._twins.get(message_id)
        if twins:
            self._send(visit, *twins.popleft())
        else:
            self._twins.pop(message_id, None)

    def _stay(self, visit: Visit, delivery: Delivery, reason: str) -> None:
        visit.keep(delivery)
        self.stays[reason] += 1

    def _fail(self, error: RabbitError) -> None:
        self._error = error
        if self._visit:
            self._visit.fail(error)


def _anew(delivery: Message) -> Output:
    """Return a letter as it was before it failed. Raises ValueError when it cannot be read."""
    properties = with_headers(delivery.properties, {}, without=is_added)
    return Output(
        delivery.body, properties, read_ids(properties)[0] or "", key=delivery.routing_key
    )


def _nothing() -> None:
    """Do nothing at the end of a turn: visits have their own."""
