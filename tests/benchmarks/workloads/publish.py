"""The producer publishes the lines of a file, every message confirmed: `make publish FILE=`.

The file is given to the shipped image; throughput and CPU time are measured as for a relay.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.bodies import bodies
from tests.benchmarks.candidates import Candidate, publishers
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run

NAME = "publish, 16 B, quorum"
_SIZE_BYTES = 16
_INSIDE = "/lines"


def measure(rig: Rig) -> None:
    """Let each of them publish a file, round robin."""
    rates: dict[str, float] = {}
    for number in range(1, rig.options.rounds + 1):
        for candidate in _candidates(rig):
            rate = rates.get(candidate.name, candidate.expected_per_second)
            with rig.progress.doing(f"{NAME}: {candidate.name}, round {number}"):
                run = _publish(rig, candidate, int(rate * rig.options.seconds), number)
            rates[candidate.name] = run.figures.get("messages_per_second", rate)
            rig.record(run)


def _candidates(rig: Rig) -> list[Candidate]:
    wanted = rig.options.candidates
    return [
        each
        for each in publishers(_INSIDE)
        if (not wanted or each.name in wanted) and (each.name != "c" or rig.has_reference)
    ]


def _publish(rig: Rig, candidate: Candidate, count: int, number: int) -> Run:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the containers run as somebody else
        lines = Path(folder, "lines")
        lines.write_text("".join(f"{text}\n" for text in bodies(count, _SIZE_BYTES)))
        lines.chmod(0o644)
        return rig.relay.publish(candidate, NAME, (lines, _INSIDE), count, number)
