"""What the stages declare, held against what the broker has: findings come out."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from rabbit.operations.broker_state import BrokerState
from rabbit.operations.compose import DeclaredStage
from rabbit.operations.limits import bounds
from rabbit.operations.management import Management
from rabbit.topology import (
    CENSUS_SUFFIX,
    CONTROL_EXCHANGE,
    Binding,
    Declaration,
    Edge,
    Exchange,
    Queue,
    control_of_stage,
    fixed_part,
    is_control_queue,
    partition_queues,
    pause_mark,
)

#: What the management API tells of consumers lags behind by so much, in seconds.
LAG_SECONDS = 5.0
POLL_SECONDS = 0.5

#: What follows the name of a queue in the name of the one beside it that it is moved through.
BESIDE = ".moving"

#: What makes what stages with TOPOLOGY=given do not make themselves.
GIVE = "make secure; elsewhere import what control definitions prints, as the administrator"

#: The type of the exchange of an ordered edge.
ORDERED_EXCHANGE = "x-modulus-hash"

#: What follows the name of a queue in the names of those that belong to it.
PARTS = re.compile(r"\.(dead|retry\.\d+m?s)$")


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        problem: missing, differs, contradiction, loses, orphaned, undeclared, unfinished,
            unconsumed, unread, paused, ends or refused.
        what: queue, exchange, binding, edge, policy, limit, stage or certificate.
        name: its name.
        detail: what exactly, and what to do.
        stages: the stages it concerns.
    """

    problem: str
    what: str
    name: str
    detail: str
    stages: tuple[str, ...] = ()


