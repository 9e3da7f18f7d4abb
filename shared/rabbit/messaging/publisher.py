"""Outputs on their way: published, confirmed, or nacked and published again.

Above is whoever has something to publish: `Dispatcher`, `Failures`, `Source`. It hears which of it
is confirmed, and acks the input then, and not before (messaging/book.py). Below is the channel;
which messages a confirm is about, `UnconfirmedPublishes` knows (messaging/unconfirmed.py).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Generic, TypeAlias, TypeVar

from rabbit.amqp import frames
from rabbit.amqp.channel import Channel
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.close_reasons import size_limit
from rabbit.amqp.connection import Connection
from rabbit.amqp.properties import read_ids
from rabbit.errors import (
    PublishError,
    RefusedError,
    TooLargeError,
    TopologyError,
    UnroutableError,
)
from rabbit.logs import Logger
from rabbit.messaging.confirm_times import ConfirmTimes
from rabbit.messaging.unconfirmed import UnconfirmedPublishes
from rabbit.output import Output
from rabbit.topology import Declaration, Edge

Owner = TypeVar("Owner")

#: The most publishes that await their confirm at a time: what the socket does not take, waits in
#: memory, in `Wire` and `Transport`, without another bound.
WINDOW = 2000

#: Pause before what was nacked is published again; it doubles from first to last.
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0

#: One output on its way, and whose it is.
Publication: TypeAlias = tuple[Output, Owner]


class Publisher(ChannelListener, Generic[Owner]):
    """Publishes to one edge with publisher confirms (confirm.select), mandatory and persistent.

    After a lost connection it publishes what was not confirmed again, with the same ids: a
    confirm that never came means unknown, not failed.

    Attributes:
        what: what it publishes, for the log.
        edge: where to publish.
        confirm_times: how long the broker takes to confirm.
    """

    what: ClassVar[str] = "output"

    def __init__(
        self,
        connection: Connection,
        edge: Edge,
        log: Logger,
        *,
        on_confirmed: Callable[[list[Owner]], None],
        on_nacked: Callable[[Publication[Owner], PublishError], None],
        on_failed: Callable[[TopologyError], None],
        is_void: Callable[[Owner], bool] = lambda _owner: False,
    ) -> None:
        """Live on `connection`, on a channel of its own.

        Args:
            connection: a connection that nothing is consumed on: an alarm blocks it.
            edge: where to publish.
            log: told when outputs are nacked or unroutable, and when they are accepted again.
            on_confirmed: given the owners of outputs that a queue has taken, once for each output.
            on_nacked: called with what no queue has taken, and why; may `publish_again`, unless it
                is too large (TooLargeError).
            on_failed: called when the broker refuses the edge itself.
            is_void: tells of an owner whether its outputs are not wanted any more: such are not
                published again after a lost connection. By default all are wanted.
        """
        self.edge = edge
        self.confirm_times = ConfirmTimes()
        self._connection = connection
        self._log = log.bind(**{self.what.replace(" ", "_"): edge.name})
        self._on_confirmed = on_confirmed
        self._on_nacked = on_nacked
        self._on_failed = on_failed
        self._is_void = is_void
        self._channel = self._make_channel()
        self._is_ready = False  # confirms are switched on
        self._unconfirmed: UnconfirmedPublishes[Publication[Owner]] = UnconfirmedPublishes()
        self._waiting: deque[Publication[Owner]] = deque()
        self._nacked: list[Publication[Owner]] = []
        #: What was returned, by all that a return tells: the message id, the exchange, the key; and
        #: the sequence number of the last publish that it may be about, in rising order.
        self._returned: dict[tuple[str, str, str], int] = {}
        self._pause = 0.0
        self._refusal = ""
        self._most_bytes: int | None = None  # what the broker allows, once it has said so
        connection.on_unblocked.append(self.pump)

    @property
    def pending(self) -> int:
        """Count the outputs that are not confirmed."""
        return len(self._unconfirmed) + len(self._waiting) + len(self._nacked)

    @property
    def is_flowing(self) -> bool:
        """Whether the broker takes what is published now, as far as is known."""
        return self._is_ready and not self._connection.blocked and not self._nacked

    @property
    def is_blocked(self) -> bool:
        """Whether what waits here, or would, has to wait for the broker."""
        return not self.is_flowing or self.is_nacked

    @property
    def is_open(self) -> bool:
        """Whether there is a channel to publish on."""
        return self._is_ready

    @property
    def is_nacked(self) -> bool:
        """Whether the last that was heard is that a message was nacked, or unroutable.

        Where nothing is pending any more, it is not: nobody waits for that to be over.
        """
        return self._pause > 0

    @property
    def refusal(self) -> str | None:
        """Why a message was nacked, or unroutable, in one line; None: that is over."""
        return self._refusal if self.is_nacked else None

    def opened(self) -> None:
        """Declare the edge, switch confirms on; then send what waits."""
        self._channel.declare(self._declarations())
        self._channel.select_confirms(self._begin)

    def lost(self) -> None:
        """Put what was not confirmed back in front, to be published again, unless it is void."""
        self._is_ready = False
        self.confirm_times.lost()
        self._most_bytes = None  # it may be another when we are back
        self._returned.clear()
        self._waiting.extendleft(reversed([*self._nacked, *self._unconfirmed]))
        self._nacked.clear()
        self._unconfirmed = UnconfirmedPublishes()
        self.drop_void()

    def send(self, outputs: Iterable[Output], owner: Owner) -> None:
        """Publish, now or as soon as possible."""
        self.put(outputs, owner)
        self.pump()

    def put(self, outputs: Iterable[Output], owner: Owner) -> None:
        """Publish with the next `pump`."""
        if self._most_bytes is not None:
            fitting, too_large = self._split([(output, owner) for output in outputs])
            self._waiting.extend(fitting)
            self._nack_too_large(too_large)
            return
        for output in outputs:
            self._waiting.append((output, owner))

    def publish_again(self, publication: Publication[Owner], error: PublishError) -> None:
        """Publish a nacked output again after a pause; nothing newer goes before it."""
        if not self._pause:
            self._log.warning(f"{self.what} refused, trying again", reason=str(error))
        self._refusal = str(error)
        if not self._nacked:
            self._pause = min(LAST_PAUSE_SECONDS, 2 * self._pause or FIRST_PAUSE_SECONDS)
            self._connection.call_later(self._pause, self._resume)
        self._nacked.append(publication)

    def _resume(self) -> None:
        again, self._nacked = self._nacked, []
        fitting, too_large = self._split(again)
        self._waiting.extendleft(reversed(fitting))
        self.pump()
        self._nack_too_large(too_large)

    def pump(self) -> None:
        """Publish what waits, as far as the window and the broker allow."""
        if not self._waiting or not self.is_flowing:
            return
        count = min(len(self._waiting), WINDOW - len(self._unconfirmed))
        publications = [self._waiting.popleft() for _ in range(count)]
        channel, frame_max = self._channel.number, self._channel.frame_max
        most = frames.most_property_bytes(frame_max)
        too_large: list[Publication[Owner]] = []
        parts: list[bytes | memoryview] = []
        last: tuple[str | None, str | None] | None = None
        method = b""
        for publication in publications:
            output = publication[0]
            if len(output.properties) > most:
                too_large.append(publication)
                continue
            target = output.exchange, output.key
            if target != last:
                last, method = target, self._publish_method(channel, output)
            parts.append(method)
            parts += frames.content(channel, output.properties, output.body, frame_max)
        if too_large:
            publications = [each for each in publications if each not in too_large]
        self._unconfirmed.note(publications)
        self._channel.send(parts)
        if publications:
            self.confirm_times.published(self._unconfirmed.last)
        if too_large:
            self._refuse([(each, self._headers_too_large(each[0], most)) for each in too_large])

    def _headers_too_large(self, output: Output, most: int) -> TooLargeError:
        """Say that its properties do not fit into a frame, whose size was agreed upon."""
        return TooLargeError(
            f"headers of {len(output.properties)} bytes for {output.exchange or self.edge.name!r}: "
            f"the broker takes up to {most}, for they have to fit in a frame; make them smaller, "
            "or raise frame_max in rabbitmq.conf"
        )

    def _publish_method(self, channel: int, output: Output) -> bytes:
        return frames.publish_method(channel, *self._target(output))

    def _target(self, output: Output) -> tuple[str, str]:
        """Return the exchange and the routing key that it is published with."""
        if output.exchange is not None:
            return output.exchange, output.key or ""
        return self.edge.name, self.edge.key(output.key)

    def take_stuck(self) -> list[Owner]:
        """Let go of the outputs that the broker will not take, as it stands; return their owners.

        While the broker is away or blocks, that is all of them: whether one in flight has
        arrived is unknown. Otherwise it is what was nacked, and what waits behind that.
        """
        if self.is_flowing:
            return []
        stuck = [*self._nacked, *self._waiting]
        self._nacked.clear()
        self._waiting.clear()
        if not self._is_ready or self._connection.blocked:
            stuck += self._unconfirmed
            self._unconfirmed.clear()
        self._forget_refusal()
        return [owner for _, owner in stuck]

    def drop_void(self) -> None:
        """Drop what is void, and not under way."""
        self.discard(self._is_void)

    def discard(self, is_unwanted: Callable[[Owner], bool]) -> None:
        """Drop what is not under way, of owners whose outputs are not wanted any more."""
        self._waiting = deque(each for each in self._waiting if not is_unwanted(each[1]))
        self._nacked = [each for each in self._nacked if not is_unwanted(each[1])]
        self._forget_refusal()

    def _refuse(self, refused: Sequence[tuple[Publication[Owner], PublishError]]) -> None:
        """Tell what no queue has taken, and why; some of it may be published again."""
        for publication, error in refused:
            self._on_nacked(publication, error)
        self._forget_refusal()

    def _forget_refusal(self) -> None:
        """Take nothing for refused where nothing is pending: it was dropped, and not accepted."""
        if self._pause and not self.pending:
            self._pause = 0.0

    def _make_channel(self) -> Channel:
        return self._connection.channel(self, f"publish to {self.edge.name!r}")

    def _declarations(self) -> Iterator[Declaration]:
        return self.edge.for_publishing()

    def _begin(self) -> None:
        self._is_ready = True
        self.pump()

    def returned(self, exchange: str, key: str, properties: bytes) -> None:
        """Note what basic.return is about; the confirm that follows does not count then.

        A return carries no sequence number. It comes before the confirm of its message, so it is
        about one of those that are not confirmed yet.
        """
        message_id, _ = read_ids(properties)
        returned = message_id or "", exchange, key
        self._returned.pop(returned, None)  # the last one comes last
        self._returned[returned] = self._unconfirmed.last

    def acked(self, tag: int, *, multiple: bool) -> None:
        """Take a basic.ack: the broker is responsible now, unless it has returned the message."""
        self.confirm_times.confirmed(tag)
        if self._returned:
            publications = self._confirm_with_returns(tag, multiple=multiple)
        else:
            publications = self._unconfirmed.take(tag, multiple=multiple)
        if publications:
            if self._pause and not self._nacked:
                self._pause = 0.0
                self._log.info(f"{self.what} accepted again")
            self._confirm(publications)
        self.pump()

    def _confirm(self, publications: list[Publication[Owner]]) -> None:
        """Tell whose outputs are confirmed; overridden where each has a span to end."""
        self._on_confirmed([owner for _, owner in publications])

    def _confirm_with_returns(self, tag: int, *, multiple: bool) -> list[Publication[Owner]]:
        """Take out what a basic.ack is about; refuse what was returned, return the others.

        Of those that a return does not tell apart, each counts as returned: one that a queue has
        comes twice, with the same id, where otherwise one that no queue has would be lost.
        """
        numbers = self._unconfirmed.numbers(tag, multiple=multiple)
        publications = self._unconfirmed.take(tag, multiple=multiple)
        taken, unroutable = [], []
        for number, publication in zip(numbers, publications, strict=True):
            output = publication[0]
            if number <= self._returned.get((output.id, *self._target(output)), 0):
                unroutable.append((publication, self._unroutable(output)))
            else:
                taken.append(publication)
        self._refuse(unroutable)
        while self._returned:
            first = next(iter(self._returned))
            if self._returned[first] >= self._unconfirmed.oldest:
                break
            del self._returned[first]
        return taken

    def nacked(self, tag: int, *, multiple: bool) -> None:
        """Take a basic.nack: no queue has it."""
        self.confirm_times.confirmed(tag)
        nacked = self._unconfirmed.take(tag, multiple=multiple)
        self._refuse([(each, self._full(each[0])) for each in nacked])
        self.pump()

    def _full(self, output: Output) -> RefusedError:
        name = output.exchange or self.edge.name
        return RefusedError(f"{name!r} refuses messages: is its queue full or not available?")

    def _unroutable(self, output: Output) -> UnroutableError:
        name = output.exchange or self.edge.name
        return UnroutableError(
            f"{name!r} has no queue for this message: is its binding or its consumer missing?"
        )

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Refuse what the broker has closed the channel for: its size; the rest goes on another."""
        self._most_bytes = size_limit(code, text)
        fitting, too_large = self._split(list(self._waiting))
        self._waiting = deque(fitting)
        self._nack_too_large(too_large)
        return False

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses the edge."""
        self._on_failed(error)

    def _split(
        self, publications: list[Publication[Owner]]
    ) -> tuple[list[Publication[Owner]], list[Publication[Owner]]]:
        """Return what the broker takes, and what it would close the channel for."""
        limit = self._most_bytes
        if limit is None:
            return publications, []
        fitting = [each for each in publications if len(each[0].body) <= limit]
        return fitting, [each for each in publications if len(each[0].body) > limit]

    def _nack_too_large(self, publications: list[Publication[Owner]]) -> None:
        self._refuse([(each, self._too_large(each[0])) for each in publications])

    def _too_large(self, output: Output) -> TooLargeError:
        size, name = len(output.body), output.exchange or self.edge.name
        return TooLargeError(
            f"a message of {size} bytes for {name!r}: the broker takes up to "
            f"{self._most_bytes}; make it smaller, or raise max_message_size in rabbitmq.conf"
        )
