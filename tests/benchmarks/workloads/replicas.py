"""1, 2 and 4 replicas of to_upper on one queue."""

from tests.benchmarks.candidates import ours
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

_REPLICAS = (1, 2, 4)
_NAME = "replicas of to_upper, 16 B, quorum"


def measure(rig: Rig) -> None:
    """Measure each number of replicas."""
    wanted = _REPLICAS[:2] if rig.options.quick else _REPLICAS
    candidate = ours()
    entries = [
        (candidate.with_settings(f"{number} replica{'s'[: number - 1]}"), Work(replicas=number))
        for number in wanted
    ]
    Rounds(rig).measure(entries, _NAME)
