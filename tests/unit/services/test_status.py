"""The status as tables, in terminals of any width."""

from datetime import UTC, datetime
from io import StringIO

import pytest
from rich.console import Console

from rabbit.control.messages import Report, State
from rabbit.operations.looks import Look, Seen
from rabbit.operations.management import Depth
from services.control.status import Status

LONG = "payment_orders_that_were_refused"


def seen(stage: str, replica: str, consumes: str | None, produces: str | None) -> Seen:
    """Return a replica that runs, with as much to tell as there can be."""
    report = Report(
        command_id="c",
        stage=stage,
        replica=replica,
        consumes=consumes,
        exchange=consumes,
        produces=produces,
        state=State.RUNNING,
        in_flight=5,
        handled=123456,
        failed=12,
        retried=8,
        dead_lettered=4,
        requeued=3,
        oldest_seconds=3.0,
        since=datetime.now(UTC),
    )
    return Seen(f"{stage}/{replica}", report)


def shown(width: int, *, each_replica: bool) -> str:
    """Return what a terminal of this width gets."""
    replicas = (
        seen("to_upper", "1b0ad5cf6fa4", "my_queue", LONG),
        seen(f"stage_of_{LONG}", "0a0ad5cf6fa4", LONG, None),
    )
    depths = {name: Depth(12345, 100, 2, 4) for name in ("my_queue", LONG)}
    out = StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False)
    Status(Look(0.0, replicas, depths), each_replica=each_replica).show(console)
    return out.getvalue()


@pytest.mark.parametrize("each_replica", [False, True])
@pytest.mark.parametrize("width", [80, 200, 250])
def test_no_name_is_cut(width: int, *, each_replica: bool) -> None:
    """A table where it fits; else a few lines for each row, none of them too long."""
    said = shown(width, each_replica=each_replica)

    names = ["to_upper", f"stage_of_{LONG}", "my_queue", LONG, "12345"]
    assert [name for name in names if name not in said] == []
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    assert ("┃" in said) == (width > 80)
    if each_replica:
        assert "1b0ad5cf6fa4" in said


def test_a_narrow_terminal_has_names_folded() -> None:
    """What is longer than a line goes on in the next one."""
    said = shown(20, each_replica=False)

    assert f"stage_of_{LONG}" in said.replace("\n", "")
