"""Order by key, whatever happens to replicas, connections and the broker."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.order import Handling, again, disorder, handled, more_handlings
from tests.process import Process
from tests.waiting import wait_until

KEYED = ("-m", "tests.integration.stages.keyed")
RELAY = ("-m", "tests.integration.stages.relay")
SOURCE = ("-m", "tests.integration.stages.keyed_source")

KEYS = [f"customer-{number}" for number in range(50)]
COUNT = 2000  # messages of each key
PARTITIONS = 8
HEAL_SECONDS = 120.0
#: What is handled twice was handled first at most so long before a fault, or while it lasted.
BEFORE_FAULT_SECONDS = 5.0


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Run a broker of its own, since it is restarted; no image of a stage is needed."""
    with Broker() as made:
        yield made


class Crowd:
    """Replicas that come and go.

    Attributes:
        all: each that there ever was.
        running: those that run.
        faults: from when to when something may have come twice by a fault.
        handlings: what they have told, as of the last `wait_handled`.
    """

    def __init__(self, start: Start, edge: str) -> None:
        """Begin with none."""
        self._start = start
        given = {"INPUT_KIND": "ordered", "PARTITIONS": PARTITIONS, "CONCURRENCY": 2}
        failures = {"FAILING": 0.01, "RETRY_DELAYS": "0.05,0.05,0.05,0.05"}
        self._environment: dict[str, Any] = {"INPUT_QUEUE": edge, "STAGE": "keyed", **given}
        self._environment |= {"DELAY": 0.0005, "RABBITMQ_HEARTBEAT": 2, **failures}
        self.all: list[Process] = []
        self.running: list[Process] = []
        self.faults: list[tuple[float, float]] = []
        self.handlings: list[Handling] = []
        self._handled: dict[str, set[int]] = {key: set() for key in KEYS}

    def grow(self, count: int) -> None:
        """Start replicas until there are so many."""
        new = [
            self._start(
                *KEYED, **self._environment, REPLICA=f"r{len(self.all) + more}", ready=False
            )
            for more in range(count - len(self.running))
        ]
        self.all += new
        self.running += new
        for each in new:
            each.wait_ready()

    def shrink(self, count: int) -> None:
        """Halt the oldest until there are so many: each in order."""
        while len(self.running) > count:
            assert self.running.pop(0).halt() == 0

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Note when something happens after which messages may come twice."""
        began = monotonic()
        yield
        self.faults.append((began - BEFORE_FAULT_SECONDS, monotonic() + HEAL_SECONDS / 4))

    def kill(self) -> None:
        """Kill the oldest, and have another one in its place."""
        with self.fault():
            self.running.pop(0).kill()
        self.grow(len(self.running) + 1)

    def wait_handled(self, count: int) -> None:
        """Wait until the first so many messages of each key are handled."""

        def is_handled() -> bool:
            more = more_handlings(self.all)
            self.handlings += more
            for key, numbers in handled(more).items():
                self._handled[key] |= numbers
            return all(count <= len(self._handled[key]) for key in KEYS)

        wait_until(is_handled, HEAL_SECONDS, lambda: f"{count} of each key are handled")

    def unexplained(self) -> list[Handling]:
        """Return what was handled twice, and no fault was the reason."""
        return [
            each
            for each in again(self.handlings)
            if not any(first <= each.began <= last for first, last in self.faults)
        ]


@pytest.fixture
def crowd(start: Start, unique: Unique) -> Crowd:
    """Return replicas of a stage that reads an ordered edge."""
    return Crowd(start, unique("edge"))


@pytest.mark.timeout(900)
def test_order_over_all_that_may_happen(
    broker: Broker, unique: Unique, start: Start, crowd: Crowd
) -> None:
    """Two writers, 1 → 4 → 2 → 6 → 1 replicas, two killed, one cut off, the broker restarted."""
    edge = {"OUTPUT_QUEUE": unique("edge"), "OUTPUT_KIND": "ordered", "PARTITIONS": PARTITIONS}
    crowd.grow(1)
    writers = [
        start(*SOURCE, **edge, KEYS=",".join(keys), COUNT=COUNT, REPLICA=f"w{keys[0]}", ready=False)
        for keys in (KEYS[::2], KEYS[1::2])
    ]
    steps: list[Callable[[], object]] = [
        lambda: crowd.grow(4),
        crowd.kill,
        lambda: crowd.shrink(2),
        lambda: crowd.grow(6),
        crowd.kill,
        lambda: cut(broker, crowd),
        lambda: restart(broker, crowd),
        lambda: crowd.shrink(1),
    ]
    for number, step in enumerate(steps):
        crowd.wait_handled((number + 1) * COUNT // (len(steps) + 2))
        step()
    crowd.wait_handled(COUNT)

    assert [each.wait() for each in writers] == [0, 0]
    assert handled(crowd.handlings) == {key: set(range(COUNT)) for key in KEYS}
    assert disorder(crowd.handlings) == []
    assert crowd.unexplained() == []
    assert broker.depth(f"{unique('edge')}.dead") == 0


@pytest.mark.timeout(300)
def test_order_through_a_worker(broker: Broker, unique: Unique, start: Start) -> None:
    """From one ordered edge to the next: relays killed and cut off, outputs nacked, a restart.

    `work` goes ahead of the confirms; what it writes does not.
    """
    kind: dict[str, Any] = {"PARTITIONS": PARTITIONS, "RABBITMQ_HEARTBEAT": 2}
    first: dict[str, Any] = {"OUTPUT_QUEUE": unique("first"), "OUTPUT_KIND": "ordered", **kind}
    through = {"INPUT_QUEUE": unique("first"), "INPUT_KIND": "ordered", "SAME_KEY": 1, **first}
    through |= {"OUTPUT_QUEUE": unique("second"), "STAGE": "relay", "CONCURRENCY": 4}
    half = {**first, "KEYS": ",".join(KEYS), "COUNT": COUNT // 10}
    writer = start(*SOURCE, **half, ready=False)
    assert writer.wait(HEAL_SECONDS) == 0  # so there is enough to go ahead with
    reader = start(*KEYED, INPUT_QUEUE=unique("second"), INPUT_KIND="ordered", **kind)
    relays = [start(*RELAY, **through, REPLICA=f"r{number}") for number in range(3)]
    found: list[Handling] = []

    def wait_handled(count: int) -> None:
        def is_handled() -> bool:
            found.extend(more_handlings([reader]))
            numbers = handled(found)
            return all(numbers[key].issuperset(range(count)) for key in KEYS)

        wait_until(is_handled, HEAL_SECONDS, lambda: f"{count} of each key are handled")

    wait_handled(COUNT // 40)
    relays[0].kill()
    relays[0] = start(*RELAY, **through, REPLICA="r0")
    wait_handled(COUNT // 20)
    wait_until(lambda: broker.close_connections("relay/r1 "), 20, "its connections are cut")
    with broker.limited(f"{unique('second')}.0", 1, "%2F"):
        reader.send(signal.SIGSTOP)  # else it may take each before the next one comes
        start(*SOURCE, **half, FIRST=COUNT // 10, ready=False)

        def is_refused() -> bool:
            return any("output refused" in relay.log for relay in relays)

        wait_until(is_refused, HEAL_SECONDS, "an output is nacked")
        reader.send(signal.SIGCONT)
        wait_handled(COUNT // 10)
    broker.restart()
    wait_handled(COUNT // 5)

    assert disorder(found) == []
    assert [each.halt() for each in relays] == [0, 0, 0]


def cut(broker: Broker, crowd: Crowd) -> None:
    """Close the connections of a replica by force."""
    with crowd.fault():
        name = f"/r{crowd.all.index(crowd.running[-1])} "
        wait_until(
            lambda: broker.close_connections(name), 20, "its connections are listed, and cut"
        )


def restart(broker: Broker, crowd: Crowd) -> None:
    """Restart the broker."""
    with crowd.fault():
        broker.restart()
