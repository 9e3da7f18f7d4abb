"""Ordered edges as an operator sees them: services.control as a real process."""

import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from rabbit import MessageQueue
from tests.broker import Broker
from tests.conftest import Start
from tests.integration.conftest import Control
from tests.order import disorder, handlings
from tests.process import Process
from tests.waiting import wait_until

KEYED = ("-m", "tests.integration.stages.keyed")
KEYS = [f"customer-{number}" for number in range(8)]
PARTITIONS = 4


@pytest.fixture
def read(start: Start, vhost: str) -> Callable[..., Process]:
    """Give a function that starts a replica that reads the edge `orders`."""

    def run(replica: str, partitions: int = PARTITIONS) -> Process:
        edge: dict[str, Any] = {"INPUT_QUEUE": "orders", "INPUT_KIND": "ordered"}
        given = {"PARTITIONS": partitions, "RETRY_DELAYS": "", "DELAY": 0.02, **edge}
        return start(*KEYED, STAGE="keyed", REPLICA=replica, RABBITMQ_VHOST=vhost, **given)

    return run


def shares(control: Control) -> dict[str, list[str]]:
    """Return which partitions each replica is active for."""
    status = json.loads(control("status", "--format", "json").out)
    return {f"{each['stage']}/{each['replica']}": each["active"] for each in status["replicas"]}


def publish(broker: Broker, vhost: str, *texts: str, partitions: int = PARTITIONS) -> None:
    """Publish these texts for each key."""
    settings = {**broker.settings, "rabbitmq_vhost": vhost}
    with MessageQueue("orders", "ordered", partitions=partitions, **settings) as queue:
        for text in texts:
            for key in KEYS:
                queue.publish(text, key=key)


@pytest.mark.thorough
def test_who_is_paused_alone_is_stood_in_for(
    broker: Broker, vhost: str, control: Control, read: Callable[..., Process]
) -> None:
    """The others go on with all keys; it has its share again when it is resumed.

    A stage that is paused keeps all waiting.
    """
    first, second = read("first"), read("second")
    replicas = [first, second]

    def are_handled(count: int) -> None:
        total = count * len(KEYS)
        wait_until(lambda: len(handlings(replicas)) == total, 30, f"{count} of each are handled")

    publish(broker, vhost, *map(str, range(10)))
    are_handled(10)
    assert control("pause", "keyed/first").out.startswith("paused 1/1")
    before = len(first.lines)
    publish(broker, vhost, *map(str, range(10, 20)))
    are_handled(20)
    assert len(first.lines) == before

    assert control("resume", "keyed/first").wait() == 0
    wait_until(lambda: len(shares(control)["keyed/first"]) == PARTITIONS // 2, 30, "it has a share")
    assert control("pause", "keyed").out.startswith("paused 2/2")
    publish(broker, vhost, *map(str, range(20, 30)))
    assert control("resume", "keyed/first").wait() == 1
    assert len(handlings(replicas)) == 20 * len(KEYS)
    assert control("resume", "keyed").wait() == 0
    are_handled(30)
    assert len(first.lines) > before
    assert disorder(handlings(replicas)) == []


@pytest.mark.thorough
def test_from_status_to_another_number_of_partitions(
    broker: Broker, vhost: str, control: Control, read: Callable[..., Process]
) -> None:
    """Status says who has what; a drain handles it all; only then the number can be changed."""
    first, second = read("first"), read("second")
    publish(broker, vhost, *map(str, range(100)), "100 !")

    def are_shared() -> bool:
        return [len(share) for share in shares(control).values()] == [2, 2]

    wait_until(are_shared, 30, lambda: f"{shares(control)}")
    assert sorted(chain(*shares(control).values())) == ["0", "1", "2", "3"]
    assert "keyed/first: partitions" in control("status").out
    in_use = control("repartition", "orders")
    drained = control("drain")

    assert in_use.wait() == 1
    assert "'orders' is in use, by keyed/first, keyed/second: make drain" in in_use.log
    assert [each.wait() for each in (drained, first, second)] == [0, 0, 0]
    assert len(handlings([first, second])) == 101 * len(KEYS)
    assert disorder(handlings([first, second])) == []

    publish(broker, vhost, "too late")
    holding = control("repartition", "orders")
    third = read("third")
    wait_until(lambda: len(third.lines) == len(KEYS), 30, "it is handled")
    assert third.halt() == 0
    done = control("repartition", "orders", "--format", "json")
    fourth = read("fourth", partitions=6)

    assert holding.wait() == 1
    assert f"'orders' holds {len(KEYS)} messages" in holding.log
    assert done.wait() == 0, done.log
    assert json.loads(done.out) == {"edge": "orders", "removed": 4}
    wait_until(lambda: "orders.5" in broker.queues(vhost), 20, "there are six partitions")

    asked = control("dead-letters", "replay", "--all")
    assert "it comes out of order. Add --yes" in asked.out + asked.log
    assert not fourth.lines
    replayed = control("dead-letters", "replay", "--all", "--yes")
    assert replayed.wait() == 0, replayed.log
    wait_until(lambda: len(fourth.lines) == len(KEYS), 30, "they are handled again")
