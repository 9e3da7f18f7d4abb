"""How long a lone message takes through an idle pipeline: publish, to_upper, consume.

The harness stands at both ends, on this machine. What it takes by itself, with no stage between, is
measured too and shown beside it, not subtracted.
"""

import random
import time
from collections.abc import Iterator
from statistics import median, quantiles

from tests.benchmarks.candidates import ours
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.waiting import wait_until

NAME = "latency of a lone message"
STAGE, NOTHING = "through to_upper", "with no stage"
_SAMPLES, _QUICK_SAMPLES = 300, 100
#: Between two messages the pipeline falls idle; not in step with any timer of its own.
_PAUSE_SECONDS = 0.03
_PATIENCE_SECONDS = 30.0
_INPUT, _OUTPUT = "latency.in", "latency.out"


def measure(rig: Rig) -> None:
    """Measure with the stage and without it."""
    for queue in (_INPUT, _OUTPUT):
        rig.broker.declare(queue, "quorum")
    environment = {**rig.broker.environment, "INPUT_QUEUE": _INPUT, "OUTPUT_QUEUE": _OUTPUT}
    container = rig.containers.run(ours().image, environment)
    wait_until(lambda: rig.broker.consumers(_INPUT), _PATIENCE_SECONDS, "the stage consumes")
    container.wait_idle()
    samples = _QUICK_SAMPLES if rig.options.quick else _SAMPLES
    for candidate, entry in ((STAGE, _INPUT), (NOTHING, _OUTPUT)):
        with rig.progress.doing(f"{NAME}: {candidate}"):
            taken = list(_round_trips(rig, entry, samples))
        figures = {
            "median_milliseconds": median(taken) * 1e3,
            "p99_milliseconds": quantiles(taken, n=100)[98] * 1e3,
            "samples": len(taken),
        }
        rig.record(Run(NAME, candidate, 1, figures))
    container.stop()
    container.remove()


def _round_trips(rig: Rig, entry: str, count: int) -> Iterator[float]:
    """Publish one message at a time; yield the seconds until it has come out."""
    publishing = rig.broker.connect().channel()
    consuming = rig.broker.connect().channel()
    arrivals = consuming.consume(_OUTPUT, auto_ack=True, inactivity_timeout=_PATIENCE_SECONDS)
    for number in range(count):
        time.sleep(random.uniform(0, _PAUSE_SECONDS))  # noqa: S311 - no secret
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
