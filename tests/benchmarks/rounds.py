"""Round robin: every candidate has its turn in each round, so that noise hits all alike."""

from collections.abc import Sequence
from dataclasses import replace

from tests.benchmarks.candidates import Candidate
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig

_FEWEST, _MOST = 100, 400_000
#: What the first round expects of larger messages, whoever relays them.
_BYTES_PER_SECOND = 100 * 1024 * 1024


class Rounds:
    """Runs relays; how many messages one takes is learnt from the round before."""

    def __init__(self, rig: Rig) -> None:
        """Run them on this."""
        self._rig = rig
        self._rates: dict[tuple[str, Work], float] = {}

    def measure(self, entries: Sequence[tuple[Candidate, Work]], name: str | None = None) -> None:
        """Measure each entry once in each round.

        Args:
            entries: who does what.
            name: what the work is called in the tables; None: as it calls itself.
        """
        rounds = self._rig.options.rounds
        for number in range(1, rounds + 1):
            for candidate, work in entries:
                what = f"{name or work}: {candidate.name}, round {number} of {rounds}"
                with self._rig.progress.doing(what):
                    run = self._rig.relay.run(candidate, work, self._count(candidate, work), number)
                if rate := run.figures.get("messages_per_second"):
                    self._rates[candidate.name, work] = rate
                self._rig.record(replace(run, work=name or run.work))

    def _count(self, candidate: Candidate, work: Work) -> int:
        most = _BYTES_PER_SECOND / work.size
        guess = min(candidate.expected_per_second, most)
        rate = self._rates.get((candidate.name, work), guess)
        return int(max(_FEWEST, min(_MOST, rate * self._rig.options.seconds)))
