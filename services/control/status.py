"""The roll call as a table: who is there, in which state, and how deep the queues are."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from rabbit.operations.halt import MOST_EXPLAINED
from rabbit.operations.management import Depth
from rabbit.operations.replicas import Replica, Replicas, are_meant
from rabbit.terminal import escape, visible

#: How many replicas are shown at most.
MOST_SHOWN = 1000


class Status:
    """What there is to show: replicas, and what the queues hold."""

    def __init__(
        self,
        replicas: Replicas,
        there: Iterable[Replica],
        targets: Sequence[str],
        depths: Mapping[str, Depth],
    ) -> None:
        """Show the targets, and the queues that they read; without any: all.

        Args:
            replicas: explains those that have said nothing.
            there: who is there.
            targets: stages, or `stage/replica`.
            depths: what each queue holds.
        """
        meant = [each for each in there if are_meant(each.name, targets)]
        self._shown, self._more = meant[:MOST_SHOWN], len(meant[MOST_SHOWN:])
        silent = [each for each in self._shown if each.report is None]
        self._why = {each.name: replicas.explain(each) for each in silent[:MOST_EXPLAINED]}
        self._strange = replicas.strange
        read = {each.report.consumes for each in meant if each.report}
        self._depths = {
            name: depth for name, depth in depths.items() if not targets or name in read
        }

    def show(self, console: Console) -> None:
        """Print two tables, the replicas and the queues, and what the broker refuses."""
        console.print(self._replica_table())
        if self._more:
            console.print(f"{self._more} more replicas are not shown: name a stage")
        console.print(self._queue_table())
        for each in self._shown:
            if each.report and each.report.trouble:
                trouble = f"{escape(each.name)}: {visible(each.report.trouble)}"
                console.print(trouble, soft_wrap=True)
        if self._strange:
            console.print(self._strange, soft_wrap=True)

    def as_json(self) -> str:
        """Return the same for programs."""
        queues = {name: asdict(depth) for name, depth in self._depths.items()}
        rows = [self._row(each) for each in self._shown]
        told = {"replicas": rows, "queues": queues, "more": self._more, "strange": self._strange}
        return json.dumps(told, indent=2)

    def _explain(self, replica: Replica) -> str:
        return self._why.get(replica.name, "not answering")

    def _row(self, replica: Replica) -> dict[str, object]:
        if replica.report:
            return replica.report.model_dump(mode="json", exclude={"command_id", "version"})
        stage, _, name = replica.name.partition("/")
        return {"stage": stage, "replica": name, "state": self._explain(replica)}

    def _replica_table(self) -> Table:
        table = Table("stage", "replica", "state", "consumes → produces", title="Replicas")
        for name in ("in flight", "handled", "failed", "retried", "dead letters"):
            table.add_column(name, justify="right")
        table.add_column("since")
        for replica in self._shown:
            table.add_row(*self._cells(replica))
        return table

    def _cells(self, replica: Replica) -> tuple[str, ...]:
        report = replica.report
        stage, _, name = map(escape, replica.name.partition("/"))
        if report is None:
            return stage, name, visible(self._explain(replica))
        path = f"{escape(report.consumes or '')} → {escape(report.produces or '')}".strip()
        age = max(0, int((datetime.now(UTC) - report.since).total_seconds()))
        return (
            stage,
            name,
            report.state.value,
            path,
            str(report.in_flight),
            str(report.handled),
            str(report.failed),
            str(report.retried),
            str(report.dead_lettered),
            f"{report.since:%H:%M:%S} UTC ({age} s)",
        )

    def _queue_table(self) -> Table:
        table = Table("queue", title="Queues")
        for name in ("ready", "in flight", "retrying", "dead letters"):
            table.add_column(name, justify="right")
        for name, depth in self._depths.items():
            table.add_row(escape(name), *map(str, asdict(depth).values()))
        return table
