"""The whole pipeline at once: the lines of a file, through three programs, to a container's output.

The three shipped stages, and three programs in C that do the same, take turns. All of them run in
containers, and both outputs go through Docker's log. The throughput is counted by the time stamps
that Docker gives the first and the last printed line; CPU time is that of the three containers, all
in all, the start of the first one included.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.benchmarks.bodies import Tally, body
from tests.benchmarks.candidates import ours, reference
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.benchmarks.workloads.publish import lines_file, outliving
from tests.support.containers import Container, Image
from tests.waiting import wait_until

NAME = "pipeline, a file to the printed line"
_LINES, _QUICK_LINES = 300_000, 20_000
_MOST_ROUNDS = 3
_SIZE_BYTES = 16
_INSIDE = "/lines"
_START_SECONDS, _PATIENCE_SECONDS = 30.0, 300.0


class _Programs(NamedTuple):
    """Who does it: a source, a worker and a sink."""

    name: str
    source: Image
    worker: Image
    sink: Image


def _candidates(rig: Rig) -> list[_Programs]:
    source = ours("producer").image._replace(command=["--file", _INSIDE])
    stages = _Programs("ours", source, ours().image, ours("printer").image)
    programs = [reference(*each).image for each in (("publish", _INSIDE), ("relay",), ("print",))]
    wanted = rig.options.candidates
    return [
        each
        for each in (stages, _Programs("c", *programs))
        if (not wanted or each.name in wanted) and (each.name != "c" or rig.has_reference)
    ]


def measure(rig: Rig) -> None:
    """Let each of them take the file through, round robin."""
    count = _QUICK_LINES if rig.options.quick else _LINES
    for number in range(1, min(rig.options.rounds, _MOST_ROUNDS) + 1):
        for candidate in _candidates(rig):
            with rig.progress.doing(f"{NAME}: {candidate.name}, round {number}"):
                rig.record(_run(rig, candidate, count, number))


def _run(rig: Rig, programs: _Programs, count: int, number: int) -> Run:
    queues = [f"{programs.name}.pipeline.{which}" for which in ("in", "out")]
    for queue in queues:
        rig.broker.declare(queue)
    rig.broker.empty(*queues)
    known = rig.broker.environment
    reads_writes = {"INPUT_QUEUE": queues[0], "OUTPUT_QUEUE": queues[1]}
    sink = rig.containers.run(programs.sink, {**known, "INPUT_QUEUE": queues[1]})
    worker = rig.containers.run(programs.worker, {**known, **reads_writes})
    started = [worker, sink]
    try:
        wait_until(lambda: all(map(rig.broker.consumers, queues)), _START_SECONDS, "both consume")
        with TemporaryDirectory() as folder:
            image = outliving(rig, programs.source, lines_file(Path(folder), count))
            before = [each.cpu_seconds for each in (rig.broker.container, *started)]
            source = rig.containers.run(image, {**known, "OUTPUT_QUEUE": queues[0]})
            started.append(source)
            figures = _watch(rig, started, before, count)
        tally, seconds = _read(sink, count)
    finally:
        for container in started:
            container.remove()
    figures |= {"messages_per_second": count / seconds, "duplicates": tally.duplicates}
    return Run(NAME, programs.name, number, figures, tuple(tally.errors))


def _watch(
    rig: Rig, started: Sequence[Container], before: Sequence[float], count: int
) -> dict[str, float]:
    """Wait until all is printed; return the CPU time of each program, and of the broker."""
    worker, sink, source = started
    last = body(count - 1, _SIZE_BYTES).upper()
    of_source = [0.0]

    def is_over() -> bool:
        if source.is_running:  # its CPU time is gone with it
            of_source.append(source.cpu_seconds)
        return last in sink.log(lines=1)

    wait_until(is_over, _PATIENCE_SECONDS, lambda: f"all is printed\n{sink.log()}{worker.log()}")
    after = [each.cpu_seconds for each in (rig.broker.container, worker, sink)]
    broker, relayed, printed = (
        (end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True)
    )
    published = max(of_source) / count * 1e6
    return {
        "cpu_microseconds": published + relayed + printed,
        "source_cpu_microseconds": published,
        "worker_cpu_microseconds": relayed,
        "sink_cpu_microseconds": printed,
        "broker_cpu_microseconds": broker,
    }


def _read(sink: Container, count: int) -> tuple[Tally, float]:
    """Return what was printed, and how long that took."""
    lines = sink.printed()
    tally = Tally(count)
    for _, text in lines:
        tally.add(text.encode())
    return tally, max(lines[-1][0] - lines[0][0], 1e-3)
