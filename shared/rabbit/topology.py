"""Edges as data: exchanges, queues, bindings and their arguments.

An edge is what connects two stages. For a work queue `upper` it is

    exchange upper ──▶ queue upper ──(given up)──▶ exchange upper.dead ──▶ queue upper.dead

An exchange of its own per edge, and not the default exchange, lets an operator give a stage the
right to write to just this edge. The other kinds (broadcast, direct, topic) are one exchange and
a queue per group of consumers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from rabbit.settings import Kind, QueueType

#: Commands to all replicas (fanout), and the way back to who asked (direct).
CONTROL_EXCHANGE = "control"
REPLIES_EXCHANGE = "control.replies"

#: A queue that belongs to one replica goes away when unused for so long: ten minutes.
EXPIRES_MILLISECONDS = 600_000

_QUORUM: Mapping[str, Any] = MappingProxyType({"x-queue-type": "quorum"})
#: A queue of one replica: it goes away by itself, and has no dead letters that would stay.
_PRIVATE: Mapping[str, Any] = MappingProxyType(
    {**_QUORUM, "x-expires": EXPIRES_MILLISECONDS, "x-delivery-limit": -1}
)
_EXCHANGE_TYPES: Mapping[Kind, Literal["direct", "fanout", "topic"]] = MappingProxyType(
    {"work": "direct", "broadcast": "fanout", "direct": "direct", "topic": "topic"}
)


@dataclass(frozen=True)
class Exchange:
    """A durable exchange (exchange.declare)."""

    name: str
    type: Literal["direct", "fanout", "topic"]


@dataclass(frozen=True)
class Queue:
    """A durable queue (queue.declare); `purge` empties it right after (queue.purge)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: _QUORUM)
    purge: bool = False


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
            (to the groups whose keys match; `*` is one word, `#` any number of words).
        keys: the routing keys a group is bound with; for direct and topic.
        group: the consumers that share one queue, where `kind` is not work.
        private: the group's queue belongs to one process: it expires when unused for ten minutes.
        type: quorum, or classic: that keeps less of what is promised (see `_with_dead_letters`).
    """

    name: str
    kind: Kind = "work"
    keys: tuple[str, ...] = ()
    group: str = ""
    private: bool = False
    type: QueueType = "quorum"

    @property
    def queue(self) -> str:
        """The queue that consumers of this edge read."""
        return self.name if self.kind == "work" else f"{self.name}.{self.group}"

    def key(self, asked: str | None) -> str:
        """Return the routing key to publish with; a work queue has one of its own."""
        return self.name if self.kind == "work" else asked or ""

    def for_publishing(self) -> Iterator[Declaration]:
        """Yield what must exist before a message is published to this edge."""
        if self.kind == "work":
            yield from self.for_consuming()
        else:
            yield Exchange(self.name, _EXCHANGE_TYPES[self.kind])

    def for_consuming(self) -> Iterator[Declaration]:
        """Yield what must exist before this edge is consumed."""
        dead = f"{self.queue}.dead"
        if not self.private:
            yield Exchange(dead, "fanout")
            yield Queue(dead)
            yield Binding(dead, dead, "")
        yield Exchange(self.name, _EXCHANGE_TYPES[self.kind])
        yield Queue(self.queue, _PRIVATE if self.private else _with_dead_letters(dead, self.type))
        for key in self._binding_keys():
            yield Binding(self.name, self.queue, key)

    def _binding_keys(self) -> tuple[str, ...]:
        if self.kind == "work":
            return (self.name,)
        return self.keys if self.kind in {"direct", "topic"} else ("",)


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


def control_subscription(stage: str, replica: str, *, purge: bool) -> Iterator[Declaration]:
    """Yield what a replica needs to hear commands and to answer them.

    Args:
        stage: the stage's name.
        replica: the replica's name.
        purge: forget what was sent to an earlier process of this name.
    """
    queue = control_queue(stage, replica)
    yield Exchange(CONTROL_EXCHANGE, "fanout")
    yield Exchange(REPLIES_EXCHANGE, "direct")
    yield Queue(queue, _PRIVATE, purge=purge)
    yield Binding(CONTROL_EXCHANGE, queue, "")
