"""Order by key, as book-keeping: of each key one delivery at a time, in the order they came in.

Pure, as `book` is: any interleaving can be tried in no time.
"""

from collections import deque
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    """What has a key."""

    @property
    def routing_key(self) -> str:
        """What it is ordered by."""


D = TypeVar("D", bound=Keyed)


class Lanes(Generic[D]):
    """A lane for each key: the one that is out keeps back those behind it until it is released."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: dict[str, deque[D]] = {}  # without those that are out; a key has some
        self._out: dict[str, D] = {}
        self._ready: deque[str] = deque()  # keys of which one waits and none is out

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._ready)

    def add(self, delivery: D) -> bool:
        """Put a delivery behind those of its key; tell whether there are none."""
        key = delivery.routing_key
        lane = self._waiting.get(key)
        if lane is not None:
            lane.append(delivery)
            return False
        self._waiting[key] = deque((delivery,))
        if key in self._out:
            return False
        self._ready.append(key)
        return True

    def take(self) -> list[D]:
        """Give out the first of each key that has none out."""
        taken = []
        for key in self._ready:
            lane = self._waiting[key]
            delivery = self._out[key] = lane.popleft()
            if not lane:
                del self._waiting[key]
            taken.append(delivery)
        self._ready.clear()
        return taken

    def put_back(self, delivery: D) -> None:
        """Take one back that is out: it is the first of its key again."""
        key = delivery.routing_key
        if self._out.get(key) is not delivery:
            return
        del self._out[key]
        self._waiting.setdefault(key, deque()).appendleft(delivery)
        self._ready.append(key)

    def release(self, delivery: D) -> None:
        """Let the next of its key follow one that was out, and is settled or void."""
        key = delivery.routing_key
        if self._out.get(key) is delivery:
            del self._out[key]
            if key in self._waiting:
                self._ready.append(key)

    def clear(self) -> None:
        """Forget what waits; what is out keeps its key until it is released."""
        self._waiting.clear()
        self._ready.clear()
