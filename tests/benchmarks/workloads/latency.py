"""How long a lone message takes through the idle pipeline, of to_upper and printer as shipped.

The harness publishes, as the producer would; the end is Docker's time stamp of the line that the
printer prints. Beside it: through to_upper only, with the harness as its consumer, and with no
stage between: what the harness and the broker take by themselves. That is not subtracted.
"""

import random
import time
from collections.abc import Callable, Iterator
from statistics import median, quantiles

from tests.benchmarks.candidates import ours
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.support import images
from tests.support.containers import Container, Image
from tests.waiting import wait_until

NAME = "latency of a lone message"
PIPELINE, STAGE, NOTHING = "to_upper and printer", "to_upper", "no stage"
_SAMPLES, _QUICK_SAMPLES = 500, 100
#: Between two messages the pipeline falls idle; not in step with any timer of its own.
_PAUSE_SECONDS = 0.03
_PATIENCE_SECONDS = 30.0
_INPUT, _OUTPUT = "latency.in", "latency.out"


def measure(rig: Rig) -> None:
    """Measure with no stage, with one and with both."""
    samples = _QUICK_SAMPLES if rig.options.quick else _SAMPLES
    for queue in (_INPUT, _OUTPUT):
        rig.broker.declare(queue)
    _record(rig, NOTHING, lambda: list(_round_trips(rig, _OUTPUT, samples)))
    environment = {**rig.broker.environment, "INPUT_QUEUE": _INPUT, "OUTPUT_QUEUE": _OUTPUT}
    to_upper = _start(rig, ours().image, environment, _INPUT)
    _record(rig, STAGE, lambda: list(_round_trips(rig, _INPUT, samples)))
    reads = {**rig.broker.environment, "INPUT_QUEUE": _OUTPUT}
    printer = _start(rig, Image(images.stage("printer")), reads, _OUTPUT)
    _record(rig, PIPELINE, lambda: _to_the_line(rig, printer, samples))
    for container in (to_upper, printer):
        container.stop()
        container.remove()


def _start(rig: Rig, image: Image, environment: dict[str, str], queue: str) -> Container:
    container = rig.containers.run(image, environment)
    wait_until(lambda: rig.broker.consumers(queue), _PATIENCE_SECONDS, "the stage consumes")
    container.wait_idle()
    return container


def _record(rig: Rig, candidate: str, take: Callable[[], list[float]]) -> None:
    with rig.progress.doing(f"{NAME}: {candidate}"):
        taken = take()
    figures = {
        "median_milliseconds": median(taken) * 1e3,
        "p99_milliseconds": quantiles(taken, n=100)[98] * 1e3,
        "samples": len(taken),
    }
    rig.record(Run(NAME, candidate, 1, figures))


def _pause() -> None:
    time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 - no secret


def _round_trips(rig: Rig, entry: str, count: int) -> Iterator[float]:
    """Publish one message at a time; yield the seconds until the harness has it back."""
    publishing = rig.broker.connect().channel()
    consuming = rig.broker.connect().channel()
    arrivals = consuming.consume(_OUTPUT, auto_ack=True, inactivity_timeout=_PATIENCE_SECONDS)
    for number in range(count):
        _pause()
        text = f"message {number}".encode()
        began_at = time.perf_counter()
        publishing.basic_publish(entry, entry, text)
        _, _, body = next(arrivals)
        taken = time.perf_counter() - began_at
        if body is None or body.lower() != text:
            raise LookupError(f"published {text!r}, got {body!r}")
        yield taken
    for channel in (publishing, consuming):
        channel.connection.close()


def _to_the_line(rig: Rig, printer: Container, count: int) -> list[float]:
    """Publish one message at a time; return the seconds until each was printed."""
    channel = rig.broker.connect().channel()
    began_at: dict[str, float] = {}
    for number in range(count):
        # No look at the log in between, which would take CPU time from what is measured.
        time.sleep(_PAUSE_SECONDS)
        _pause()
        text = f"message {number}"
        began_at[text.upper()] = time.time()
        channel.basic_publish(_INPUT, _INPUT, text.encode())
    channel.connection.close()
    wait_until(
        lambda: len(printer.printed()) >= count, _PATIENCE_SECONDS, "all messages are printed"
    )
    lines = {text: at for at, text in printer.printed()}
    if missing := began_at.keys() - lines.keys():
        raise LookupError(f"{len(missing)} messages were not printed")
    return [lines[text] - began for text, began in began_at.items()]
