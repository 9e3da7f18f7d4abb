"""A handler that takes 100 ms: does each printer that is added bring its full share?

All printers wait at an empty queue; then their messages are published at once. The throughput is
counted from there to Docker's time stamp of the last printed line, so an uneven share shows.
"""

import time
from collections.abc import Sequence

from tests.benchmarks.bodies import Tally, template
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support import images
from tests.support.containers import Container, Image
from tests.waiting import wait_until

DELAY_SECONDS = 0.1
_PRINTERS, _QUICK_PRINTERS = (1, 2, 4, 8), (1, 8)
#: So many messages for each printer.
_SHARE, _QUICK_SHARE = 100, 30
_SIZE_BYTES = 16
_QUEUE = "slow-handler.in"
_PATIENCE_SECONDS = 60.0


def name(printers: int) -> str:
    """Name the work of so many printers."""
    return f"handler of 100 ms, {printers} printer{'s' if printers > 1 else ''}"


def measure(rig: Rig) -> None:
    """Measure each number of printers."""
    rig.broker.declare(_QUEUE)
    for printers in _QUICK_PRINTERS if rig.options.quick else _PRINTERS:
        with rig.progress.doing(name(printers)):
            run = _run(rig, printers, _QUICK_SHARE if rig.options.quick else _SHARE)
        rig.record(run)


def _run(rig: Rig, printers: int, share: int) -> Run:
    environment = {
        **rig.broker.environment,
        "INPUT_QUEUE": _QUEUE,
        "PRINTER_DELAY": str(DELAY_SECONDS),
    }
    image = Image(images.stage("printer"))
    started = [rig.containers.run(image, environment) for _ in range(printers)]
    wait_until(
        lambda: rig.broker.consumers(_QUEUE) == printers, _PATIENCE_SECONDS, "all printers consume"
    )
    count = share * printers
    began_at = time.time()
    rig.broker.fill(_QUEUE, template(_SIZE_BYTES), count)
    lines = wait_printed(started, count, share * DELAY_SECONDS)
    for container in started:
        container.stop()
        container.remove()
    tally = Tally(count, upper=False)
    for _, text in lines:
        tally.add(text.encode())
    rate = count / (max(at for at, _ in lines) - began_at)
    figures = {"messages_per_second": rate, "of_linear": rate * DELAY_SECONDS / printers}
    return Run(name(printers), "ours", 1, figures, tuple(tally.errors))


def wait_printed(
    started: Sequence[Container], count: int, least_seconds: float
) -> list[tuple[float, str]]:
    """Wait until so many lines are printed; return all with their times."""

    def printed() -> list[tuple[float, str]]:
        lines = [line for container in started for line in container.printed()]
        return lines if len(lines) >= count else []

    return wait_until(printed, _PATIENCE_SECONDS + 2 * least_seconds, "all messages are printed")
