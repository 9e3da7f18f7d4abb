"""`PREFETCH=auto` against fixed values, with a fast handler."""

from tests.benchmarks.candidates import ours
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

NAME = "prefetch of to_upper, 16 B, quorum"
AUTO = "auto"
_FIXED = (50, 100, 300, 600, 1000)
_QUICK = (300,)


def measure(rig: Rig) -> None:
    """Measure each value."""
    wanted = [AUTO, *map(str, _QUICK if rig.options.quick else _FIXED)]
    entries = [(ours().with_settings(value, PREFETCH=value), Work()) for value in wanted]
    Rounds(rig).measure(entries, NAME)
