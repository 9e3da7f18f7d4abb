"""A `work` that waits 100 ms, a thousand at a time: as an `async def`, and in threads beside it.

At most 10,000 messages a second can come of it. It runs in the image of `to_upper`, whose settings
are the default but for CONCURRENCY.
"""

from dataclasses import replace
from pathlib import Path

from tests.benchmarks.candidates import Candidate, ours
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

NAME = "a wait of 100 ms, a thousand at a time"
ASYNC, THREADS = "async", "threads"
_STAGES = Path(__file__).parents[1] / "stages"
_INSIDE = "/benchmark"


def measure(rig: Rig) -> None:
    """Measure both, in turn."""
    Rounds(rig).measure([(_candidate(how), Work()) for how in (ASYNC, THREADS)], NAME)


def _candidate(how: str) -> Candidate:
    shipped = ours()
    image = shipped.image._replace(
        command=[f"{_INSIDE}/waiting.py", how],
        entrypoint=["python"],
        mounts=((_STAGES, _INSIDE),),
    )
    return replace(
        shipped,
        name=how,
        image=image,
        environment={"CONCURRENCY": "1000"},
        expected_per_second=6_000,
    )
