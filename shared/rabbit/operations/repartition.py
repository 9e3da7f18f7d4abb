"""Another number of partitions for an ordered edge: its queues are removed once they are empty.

    1. orders.partitions is locked: who is to declare the edge has to wait
    2. the exchange orders is deleted: who writes to it has to declare it. To take its bindings away
       one by one would send keys to the partitions that are left
    3. a while later, if nothing came: orders.0, orders.1 ... are deleted, then the lock

So nothing can come between the last look into a queue and its end. Who kills this runs it again.
"""

from collections.abc import Sequence
from time import monotonic, sleep

from rabbit.control.client import ControlClient
from rabbit.errors import RabbitError
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas
from rabbit.operations.topology_changes import TopologyChanges
from rabbit.operations.topology_diff import LAG_SECONDS, POLL_SECONDS
from rabbit.topology import Edge, partition_queues

#: What was on its way to a queue when its exchange was deleted has come, or is not confirmed.
SETTLE_SECONDS = 2.0


def repartition(
    edge: str, client: ControlClient, management: Management, replicas: Replicas
) -> int:
    """Remove the partitions of an edge, for stages to make others; say how many these were.

    With another number a key goes to another partition: what is queued in the old one, or written
    by who knows the old number only, would come out of order. So everybody has to be gone, and all
    of it handled. Dead letters stay. Who is no stage and goes on writing loses nothing: messages
    stay, and nothing is removed, or they are not confirmed.

    Args:
        edge: the edge's name.
        client: deletes.
        management: knows the queues.
        replicas: who is there.

    Raises:
        RabbitError: there is no such edge, it holds messages, or somebody writes or reads it.
    """
    if not management.is_whole():
        raise RabbitError(
            "a broker is away, and what it holds is not counted: again once it is back"
        )
    count = _number(edge, management)
    if not count:
        raise RabbitError(f"no ordered edge {edge!r} is at the broker")
    replicas.call()
    users = [
        each.name
        for each in replicas.weighed()
        if not each.report or edge in {each.report.exchange, each.report.produces}
    ]
    if users:
        raise RabbitError(f"{edge!r} is in use, by {', '.join(users)}: make drain, then again")
    queues = partition_queues(edge, count)
    if left := _left(queues, client, management):
        raise RabbitError(
            f"{edge!r} holds {left} messages, or is read: nothing was changed. make up with the "
            f"PARTITIONS there are, {count}; then make drain, and again"
        )
    _remove(Edge(edge, "ordered", partitions=count), client, management)
    return count


def _remove(edge: Edge, client: ControlClient, management: Management) -> None:
    """Remove queues, or leave all as it was when something has come meanwhile."""
    changes, census, queues = TopologyChanges(management), edge.census, edge.queues
    client.delete(census.name)
    client.lock(census.name)
    changes.delete_exchange(edge.name)
    sleep(SETTLE_SECONDS)
    if left := _left(queues, client, management):
        client.delete(census.name)
        for each in edge.for_publishing():
            changes.declare(each)
        raise RabbitError(
            f"somebody writes to {edge.name!r}, or reads it: {left} messages have come. Nothing "
            "was changed: stop who that is, make up, make drain, and again"
        )
    for queue in (*queues, census.name):
        client.delete(queue)


def _number(edge: str, management: Management) -> int:
    """Return how many partitions there are; if a run of this was killed, by what it has left."""
    if number := management.partitions(edge):
        return number
    left = [
        each["name"].removeprefix(f"{edge}.")
        for each in management.queues()
        if each["name"].startswith(f"{edge}.")
        and each["arguments"].get("x-single-active-consumer")
        and each["arguments"].get("x-dead-letter-exchange") == Edge(edge, "ordered").dead
    ]
    return 1 + max((int(each) for each in left if each.isdecimal()), default=-1)


def _left(queues: Sequence[str], client: ControlClient, management: Management) -> int:
    """Count the messages and the consumers of queues; statistics, which lag, are waited for.

    Whoever leads a queue may be too slow to be counted right: so none are counted twice.
    """
    deadline, was_none = monotonic() + LAG_SECONDS, False
    while True:
        counts = [found for queue in queues if (found := client.count(queue))]
        held = management.messages()
        exact = sum(each.ready + each.consumers for each in counts)
        left = max(exact, sum(sum(held.get(queue, (0, 0))) for queue in queues))
        if exact or (was_none and not left) or monotonic() > deadline:
            return left
        was_none = not left
        sleep(POLL_SECONDS)
