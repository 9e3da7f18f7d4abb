"""What is wrong with a cluster of brokers: nodes that are away, and queues with too few copies."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from rabbit.operations.engine import COMPOSE, Engine
from rabbit.operations.management import Management
from rabbit.operations.topology_diff import Finding


@dataclass(frozen=True)
class Node:
    """One broker, as another one, or itself, sees it.

    Attributes:
        name: as `rabbit@rabbitmq2`.
        runs: whether it is connected to who says so.
        is_drained: whether it is in maintenance (`rabbitmq-upgrade drain`).
        version: of RabbitMQ; "" if it does not run.
    """

    name: str
    runs: bool
    is_drained: bool = False
    version: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """Read what the management API tells."""
        versions = (
            each["version"] for each in told.get("applications", ()) if each["name"] == "rabbit"
        )
        runs, drained = bool(told.get("running")), bool(told.get("being_drained"))
        return cls(told["name"], runs, drained, next(versions, ""))


class Cluster:
    """The nodes, as each broker that answers sees them, and the copies of the queues."""

    def __init__(
        self,
        views: Iterable[Iterable[Node]],
        queues: Iterable[Mapping[str, Any]] = (),
        engine: Engine = COMPOSE,
    ) -> None:
        """Look at these.

        Args:
            views: all nodes, as each broker that answers sees them: where these differ, the
                network between them is cut.
            queues: as the management API lists them.
            engine: what runs the brokers.
        """
        self._engine = engine
        self._views = [list(view) for view in views]
        self._queues = list(queues)
        self._nodes: dict[str, Node] = {}
        for node in (node for view in self._views for node in view):
            if node.name not in self._nodes or node.runs:
                self._nodes[node.name] = node

    @classmethod
    def of(cls, management: Management, engine: Engine = COMPOSE) -> Self:
        """Ask all brokers that answer."""
        views = [[Node.of(each) for each in view] for view in management.nodes()]
        return cls(views, management.queues(), engine)

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def findings(self) -> list[Finding]:
        """Return what is wrong; nothing of a broker that is alone, unless it is in maintenance."""
        return [
            *self._away(),
            *self._cut(),
            *self._drained(),
            *self._versions(),
            *self._members(),
        ]

    def _away(self) -> Iterator[Finding]:
        for node in self._nodes.values():
            if not node.runs:
                detail = f"it does not run, or nobody reaches it: {self._engine.look_at_brokers}"
                yield Finding("down", "node", node.name, detail)

    def _cut(self) -> Iterator[Finding]:
        """Find nodes that run, and that not all others see."""
        for name, node in self._nodes.items():
            blind = {_eye(view) for view in self._views if not _sees(view, name)}
            if node.runs and blind:
                who = ", ".join(sorted(blind))
                detail = f"it runs, and is not seen by {who}: the network between is cut"
                yield Finding("partition", "node", name, detail)

    def _drained(self) -> Iterator[Finding]:
        for node in self._nodes.values():
            if node.runs and node.is_drained:
                detail = (
                    "it takes no clients and leads no queue: rabbitmq-upgrade revive in its "
                    "container, or restart it"
                )
                yield Finding("maintenance", "node", node.name, detail)

    def _versions(self) -> Iterator[Finding]:
        nodes: defaultdict[str, list[str]] = defaultdict(list)
        for node in self._nodes.values():
            if node.version:
                nodes[node.version].append(node.name)
        if len(nodes) > 1:
            told = "; ".join(f"{version}: {', '.join(names)}" for version, names in nodes.items())
            detail = f"{told}. Finish the upgrade: {self._engine.finish_upgrade}"
            yield Finding("version", "node", "RabbitMQ", detail)

    def _members(self) -> Iterator[Finding]:
        """Find queues that have fewer copies than there are nodes, or of which one is away."""
        serving = {name for name, node in self._nodes.items() if node.runs and not node.is_drained}
        for queue in self._queues:
            members, online = queue.get("members"), set(queue.get("online") or ())
            if members is None:  # a classic queue has one place
                continue
            missing = self._nodes.keys() - set(members)
            if missing:
                without = ", ".join(sorted(missing))
                detail = (
                    f"{len(members)} of {self.size} nodes have a copy, not {without}: wait until "
                    "the broker makes one, or rabbitmq-queues grow NODE all"
                )
                yield Finding("members", "queue", queue["name"], detail)
            behind = serving & set(members) - online
            if behind:
                detail = (
                    f"its copy on {', '.join(sorted(behind))} does not run, though the node does"
                )
                yield Finding("members", "queue", queue["name"], detail)


def _sees(view: Iterable[Node], name: str) -> bool:
    return any(each.name == name and each.runs for each in view)


def _eye(view: list[Node]) -> str:
    """Name who has this view, by whom it sees: itself, and those on its side."""
    return " and ".join(each.name for each in view if each.runs)
