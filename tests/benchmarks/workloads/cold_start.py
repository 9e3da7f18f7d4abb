"""From the exec of the stage's process to its consumer's being registered with the broker.

A line is printed right before the exec; Docker's time stamp of it is the beginning. The end is
when the broker counts a consumer on the input queue, asked every few milliseconds.
"""

import time

from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support import images
from tests.support.containers import Image
from tests.waiting import wait_until

NAME = "cold start of to_upper, exec to consuming"
_STARTS, _QUICK_STARTS = 15, 3
_POLL_SECONDS = 0.004
_PATIENCE_SECONDS = 30.0
_QUEUE, _OUTPUT = "cold-start.in", "cold-start.out"


def measure(rig: Rig) -> None:
    """Start it so often, each time in a new container."""
    for queue in (_QUEUE, _OUTPUT):
        rig.broker.declare(queue)
    for number in range(1, (_QUICK_STARTS if rig.options.quick else _STARTS) + 1):
        with rig.progress.doing(f"{NAME}: start {number}"):
            seconds = _start(rig)
        rig.record(Run(NAME, "ours", number, {"start_seconds": seconds}))


def _start(rig: Rig) -> float:
    name = images.stage("to_upper")
    says = ["sh", "-c", 'echo exec; exec "$@"', "sh", *rig.containers.entrypoint(name)]
    environment = {**rig.broker.environment, "INPUT_QUEUE": _QUEUE, "OUTPUT_QUEUE": _OUTPUT}
    container = rig.containers.create(Image(name, entrypoint=says), environment)
    container.start()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not rig.broker.consumers(_QUEUE):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stage does not consume\n{container.log()}")
        time.sleep(_POLL_SECONDS)
    ready_at = time.time()
    wait_until(container.printed, _PATIENCE_SECONDS, "Docker has the container's output")
    began_at, _ = container.printed()[0]
    container.stop()
    container.remove()
    rig.broker.left(_QUEUE)
    return ready_at - began_at
