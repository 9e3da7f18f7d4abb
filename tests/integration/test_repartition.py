"""Another number of partitions: whatever is written meanwhile, and whenever it is killed."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from pika.exceptions import ChannelClosedByBroker

from rabbit.control.client import ControlClient
from rabbit.errors import RabbitError
from rabbit.logs import logger
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.repartition import repartition
from rabbit.operations.replicas import Replicas
from rabbit.operations.topology_changes import TopologyChanges
from rabbit.topology import Edge
from tests.broker import Broker

EDGE = "orders"
PARTITIONS = 2
LOCKED = 405

#: So often the broker is asked to change something: the lock, the exchange, queues, the lock again.
STEPS = 3 + PARTITIONS + 1


class Killed(BaseException):
    """It ends here, whatever it was about to do."""


class Steps:
    """Says before which step something is to happen.

    Attributes:
        meanwhile: what happens before a step, which is counted from 0.
    """

    def __init__(self) -> None:
        """Have nothing happen."""
        self.count = 0
        self.meanwhile: dict[int, Callable[[], None]] = {}

    def take(self) -> None:
        """Go one step on."""
        happens = self.meanwhile.pop(self.count, None)
        self.count += 1
        if happens:
            happens()


class Client(ControlClient):
    """The client, which others get ahead of."""

    steps: Steps

    def delete(self, queue: str) -> None:
        """Delete, a moment later."""
        self.steps.take()
        super().delete(queue)

    def lock(self, queue: str) -> None:
        """Lock, a moment later."""
        self.steps.take()
        super().lock(queue)


class Api(Management):
    """The management API, likewise."""

    steps: Steps

    def change(self, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
        """Change something, a moment later."""
        self.steps.take()
        return super().change(method, path, body)


class Desk:
    """An ordered edge, who writes to it with whatever client, and who removes its partitions."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        """Know where."""
        self._broker, self._vhost = broker, vhost
        self.settings = ControlSettings.load(
            **broker.settings, rabbitmq_vhost=vhost, rabbitmq_management_url=broker.management_url
        )
        self.confirmed = 0

    def declare(self) -> None:
        """Declare the edge, as stages do."""
        changes = TopologyChanges(Management(self.settings))
        for each in Edge(EDGE, "ordered", partitions=PARTITIONS).for_publishing():
            changes.declare(each)

    def publish(self) -> None:
        """Write two messages, for each partition one; count those that the broker has taken."""
        with (
            suppress(ChannelClosedByBroker),  # there is no exchange
            self._broker.channel(self._vhost) as channel,
        ):
            channel.confirm_delivery()
            for key in ("customer-0", "customer-3"):
                channel.basic_publish(EDGE, key, b"", mandatory=True)
                self.confirmed += 1

    def run(self, steps: Steps) -> str:
        """Remove the partitions; return "removed", or why not."""
        log = logger(self.settings)
        with Client(self.settings, log) as client:
            management = Api(self.settings)
            client.steps = management.steps = steps
            try:
                repartition(EDGE, client, management, Replicas(client, management))
            except RabbitError as error:
                return str(error)
        return "removed"

    def kept(self) -> int:
        """Count what the partitions hold."""
        queues = self._broker.queues(self._vhost)
        names = [f"{EDGE}.{number}" for number in range(PARTITIONS)]
        return sum(self._broker.depth(name, self._vhost) for name in names if name in queues)


@pytest.fixture
def desk(broker: Broker, vhost: str) -> Desk:
    """Have an edge in a virtual host of the test's own."""
    return Desk(broker, vhost)


@pytest.mark.thorough
def test_what_is_written_meanwhile_is_kept(desk: Desk, broker: Broker, vhost: str) -> None:
    """Before each step: it is in its partition, and nothing was changed; or it is not confirmed."""
    ends = []
    for step in range(STEPS):
        desk.declare()
        steps, before = Steps(), desk.confirmed
        steps.meanwhile[step] = desk.publish
        ends.append((desk.run(steps) == "removed", desk.confirmed - before))
        assert desk.kept() == desk.confirmed - before, f"before step {step}"
        if desk.kept():
            assert f"{EDGE}.partitions" in broker.queues(vhost)
            desk.publish()
            assert desk.kept() == desk.confirmed - before
        for name in broker.queues(vhost):
            broker.delete_queue(name, vhost)

    taken = [count for _, count in ends]
    assert taken == [2, 2, 2, 0, 0, 0]
    assert [is_removed for is_removed, _ in ends] == [count == 0 for count in taken]


def test_who_is_to_declare_it_has_to_wait(desk: Desk, broker: Broker, vhost: str) -> None:
    """From the lock to the end: nobody makes a queue again that is about to be deleted."""
    refused = []

    def declare() -> None:
        census = Edge(EDGE, "ordered", partitions=PARTITIONS).census
        with pytest.raises(ChannelClosedByBroker) as raised, broker.channel(vhost) as channel:
            channel.queue_declare(census.name, durable=True, arguments=dict(census.arguments))
        refused.append(raised.value.reply_code)

    desk.declare()
    steps = Steps()
    steps.meanwhile.update(dict.fromkeys(range(2, STEPS), declare))

    assert desk.run(steps) == "removed"
    assert refused == [LOCKED] * (STEPS - 2)


@pytest.mark.thorough
def test_who_kills_it_runs_it_again(desk: Desk, broker: Broker, vhost: str) -> None:
    """Before each step; before the last one only the lock is left, which goes with who has it."""

    def kill() -> None:
        raise Killed

    for step in range(STEPS):
        desk.declare()
        steps = Steps()
        steps.meanwhile[step] = kill
        with pytest.raises(Killed):
            desk.run(steps)

        again = desk.run(Steps())
        assert again == "removed" or step == STEPS - 1, f"before step {step}: {again}"
        assert [name for name in broker.queues(vhost) if name != f"{EDGE}.dead"] == []
