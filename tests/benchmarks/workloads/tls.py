"""The relay with TLS, beside the same without it."""

from dataclasses import replace

from tests.benchmarks.candidates import Candidate
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

SIZES = (16, 65_536)
PLAIN = "ours, without TLS"


def name(size: int) -> str:
    """Return what the work is called in the tables."""
    return f"{Work(size)}, TLS"


def measure(rig: Rig) -> None:
    """Measure each size, round robin."""
    candidates = rig.candidates("ours", "c", "pika-blocking-documented")
    entries = [_with_tls(each, rig) for each in candidates]
    entries += [
        replace(each, name=f"{each.name}, without TLS")
        for each in candidates
        if each.name in {"ours", "c"}
    ]
    rounds = Rounds(rig)
    for size in SIZES[:1] if rig.options.quick else SIZES:
        if size in rig.options.sizes:
            rounds.measure([(each, Work(size)) for each in entries], name(size))


def _with_tls(candidate: Candidate, rig: Rig) -> Candidate:
    image, settings = rig.broker.with_tls(candidate.image)
    return replace(candidate, image=image, environment={**candidate.environment, **settings})
