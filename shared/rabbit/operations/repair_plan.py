"""What can be done about the differences between the stages and the broker. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rabbit.operations.topology_diff import BESIDE, PARTS, Finding, TopologyDiff, moved_queue
from rabbit.topology import (
    CENSUS_SUFFIX,
    CONTROL_EXCHANGE,
    Binding,
    Declaration,
    Edge,
    Exchange,
    Queue,
)

#: What has one of these is not moved: a queue of one replica, which goes away by itself, and a
#: partition of an ordered edge: while it has no binding, keys go to other ones. Nor is a stream.
_NOT_MOVED = {"x-expires", "x-single-active-consumer"}


@dataclass(frozen=True)
class Move:
    """A queue that is to have other arguments.

    Attributes:
        queue: as it is declared.
        stages: the stages that declare it: they have to be halted.
        why: what differs.
        messages: how many it holds, with the queue beside it, more or less.
    """

    queue: Queue
    stages: tuple[str, ...]
    why: str
    messages: int


@dataclass(frozen=True)
class Orphan:
    """A queue that no stage declares any more, and that is empty.

    Attributes:
        queue: its name.
        of: the queue whose retries or dead letters it holds; "" if it is none of these.
        exchanges: those beside it that no stage declares either.
    """

    queue: str
    of: str
    exchanges: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What to do, in this order, and what is left.

    Attributes:
        create: exchanges, then queues, then bindings.
        delete: empty orphans.
        move: queues whose arguments differ.
        left: what this is no cure for.
    """

    create: list[Declaration] = field(default_factory=list)
    delete: list[Orphan] = field(default_factory=list)
    move: list[Move] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.create or self.delete or self.move)

    @property
    def stages(self) -> list[str]:
        """The stages that have to be halted for it."""
        return list(dict.fromkeys(stage for move in self.move for stage in move.stages))


def repair_plan(diff: TopologyDiff) -> Plan:
    """Return what can be done about what a comparison has found."""
    findings = diff.findings()
    contradicted = {each.name for each in findings if each.problem == "contradiction"}
    move = list(_moves(diff, findings, contradicted))
    create = list(_missing(diff, findings, contradicted, {each.queue.name for each in move}))
    delete = list(_empty_orphans(diff, findings))
    cured = {*(each.queue for each in delete), *(each.queue.name for each in move)}
    cured |= {f"{each.queue.name}{BESIDE}" for each in move}
    left = [
        each
        for each in findings
        if each.name in contradicted
        or not (each.problem == "missing" or (each.what == "queue" and each.name in cured))
    ]
    return Plan(create, delete, move, left)


def _missing(
    diff: TopologyDiff, findings: Iterable[Finding], contradicted: set[str], moved: set[str]
) -> Iterator[Declaration]:
    """Yield what is missing; a queue that is half moved is made when that goes on."""
    broker, ends = diff.broker, set(diff.broker.queues) | moved
    kinds: dict[type, list[Declaration]] = {Exchange: [], Queue: [], Binding: []}
    for item, _ in diff.declared:
        match item:
            case Exchange(name) if name not in broker.exchanges and name not in contradicted:
                kinds[Exchange].append(item)
            case Queue(name) if name not in ends and name not in contradicted:
                kinds[Queue].append(item)
            case Binding(exchange, queue) if item not in broker.bindings:
                if queue not in moved - set(broker.queues) and not contradicted & {exchange, queue}:
                    kinds[Binding].append(item)
    for name in _unreached(findings):
        kinds[Binding].append(Binding(CONTROL_EXCHANGE, name, ""))
    for items in kinds.values():
        yield from items


def _unreached(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the control queues that no command gets to."""
    start = f"{CONTROL_EXCHANGE} → "
    for each in findings:
        if each.problem == "missing" and each.name.startswith(start) and not each.stages:
            yield each.name.removeprefix(start)


def _moves(
    diff: TopologyDiff, findings: Iterable[Finding], contradicted: set[str]
) -> Iterator[Move]:
    """Yield what differs, or was being moved, and may be."""
    why: dict[str, list[str]] = {}
    for each in findings:
        if (each.problem, each.what) == ("differs", "queue"):
            why.setdefault(each.name, []).append(each.detail)
        elif each.problem == "unfinished":
            why.setdefault(moved_queue(each.name), []).append("a move was interrupted")
    messages = diff.broker.messages
    for item, stages in diff.declared:
        if isinstance(item, Queue) and item.name in why and item.name not in contradicted:
            kind = diff.broker.queues.get(item.name, {}).get("x-queue-type")
            if item.arguments.keys() & _NOT_MOVED or kind == "stream":
                continue
            number = messages.get(item.name, 0) + messages.get(f"{item.name}{BESIDE}", 0)
            yield Move(item, tuple(stages), "; ".join(why[item.name]), number)


def _empty_orphans(diff: TopologyDiff, findings: Iterable[Finding]) -> Iterator[Orphan]:
    """Yield orphans that hold nothing; the dead letters of one that does are left, too."""
    orphans = {each.name for each in findings if each.problem == "orphaned"}
    full = {name for name in orphans if not _is_idle(diff, name)}
    declared = {item.name for item, _ in diff.declared if isinstance(item, Exchange)}
    for name in sorted(orphans - full):  # a queue before those of its dead letters and retries
        of = PARTS.sub("", name) if PARTS.search(name) else ""
        if of not in full and not _is_partition(diff, name):
            beside = {name, Edge(name).back} & diff.broker.exchanges.keys()
            yield Orphan(name, of, tuple(sorted(beside - declared)))


def _is_partition(diff: TopologyDiff, name: str) -> bool:
    """Tell whether keys of an ordered edge go there: that is for `make repartition` to change."""
    edge = name.rpartition(".")[0]
    return f"{edge}{CENSUS_SUFFIX}" in diff.broker.queues


def _is_idle(diff: TopologyDiff, name: str) -> bool:
    return not (diff.broker.messages.get(name, 0) or diff.broker.consumers[name])
