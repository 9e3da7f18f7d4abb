"""What came out: one record for each run, and the statistics of several."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Run:
    """One run of one candidate.

    Attributes:
        work: what was done, such as `relay, 16 B, quorum`.
        candidate: by whom.
        round: which round it belongs to; ratios are formed within a round.
        figures: what was measured; each name ends in its unit.
        errors: what went wrong; a message that was lost, above all.
        series: figures over time, for the plots.
    """

    work: str
    candidate: str
    round: int
    figures: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    series: Mapping[str, list[float]] = field(default_factory=dict)


class Spread(NamedTuple):
    """The median of several runs, and how far they lie apart."""

    median: float
    lowest: float
    highest: float


def spread(values: Iterable[float]) -> Spread | None:
    """Return the median and the extremes; None of nothing."""
    known = sorted(values)
    if not known:
        return None
    return Spread(median(known), known[0], known[-1])


class Runs:
    """All runs of a benchmark."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """Begin with these."""
        self._runs = list(runs)

    def add(self, run: Run) -> None:
        """Add one more."""
        self._runs.append(run)

    @property
    def works(self) -> list[str]:
        """What was done, in the order in which it began."""
        return list(dict.fromkeys(run.work for run in self._runs))

    def candidates(self, work: str) -> list[str]:
        """Who did it, in the order in which they began."""
        return list(dict.fromkeys(run.candidate for run in self._runs if run.work == work))

    def of(self, work: str, candidate: str) -> list[Run]:
        """Return the runs of one candidate."""
        return [run for run in self._runs if (run.work, run.candidate) == (work, candidate)]

    def figure(self, work: str, candidate: str, name: str) -> Spread | None:
        """Sum up one figure of one candidate."""
        return spread(run.figures[name] for run in self.of(work, candidate) if name in run.figures)

    def ratio(self, work: str, one: str, other: str, name: str) -> Spread | None:
        """Sum up how many times the other's figure the one's is, round by round.

        What disturbs a machine disturbs neighbours in time: within a round it cancels out.
        """
        others = {run.round: run.figures.get(name) for run in self.of(work, other)}
        return spread(
            run.figures[name] / divisor
            for run in self.of(work, one)
            if name in run.figures and (divisor := others.get(run.round))
        )

    def difference(self, work: str, one: str, other: str, name: str) -> Spread | None:
        """Sum up how much the one's figure is above the other's, round by round."""
        others = {run.round: run.figures[name] for run in self.of(work, other)}
        return spread(
            run.figures[name] - others[run.round]
            for run in self.of(work, one)
            if run.round in others
        )

    def best(self, work: str, name: str, of: Callable[[str], bool]) -> str | None:
        """Return the candidate with the highest median of those that `of` accepts."""
        medians = {
            candidate: found.median
            for candidate in self.candidates(work)
            if of(candidate) and (found := self.figure(work, candidate, name))
        }
        return max(medians, key=lambda each: medians[each], default=None)

    @property
    def errors(self) -> list[str]:
        """Everything that went wrong, and where."""
        return [
            f"{run.work}: {run.candidate}, round {run.round}: {error}"
            for run in self._runs
            for error in run.errors
        ]

    def as_data(self) -> list[dict[str, Any]]:
        """Return all of it for JSON."""
        return [asdict(run) for run in self._runs]
