"""What the broker has: exchanges, queues, bindings and consumers, from its management API."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from rabbit.operations.management import Management
from rabbit.operations.policies import Policy
from rabbit.topology import Binding, Exchange


@dataclass(frozen=True)
class BrokerState:
    """What the broker has.

    Attributes:
        exchanges: by name.
        queues: the arguments by name, the queue's type among them.
        messages: how many each queue holds, more or less.
        bindings: of exchanges to queues.
        consumers: how many each queue has.
        policies: those of each queue that has any.
        exchange_bindings: of exchanges to exchanges, which are named where a queue is otherwise.
    """

    exchanges: Mapping[str, Exchange]
    queues: Mapping[str, Mapping[str, Any]]
    messages: Mapping[str, int]
    bindings: frozenset[Binding]
    consumers: Counter[str]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    exchange_bindings: frozenset[Binding] = frozenset()

    @classmethod
    def of(cls, management: Management) -> Self:
        """Ask the broker."""
        queues = management.queues()
        bound: defaultdict[str, set[Binding]] = defaultdict(set)
        for each in management.bindings():
            binding = Binding(each["source"], each["destination"], each["routing_key"])
            bound[each["destination_type"]].add(binding)
        return cls(
            exchanges={
                each["name"]: Exchange(each["name"], each["type"], each["auto_delete"])
                for each in management.exchanges()
            },
            queues={
                each["name"]: {"x-queue-type": each["type"], **each["arguments"]} for each in queues
            },
            messages={each["name"]: each.get("messages", 0) for each in queues},
            bindings=frozenset(bound["queue"]),
            exchange_bindings=frozenset(bound["exchange"]),
            consumers=management.consumers(),
            policies={each["name"]: _policy(each) for each in queues if _policy_name(each)},
        )


def _policy(queue: Mapping[str, Any]) -> Policy:
    return Policy(_policy_name(queue), queue.get("effective_policy_definition") or {})


def _policy_name(queue: Mapping[str, Any]) -> str:
    kinds = {"policy": queue.get("policy"), "operator policy": queue.get("operator_policy")}
    return " and ".join(f"{kind} {name}" for kind, name in kinds.items() if name)
