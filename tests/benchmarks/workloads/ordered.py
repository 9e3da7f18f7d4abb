"""An ordered edge: does each replica that is added bring its share, and what does order cost?

64 keys in 16 partitions. Keys are spread by hash, and replicas take whole partitions, so some
have more keys than others: no more than the busiest of them lets through can come of it.
`of_linear` is against replicas that all have as many, `of_possible` against the busiest.
"""

import time
from dataclasses import replace
from pathlib import Path

from rabbit.topology import Edge
from tests.benchmarks.bodies import Tally, template
from tests.benchmarks.candidates import ours
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.benchmarks.stages.keyed import DELAY_SECONDS
from tests.benchmarks.watch import Watch
from tests.benchmarks.workloads.slow_handler import wait_printed
from tests.support import images
from tests.support.containers import Image
from tests.waiting import wait_until

_STAGES = Path(__file__).parents[1] / "stages"
_INSIDE = "/benchmark"
_EDGE = Edge("ordered.in", "ordered", partitions=16)
_WORK = Edge("ordered.work.in")
_OUT = "ordered.out"
_KEYS = [f"customer-{number}" for number in range(64)]
_PRINTERS, _QUICK_PRINTERS = (1, 2, 4, 8), (1, 4)
#: So many messages for each printer.
_SHARE, _QUICK_SHARE = 400, 200
_FAST, _QUICK_FAST = 40_000, 15_000
_SIZE_BYTES = 16
_PATIENCE_SECONDS = 60.0
FAST = "to_upper, 16 B, from a work queue and from an ordered edge"


def name(printers: int) -> str:
    """Name the work of so many printers."""
    return f"ordered, handler of 50 ms, {printers} printer{'s' if printers > 1 else ''}"


def measure(rig: Rig) -> None:
    """Measure each number of printers, then to_upper with and without order."""
    for edge in (_EDGE, _WORK, Edge(_OUT)):
        rig.broker.declare_edge(edge)
    share = _QUICK_SHARE if rig.options.quick else _SHARE
    for printers in _QUICK_PRINTERS if rig.options.quick else _PRINTERS:
        with rig.progress.doing(name(printers)):
            rig.record(_slow(rig, printers, share))
    for number in range(1, rig.options.rounds + 1):
        for edge in (_WORK, _EDGE):
            with rig.progress.doing(f"{FAST}: {edge.kind}, round {number}"):
                rig.record(_fast(rig, edge, number))


def _slow(rig: Rig, printers: int, share: int) -> Run:
    environment = {
        **rig.broker.environment,
        "INPUT_QUEUE": _EDGE.name,
        "INPUT_KIND": "ordered",
        "PARTITIONS": str(_EDGE.partitions),
    }
    image = Image(
        images.stage("to_upper"),
        command=[f"{_INSIDE}/keyed.py"],
        entrypoint=["python"],
        mounts=((_STAGES, _INSIDE),),
    )
    started = [rig.containers.run(image, environment) for _ in range(printers)]
    wait_until(
        lambda: rig.broker.consumers(_EDGE.census.name) == printers,
        _PATIENCE_SECONDS,
        lambda: f"all printers are in line\n{started[0].log()}",
    )
    # The partitions are handed on until each has its share before it is measured.
    warm = len(_KEYS) * printers
    rig.broker.fill_edge(_EDGE, _KEYS, template(_SIZE_BYTES), warm)
    wait_printed(started, warm, warm * DELAY_SECONDS)
    count = share * printers
    began_at = time.time()
    rig.broker.fill_edge(_EDGE, _KEYS, template(_SIZE_BYTES), count)
    wait_printed(started, warm + count, share * DELAY_SECONDS)
    lines = [[line for line in each.printed() if line[0] > began_at] for each in started]
    for container in started:
        container.stop()
        container.remove()
    tally = Tally(count, upper=False)
    for each in lines:
        for _, text in each:
            tally.add(text.encode())
    seconds = max(at for each in lines for at, _ in each) - began_at
    busiest = max(map(len, lines))
    figures = {
        "messages_per_second": count / seconds,
        "of_linear": share * DELAY_SECONDS / seconds,
        "of_possible": busiest * DELAY_SECONDS / seconds,
        "duplicates": tally.duplicates,
    }
    return Run(name(printers), "ours", 1, figures, tuple(tally.errors))


def _fast(rig: Rig, edge: Edge, number: int) -> Run:
    count = _QUICK_FAST if rig.options.quick else _FAST
    keys = _KEYS if edge.is_ordered else [edge.name]
    rig.broker.fill_edge(edge, keys, template(_SIZE_BYTES), count)
    candidate = replace(ours(), name=edge.kind)
    environment = {
        **rig.broker.environment,
        "INPUT_QUEUE": edge.name,
        "INPUT_KIND": edge.kind,
        "PARTITIONS": str(_EDGE.partitions),
        "OUTPUT_QUEUE": _OUT,
    }
    container = rig.containers.run(candidate.image, environment)
    figures = Watch(rig.broker, _OUT, [container]).until(count)
    container.stop()
    container.remove()
    tally = Tally(count)
    errors = rig.broker.verify(_OUT, tally)
    return Run(FAST, candidate.name, number, figures, tuple(errors))
