"""Resident memory of to_upper: idle, under load, and with a long backlog."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from tests.benchmarks.bodies import Tally, template
from tests.benchmarks.candidates import ours
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support.containers import Container
from tests.waiting import wait_until

NAME = "resident memory of to_upper"
_SIZE_BYTES = 16
_BACKLOG, _QUICK_BACKLOG = 1_000_000, 40_000
#: How much is published while the stage runs, for its memory under load.
_LOAD_SHARE = 0.1
_SAMPLE_SECONDS, _QUICK_SAMPLE_SECONDS = 0.25, 0.05
#: More than this between the first and the last quarter of a backlog is no longer flat.
FLAT_MEBIBYTES = 2
_PATIENCE_SECONDS = 60.0
_STALL_SECONDS = 600.0
_INPUT, _OUTPUT = "memory.in", "memory.out"


def measure(rig: Rig) -> None:
    """Measure all three."""
    backlog = _QUICK_BACKLOG if rig.options.quick else _BACKLOG
    for queue in (_INPUT, _OUTPUT):
        rig.broker.declare(queue)
    load = int(backlog * _LOAD_SHARE)
    with rig.progress.doing(f"{NAME}: idle, then under load"):
        idle, loaded, errors = _idle_and_loaded(rig, load)
    with rig.progress.doing(f"{NAME}: a backlog of {backlog:,}"):
        depths, samples, more = _with_backlog(rig, backlog)
    # While it starts, it grows: that has nothing to do with the backlog.
    working = [each for left, each in zip(depths, samples, strict=True) if left < backlog]
    quarter = max(1, len(working) // 4)
    figures = {
        "idle_mebibytes": idle,
        "load_mebibytes": loaded,
        "backlog": backlog,
        "backlog_mebibytes": max(samples),
        "growth_mebibytes": median(working[-quarter:]) - median(working[:quarter]),
    }
    series = {"backlog": depths, "mebibytes": samples}
    rig.record(Run(NAME, "ours", 1, figures, tuple(errors + more), series))


def _idle_and_loaded(rig: Rig, count: int) -> tuple[float, float, list[str]]:
    container = _start(rig)
    wait_until(lambda: rig.broker.consumers(_INPUT), _PATIENCE_SECONDS, "the stage consumes")
    container.wait_idle()
    idle = container.resident_mebibytes
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(rig.broker.fill, _INPUT, template(_SIZE_BYTES), count)
        _, samples = _sample(rig, container, count)
        filling.result()
    return idle, max(samples), _end(rig, container, count)


def _with_backlog(rig: Rig, count: int) -> tuple[list[float], list[float], list[str]]:
    rig.broker.fill(_INPUT, template(_SIZE_BYTES), count)
    container = _start(rig)
    depths, samples = _sample(rig, container, count)
    return depths, samples, _end(rig, container, count)


def _sample(rig: Rig, container: Container, count: int) -> tuple[list[float], list[float]]:
    """Sample the memory until all is relayed; return what was left each time, and the memory."""
    left: list[float] = []
    samples: list[float] = []
    deadline = time.monotonic() + _STALL_SECONDS
    is_done: Callable[[], bool] = lambda: bool(left) and left[-1] <= 0  # noqa: E731
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stage is too slow\n{container.log()}")
        left.append(count - rig.broker.depth(_OUTPUT))
        samples.append(container.resident_mebibytes)
        time.sleep(_QUICK_SAMPLE_SECONDS if rig.options.quick else _SAMPLE_SECONDS)
    return left, samples


def _start(rig: Rig) -> Container:
    environment = {**rig.broker.environment, "INPUT_QUEUE": _INPUT, "OUTPUT_QUEUE": _OUTPUT}
    return rig.containers.run(ours().image, environment)


def _end(rig: Rig, container: Container, count: int) -> list[str]:
    container.wait_idle()
    container.stop()
    container.remove()
    left = rig.broker.left(_INPUT)
    errors = rig.broker.verify(_OUTPUT, Tally(count))
    return [*errors, f"{left} inputs were not acked"] if left else errors
