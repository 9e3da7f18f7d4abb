"""The results as Markdown."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from tests.benchmarks.runs import Run, Runs, Spread

#: Each figure: how its column is called, and how it is written.
_COLUMNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "messages_per_second": ("messages/s", ",.0f"),
        "cpu_microseconds": ("CPU µs/message", ".1f"),
        "source_cpu_microseconds": ("of the source", ".1f"),
        "worker_cpu_microseconds": ("of the worker", ".1f"),
        "sink_cpu_microseconds": ("of the sink", ".1f"),
        "broker_cpu_microseconds": ("broker CPU µs/message", ".1f"),
        "duplicates": ("duplicates", ".0f"),
        "of_linear": ("of linear", ".3f"),
        "of_possible": ("of what the busiest one lets through", ".3f"),
        "start_seconds": ("seconds", ".3f"),
        "idle_mebibytes": ("MiB idle", ".1f"),
        "load_mebibytes": ("MiB under load", ".1f"),
        "backlog": ("backlog", ",.0f"),
        "backlog_mebibytes": ("MiB at most with the backlog", ".1f"),
        "above_idle_mebibytes": ("MiB above idle, at most", ".1f"),
        "growth_mebibytes": ("MiB grown, first to last quarter", "+.1f"),
        "median_milliseconds": ("median ms", ".2f"),
        "p99_milliseconds": ("99th percentile ms", ".2f"),
    }
)

_RATE = "messages_per_second"
#: Against whom ratios are shown, where they took part.
_AGAINST = (("c", "× C"), ("pika-blocking-documented", "× pika blocking"))


def figures_in_words(run: Run) -> str:
    """Return the figures of one run in a line."""
    return ", ".join(
        f"{run.figures[name]:{form}} {heading}"
        for name, (heading, form) in _COLUMNS.items()
        if name in run.figures
    )


def table(rows: Iterable[Iterable[str]], text: int = 1) -> Iterator[str]:
    """Yield the lines of a Markdown table.

    Args:
        rows: the first one is its head.
        text: how many columns have words; the others have figures.
    """
    head, *body = [list(row) for row in rows]
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join([*['---'] * text, *['---:'] * (len(head) - text)])}|"
    for row in body:
        yield f"| {' | '.join(row)} |"
    yield ""


def works(runs: Runs) -> Iterator[str]:
    """Yield a section for each kind of work."""
    for work in runs.works:
        yield f"### {work}"
        yield ""
        yield from table(_rows(runs, work))


def _rows(runs: Runs, work: str) -> Iterator[list[str]]:
    candidates = runs.candidates(work)
    names = [name for name in _COLUMNS if any(runs.figure(work, each, name) for each in candidates)]
    against = [(other, title) for other, title in _AGAINST if other in candidates]
    if _RATE not in names:
        against = []
    yield ["", *(_COLUMNS[name][0] for name in names), *(title for _, title in against)]
    for candidate in candidates:
        cells = [cell(runs.figure(work, candidate, name), _COLUMNS[name][1]) for name in names]
        ratios = [runs.ratio(work, candidate, other, _RATE) for other, _ in against]
        yield [candidate, *cells, *(cell(ratio, ".2f") for ratio in ratios)]


def cell(found: Spread | None, form: str) -> str:
    """Write a median, and the extremes where there are several values."""
    if found is None:
        return "–"
    middle = f"{found.median:{form}}"
    lowest, highest = f"{found.lowest:{form}}", f"{found.highest:{form}}"
    return middle if lowest == highest else f"{middle} ({lowest} – {highest})"
