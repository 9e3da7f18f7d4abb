"""Edges as data: exchanges, queues, bindings and their arguments.

An edge is what connects two stages. For a work queue `upper` it is

    exchange upper ──▶ queue upper ──(given up)──▶ exchange upper.dead ──▶ queue upper.dead
                       ▲   └──(failed)──▶ exchange upper.retry.5s ──▶ queue upper.retry.5s ──┐
                       └────────────────────────── exchange upper.back ◀──(after 5 s)────────┘

There is one such queue for each delay: a queue's first message holds up those behind it, so all
of them have to wait equally long. These exchanges are fanouts: a message keeps the routing key
that it was published with.

An exchange of its own per edge, and not the default exchange, lets an operator give a stage the
right to write to just this edge. The other kinds (broadcast, direct, topic) are one exchange and
a queue per group of consumers; and for an ordered edge `orders` it is

    exchange orders ──(by key)──▶ queues orders.0, orders.1 ... ──(given up)──▶ queue orders.dead
                                  queue orders.partitions: empty; who reads the edge consumes it
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["work", "broadcast", "direct", "topic", "ordered"]
ExchangeType: TypeAlias = Literal["direct", "fanout", "topic", "x-modulus-hash"]
QueueType: TypeAlias = Literal["quorum", "classic"]

#: Commands to all replicas (fanout), the way back to who asked (direct), and the marks of stages
#: that are paused (direct).
CONTROL_EXCHANGE = "control"
REPLIES_EXCHANGE = "control.replies"
PAUSED_EXCHANGE = "control.paused"

#: A queue that belongs to one replica goes away when unused for so long: ten minutes.
EXPIRES_MILLISECONDS = 600_000

#: Likewise where messages of such a queue wait for another attempt: an hour, with what is in it.
RETRY_EXPIRES_MILLISECONDS = 3_600_000

#: What follows the name of an ordered edge in that of the queue that says how many partitions
#: there are.
CENSUS_SUFFIX = ".partitions"
#: How often a message of a partition may be delivered in vain; elsewhere RabbitMQ's default, 20,
#: is enough. Who is next in line is given it before it is known that he has ended, too (of 40
#: replicas that were killed at once, up to eleven were, of 80 seven), and whoever steps down counts
#: as well. Replicas give up what kills them before that: see `rabbit.messaging.held`.
PARTITION_DELIVERY_LIMIT = 100

#: Each partition is a channel of each replica that reads it.
MOST_PARTITIONS = 256

#: The names of exchanges and queues, and routing keys, are short strings of AMQP 0-9-1.
LONGEST_SHORT_STRING_BYTES = 255
#: Control characters, separators of lines and paragraphs, halves of characters.
_UNFIT = {"Cc", "Zl", "Zp", "Cs"}

_QUORUM: Mapping[str, Any] = MappingProxyType({"x-queue-type": "quorum"})
#: A queue of one replica: it goes away by itself, and has no dead letters that would stay.
_PRIVATE: Mapping[str, Any] = MappingProxyType(
    {**_QUORUM, "x-expires": EXPIRES_MILLISECONDS, "x-delivery-limit": -1}
)
#: Looking at what is kept here, again and again, must not use it up; and where a policy bounds it,
#: it refuses what comes, which stays where it was, instead of dropping the oldest.
_KEPT: Mapping[str, Any] = MappingProxyType(
    {**_QUORUM, "x-delivery-limit": -1, "x-overflow": "reject-publish"}
)
#: A mark that a stage is paused: it is there or not, and lasts as long as the broker's data.
_MARK: Mapping[str, Any] = MappingProxyType({**_QUORUM, "x-max-length": 1, "x-delivery-limit": -1})
_EXCHANGE_TYPES: Mapping[Kind, ExchangeType] = MappingProxyType(
    {
        "work": "direct",
        "broadcast": "fanout",
        "direct": "direct",
        "topic": "topic",
        "ordered": "x-modulus-hash",
    }
)


@dataclass(frozen=True)
class Exchange:
    """A durable exchange (exchange.declare); `auto_delete`: it goes with its last binding."""

    name: str
    type: ExchangeType
    auto_delete: bool = False


@dataclass(frozen=True)
class Queue:
    """A durable queue (queue.declare)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: _QUORUM)


@dataclass(frozen=True)
class Binding:
    """What an exchange passes on to a queue (queue.bind)."""

    exchange: str
    queue: str
    key: str


