"""The pipeline as tables or as JSON: stages and their replicas, and how deep the queues are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from types import MappingProxyType

from rich.console import Console, Group, RenderableType

from rabbit.operations.looks import Look, Seen
from rabbit.operations.pipeline import Age, Edge, Stage, pipeline
from rabbit.terminal import escape, visible

from .text import Rows

#: How many replicas are shown at most, and of how many it is told what is wrong.
MOST_SHOWN = 1000
MOST_TOLD = 20

#: What was there when the watch began is told to be older than that from so many seconds on.
LEAST_WATCHED_SECONDS = 5.0

#: From so many seconds on, a time is shown in minutes; and from so many on, in hours.
_MINUTES, _HOURS = 120, 2 * 3600


class Status:
    """What there is to show of a look at the pipeline."""

    def __init__(
        self,
        now: Look,
        before: Look | None = None,
        *,
        ages: Mapping[str, Age] = MappingProxyType({}),
        each_replica: bool = False,
        certificates: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Show it.

        Args:
            now: what there is.
            before: an earlier look: rates are those since then.
            ages: how old the oldest message of each queue is.
            each_replica: show each of a stage's replicas, not all of them in one row.
            certificates: what is to be said of the certificates of brokers, by broker.
        """
        self._certificates = certificates
        self._pipeline = pipeline(now, before, ages)
        self._replicas = now.replicas[:MOST_SHOWN]
        self._more = len(now.replicas[MOST_SHOWN:])
        self._depths = now.depths
        self._partitions = now.partitions
        self._alarm = now.alarm
        self._each_replica = each_replica

    def tables(self) -> RenderableType:
        """Return two tables, the stages and the queues, and below them what is wrong."""
        return Group(self._first_table(), self._queue_table(), *self._lines())

    def show(self, console: Console) -> None:
        """Print the same; what is wrong on a line for each, however long."""
        console.print(self._first_table())
        console.print(self._queue_table())
        for line in self._lines():
            console.print(line, soft_wrap=True)

    def as_json(self) -> str:
        """Return the same for programs, and more."""
        told = {
            "stages": [_stage_row(each) for each in self._pipeline.stages],
            "edges": [_edge_row(each) for each in self._pipeline.edges],
            "replicas": [
                {**_replica_row(each), "active": self._partitions.get(each.name, ())}
                for each in self._replicas
            ],
            "queues": {name: asdict(depth) for name, depth in self._depths.items()},
            "paused": self._pipeline.paused,
            "more": self._more,
            "strange": self._pipeline.strange,
            "alarm": self._alarm,
            "certificates": dict(self._certificates),
        }
        return json.dumps(told, indent=2)

    def _lines(self) -> Iterator[str]:
        """Yield what does not fit into the tables."""
        if self._more and self._each_replica:
            yield f"{self._more} more replicas are not shown: name a stage"
        if self._alarm:
            yield (
                f"the broker is {visible(self._alarm)} and takes no messages: who publishes waits, "
                "and answers do; sinks work on"
            )
        yield from filter(None, map(self._whose_partitions, self._replicas))
        told = [
            f"{escape(each.name)}: {visible(wrong)}"
            for each in self._replicas
            if (wrong := _what_is_wrong(each, silence=not self._each_replica))
        ]
        yield from told[:MOST_TOLD]
        if len(told) > MOST_TOLD:
            yield f"and {len(told) - MOST_TOLD} more replicas: --replicas shows them"
        away = {*self._pipeline.paused} - {each.name for each in self._pipeline.stages}
        for stage in sorted(away):
            yield f"{escape(stage)}: nobody is there, and who comes is paused"
        if self._pipeline.strange:
            yield self._pipeline.strange
        yield from (f"{escape(broker)}: {said}" for broker, said in self._certificates.items())

    def _whose_partitions(self, replica: Seen) -> str | None:
        """Say which partitions a replica has, if it reads an ordered edge."""
        report = replica.report
        if report is None or not report.partitions:
            return None
        numbers = self._partitions.get(replica.name)
        has = f"partitions {', '.join(numbers)}" if numbers else "standby, no partition"
        return f"{escape(replica.name)}: {has} of {escape(report.consumes or '')}"

    def _first_table(self) -> Rows:
        return self._replica_table() if self._each_replica else self._stage_table()

    def _stage_table(self) -> Rows:
        numbers = (
            *("in flight", "handled", "a second", "failed", "retried", "dead letters"),
            *("a call takes", "the oldest"),
        )
        rows = map(_stage_cells, self._pipeline.stages)
        return Rows("Stages", ("stage", "replicas", "consumes → produces"), numbers, rows)

    def _replica_table(self) -> Rows:
        names = ("stage", "replica", "state", "consumes → produces")
        numbers = ("in flight", "handled", "failed", "retried", "dead letters", "requeued", "since")
        return Rows("Replicas", names, numbers, map(_replica_cells, self._replicas))

    def _queue_table(self) -> Rows:
        numbers = (
            *("ready", "in flight", "in, a second", "out", "the oldest", "empty in"),
            *("retrying", "dead letters"),
        )
        return Rows("Queues", ("queue",), numbers, map(_edge_cells, self._pipeline.edges))


