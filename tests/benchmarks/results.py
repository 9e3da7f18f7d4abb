"""Writes what came out: results.md for people, results.json with every run, and the plots."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import report
from tests.benchmarks.candidates import Candidate
from tests.benchmarks.goals import Goal, goals
from tests.benchmarks.options import Options
from tests.benchmarks.runs import Runs
from tests.support import images

_DRAW = ("docker", "run", "--rm", "--interactive", "--network=none", "--entrypoint=python")
_PLOTS: Mapping[str, str] = {
    "throughput.svg": "Messages a second",
    "cpu.svg": "CPU time per message",
    "scaling.svg": "Throughput of a handler of 100 ms over the number of printers",
    "memory.svg": "Resident memory while a backlog is relayed",
}


class Setting(NamedTuple):
    """What the figures hold for.

    Attributes:
        machine: the machine and the versions.
        options: how thoroughly it was measured.
        peers: who took part beside ourselves and C.
        versions: of the peers' packages.
    """

    machine: Mapping[str, str]
    options: Options
    peers: Sequence[Candidate]
    versions: Mapping[str, str]


def write(folder: Path, runs: Runs, setting: Setting) -> None:
    """Write all of it to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "machine": dict(setting.machine),
        "versions": dict(setting.versions),
        "runs": runs.as_data(),
    }
    text = json.dumps(data, indent=1)
    (folder / "results.json").write_text(text + "\n")
    plots = _draw(text)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, drawing in plots.items():
        (folder / name).write_text(drawing)
    lines = _document(runs, setting, list(plots))
    (folder / "results.md").write_text("\n".join(lines).rstrip() + "\n")


def _draw(data: str) -> dict[str, str]:
    """Have the plots drawn in the image that has what it takes."""
    done = subprocess.run(
        [*_DRAW, images.PEERS, "/app/plots.py"],
        input=data,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise images.BuildError(f"the plots cannot be drawn\n{done.stderr}")
    drawn: dict[str, str] = json.loads(done.stdout)
    return drawn


def _document(runs: Runs, setting: Setting, plots: Sequence[str]) -> Iterator[str]:
    yield "# What `make bench` measured"
    yield ""
    yield from _preface(setting.options)
    yield from report.table([["machine and versions", ""], *setting.machine.items()], text=2)
    if runs.errors:
        yield "## What went wrong"
        yield ""
        yield from (f"- {error.splitlines()[0]}" for error in runs.errors)
        yield ""
    yield "## Goals"
    yield ""
    yield from report.table([["figure", "goal", "measured", "reached"], *_rows(runs)])
    for name in plots:
        yield f"![{_PLOTS[name]}]({name})"
        yield ""
    yield "## Figures"
    yield ""
    yield from report.works(runs)
    yield from _participants(setting)


def _preface(options: Options) -> Iterator[str]:
    if options.quick:
        yield "**A quick run**: all kinds of work, with small numbers. It shows that they work."
        yield ""
    rounds = "one round" if options.rounds == 1 else f"{options.rounds} rounds, round robin"
    yield f"Runs of {options.seconds:g} s, in {rounds}: the median (lowest – highest). A ratio is"
    yield "formed within each round. After each run all messages were read back: none was lost,"
    yield "unless this page says so. Client, broker and harness share the cores."
    yield ""


def _rows(runs: Runs) -> Iterator[list[str]]:
    for goal in goals(runs):
        yield [goal.figure, _bound(goal), _measured(goal), _verdict(goal)]


def _bound(goal: Goal) -> str:
    return f"{'≥' if goal.at_least else '≤'} {goal.bound:g} {goal.unit}"


def _measured(goal: Goal) -> str:
    return report.cell(goal.measured, ".2f")


def _verdict(goal: Goal) -> str:
    if goal.measured is None:
        return "not measured"
    return "yes" if goal.is_reached else "**no**"


def _participants(setting: Setting) -> Iterator[str]:
    yield "## Who took part"
    yield ""
    yield "`ours` is the shipped image with its default settings. `c` is in tests/benchmarks/c. The"
    yield "others, in tests/benchmarks/peers, relay the same messages:"
    yield ""
    rows = [
        [each.name, setting.versions.get(each.distribution or "", "–"), each.guarantee]
        for each in setting.peers
    ]
    yield from report.table([["peer", "version", "guarantee and configuration"], *rows], text=3)
