"""A queue gets other arguments, which RabbitMQ cannot change: what it holds moves, and back.

    1. two ──▶ two.moving            while publishers still reach two
    2. two.moving gets the bindings of two; what has come meanwhile follows
    3. two, empty now, is deleted, made anew, and gets its bindings back
    4. two.moving ──▶ two            two.moving goes

Each message is published, confirmed and then acked, so it is in one of the two at any moment, and
who kills this finds in the broker where to go on.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from typing import Any

from rabbit.amqp.channel import Count
from rabbit.amqp.loop_thread import LoopThread
from rabbit.amqp.properties import USER_ID, read_property, set_aside, with_headers
from rabbit.control.client import ControlClient
from rabbit.dead_letters.browser import Found, go_through
from rabbit.dead_letters.transfer import Make, Transfer
from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.message import as_stored
from rabbit.operations.management import Management
from rabbit.operations.topology_changes import TopologyChanges
from rabbit.operations.topology_diff import BESIDE
from rabbit.output import Output
from rabbit.topology import Binding, Edge, Exchange, Queue

#: How long what was just made, or has just been left, may take to be seen so.
SETTLE_SECONDS = 15.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Tools:
    """What moves are made with.

    Attributes:
        client: counts what is in a queue.
        management: tells which queues there are.
        loop_thread: has the connections on which messages move.
        log: told when the broker goes away.
        patience_seconds: how long connecting may take.
    """

    client: ControlClient
    management: Management
    loop_thread: LoopThread
    log: Logger
    patience_seconds: float


class QueueMove:
    """One move of one queue, which nobody consumes; begun anew, it goes on where it was left.

    Attributes:
        count: how many messages were put back.
    """

    def __init__(self, tools: Tools, queue: Queue, tell: Callable[[str], None]) -> None:
        """Give `queue` its arguments.

        Args:
            tools: to do it with.
            queue: as it is to be.
            tell: given a line about each step.
        """
        self.count = 0
        self._tools = tools
        self._changes = TopologyChanges(tools.management)
        self._queue = queue
        self._name = queue.name
        self._beside = f"{queue.name}{BESIDE}"
        self._back = Edge(queue.name).back  # what comes by it has attempts that count
        self._beside_back = Edge(self._beside).back
        self._home = f"{self._beside}.home"
        self._own = {self._beside, self._beside_back, self._home}
        self._is_classic = False  # as it is now
        self._tell = tell

    def run(self) -> None:
        """Move.

        Raises:
            RabbitError: why it cannot go on; nothing is lost, and it can be run again.
        """
        queues = self._queues()
        there = queues.get(self._name)
        self._is_classic = there is not None and there["x-queue-type"] == "classic"
        self._make_beside(is_there=self._beside in queues)
        if there is not None and there != dict(self._queue.arguments):
            self._empty(self._name, self._beside, self._outwards)
            self._hand_over(self._name, self._beside)
            self._empty(self._name, self._beside, self._outwards)
            self._changes.delete_queue(self._name)
            self._tell(f"deleted {self._name}")
        self._changes.declare(self._queue)
        self._changes.declare(Binding(self._home, self._name, ""))
        self._tell(f"declared {self._name}")
        self._hand_over(self._beside, self._name)
        self.count = self._empty(self._beside, self._home, self._homewards)
        self._clear_away()

    def _queues(self) -> dict[str, dict[str, Any]]:
        """Return the arguments of each queue there is, its type among them."""
        listed = self._tools.management.queues()
        return {
            each["name"]: {"x-queue-type": each["type"], **each["arguments"]} for each in listed
        }

    def _make_beside(self, *, is_there: bool) -> None:
        if not is_there:
            self._changes.declare(Queue(self._beside, _beside_arguments(self._queue.arguments)))
        for exchange in (self._beside, self._beside_back):
            self._changes.declare(Exchange(exchange, "fanout"))
            self._changes.declare(Binding(exchange, self._beside, ""))
        self._changes.declare(Exchange(self._home, "fanout"))
        self._tell(f"made {self._beside}")

    def _hand_over(self, source: str, target: str) -> None:
        """Give a queue the bindings of another one, and then take them from that.

        Between the two a message goes to both: better twice than nowhere.
        """
        bindings = [
            each for each in self._changes.bindings(source) if each.exchange not in self._own
        ]
        for each in bindings:
            self._changes.bind(target, each)
        self._tell(f"bound {target}")
        for each in bindings:
            self._changes.unbind(source, each)
        self._tell(f"unbound {source}")

    def _empty(self, source: str, exchange: str, make: Make) -> int:
        """Transfer all there is in a queue; return how many messages that were."""
        moved, deadline = 0, monotonic() + SETTLE_SECONDS
        while left := self._count(source).ready:
            way = Edge(exchange, "broadcast")
            transfer = Transfer(self._tools.loop_thread, way, make, self._tools.log)
            told = partial(self._tell_how_far, source, moved)
            try:
                go_through(
                    self._tools.loop_thread,
                    source,
                    transfer.act,
                    told,
                    self._tools.patience_seconds,
                    "classic" if source == self._name and self._is_classic else "quorum",
                )
            finally:
                transfer.finish()
                transfer.close()
            moved += transfer.count
            if transfer.count:
                deadline = monotonic() + SETTLE_SECONDS
            elif monotonic() > deadline:
                why = ", ".join(transfer.stays) or "somebody else holds them"
                raise RabbitError(f"{left} messages stay in {source}: {why}")
        self._tell(f"emptied {source}")
        return moved

    def _tell_how_far(self, source: str, before: int, seen: int, total: int) -> None:
        self._tell(f"moving out of {source}: {before + seen} of {before + total}")

    def _count(self, queue: str) -> Count:
        """Ask for a queue that nobody consumes; what was just made may not be seen yet."""
        deadline = monotonic() + SETTLE_SECONDS
        while True:
            count = self._tools.client.count(queue, for_certain=True)
            if count is not None and not count.consumers:
                return count
            if monotonic() > deadline:
                what = "is gone" if count is None else f"has {count.consumers} consumers"
                raise RabbitError(f"cannot move {self._name!r}: {queue!r} {what}; run it again")
            sleep(POLL_SECONDS)

    def _outwards(self, found: Found) -> Output:
        """Keep apart what came by the way back: only its attempts count."""
        by = self._beside_back if found.exchange == self._back else self._beside
        return _same(found, by)

    def _homewards(self, found: Found) -> Output:
        by_back = found.exchange in {self._beside_back, self._back}
        return _same(found, self._back if by_back else self._home)

    def _clear_away(self) -> None:
        """Remove the queue beside, last: while it is there, this is known to be unfinished."""
        for exchange in sorted(self._own):
            self._changes.delete_exchange(exchange)
        self._tell(f"removed the exchanges of {self._beside}")
        if self._count(self._beside).ready:  # routed there before its bindings went
            raise RabbitError(f"messages have come to {self._beside!r} meanwhile: run it again")
        self._changes.delete_queue(self._beside)


def _beside_arguments(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps all that comes; a message that expires goes where it would have gone."""
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": -1, "x-overflow": "reject-publish"}
    dead = {name: value for name, value in wanted.items() if name.startswith("x-dead-letter-")}
    strategy = {"x-dead-letter-strategy": "at-least-once"} if dead else {}
    return {**arguments, **dead, **strategy}


def _same(found: Found, exchange: str) -> Output:
    """Return a message as it stands in its queue; the broker refuses another one's `user_id`."""
    properties = as_stored(found.properties)
    with suppress(ValueError):  # what cannot be read stays as it is
        if read_property(properties, USER_ID) is not None:
            properties, aside = set_aside(properties)
            properties = with_headers(properties, aside, without=lambda _name: False)
    return Output(found.body, properties, key=found.routing_key, exchange=exchange)