def _stage_row(stage: Stage) -> dict[str, object]:
    """Return all that is known of a stage; its replicas by their names."""
    replicas = [each.name.partition("/")[2] for each in stage.replicas]
    return {**vars(stage), "replicas": replicas}


def _edge_row(edge: Edge) -> dict[str, object]:
    return {**asdict(edge), "seconds_until_empty": edge.seconds_until_empty}


def _replica_row(replica: Seen) -> dict[str, object]:
    if replica.report:
        told = replica.report.model_dump(mode="json", exclude={"command_id", "version"})
        return {**told, "state": replica.state}
    stage, _, name = replica.name.partition("/")
    return {"stage": stage, "replica": name, "state": replica.silence or replica.state}


def _stage_cells(stage: Stage) -> tuple[str, ...]:
    states = [f"{number} {state}" for state, number in sorted(stage.states.items())]
    path = _path(", ".join(stage.consumes[:1]), stage.produces)
    return (
        escape(stage.name),
        ", ".join(states),
        path,
        str(stage.in_flight),
        str(stage.totals["handled"]),
        _rate(stage.rates.get("handled")),
        *(str(stage.totals[name]) for name in ("failed", "retried", "dead_lettered")),
        "" if stage.handler_seconds is None else _seconds(stage.handler_seconds),
        _seconds(stage.oldest_seconds) if stage.oldest_seconds else "",
    )


def _replica_cells(replica: Seen) -> tuple[str, ...]:
    report = replica.report
    stage, _, name = map(escape, replica.name.partition("/"))
    if report is None:
        return stage, name, visible(replica.silence or replica.state)
    age = max(0, int((datetime.now(UTC) - report.since).total_seconds()))
    numbers = (report.in_flight, report.handled, report.failed, report.retried)
    return (
        stage,
        name,
        replica.state,
        _path(report.consumes, report.produces),
        *map(str, (*numbers, report.dead_lettered, report.requeued)),
        f"{report.since:%H:%M:%S} UTC ({age} s)",
    )


def _edge_cells(edge: Edge) -> tuple[str, ...]:
    depth = edge.depth
    until = edge.seconds_until_empty
    is_growing = until is None and edge.rate_in and edge.rate_in > (edge.rate_out or 0)
    return (
        escape(edge.name),
        str(depth.ready),
        str(depth.in_flight),
        _rate(edge.rate_in),
        _rate(edge.rate_out),
        _age(edge.oldest),
        ("grows" if is_growing else "") if until is None else _seconds(until) if until else "",
        str(depth.retrying),
        str(depth.dead_letters),
    )


def _age(age: Age | None) -> str:
    """Say how old it is; of what was not seen to come, nothing before that means something."""
    if age is None or (not age.is_exact and age.seconds < LEAST_WATCHED_SECONDS):
        return ""
    return _seconds(age.seconds) if age.is_exact else f"> {_seconds(age.seconds)}"


def _what_is_wrong(replica: Seen, *, silence: bool) -> str | None:
    if replica.report is None:
        return replica.silence if silence else None
    return replica.report.trouble


def _path(consumes: str | None, produces: str | None) -> str:
    return f"{escape(consumes or '')} → {escape(produces or '')}".strip()


def _rate(rate: float | None) -> str:
    if rate is None:
        return ""
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"  # noqa: PLR2004 - three digits


def _seconds(seconds: float) -> str:
    """Say how long, with as many digits as matter."""
    if seconds >= _HOURS:
        return f"{seconds / 3600:.0f} h"
    if seconds >= _MINUTES:
        return f"{seconds / 60:.0f} min"
    if seconds >= 1:
        return f"{seconds:.0f} s"
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{1000 * milliseconds:.0f} µs"
