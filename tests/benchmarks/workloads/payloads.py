"""The same relay with plain texts, with three headers beside them, and with models."""

from dataclasses import replace
from pathlib import Path

from tests.benchmarks.candidates import Candidate, ours
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

SIZE = 200
NAME = f"relay of texts, with three headers, and of models, {SIZE} B, quorum"
TEXT, HEADERS, MODEL = "ours", "ours, three headers", "ours, a model in and out"

_STAGES = Path(__file__).parents[1] / "stages"
_INSIDE = "/benchmark"


def measure(rig: Rig) -> None:
    """Measure them in turns."""
    Rounds(rig).measure([(each, Work(SIZE)) for each in _candidates()], NAME)


def _candidates() -> list[Candidate]:
    plain = ours()
    image = plain.image._replace(
        entrypoint=["python", f"{_INSIDE}/typed.py"], mounts=((_STAGES, _INSIDE),)
    )
    return [
        plain,
        replace(plain, name=HEADERS, carries="headers"),
        replace(plain, name=MODEL, carries="json", image=image),
    ]