Declaration: TypeAlias = Exchange | Queue | Binding


@dataclass(frozen=True)
class Edge:
    """What connects two stages.

    Args:
        name: the name of the exchange, and of the queue where `kind` is work.
        kind: work (each message to one consumer), broadcast (to every group), direct or topic
            (to the groups whose keys match; `*` is one word, `#` any number of words), ordered (all
            messages with one key to one consumer).
        keys: the routing keys a group is bound with; for direct and topic.
        group: the consumers that share one queue, where `kind` is not work.
        private: the group's queue belongs to one process: it expires when unused for ten minutes.
        type: quorum, or classic: that keeps less of what is promised (see `_with_dead_letters`).
        delays: seconds before each further attempt at a message whose handler failed.
        dead_letters: the exchange and the queue of what is given up; default: QUEUE.dead, and none
            where `private`.
        partitions: the number of queues that keys are spread over, where `kind` is ordered.
    """

    name: str
    kind: Kind = "work"
    keys: tuple[str, ...] = ()
    group: str = ""
    private: bool = False
    type: QueueType = "quorum"
    delays: tuple[float, ...] = ()
    dead_letters: str = ""
    partitions: int = 0

    @property
    def queue(self) -> str:
        """The queue that consumers of this edge read; if ordered, what these are called after."""
        return self.name if self.kind in {"work", "ordered"} else f"{self.name}.{self.group}"

    @property
    def is_ordered(self) -> bool:
        """Whether messages with one key are handled in their order."""
        return self.kind == "ordered"

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that consumers of this edge read."""
        return partition_queues(self.name, self.partitions) if self.is_ordered else (self.queue,)

    @property
    def dead(self) -> str:
        """The exchange and the queue of dead letters; empty: there are none."""
        return self.dead_letters or ("" if self.private else f"{self.queue}.dead")

    @property
    def back(self) -> str:
        """The exchange by which a message comes back to the queue, after a delay or replayed."""
        return f"{self.queue}.back"

    def retry_queue(self, delay: float) -> str:
        """Name the exchange and the queue where a message waits for `delay` seconds."""
        milliseconds = _milliseconds(delay)
        whole, rest = divmod(milliseconds, 1000)
        return f"{self.queue}.retry.{milliseconds}ms" if rest else f"{self.queue}.retry.{whole}s"

    @property
    def needs_key(self) -> bool:
        """Whether a message goes by its routing key, and nowhere without."""
        return self.kind in {"direct", "topic", "ordered"}

    def check_key(self, asked: str | None) -> str | None:
        """Return a routing key that a message of this edge can be published with.

        Raises:
            ValueError: a key for a work queue, none for direct, topic or ordered, or one that is
                too long.
        """
        if asked is None or (self.is_ordered and not asked):
            if self.needs_key:
                does = "keeps the order of each key" if self.is_ordered else "routes by key"
                msg = (
                    f"no key: {self.name!r} is of kind {self.kind}, which {does}: "
                    "give one with the text, key=..."
                )
                raise ValueError(msg)
            return None
        if self.kind == "work":
            msg = f"a key, but the edge has no keys: {self.name!r} is of kind work"
            raise ValueError(msg)
        return check_key(asked)

    def key(self, asked: str | None) -> str:
        """Return the routing key to publish with; a work queue has one of its own."""
        return self.name if self.kind == "work" else asked or ""

    def for_publishing(self) -> Iterator[Declaration]:
        """Yield what must exist before a message is published to this edge."""
        if self.is_ordered:
            yield from self._partitions()
        elif self.kind == "work":
            yield from self._queue_and_dead_letters()
        else:
            yield Exchange(self.name, _EXCHANGE_TYPES[self.kind])

    def for_consuming(self) -> Iterator[Declaration]:
        """Yield what must exist before this edge is consumed."""
        if self.is_ordered:
            yield from self._partitions()
            return
        yield from self._queue_and_dead_letters()
        if self.dead:
            yield Exchange(self.back, "fanout", auto_delete=self.private)
            yield Binding(self.back, self.queue, "")
        for delay in dict.fromkeys(self.delays):
            arguments = self._retry_arguments(delay)
            yield from _fanout(self.retry_queue(delay), arguments, auto_delete=self.private)

    def for_failures(self) -> Iterator[Declaration]:
        """Yield what must exist before a message is published that could not be handled."""
        if self.is_ordered:
            yield from _fanout(self.dead, _KEPT)
        else:
            yield from self.for_consuming()

    def for_partition(self, number: int) -> Iterator[Declaration]:
        """Yield what must exist before a partition is consumed, if the edge is ordered.

        It begins with what says how many there are: if that is another number, nothing is made.
        """
        yield from self._around_partitions()
        yield from self._partition(number)

    def _around_partitions(self) -> Iterator[Declaration]:
        yield self.census
        yield from _fanout(self.dead, _KEPT)
        yield Exchange(self.name, _EXCHANGE_TYPES[self.kind])

    def _partition(self, number: int) -> Iterator[Declaration]:
        queue = self.queues[number]
        arguments = {
            **_with_dead_letters(self.dead, "quorum"),
            "x-single-active-consumer": True,
            "x-delivery-limit": PARTITION_DELIVERY_LIMIT,
        }
        yield Queue(queue, arguments)
        yield Binding(self.name, queue, str(number))

    @property
    def census(self) -> Queue:
        """A queue that stays empty: its length is the number of partitions, for the broker to hold.

        Each replica that reads the edge is a consumer of it, so it counts them: of a queue with a
        single active consumer, RabbitMQ counts no more than that one.
        """
        most = {"x-max-length": self.partitions, "x-overflow": "reject-publish"}
        return Queue(f"{self.name}{CENSUS_SUFFIX}", {**_QUORUM, **most})

    def _partitions(self) -> Iterator[Declaration]:
        yield from self._around_partitions()
        for number in range(self.partitions):
            yield from self._partition(number)

    def _queue_and_dead_letters(self) -> Iterator[Declaration]:
        """Begin with the queue: if there is another of its name, nothing else is made."""
        yield Queue(self.queue, self._arguments())
        yield Exchange(self.name, _EXCHANGE_TYPES[self.kind])
        for key in self._binding_keys():
            yield Binding(self.name, self.queue, key)
        if self.dead:
            yield from _fanout(self.dead, _KEPT)

    def _arguments(self) -> Mapping[str, Any]:
        if not self.dead:
            return _PRIVATE
        expires = {"x-expires": EXPIRES_MILLISECONDS} if self.private else {}
        return {**_with_dead_letters(self.dead, self.type), **expires}

    def _retry_arguments(self, delay: float) -> Mapping[str, Any]:
        milliseconds = _milliseconds(delay)
        expires = {"x-expires": RETRY_EXPIRES_MILLISECONDS + milliseconds} if self.private else {}
        return {
            **_with_dead_letters(self.back, "quorum"),
            "x-message-ttl": milliseconds,
            "x-delivery-limit": -1,
            **expires,
        }

    def _binding_keys(self) -> tuple[str, ...]:
        if self.kind == "work":
            return (self.name,)
        return self.keys if self.kind in {"direct", "topic"} else ("",)


def partition_queues(name: str, partitions: int) -> tuple[str, ...]:
    """Return the queues of an ordered edge, by its name and the number of them."""
    return tuple(f"{name}.{number}" for number in range(partitions))


def fixed_part(edge: Edge) -> list[Declaration]:
    """Return what a broadcast edge consists of before there is a replica."""
    fixed = {edge.name, edge.dead}
    items = edge.for_consuming()
    return [
        each
        for each in items
        if (each.name if not isinstance(each, Binding) else each.queue) in fixed
    ]


def own_part(declarations: Iterable[Declaration]) -> Iterator[Declaration]:
    """Yield what belongs to one replica, and goes away with it: nobody can give it beforehand.

    Args:
        declarations: a queue comes before its bindings, as everywhere here.
    """
    mine = set()
    for each in declarations:
        match each:
            case Queue(name, arguments) if "x-expires" in arguments:
                mine.add(name)
                yield each
            case Exchange(auto_delete=True):
                yield each
            case Binding(queue=queue) if queue in mine:
                yield each


def check_key(key: str) -> str:
    """Return a routing key that AMQP can carry: a short string. Raises ValueError otherwise."""
    size = len(key.encode())
    if size > LONGEST_SHORT_STRING_BYTES:
        msg = f"a routing key of {size} bytes: at most {LONGEST_SHORT_STRING_BYTES} are allowed"
        raise ValueError(msg)
    return key


def check_name(name: str) -> str:
    """Return the name of an exchange or a queue that AMQP can carry, and the broker leaves to us.

    Raises:
        ValueError: it is empty, too long, the broker's own, or has a control character in it.
    """
    if not name:
        msg = "an empty name"
        raise ValueError(msg)
    if name.startswith("amq."):
        msg = f"the name {name!r}: what begins with 'amq.' belongs to the broker"
        raise ValueError(msg)
    if any(unicodedata.category(character) in _UNFIT for character in name):
        msg = f"the name {name!r}: line breaks and control characters are not allowed"
        raise ValueError(msg)
    size = len(name.encode())
    if size > LONGEST_SHORT_STRING_BYTES:
        msg = f"the name {name!r} has {size} bytes: {LONGEST_SHORT_STRING_BYTES} allowed"
        raise ValueError(msg)
    return name


def check_declarations(declarations: Iterable[Declaration]) -> None:
    """Look at all names and keys before any of it is declared: see `check_name`, `check_key`.

    Args:
        declarations: such as `Edge.for_consuming` yields; all names that are composed are there.

    Raises:
        ValueError: naming the first of them that cannot be.
    """
    for each in declarations:
        if isinstance(each, Binding):
            check_key(each.key)
        else:
            check_name(each.name)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _fanout(
    name: str, arguments: Mapping[str, Any], *, auto_delete: bool = False
) -> Iterator[Declaration]:
    """Yield a fanout exchange and the queue of its name."""
    yield Exchange(name, "fanout", auto_delete)
    yield Queue(name, arguments)
    yield Binding(name, name, "")


def _with_dead_letters(exchange: str, queue_type: QueueType) -> dict[str, Any]:
    """Dead-letter at least once; RabbitMQ needs reject-publish for that (quorum queues guide).

    reject-publish also means that a full queue refuses a message instead of dropping another.
    A classic queue has no delivery limit and nothing to dead-letter at least once.
    """
    arguments = {
        "x-queue-type": queue_type,
        "x-dead-letter-exchange": exchange,
        "x-overflow": "reject-publish",
    }
    if queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return arguments


def control_queue(stage: str, replica: str) -> str:
    """Name the queue in which commands wait for one replica."""
    return f"{CONTROL_EXCHANGE}.{stage}.{replica}"


def name_lock(stage: str, replica: str) -> str:
    """Name the queue that only one connection can have: no second process has the replica's name.

    A slash is in no stage's and no replica's name, so that it is no control queue.
    """
    return f"{CONTROL_EXCHANGE}/{stage}/{replica}"


def is_control_queue(name: str, arguments: Mapping[str, Any]) -> bool:
    """Tell whether a queue, bound or not, is one in which commands wait for a replica."""
    is_reply = name.startswith(f"{REPLIES_EXCHANGE}.")
    stage, _, replica = name.removeprefix(f"{CONTROL_EXCHANGE}.").partition(".")
    looks_so = name.startswith(f"{CONTROL_EXCHANGE}.") and bool(stage and replica)
    return looks_so and not is_reply and dict(arguments) == dict(_PRIVATE)


def pause_mark(stage: str) -> str:
    """Name the queue that holds a message while a stage is paused; else it is empty.

    A slash is in no stage's name, so that it is no control queue.
    """
    return f"{PAUSED_EXCHANGE}/{stage}"


def marked_stage(queue: str) -> str | None:
    """Return the stage whose mark a queue is; None: it is another one."""
    before, _, stage = queue.partition("/")
    return stage if stage and before == PAUSED_EXCHANGE else None


def control_of_stage(stage: str) -> Iterator[Declaration]:
    """Yield what the replicas of a stage share to hear commands and to answer them."""
    yield Exchange(CONTROL_EXCHANGE, "fanout")
    yield Exchange(REPLIES_EXCHANGE, "direct")
    yield Exchange(PAUSED_EXCHANGE, "direct")
    yield Queue(pause_mark(stage), _MARK)
    yield Binding(PAUSED_EXCHANGE, pause_mark(stage), stage)


def control_subscription(stage: str, replica: str) -> Iterator[Declaration]:
    """Yield what a replica needs to hear commands and to answer them; its own binding last."""
    yield from control_of_stage(stage)
    queue = control_queue(stage, replica)
    yield Queue(queue, _PRIVATE)
    yield Binding(CONTROL_EXCHANGE, queue, "")
