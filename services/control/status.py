"""The roll call as a table: who is there, in which state, and how deep the queues are."""

import json
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from .management import Management
from .replicas import Replica, Replicas


def show(replicas: Replicas, management: Management, console: Console) -> None:
    """Print two tables: the replicas and the queues."""
    console.print(_replica_table(replicas))
    console.print(_queue_table(management))


def as_json(replicas: Replicas, management: Management) -> str:
    """Return the same for programs."""
    rows = [
        each.report.model_dump(mode="json", exclude={"command_id", "version"})
        if each.report
        else {"replica": each.name, "state": replicas.explain(each)}
        for each in replicas
    ]
    queues = {
        name: {"ready": ready, "in_flight": in_flight}
        for name, (ready, in_flight) in _data_queues(management).items()
    }
    return json.dumps({"replicas": rows, "queues": queues}, indent=2)


def _replica_table(replicas: Replicas) -> Table:
    table = Table("stage", "replica", "state", "consumes → produces", title="Replicas")
    table.add_column("in flight", justify="right")
    table.add_column("handled", justify="right")
    table.add_column("since")
    for replica in replicas:
        table.add_row(*_cells(replica, replicas))
    return table


def _cells(replica: Replica, replicas: Replicas) -> tuple[str, ...]:
    report = replica.report
    if report is None:
        stage, _, name = replica.name.partition("/")
        return stage, name, replicas.explain(replica), "", "", "", ""
    path = f"{report.consumes or ''} → {report.produces or ''}".strip()
    age = datetime.now(UTC) - report.since
    since = f"{report.since:%H:%M:%S} UTC ({int(age.total_seconds())} s)"
    return (
        report.stage,
        report.replica,
        report.state.value,
        path,
        str(report.in_flight),
        str(report.handled),
        since,
    )


def _queue_table(management: Management) -> Table:
    table = Table("queue", title="Queues")
    table.add_column("ready", justify="right")
    table.add_column("in flight", justify="right")
    for name, (ready, in_flight) in sorted(_data_queues(management).items()):
        table.add_row(name, str(ready), str(in_flight))
    return table


def _data_queues(management: Management) -> dict[str, tuple[int, int]]:
    """Return all queues but those of the control exchange."""
    messages = management.messages()
    return {name: depth for name, depth in messages.items() if not name.startswith("control.")}
