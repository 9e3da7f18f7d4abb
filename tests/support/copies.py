"""The copies of queues on three brokers, as one of these tells of them."""

#: Asks a broker, in its container.
COMMAND = ("rabbitmqctl", "--quiet", "list_queues", "name", "online")

#: Queues that there are from the beginning.
_QUEUES = ("my_queue", "upper", "my_queue.dead")


def are_three(told: str) -> bool:
    """Tell whether three copies of each queue are up to date.

    Args:
        told: what the command has printed; of a broker that does not answer, anything.
    """
    rows = [line.split("\t") for line in told.splitlines()]
    copies = {row[0]: row[1].count("rabbit@") for row in rows if len(row) > 1}
    return {copies.get(queue) for queue in _QUEUES} == {3}
