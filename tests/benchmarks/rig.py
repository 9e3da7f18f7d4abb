"""What every workload works with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from tests.benchmarks.broker import Broker
from tests.benchmarks.candidates import Candidate, choose
from tests.benchmarks.options import Options
from tests.benchmarks.relay import Relay
from tests.benchmarks.report import figures_in_words
from tests.benchmarks.runs import Run, Runs
from tests.support.containers import Containers


class Progress:
    """Says what is going on: on a terminal also what is being done right now."""

    def __init__(self) -> None:
        """Write to standard error: standard output has the report."""
        self._console = Console(stderr=True)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is being done while it is."""
        with self._console.status(escape(what)):
            yield

    def done(self, run: Run) -> None:
        """Show what came out."""
        colour = "red" if run.errors else "green"
        words = escape("; ".join(filter(None, [*run.errors, figures_in_words(run)])))
        line = f"[{colour}]{run.candidate:24}[/] {run.work}: {words}"
        self._console.print(line, highlight=False, soft_wrap=True)


class Rig(NamedTuple):
    """The broker, the containers, and who may take part.

    Attributes:
        containers: where new ones are started.
        broker: the one that all use.
        relay: runs a candidate between two queues.
        options: what was asked for.
        runs: what is known so far.
        progress: where a person looks.
        has_reference: whether the programs in C are there.
    """

    containers: Containers
    broker: Broker
    relay: Relay
    options: Options
    runs: Runs
    progress: Progress
    has_reference: bool

    def candidates(self, *names: str) -> list[Candidate]:
        """Return those that were asked for, else those of these names; without what is missing."""
        chosen = choose(self.options.candidates or names)
        return [each for each in chosen if each.name != "c" or self.has_reference]

    def record(self, run: Run) -> Run:
        """Keep a run, show it, return it."""
        self.runs.add(run)
        self.progress.done(run)
        return run
