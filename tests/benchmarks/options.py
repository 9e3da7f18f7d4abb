"""What the command line says."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rabbit.topology import QueueType

_RESULTS = Path(__file__).parent / "results"
_SIZES = (16, 1024, 65_536)
_QUEUE_TYPES: tuple[QueueType, ...] = get_args(QueueType)

_ROUNDS, _QUICK_ROUNDS = 5, 1
_SECONDS, _QUICK_SECONDS = 1.5, 1.0


@dataclass(frozen=True)
class Options:
    """What to measure, and how thoroughly.

    Attributes:
        only: the workloads; empty: all.
        candidates: who takes part; empty: whom each workload chooses.
        sizes: bytes in a body, for the relay.
        queue_types: classic, quorum, for the relay.
        rounds: how often each candidate has its turn.
        seconds: how long a run should take, without start and end.
        quick: everything with small numbers.
        output: where the results go; None: they are only printed.
    """

    only: tuple[str, ...]
    candidates: tuple[str, ...]
    sizes: tuple[int, ...]
    queue_types: tuple[QueueType, ...]
    rounds: int
    seconds: float
    quick: bool
    output: Path | None

    @property
    def is_selection(self) -> bool:
        """Whether this is only a part of the benchmark."""
        return bool(self.only or self.candidates)


def parse(arguments: Sequence[str] | None, workloads: Sequence[str]) -> Options:
    """Read the command line; `workloads` are the names that `--only` may have."""
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=_DESCRIPTION)
    parser.add_argument("--only", type=_names, default=(), help=f"of: {', '.join(workloads)}")
    parser.add_argument("--candidates", type=_names, default=(), help="such as ours,c,celery-tuned")
    parser.add_argument("--size", type=_sizes, help="bytes in a message: 16,1024,65536")
    parser.add_argument("--queue-type", choices=_QUEUE_TYPES, help="default: both")
    parser.add_argument("--rounds", type=int, help=f"default {_ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of a run; default {_SECONDS:g}")
    parser.add_argument("--quick", action="store_true", help="all of it, small: two minutes")
    parser.add_argument("--output", type=Path, help="a folder for the results")
    given = parser.parse_args(arguments)
    if unknown := set(given.only) - set(workloads):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(workloads)}")
    is_selection = bool(given.only or given.candidates)
    whole = _RESULTS / "quick" if given.quick else _RESULTS
    return Options(
        only=given.only,
        candidates=given.candidates,
        sizes=given.size or _SIZES,
        queue_types=(given.queue_type,) if given.queue_type else _QUEUE_TYPES,
        rounds=given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS),
        seconds=given.seconds or (_QUICK_SECONDS if given.quick else _SECONDS),
        quick=given.quick,
        output=given.output or (None if is_selection else whole),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in _names(text))


_DESCRIPTION = "Measure the pipeline against a C client and Python's other ways of doing the same."
