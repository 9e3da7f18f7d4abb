"""Draws the plots: reads results.json on standard input, writes {file name: SVG} as JSON.

It runs in the image of the peers, which has matplotlib; so it imports nothing of the project.
"""

import io
import json
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib import pyplot as plt

_INK, _OURS, _REFERENCE, _OTHERS = "#333333", "#1f6f8b", "#c0703a", "#a9b4bc"
_WIDTH_INCHES = 7.5

plt.rcParams["svg.hashsalt"] = "pipeline"  # the same data gives the same file

Figure = Any  # matplotlib's
Runs = Sequence[dict[str, Any]]


def main() -> None:
    """Draw what there is data for."""
    runs = json.load(sys.stdin)["runs"]
    small = [run for run in runs if run["work"] == "relay, 16 B, quorum"]
    drawn = {
        "throughput.svg": _bars(small, "messages_per_second", "messages/s"),
        "cpu.svg": _bars(small, "cpu_microseconds", "CPU of the client, µs a message"),
        "scaling.svg": _scaling([run for run in runs if "of_linear" in run["figures"]]),
        "memory.svg": _memory([run for run in runs if run["series"]]),
    }
    json.dump({name: _svg(figure) for name, figure in drawn.items() if figure}, sys.stdout)


def _bars(runs: Runs, name: str, label: str) -> Figure | None:
    """Draw the medians of all candidates as bars, with the extremes."""
    values: dict[str, list[float]] = {}
    for run in runs:
        if name in run["figures"]:
            values.setdefault(run["candidate"], []).append(run["figures"][name])
    if not values:
        return None
    rows = sorted(values, key=lambda each: median(values[each]))
    middles = [median(values[row]) for row in rows]
    errors = [
        [middle - min(values[row]) for row, middle in zip(rows, middles, strict=True)],
        [max(values[row]) - middle for row, middle in zip(rows, middles, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 0.8 + 0.3 * len(rows)))
    colours = [{"ours": _OURS, "c": _REFERENCE}.get(row, _OTHERS) for row in rows]
    axes.barh(rows, middles, xerr=errors, color=colours, ecolor=_INK, height=0.7)
    for place, middle in enumerate(middles):
        axes.annotate(f" {middle:,.0f}", (middle, place), va="bottom", fontsize=8, color=_INK)
    axes.set_xlabel(f"{label} (16 B, quorum queues; median and extremes)")
    return _plain(figure, axes)


def _scaling(runs: Runs) -> Figure | None:
    """Draw the throughput of a handler of 100 ms over the number of printers."""
    if not runs:
        return None
    points = [
        (
            round(run["figures"]["messages_per_second"] / run["figures"]["of_linear"] / 10),
            run["figures"]["messages_per_second"],
        )
        for run in runs
    ]
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 3.5))
    printers, rates = zip(*sorted(points), strict=True)
    axes.plot(printers, [10 * each for each in printers], "--", color=_OTHERS, label="linear")
    axes.plot(printers, rates, "o-", color=_OURS, label="measured")
    axes.set_xlabel("printers with a handler of 100 ms")
    axes.set_ylabel("messages/s")
    axes.legend(frameon=False)
    return _plain(figure, axes)


def _memory(runs: Runs) -> Figure | None:
    """Draw resident memory over what is left of the backlog."""
    if not runs:
        return None
    series = runs[-1]["series"]
    figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, 3.5))
    axes.plot(series["backlog"], series["mebibytes"], color=_OURS)
    axes.set_xlim(max(series["backlog"]), 0)
    axes.set_ylim(0, max(60, 1.2 * max(series["mebibytes"])))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("messages left in the backlog")
    axes.set_ylabel("resident memory of to_upper, MiB")
    return _plain(figure, axes)


def _plain(figure: Figure, axes: Any) -> Figure:
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.label.set_color(_INK)
    figure.tight_layout()
    return figure


def _svg(figure: Figure) -> str:
    """Return it as SVG; without a date, for the same reason."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


if __name__ == "__main__":
    main()
