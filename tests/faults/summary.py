"""What came of each fault, as a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults.account import Account

PATH = Path(__file__).parent / "results" / "summary.md"

#: The only way of calling pytest that writes the table to a file: `make test-faults`.
_WHOLE = (
    "tests",
    *(f"--ignore=tests/{folder}" for folder in ("secured", "swarm", "kubernetes")),
    "-m",
    "quick or thorough",
)

#: Under this name a row travels in a test's report, from whichever process has run it.
_PROPERTY = "fault"

_HEADINGS = ("fault", "messages", "lost", "duplicated", "at most", "heals after")


class Row:
    """One fault."""

    def __init__(self, fault: str, bound: int) -> None:
        """Begin with nothing known but how many messages may come twice."""
        self.fault = fault
        self.bound = bound
        self.messages = self.lost = self.duplicated = 0
        self.heal_seconds: float | None = None
        self.passed = False

    def take(self, account: Account) -> None:
        """Note what became of the messages."""
        self.messages = account.sent
        self.lost = len(account.lost)
        self.duplicated = account.duplicated

    @property
    def cells(self) -> tuple[str, ...]:
        """The row in words."""
        heals = "not" if self.heal_seconds is None else f"{self.heal_seconds:.1f} s"
        verdict = "" if self.passed else " (failed)"
        numbers = (self.messages, self.lost, self.duplicated, self.bound)
        return (self.fault + verdict, *(f"{number:,}" for number in numbers), heals)


class Summary:
    """The faults of one test."""

    def __init__(self) -> None:
        """Begin with none."""
        self.rows: list[Row] = []


@pytest.fixture
def summary(request: pytest.FixtureRequest) -> Iterator[Summary]:
    """Note here what comes of a fault."""
    made = Summary()
    yield made
    request.node.user_properties.extend((_PROPERTY, row.cells) for row in made.rows)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    """Show what came of each fault; a whole run that came to its end also writes it down."""
    rows = list(_rows(terminalreporter.stats))
    if not rows:
        return
    console = Console(width=100)
    with console.capture() as shown:
        console.print(_table(rows))
    terminalreporter.write(f"\n{shown.get()}")
    has_ended = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    if has_ended and config.invocation_params.args == _WHOLE:
        PATH.parent.mkdir(exist_ok=True)
        PATH.write_text(_markdown(rows))


def _rows(reports: dict[str, list[Any]]) -> Iterator[tuple[str, ...]]:
    """Take the rows from the reports of the tests' last phase, which has them all."""
    for report in (each for listed in reports.values() for each in listed):
        if getattr(report, "when", "") == "teardown":
            for name, cells in report.user_properties:
                if name == _PROPERTY:
                    yield tuple(cells)


def _table(rows: list[tuple[str, ...]]) -> Table:
    """Return it for a terminal."""
    table = Table(title="Faults")
    for index, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(rows: list[tuple[str, ...]]) -> str:
    """Return it for a file."""
    lines = [
        "# Faults",
        "",
        "Written by `make test-faults`. *At most*: what was in flight at the fault, and so may",
        "come twice.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        "|---|---:|---:|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"