class TopologyDiff:
    """One comparison of the stages with the broker."""

    def __init__(self, stages: Iterable[DeclaredStage], broker: BrokerState) -> None:
        """Compare these stages with what there is."""
        self._stages = list(stages)
        self._bounds = bounds(self._stages)
        self._broker = broker
        self._given = {each.name for each in self._stages if each.settings.topology == "given"}
        self._declared: list[tuple[Declaration, list[str]]] = []  # and by which stages
        self._own: set[str] = set()  # queues of replicas, which need not be there
        for stage in self._stages:
            self._note(stage)

    @property
    def declared(self) -> list[tuple[Declaration, list[str]]]:
        """What stages declare, and which stages."""
        return self._declared

    @property
    def broker(self) -> BrokerState:
        """What there is."""
        return self._broker

    def findings(self) -> list[Finding]:
        """Return every difference; none: all is as the stages declare it."""
        return [
            *self._contradictions(),
            *(
                each
                for item, stages in self._declared
                for each in self._compare(item, tuple(stages))
            ),
            *self._losing(),
            *self._unconsumed(),
            *self._unread(),
            *self._orphaned(),
            *self._undeclared_bindings(),
            *self._unfinished(),
            *self._unreached(),
        ]

    def _note(self, stage: DeclaredStage) -> None:
        """Note what a stage declares; of a queue that replicas have, what there is of it."""
        declared: list[Declaration] = []
        edge, output = stage.input(), stage.output
        if edge and edge.private:
            mine = fixed_part(edge)
            declared += mine
            for replica in self._replicas(edge):
                here = stage.input(replica)
                assert here is not None  # noqa: S101 - as above
                own = [each for each in here.for_consuming() if each not in mine]
                self._own |= {each.name for each in own if isinstance(each, Queue)}
                declared += [each for each in own if self._exists(each)]
        elif edge:
            declared += edge.for_consuming()
        declared += output.for_publishing() if output else ()
        mark = pause_mark(stage.name)  # what has never been there cannot be paused, nor need be
        control = control_of_stage(stage.name)
        declared += [
            each for each in control if isinstance(each, Exchange) or mark in self._broker.queues
        ]
        for item in declared:
            stages = next((by for other, by in self._declared if other == item), None)
            if stages is None:
                self._declared.append((item, [stage.name]))
            elif stage.name not in stages:
                stages.append(stage.name)

    def _replicas(self, edge: Edge) -> set[str]:
        """Return the replicas that have a queue of their own for a broadcast edge."""
        before = edge.queue.removesuffix("*")
        names = (name for name in self._broker.queues if name.startswith(before))
        return {PARTS.sub("", name).removeprefix(before) for name in names} - {"dead"}

    def _exists(self, item: Declaration) -> bool:
        match item:
            case Exchange(name):
                return name in self._broker.exchanges
            case Queue(name):
                return name in self._broker.queues
        return False

    def _compare(self, item: Declaration, stages: tuple[str, ...]) -> Iterator[Finding]:
        broker = self._broker
        start = self._how_to_make(stages)
        match item:
            case Exchange(name, type_, auto_delete):
                there = broker.exchanges.get(name)
                if there is None:
                    yield Finding("missing", "exchange", name, start, stages)
                elif (there.type, there.auto_delete) != (type_, auto_delete):
                    detail = f"declared {_shown(item)}, there is {_shown(there)}"
                    yield Finding("differs", "exchange", name, detail, stages)
            case Queue():
                yield from self._compare_queue(item, start, stages)
            case Binding(exchange, queue, key):
                ends = exchange in broker.exchanges and queue in broker.queues
                if ends and item not in broker.bindings:
                    name = f"{exchange} → {queue}"
                    yield Finding("missing", "binding", name, f"key {key!r}; {start}", stages)

    def _how_to_make(self, stages: Iterable[str]) -> str:
        """Say what makes something that these stages declare."""
        makers = [each for each in stages if each not in self._given]
        if makers:
            return f"start {' or '.join(makers)}: it is made then"
        return f"no stage makes it, with TOPOLOGY=given: {GIVE}"

    def _compare_queue(
        self, queue: Queue, start: str, stages: tuple[str, ...]
    ) -> Iterator[Finding]:
        there = self._broker.queues.get(queue.name)
        if there is None:
            if not self._is_beyond_partitions(queue.name):
                yield Finding("missing", "queue", queue.name, start, stages)
        elif queue.name.endswith(CENSUS_SUFFIX):
            then = "make secure, make up" if self._given >= {*stages} else "make up"
            yield from _partitions_differ(queue, there, stages, then)
        else:
            for detail in _differences(dict(queue.arguments), there):
                yield Finding("differs", "queue", queue.name, detail, stages)

    def _contradictions(self) -> Iterator[Finding]:
        """Find what two stages declare in different ways: the second one cannot start."""
        seen: dict[tuple[type, str], tuple[Declaration, list[str]]] = {}
        for item, stages in self._declared:
            if isinstance(item, Binding):
                continue
            first, by = seen.setdefault((type(item), item.name), (item, stages))
            if first != item:
                both = (*by, *stages)
                detail = f"{_shown(first)} by {both[0]}, {_shown(item)} by {stages[0]}"
                kind, name = type(item).__name__.lower(), item.name
                if name.endswith(CENSUS_SUFFIX):
                    kind, name = "edge", name.removesuffix(CENSUS_SUFFIX)
                    detail += ": set the same for all who write or read it"
                yield Finding("contradiction", kind, name, detail, both)

    def _losing(self) -> Iterator[Finding]:
        """Find policies that take from a queue of ours what is to be kept: each effect once."""
        losses: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for name in sorted(self._broker.policies.keys() & self._broker.queues.keys()):
            if self._is_ours(name):
                policy = self._broker.policies[name]
                meant = next((each.definition for each in self._bounds if each.is_for(name)), {})
                for key, effect in policy.losses(self._broker.queues[name]):
                    if key not in meant or policy.definition.get(key) != meant[key]:
                        losses[policy.name, key, effect].append(name)
        for (policy_name, key, effect), queues in losses.items():
            stages = dict.fromkeys(stage for queue in queues for stage in self._stages_of(queue))
            there = ", ".join(queues)
            cure = f"take {key} out of it, or let its pattern leave these queues out"
            detail = f"{key} on {there}: {effect}; {cure}"
            yield Finding("loses", "policy", policy_name, detail, tuple(stages))

    def _is_ours(self, name: str) -> bool:
        return (
            bool(self._stages_of(name))
            or name.startswith(f"{CONTROL_EXCHANGE}.")
            or self._looks_like_ours(name)
        )

    def _stages_of(self, queue: str) -> list[str]:
        """Return the stages that declare a queue."""
        return [
            stage
            for item, stages in self._declared
            if isinstance(item, Queue) and item.name == queue
            for stage in stages
        ]

    def _unconsumed(self) -> Iterator[Finding]:
        consumers = self._broker.consumers
        for stage in self._stages:
            edge = stage.input()
            if edge is None:
                continue
            if edge.private:
                own = [edge.queue.replace("*", replica) for replica in self._replicas(edge)]
            else:
                own = list(edge.queues)
            if self._broker.messages.get(pause_mark(stage.name)):
                detail = f"it takes no messages: make resume STAGE={stage.name}"
                yield Finding("paused", "stage", stage.name, detail, (stage.name,))
            elif not any(consumers[queue] for queue in own) and (
                edge.private or own[0] in self._broker.queues
            ):
                detail = f"no replica of {stage.name} reads it: is the stage up?"
                yield Finding("unconsumed", "queue", edge.queue, detail, (stage.name,))

    def _unread(self) -> Iterator[Finding]:
        read = {edge.name for stage in self._stages if (edge := stage.input())}
        for stage in self._stages:
            if stage.output and stage.output.name not in read:
                detail = f"{stage.name} writes to it and no stage has it as INPUT_QUEUE"
                yield Finding("unread", "edge", stage.output.name, detail, (stage.name,))

    def _orphaned(self) -> Iterator[Finding]:
        known = self._own | {each.name for each, _ in self._declared if isinstance(each, Queue)}
        for name in sorted(self._broker.queues.keys() - known):
            if f"{_edge_of_partition(name)}{CENSUS_SUFFIX}" in known:
                continue  # of another number of partitions, which is told: see `_partitions_differ`
            if self._looks_like_ours(name):
                number = self._broker.messages.get(name, 0)
                detail = (
                    f"no stage declares it; messages in it: {number}. Delete it if nobody else does"
                )
                yield Finding("orphaned", "queue", name, detail)

    def _undeclared_bindings(self) -> Iterator[Finding]:
        """Find what joins two of ours and no stage declares: an old key, or somebody's mischief.

        To an ordered edge nothing else may be bound at all: it would be given keys.
        """
        ours = [each for each, _ in self._declared]
        exchanges = {each.name: each.type for each in ours if isinstance(each, Exchange)}
        queues = {each.name for each in ours if isinstance(each, Queue)} - self._own
        broker = self._broker
        there = [(each, each.queue in queues) for each in broker.bindings]
        there += [(each, each.queue in exchanges) for each in broker.exchange_bindings]
        for each, is_to_ours in sorted(there, key=str):
            if each.exchange not in exchanges or each in ours:
                continue
            is_ordered = exchanges[each.exchange] == ORDERED_EXCHANGE
            if is_ordered and not self._is_partition(each.queue, each.exchange):
                why = (
                    "an ordered edge shares its keys out among all that is bound to it: order is "
                    "broken, and messages go astray. Unbind it; to tap them, read behind a stage"
                )
            elif is_to_ours:
                why = (
                    "no stage declares it; messages come this way that are not meant to: unbind "
                    "it if nobody else does"
                )
            else:
                continue
            name = f"{each.exchange} → {each.queue}"
            yield Finding("undeclared", "binding", name, f"key {each.key!r}: {why}")

    def _is_partition(self, queue: str, edge: str) -> bool:
        """Tell whether it is one, by the number of partitions that the edge has at the broker."""
        number = self._broker.queues.get(f"{edge}{CENSUS_SUFFIX}", {}).get("x-max-length", 0)
        return queue in partition_queues(edge, number)

    def _unfinished(self) -> Iterator[Finding]:
        """Find moves that were interrupted: what the queue held is beside it."""
        for name in sorted(self._broker.queues):
            queue = moved_queue(name)
            if queue:
                number = self._broker.messages.get(name, 0)
                detail = (
                    f"{queue} was being moved; messages in it: {number}. make doctor ARGS=--fix"
                )
                stages = tuple(self._stages_of(queue))
                yield Finding("unfinished", "queue", name, detail, stages)

    def _unreached(self) -> Iterator[Finding]:
        """Find replicas whose control queue hears nothing: the exchange was deleted, say."""
        bound = {each.queue for each in self._broker.bindings if each.exchange == CONTROL_EXCHANGE}
        for name, arguments in sorted(self._broker.queues.items()):
            if is_control_queue(name, arguments) and name not in bound:
                detail = "no command reaches this replica: make halt binds it again, and halts it"
                yield Finding("missing", "binding", f"{CONTROL_EXCHANGE} → {name}", detail)

    def _is_beyond_partitions(self, name: str) -> bool:
        """Tell whether an ordered edge has fewer partitions than that, which is told."""
        edge = _edge_of_partition(name)
        there = self._broker.queues.get(f"{edge}{CENSUS_SUFFIX}", {}).get("x-max-length")
        return there is not None and int(name.removeprefix(f"{edge}.")) >= there

    def _looks_like_ours(self, name: str) -> bool:
        """Tell by the exchanges beside it whether a queue is of a stage that there was."""
        if name.startswith(f"{CONTROL_EXCHANGE}."):
            return False
        exchanges = self._broker.exchanges
        if f"{_edge_of_partition(name)}{CENSUS_SUFFIX}" in self._broker.queues:
            return True
        return Edge(name).dead in exchanges or (bool(PARTS.search(name)) and name in exchanges)


