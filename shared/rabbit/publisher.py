"""Outputs on their way: published, confirmed, or refused and tried again."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from rabbit.connection import (
    Basic,
    BasicProperties,
    Channel,
    Connection,
    Frame,
    declare,
    is_hopeless,
)
from rabbit.errors import PublishError, RefusedError, TopologyError, UnroutableError
from rabbit.ledger import Outputs
from rabbit.logs import Logger
from rabbit.message import Output
from rabbit.topology import Edge

Owner = TypeVar("Owner")

#: The most publishes that await their confirm at a time; pika's write buffer has no bound.
WINDOW = 2000

#: Pause before what was refused is published again; it doubles from first to last.
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0

_PERSISTENT = 2


class Publication(Generic[Owner]):
    """One output on its way, and whose it is."""

    __slots__ = ("output", "owner", "returned")

    def __init__(self, output: Output, owner: Owner) -> None:
        """Pair them."""
        self.output = output
        self.owner = owner
        self.returned = False


class Publisher(Generic[Owner]):
    """Publishes to one edge with publisher confirms (confirm.select), mandatory and persistent.

    After a lost connection it publishes what was not confirmed again, with the same ids: a
    confirm that never came means unknown, not failed.
    """

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        log: Logger,
        *,
        on_confirmed: Callable[[Owner], None],
        on_refused: Callable[[Publication[Owner], PublishError], None],
        on_failed: Callable[[TopologyError], None],
    ) -> None:
        """Live on `connection`, whose user this becomes.

        Args:
            connection: a connection that nothing is consumed on: an alarm blocks it.
            edge: where to publish.
            log: told when outputs are refused, and when they are accepted again.
            on_confirmed: called once for each output that a queue has taken.
            on_refused: called with what no queue has taken, and why; may `retry` it.
            on_failed: called when the broker refuses the edge itself.
        """
        self.edge = edge
        self._connection = connection
        self._log = log.bind(output=edge.name)
        self._on_confirmed = on_confirmed
        self._on_refused = on_refused
        self._on_failed = on_failed
        self._channel: Channel | None = None
        self._unconfirmed: Outputs[Publication[Owner]] = Outputs()
        self._waiting: deque[Publication[Owner]] = deque()
        self._refused: list[Publication[Owner]] = []
        self._pause = 0.0
        connection.users.append(self)
        connection.on_unblocked.append(self.pump)

    @property
    def pending(self) -> int:
        """Count the outputs that are not confirmed."""
        return len(self._unconfirmed) + len(self._waiting) + len(self._refused)

    @property
    def is_flowing(self) -> bool:
        """Whether the broker takes what is published now, as far as is known."""
        return self._channel is not None and not self._connection.blocked and not self._refused

    def open(self) -> None:
        """Open a channel, declare the edge, switch confirms on; then send what waits."""
        self._connection.channel(self._prepare, self._closed)

    def lost(self) -> None:
        """Put what was not confirmed back in front, to be published again."""
        self._channel = None
        for publication in self._unconfirmed:
            publication.returned = False
        self._waiting.extendleft(reversed([*self._refused, *self._unconfirmed]))
        self._refused.clear()
        self._unconfirmed = Outputs()

    def send(self, outputs: Iterable[Output], owner: Owner) -> None:
        """Publish, now or as soon as possible."""
        self._waiting.extend(Publication(output, owner) for output in outputs)
        self.pump()

    def retry(self, publication: Publication[Owner], error: PublishError) -> None:
        """Publish a refused output again after a pause; nothing newer goes before it."""
        if not self._pause:
            self._log.warning("output refused, trying again", reason=str(error))
        if not self._refused:
            self._pause = min(LAST_PAUSE_SECONDS, 2 * self._pause or FIRST_PAUSE_SECONDS)
            self._connection.call_later(self._pause, self._resume)
        self._refused.append(publication)

    def _resume(self) -> None:
        self._waiting.extendleft(reversed(self._refused))
        self._refused.clear()
        self.pump()

    def pump(self) -> None:
        """Publish what waits, as far as the window and the broker allow."""
        while self._waiting and self.is_flowing and len(self._unconfirmed) < WINDOW:
            self._publish(self._waiting.popleft())

    def abandon(self) -> list[Owner]:
        """Let go of the outputs that the broker will not take, as it stands; return their owners.

        While the broker is away or blocks, that is all of them: whether one in flight has
        arrived is unknown. Otherwise it is what was refused, and what waits behind that.
        """
        if self.is_flowing:
            return []
        stuck = [*self._refused, *self._waiting]
        self._refused.clear()
        self._waiting.clear()
        if self._channel is None or self._connection.blocked:
            stuck += self._unconfirmed
            self._unconfirmed.clear()
        return [publication.owner for publication in stuck]

    def discard(self, is_void: Callable[[Owner], bool]) -> None:
        """Drop what is not under way yet and whose owner says that it is void."""
        self._waiting = deque(each for each in self._waiting if not is_void(each.owner))
        self._refused = [each for each in self._refused if not is_void(each.owner)]

    def _publish(self, publication: Publication[Owner]) -> None:
        output = publication.output
        properties = BasicProperties(  # type: ignore[no-untyped-call]
            content_type="text/plain",
            content_encoding="utf-8",
            delivery_mode=_PERSISTENT,
            message_id=output.id,
            correlation_id=output.correlation_id,
            reply_to=output.reply_to,
        )
        assert self._channel is not None  # noqa: S101 - is_flowing says so
        self._channel.basic_publish(
            self.edge.name, self.edge.key(output.key), output.body, properties, mandatory=True
        )
        self._unconfirmed.send(publication)

    def _prepare(self, channel: Channel) -> None:
        def ready(_frame: object) -> None:
            self._channel = channel
            self.pump()

        declare(channel, self.edge.for_publishing())
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=ready)

    def _returned(
        self, _channel: Channel, _method: object, properties: BasicProperties, _body: bytes
    ) -> None:
        """Mark what basic.return is about; the confirm that follows does not count then.

        A return carries no sequence number, only the message.
        """
        for publication in self._unconfirmed:
            if publication.output.id == properties.message_id and not publication.returned:
                publication.returned = True
                return

    def _confirmed(self, frame: "Frame[Any]") -> None:
        """Take a basic.ack or basic.nack of the broker."""
        method = frame.method
        acked = isinstance(method, Basic.Ack)
        for publication in self._unconfirmed.confirm(method.delivery_tag, multiple=method.multiple):
            if acked and not publication.returned:
                self._confirm(publication.owner)
            else:
                self._on_refused(publication, self._refusal(publication))
        self.pump()

    def _confirm(self, owner: Owner) -> None:
        if self._pause and not self._refused:
            self._pause = 0.0
            self._log.info("output accepted again")
        self._on_confirmed(owner)

    def _refusal(self, publication: Publication[Owner]) -> PublishError:
        name = self.edge.name
        if publication.returned:
            publication.returned = False
            return UnroutableError(
                f"{name!r} has no queue for this message: is its binding or its consumer missing?"
            )
        return RefusedError(f"{name!r} refuses messages: is its queue full or not available?")

    def _closed(self, code: int, text: str) -> None:
        self.lost()
        if is_hopeless(code, text):
            self._on_failed(TopologyError(f"cannot publish to {self.edge.name!r}: {text}"))
        else:
            self._connection.reopen(self)
