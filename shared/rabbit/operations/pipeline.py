"""The pipeline as it is: stages and edges in flow order, with rates between two looks. Pure.

Whoever presents it, a table, a page or numbers for another program, presents the same.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from rabbit.control.messages import Report
from rabbit.errors import RabbitError
from rabbit.operations.drain import flow_order
from rabbit.operations.looks import Look, Seen
from rabbit.operations.management import Depth

#: The totals of a report that rates are made of.
TOTALS = ("handled", "failed", "retried", "dead_lettered", "requeued")


@dataclass(frozen=True)
class Stage:
    """One stage, all its replicas taken together.

    Attributes:
        name: the stage's name.
        replicas: them, by name.
        states: how many are in which state; see `Seen.state`.
        consumes: the queues they read; none for a source.
        produces: the exchange it writes to; None for a sink.
        totals: handled, failed, retried, dead_lettered and requeued since each of them started.
        rates: the same per second, between two looks; empty after the first look.
        in_flight: messages delivered and not acked; for a source, not confirmed.
        oldest_seconds: how long the oldest call that runs now has been running.
        handler_seconds: how long a call of `work` took on average, between two looks or, after the
            first one, since they started; None: there was no call.
    """

    name: str
    replicas: tuple[Seen, ...]
    states: Mapping[str, int]
    consumes: tuple[str, ...]
    produces: str | None
    totals: Mapping[str, int]
    rates: Mapping[str, float] = field(default_factory=dict)
    in_flight: int = 0
    oldest_seconds: float = 0.0
    handler_seconds: float | None = None


@dataclass(frozen=True)
class Age:
    """For how long the oldest message of a queue has waited that is ready; see `Ages`.

    Attributes:
        seconds: so long.
        is_exact: whether it was seen to come, to half the time between two looks; otherwise it was
            there before, and this is for how long the queue has been watched.
    """

    seconds: float
    is_exact: bool


@dataclass(frozen=True)
class Edge:
    """A queue between stages, with what belongs to it.

    Attributes:
        name: the queue; where each replica has one of its own, all of them as `EDGE.STAGE.*`.
        writers: the stages that write to it.
        readers: the stages that read it.
        depth: what it holds.
        rate_in: messages that come, per second, between two looks; None after the first look.
        rate_out: messages that its readers have settled, per second; likewise.
        oldest: how old the oldest message is that is ready; None: none is, or nobody has watched.
    """

    name: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    depth: Depth
    rate_in: float | None = None
    rate_out: float | None = None
    oldest: Age | None = None

    @property
    def waiting(self) -> int:
        """Messages that have still to be handled, retries aside."""
        return self.depth.ready + self.depth.in_flight

    @property
    def seconds_until_empty(self) -> float | None:
        """How long it takes at these rates until it is empty; None: for ever, or unknown."""
        if not self.waiting:
            return 0.0
        if self.rate_in is None or self.rate_out is None or self.rate_out <= self.rate_in:
            return None
        return self.waiting / (self.rate_out - self.rate_in)


@dataclass(frozen=True)
class Pipeline:
    """All of it.

    Attributes:
        stages: in flow order, or by name where they form a circle.
        edges: in the order of the stages that read them, then those that nobody reads.
        paused: as in a `Look`.
        seconds: between the two looks; 0: there was one.
        strange: as in a `Look`.
    """

    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    paused: tuple[str, ...] = ()
    seconds: float = 0.0
    strange: str | None = None


def pipeline(
    now: Look, before: Look | None = None, ages: Mapping[str, Age] = MappingProxyType({})
) -> Pipeline:
    """Put a look together.

    Args:
        now: what there is.
        before: an earlier look: rates are those since then.
        ages: how old the oldest message is, by the name of the edge.
    """
    seconds = now.moment - before.moment if before else 0.0
    earlier = before if before and seconds > 0 else None
    stages = tuple(
        _stage(name, [each for each in now.replicas if each.stage == name], earlier, seconds)
        for name in _in_order(now.replicas)
    )
    edges = tuple(
        replace(edge, oldest=ages.get(edge.name)) for edge in _edges(stages, now, earlier, seconds)
    )
    return Pipeline(stages, edges, now.paused, seconds if earlier else 0.0, now.strange)


def _in_order(replicas: Iterable[Seen]) -> list[str]:
    """Return the names of stages in flow order; where nobody has spoken, it is not known."""
    replicas = list(replicas)
    try:
        known = [each.name for each in flow_order([each.last for each in replicas if each.last])]
    except RabbitError:  # a circle
        known = []
    return list(dict.fromkeys([*known, *sorted(each.stage for each in replicas)]))


def _stage(name: str, replicas: list[Seen], before: Look | None, seconds: float) -> Stage:
    reports = [each.report for each in replicas if each.report]
    told = [each.last for each in replicas if each.last]
    states = Counter(each.state for each in replicas)
    gained = _gained(replicas, before) if before else None
    handler_seconds, calls = gained[1:] if gained and gained[2] else _handler_time(reports)
    return Stage(
        name,
        tuple(replicas),
        states,
        tuple(sorted({each.consumes for each in told if each.consumes})),
        next((each.produces for each in told if each.produces), None),
        _totals(told),
        {total: count / seconds for total, count in gained[0].items()} if gained else {},
        sum(each.in_flight for each in reports),
        max((each.oldest_seconds for each in reports), default=0.0),
        handler_seconds / calls if calls else None,
    )


def _totals(reports: Iterable[Report]) -> dict[str, int]:
    reports = list(reports)
    return {total: sum(getattr(each, total) for each in reports) for total in TOTALS}


def _handler_time(reports: Iterable[Report]) -> tuple[float, int]:
    """Return how long calls of `work` took, and how many they were."""
    reports = list(reports)
    calls = sum(sum(each.handler_buckets) for each in reports)
    return sum(each.handler_seconds for each in reports), calls


def _gained(replicas: Iterable[Seen], before: Look) -> tuple[dict[str, int], float, int]:
    """Return what was added since: totals, handler time and calls.

    A process that has started since has added all that it says. What one that has gone since did
    meanwhile nobody knows, nor what one did that was silent then, or was not seen though it ran.
    """
    silent = {each.name for each in before.replicas if not each.report}
    then = {(each.name, each.process): each.report for each in before.replicas}

    def is_known(each: Seen) -> bool:
        if (each.name, each.process) in then:
            return each.name not in silent
        has_run = before.at and each.report and each.report.since < before.at
        return each.name not in silent and not has_run

    known = list(filter(is_known, replicas))
    old = [then.get((each.name, each.process)) for each in known]
    reports, old_reports = [each.report for each in known if each.report], [e for e in old if e]
    totals, past = _totals(reports), _totals(old_reports)
    (seconds, calls), (past_seconds, past_calls) = map(_handler_time, (reports, old_reports))
    gained = {total: max(0, count - past[total]) for total, count in totals.items()}
    return gained, max(0.0, seconds - past_seconds), max(0, calls - past_calls)


def _edges(
    stages: Iterable[Stage], now: Look, before: Look | None, seconds: float
) -> Iterator[Edge]:
    """Yield what stages read, in their order, then the queues that are left."""
    stages = list(stages)
    exchanges = {
        queue: each.last.exchange
        for each in now.replicas
        if each.last and (queue := each.last.consumes)
    }
    left = dict(now.depths)
    for stage in stages:
        queues = [queue for queue in stage.consumes if queue in left]
        if not queues:
            continue
        readers = [each for each in stages if set(each.consumes) & set(queues)]
        exchange = exchanges[queues[0]]
        writers = [each.name for each in stages if each.produces == exchange]
        name = queues[0] if len(queues) == 1 else f"{exchange}.{stage.name}.*"
        depth = _added(left.pop(queue) for queue in queues)
        edge = Edge(name, tuple(writers), tuple(each.name for each in readers), depth)
        yield _with_rates(edge, queues, readers, before, seconds)
    for queue, depth in left.items():
        writers = [each.name for each in stages if each.produces == queue]
        yield _with_rates(Edge(queue, tuple(writers), (), depth), [queue], [], before, seconds)


def _added(depths: Iterable[Depth]) -> Depth:
    total = Depth()
    for each in depths:
        total.ready += each.ready
        total.in_flight += each.in_flight
        total.retrying += each.retrying
        total.dead_letters += each.dead_letters
    return total


def _with_rates(
    edge: Edge, queues: list[str], readers: list[Stage], before: Look | None, seconds: float
) -> Edge:
    """Return the edge with rates: what its readers settle, and what comes beside that.

    What comes is not counted by anybody who would say so: it is by how much the queue has grown
    more than it would have.
    """
    if before is None:
        return edge
    then = _added(before.depths[queue] for queue in queues if queue in before.depths)
    settled = sum(each.rates["handled"] + each.rates["failed"] for each in readers)
    grown = (edge.waiting - then.ready - then.in_flight) / seconds
    return Edge(
        edge.name, edge.writers, edge.readers, edge.depth, max(0.0, settled + grown), settled
    )