def moved_queue(name: str) -> str:
    """Return the queue that is moved through the one of this name; "" if none is."""
    return name.removesuffix(BESIDE) if name.endswith(BESIDE) else ""


def _differences(declared: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(declared.keys() | there.keys()):
        one, other = declared.get(name), there.get(name)
        if one != other:
            yield f"{name}: declared {_value(one)}, there is {_value(other)}"


def _edge_of_partition(name: str) -> str:
    """Return the ordered edge that a queue may be a partition of, by its name; "" otherwise."""
    edge, _, number = name.rpartition(".")
    return edge if number.isdecimal() else ""


def _partitions_differ(
    census: Queue, there: Mapping[str, Any], stages: tuple[str, ...], then: str
) -> Iterator[Finding]:
    """Find another number of partitions, and what makes it; see `Edge.census`."""
    edge, declared = census.name.removesuffix(CENSUS_SUFFIX), census.arguments["x-max-length"]
    if (number := there.get("x-max-length")) != declared:
        detail = (
            f"PARTITIONS: declared {declared}, there are {number}; set it as it is, or change it: "
            f"make drain, make repartition ARGS={edge}, {then}"
        )
        yield Finding("differs", "edge", edge, detail, stages)


def _value(value: object) -> str:
    return "none" if value is None else repr(value)


def _shown(item: Declaration) -> str:
    match item:
        case Exchange(_, type_, auto_delete):
            return f"{type_}{', auto-delete' if auto_delete else ''}"
        case Queue(name, arguments) if name.endswith(CENSUS_SUFFIX):
            return f"PARTITIONS={arguments['x-max-length']}"
        case Queue(_, arguments):
            return ", ".join(f"{name}={value}" for name, value in sorted(arguments.items()))
    return str(item)


def differences(declared: list[DeclaredStage], management: Management) -> list[Finding]:
    """Compare what stages declare with what the broker has; see `compared`."""
    return compared(declared, management).findings()


def compared(declared: list[DeclaredStage], management: Management) -> TopologyDiff:
    """Compare what stages declare with what the broker has.

    It looks again for a while when somebody seems not to consume: that figure lags behind.
    """
    deadline = monotonic() + LAG_SECONDS
    while True:
        diff = TopologyDiff(declared, BrokerState.of(management))
        lagging = any(each.problem == "unconsumed" for each in diff.findings())
        if not lagging or monotonic() > deadline:
            return diff
        sleep(POLL_SECONDS)
