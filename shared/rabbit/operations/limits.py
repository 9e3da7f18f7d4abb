"""How much of a broker a stage can take: one that was broken into leaves some to others. Pure.

RabbitMQ has limits for a user (rabbitmq.com/docs/user-limits) and for a virtual host
(rabbitmq.com/docs/vhosts#limits); operator policies bound queues, whatever they were declared with
(rabbitmq.com/docs/policies#operator-policies). They are sized from the stages of the Compose file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rabbit.operations.compose import DeclaredStage
from rabbit.topology import (
    CONTROL_EXCHANGE,
    EXPIRES_MILLISECONDS,
    REPLIES_EXCHANGE,
    RETRY_EXPIRES_MILLISECONDS,
    Edge,
    Queue,
    own_part,
)

#: There is room for so many replicas of a stage, or for twice those that the Compose file starts.
LEAST_REPLICAS = 100

#: A replica consumes on one connection, and publishes on another. One that was lost still counts
#: until the broker has noticed.
_CONNECTIONS = 4
#: On these it has seven channels, and one more for each partition; as above.
_CHANNELS = 2 * 10
#: A control queue, and the lock on its name.
_OWN_QUEUES = 2

#: For those who operate: replies to their commands, queues that the doctor moves others through.
_MORE_QUEUES = 100

#: What may wait for a replica that is cut off: commands of ten minutes, when seven are sent each
#: second.
_COMMANDS = 5000
_COMMANDS_BYTES = 1024 * 1024

#: What may wait for who has asked: of a thousand replicas twenty reports each, of some 800 B. Every
#: stage may publish there, also what is no report.
_REPORTS = 20_000
_REPORTS_BYTES = 16 * 1024 * 1024

#: Of failed messages each queue takes so much, then they stay where they are. RabbitMQ stops all
#: who publish while less than 1 GB of the disk is free.
_FAILED_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Bound:
    """An operator policy.

    Attributes:
        name: of the policy.
        pattern: of the names of the queues that it is for.
        definition: what it bounds.
    """

    name: str
    pattern: str
    definition: Mapping[str, int]

    def is_for(self, queue: str) -> bool:
        """Tell whether it is for the queue of this name."""
        return re.search(self.pattern, queue) is not None


def bounds(stages: Iterable[DeclaredStage]) -> list[Bound]:
    """Return what bounds the queues that stages may declare, or fill with what is no output."""
    stages = list(stages)
    names = "|".join(dict.fromkeys(re.escape(stage.name) for stage in stages))
    commands = {"max-length": _COMMANDS, "max-length-bytes": _COMMANDS_BYTES}
    found = [
        Bound(
            "pipeline-control-queues",
            rf"^{re.escape(CONTROL_EXCHANGE)}\.({names})\.",
            {**commands, "expires": EXPIRES_MILLISECONDS},
        ),
        # They stay empty. Nobody consumes them, so that to expire would be to let go of the lock.
        Bound(
            "pipeline-name-locks", rf"^{re.escape(CONTROL_EXCHANGE)}/({names})/", {"max-length": 0}
        ),
        Bound(
            "pipeline-replies",
            rf"^{re.escape(REPLIES_EXCHANGE)}\.",
            {"max-length": _REPORTS, "max-length-bytes": _REPORTS_BYTES},
        ),
    ]
    edges = [(stage, edge) for stage in stages if (edge := stage.input())]
    failed = dict.fromkeys(each for _, edge in edges for each in _failed(edge))
    if failed:
        definition = {"max-length-bytes": _FAILED_BYTES}
        found.append(Bound("pipeline-failed-messages", f"^({'|'.join(failed)})$", definition))
    private = {
        rf"{re.escape(edge.name)}\.{re.escape(stage.name)}\.(?!dead$)": max(edge.delays, default=0)
        for stage, edge in edges
        if edge.private
    }
    if private:
        longest = RETRY_EXPIRES_MILLISECONDS + round(1000 * max(private.values()))
        pattern = f"^({'|'.join(private)})"
        found.append(Bound("pipeline-replicas-queues", pattern, {"expires": longest}))
    return found


def _failed(edge: Edge) -> Iterator[str]:
    yield re.escape(edge.dead)
    if not (edge.private or edge.is_ordered):
        yield rf"{re.escape(edge.queue)}\.retry\.[0-9]+m?s"


def user_limits(stages: Iterable[DeclaredStage]) -> dict[str, int]:
    """Return the limits of a user.

    Args:
        stages: the services whose user it is: those that run the same stage.
    """
    limits = {"max-connections": 0, "max-channels": 0}
    for stage in stages:
        edges = (stage.input(), stage.output)
        partitions = sum(edge.partitions for edge in edges if edge)
        limits["max-connections"] += _CONNECTIONS * _replicas(stage)
        limits["max-channels"] += (_CHANNELS + 2 * partitions) * _replicas(stage)
    return limits


def most_queues(stages: Iterable[DeclaredStage], shared: int) -> int:
    """Return how many queues there may be in a virtual host.

    Args:
        stages: those whose queues are there.
        shared: how many they have that belong to no replica.
    """
    own = sum(_replicas(stage) * (_OWN_QUEUES + _private(stage)) for stage in stages)
    return shared + own + _MORE_QUEUES


def _private(stage: DeclaredStage) -> int:
    """Count the queues of its input that each replica has."""
    edge = stage.input()
    return sum(isinstance(each, Queue) for each in own_part(edge.for_consuming())) if edge else 0


def _replicas(stage: DeclaredStage) -> int:
    return max(LEAST_REPLICAS, 2 * stage.replicas)


def parameters(stages: Iterable[DeclaredStage], vhost: str, shared: int) -> list[dict[str, Any]]:
    """Return the limits of a virtual host as RabbitMQ's definitions have them.

    Args:
        stages: those whose virtual host it is.
        vhost: its name.
        shared: how many queues they have that belong to no replica.
    """
    stages = list(stages)
    limits = {"max-queues": most_queues(stages, shared)}
    made = [_parameter(vhost, "vhost-limits", "limits", limits)]
    for each in bounds(stages):
        policy = {"pattern": each.pattern, "apply-to": "queues", "priority": 0}
        policy["definition"] = dict(each.definition)
        made.append(_parameter(vhost, "operator_policy", each.name, policy))
    return made


def _parameter(vhost: str, component: str, name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"vhost": vhost, "component": component, "name": name, "value": value}
