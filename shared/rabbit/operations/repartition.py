"""Another number of partitions for an ordered edge: its queues are removed once they are empty."""

from collections.abc import Sequence
from time import monotonic, sleep

from rabbit.control.client import ControlClient
from rabbit.errors import RabbitError
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas
from rabbit.operations.topology_diff import LAG_SECONDS, POLL_SECONDS
from rabbit.topology import CENSUS_SUFFIX, partition_queues


def repartition(
    edge: str, client: ControlClient, management: Management, replicas: Replicas
) -> int:
    """Remove the partitions of an edge, for stages to make others; say how many these were.

    With another number a key goes to another partition: what is queued in the old one, or written
    by who knows the old number only, would come out of order. So everybody has to be gone, and all
    of it handled. Dead letters stay.

    Args:
        edge: the edge's name.
        client: deletes.
        management: knows the queues.
        replicas: who is there.

    Raises:
        RabbitError: there is no such edge, it holds messages, or somebody writes or reads it.
    """
    count = management.partitions(edge)
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
    for queue in (*queues, f"{edge}{CENSUS_SUFFIX}"):  # last what says how many there are
        client.delete(queue)
    return count


def _left(queues: Sequence[str], client: ControlClient, management: Management) -> int:
    """Count the messages and the consumers of queues; statistics, which lag, are waited for."""
    deadline = monotonic() + LAG_SECONDS
    while True:
        counts = [found for queue in queues if (found := client.count(queue))]
        held = management.messages()
        exact = sum(each.ready + each.consumers for each in counts)
        left = max(exact, sum(sum(held.get(queue, (0, 0))) for queue in queues))
        if exact or not left or monotonic() > deadline:
            return left
        sleep(POLL_SECONDS)
