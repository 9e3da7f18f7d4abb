"""Resident memory of to_upper above idle: messages of 4 MiB behind small ones.

The small ones make it hold a thousand in advance. All of them are there before the first one is
handled: the stage is frozen meanwhile.
"""

from rabbit.messaging.prefetch import MOST_BYTES
from tests.benchmarks.bodies import Tally, template
from tests.benchmarks.candidates import ours
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support.containers import Container
from tests.waiting import wait_until

NAME = "burst of 4 MiB messages into to_upper"
_SMALL, _SMALL_BYTES = 20_000, 16
_LARGE, _QUICK_LARGE, _LARGE_BYTES = 100, 30, 4 * 1024 * 1024
_MEBIBYTE = 1024 * 1024
#: The goal: what is held in advance, and one message more.
MOST_MEBIBYTES = (MOST_BYTES + _LARGE_BYTES) / _MEBIBYTE
_PATIENCE_SECONDS = 60.0
_STALL_SECONDS = 300.0
_INPUT, _OUTPUT = "burst.in", "burst.out"
#: Longer than the stage is frozen.
_HEARTBEAT_SECONDS = "60"


def measure(rig: Rig) -> None:
    """Measure it so often, each time in a new container."""
    for queue in (_INPUT, _OUTPUT):
        rig.broker.declare(queue)
    for number in range(1, rig.options.rounds + 1):
        with rig.progress.doing(f"{NAME}, round {number} of {rig.options.rounds}"):
            run = _run(rig, number)
        rig.record(run)


def _run(rig: Rig, number: int) -> Run:
    large = _QUICK_LARGE if rig.options.quick else _LARGE
    total = _SMALL + large
    container = _start(rig)
    idle = container.resident_mebibytes
    with container.paused():
        rig.broker.fill(_INPUT, template(_SMALL_BYTES), _SMALL)
        rig.broker.fill(_INPUT, template(_LARGE_BYTES), large, first=_SMALL)
    wait_until(
        lambda: rig.broker.depth(_OUTPUT) >= total,
        _STALL_SECONDS,
        lambda: f"all are relayed\n{container.log()}",
    )
    container.wait_idle()
    peak = container.peak_mebibytes
    tally = Tally(total)
    errors = _end(rig, container, tally)
    figures = {
        "duplicates": tally.duplicates,
        "idle_mebibytes": idle,
        "above_idle_mebibytes": peak - idle,
    }
    return Run(NAME, "ours", number, figures, tuple(errors))


def _start(rig: Rig) -> Container:
    queues = {"INPUT_QUEUE": _INPUT, "OUTPUT_QUEUE": _OUTPUT}
    heartbeat = {"RABBITMQ_HEARTBEAT": _HEARTBEAT_SECONDS}
    environment = {**rig.broker.environment, **queues, **heartbeat}
    container = rig.containers.run(ours().image, environment)
    wait_until(lambda: rig.broker.consumers(_INPUT), _PATIENCE_SECONDS, "the stage consumes")
    container.wait_idle()
    return container


def _end(rig: Rig, container: Container, tally: Tally) -> list[str]:
    container.stop()
    container.remove()
    left = rig.broker.left(_INPUT)
    errors = rig.broker.verify(_OUTPUT, tally)
    return [*errors, f"{left} inputs were not acked"] if left else errors
