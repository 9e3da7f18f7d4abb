"""The goals that were set, each held against what was measured.

A ratio is formed within each round, between neighbours in time; its median counts.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.benchmarks.relay import Work
from tests.benchmarks.runs import Runs, Spread
from tests.benchmarks.workloads import (
    burst,
    cold_start,
    latency,
    memory,
    observed,
    ordered,
    payloads,
    pipeline,
    prefetch,
    publish,
    relay,
    slow_handler,
    tls,
    waiting,
)

_RATE = "messages_per_second"
_BLOCKING = "pika-blocking-documented"
_MOST_PRINTERS = 8


class Goal(NamedTuple):
    """One goal, and what came out.

    Attributes:
        figure: what is measured.
        bound: what was asked for.
        at_least: whether more is better.
        unit: of both.
        measured: None: it was not measured.
    """

    figure: str
    bound: float
    at_least: bool
    unit: str
    measured: Spread | None

    @property
    def is_reached(self) -> bool:
        """Whether the median is as good as was asked for."""
        if self.measured is None:
            return False
        if self.at_least:
            return self.measured.median >= self.bound
        return self.measured.median <= self.bound


def goals(runs: Runs) -> Iterator[Goal]:
    """Yield all goals."""
    small, large = str(relay.SMALL), str(Work(65_536))
    yield _at_least(1.0, "to_upper, relay 16 B, against C", runs.ratio(small, "ours", "c", _RATE))
    yield _at_least(
        25, "… against pika blocking with confirms", runs.ratio(small, "ours", _BLOCKING, _RATE)
    )
    fastest = _fastest_peer(runs, small)
    yield _at_least(
        8,
        f"… against the fastest peer{f' ({fastest})' if fastest else ''}",
        runs.ratio(small, "ours", fastest, _RATE) if fastest else None,
    )
    yield _at_most(
        22, "µs", "… CPU time per message", runs.figure(small, "ours", "cpu_microseconds")
    )
    yield _at_least(0.9, "to_upper, relay 64 KiB, against C", runs.ratio(large, "ours", "c", _RATE))
    secured = tls.name(16)
    yield _at_least(
        0.85,
        "to_upper, relay 16 B with TLS, against without",
        runs.ratio(secured, "ours", tls.PLAIN, _RATE),
    )
    yield _at_least(1.0, "… against C with TLS", runs.ratio(secured, "ours", "c", _RATE))
    watched = runs.ratio(observed.NAME, observed.OBSERVED, observed.ALONE, _RATE)
    yield _at_least(
        0.98, "to_upper, with an open board and scraped every 5 s, against not", watched
    )
    yield _at_least(
        0.9, "producer, publishing a file, against C", runs.ratio(publish.NAME, "ours", "c", _RATE)
    )
    yield _at_least(
        0.95,
        "the whole pipeline, a file to the printed line, against C",
        runs.ratio(pipeline.NAME, "ours", "c", _RATE),
    )
    yield _at_most(
        8,
        "µs",
        "… CPU time per message of the printer",
        runs.figure(pipeline.NAME, "ours", "sink_cpu_microseconds"),
    )
    yield from _of_memory(runs)
    yield _at_most(
        0.5,
        "s",
        "cold start in the container",
        runs.figure(cold_start.NAME, "ours", "start_seconds"),
    )
    yield _at_least(
        0.95,
        f"handler of 100 ms, {_MOST_PRINTERS} printers, against linear",
        runs.figure(slow_handler.name(_MOST_PRINTERS), "ours", "of_linear"),
    )
    yield from _of_order(runs)
    yield _at_most(
        5,
        "ms",
        "latency of a lone message through the pipeline, median",
        runs.figure(latency.NAME, latency.PIPELINE, "median_milliseconds"),
    )
    yield _of_prefetch(runs)
    yield _at_most(8, "µs", "a model in and out, CPU above a text", _above(payloads.MODEL, runs))
    yield _at_most(3, "µs", "three headers, CPU time above none", _above(payloads.HEADERS, runs))
    waited = runs.figure(waiting.NAME, waiting.ASYNC, _RATE)
    yield Goal(f"async def, {waiting.NAME}", 9_000, at_least=True, unit="/s", measured=waited)
    yield _at_most(
        60,
        "µs",
        "… CPU time per message",
        runs.figure(waiting.NAME, waiting.ASYNC, "cpu_microseconds"),
    )


def _above(candidate: str, runs: Runs) -> Spread | None:
    return runs.difference(payloads.NAME, candidate, payloads.TEXT, "cpu_microseconds")


def _of_memory(runs: Runs) -> Iterator[Goal]:
    figure: Callable[[str], Spread | None] = lambda name: runs.figure(memory.NAME, "ours", name)  # noqa: E731
    backlog = figure("backlog")
    words = f"{backlog.median:,.0f}" if backlog else "1,000,000"
    yield _at_most(
        50, "MiB", f"memory with a backlog of {words}, at most", figure("backlog_mebibytes")
    )
    yield _at_most(
        memory.FLAT_MEBIBYTES, "MiB", "… its growth while it is relayed", figure("growth_mebibytes")
    )
    yield _at_most(
        burst.MOST_MEBIBYTES,
        "MiB",
        "memory above idle in a burst of messages of 4 MiB, at most",
        runs.figure(burst.NAME, "ours", "above_idle_mebibytes"),
    )


def _of_order(runs: Runs) -> Iterator[Goal]:
    name = ordered.name(_MOST_PRINTERS)
    yield _at_least(
        0.9,
        f"{name}, against what the busiest one lets through",
        runs.figure(name, "ours", "of_possible"),
    )
    yield _at_least(
        0.7,
        "to_upper from an ordered edge, against a work queue",
        runs.ratio(ordered.FAST, "ordered", "work", _RATE),
    )


def _of_prefetch(runs: Runs) -> Goal:
    best = runs.best(prefetch.NAME, _RATE, lambda each: each != prefetch.AUTO)
    return _at_least(
        0.95,
        f"PREFETCH=auto against the best fixed value{f' ({best})' if best else ''}",
        runs.ratio(prefetch.NAME, prefetch.AUTO, best, _RATE) if best else None,
    )


def _fastest_peer(runs: Runs, work: str) -> str | None:
    return runs.best(work, _RATE, lambda each: each not in {"ours", "c"})


def _at_least(bound: float, figure: str, measured: Spread | None) -> Goal:
    return Goal(figure, bound, at_least=True, unit="×", measured=measured)


def _at_most(bound: float, unit: str, figure: str, measured: Spread | None) -> Goal:
    return Goal(figure, bound, at_least=False, unit=unit, measured=measured)
