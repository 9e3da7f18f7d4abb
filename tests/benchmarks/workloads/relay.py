"""Messages through one replica: small ones with every candidate, larger ones with the fastest."""

from collections.abc import Iterator, Sequence

from tests.benchmarks.candidates import Candidate, everyone
from tests.benchmarks.relay import Work
from tests.benchmarks.rig import Rig
from tests.benchmarks.rounds import Rounds

SMALL = Work()

_QUICK = ("ours", "c", "pika-blocking-documented", "kombu-tuned")
#: In a quick run each kind of work is done, but not in each combination.
_QUICK_WORKS = (SMALL, Work(1024), Work(65_536), Work(queue_type="classic"))
#: Who is fastest is known after the small messages; if those are not measured, it is these.
_FASTEST = ("kombu-tuned", "aio-pika-tuned")
_ALWAYS = ("ours", "c", "pika-blocking-documented")


def measure(rig: Rig) -> None:
    """Measure each size with each type of queue, round robin."""
    rounds = Rounds(rig)
    for work in _works(rig):
        rounds.measure([(candidate, work) for candidate in _candidates(rig, work)])


def _works(rig: Rig) -> Iterator[Work]:
    options = rig.options
    wanted = [Work(size, kind) for size in options.sizes for kind in options.queue_types]
    for work in wanted:
        if not options.quick or work in _QUICK_WORKS:
            yield work


def _candidates(rig: Rig, work: Work) -> Sequence[Candidate]:
    if rig.options.quick:
        return rig.candidates(*(_QUICK if work == SMALL else _QUICK[:2]))
    if work == SMALL:
        return rig.candidates(*(each.name for each in everyone()))
    return rig.candidates(*_ALWAYS, *_two_fastest(rig))


def _two_fastest(rig: Rig) -> Sequence[str]:
    rates = {
        name: found.median
        for name in rig.runs.candidates(str(SMALL))
        if name not in _ALWAYS
        and (found := rig.runs.figure(str(SMALL), name, "messages_per_second"))
    }
    return sorted(rates, key=lambda name: -rates[name])[:2] or _FASTEST
