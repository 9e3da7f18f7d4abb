"""What came of each fault, as a table."""

from pathlib import Path

from rich.table import Table

from tests.faults.account import Account

PATH = Path(__file__).parent / "results" / "summary.md"

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
    """All faults of a run."""

    def __init__(self) -> None:
        """Begin with none."""
        self.rows: list[Row] = []

    def table(self) -> Table:
        """Return it for a terminal."""
        table = Table(title="Faults")
        for index, heading in enumerate(_HEADINGS):
            table.add_column(heading, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row.cells)
        return table

    def markdown(self) -> str:
        """Return it for a file."""
        lines = [
            "# Faults",
            "",
            "Written by `make test-faults`. *At most*: what was in flight at the fault, and so may",
            "come twice.",
            "",
            f"| {' | '.join(_HEADINGS)} |",
            "|---|---:|---:|---:|---:|---:|",
            *(f"| {' | '.join(row.cells)} |" for row in self.rows),
        ]
        return "\n".join(lines) + "\n"
