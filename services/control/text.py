"""How the tables put things: cut to fit, or line by line where a table does not fit."""

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rabbit.terminal import escape

_DOT = " · "


def cut(text: str, length: int) -> str:
    """Return `text`, or as much of it as fits, on one line."""
    shown = escape(text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


class Rows:
    """Rows of a table, which is printed as such where it fits.

    Where it does not, a terminal of 80 columns for instance, each row is a few lines, so that no
    name is cut: what it is about, and what there is to say of it.
    """

    def __init__(
        self,
        title: str,
        names: Sequence[str],
        numbers: Sequence[str],
        rows: Iterable[Sequence[str]],
    ) -> None:
        """Print these rows.

        Args:
            title: of the table.
            names: the first columns: what a row is about.
            numbers: the others; a cell of them that is empty or 0 is said in the table only.
            rows: their cells, which are escaped; one may end early.
        """
        self._title = title
        self._names = names
        self._numbers = numbers
        self._rows = list(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the lines."""
        table = Table(*self._names, title=self._title)
        for name in self._numbers:
            table.add_column(name, justify="right")
        for row in self._rows:
            table.add_row(*row)
        if (
            Measurement.get(console, options.update(max_width=10_000), table).maximum
            <= console.width
        ):
            yield table
        else:
            yield Text(self._title, style="bold")
            for row in self._rows:
                yield from self._lines(row)

    def _lines(self, row: Sequence[str]) -> Iterable[Text | Padding]:
        yield Text(_DOT.join(filter(None, row[: len(self._names)])), overflow="fold")
        cells = zip(self._numbers, row[len(self._names) :], strict=False)
        if told := _DOT.join(f"{name} {cell}" for name, cell in cells if cell not in {"", "0"}):
            yield Padding(Text(told, overflow="fold"), (0, 0, 0, 4))
