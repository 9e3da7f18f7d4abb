"""What a pipeline takes, calculated from what was measured: `python -m tests.benchmarks.estimate`.

It goes by CPU alone, as `make bench` has measured it on its machine (results/results.json): what a
message of 16 B or 1 KiB costs a stage and one broker. What several copies cost, `--copies-cost`
says: the CPU of all brokers, by that of one; `tests.benchmarks.copies` measures it.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results/results.json"

#: So much of a core may be in use: the rest is for bursts, and for a broker that fails.
_LOAD = 0.6
_WORKS = {16: "relay, 16 B, quorum", 1024: "relay, 1 KiB, quorum"}
#: What AMQP, TCP and IP add to a body, about, in bytes.
_OVERHEAD = 250


class Cost(NamedTuple):
    """What one message costs that goes through one stage.

    Attributes:
        stage: seconds of CPU.
        broker: seconds of CPU, with one copy.
        most: messages a second that went through one queue.
    """

    stage: float
    broker: float
    most: float


def measured(size: int) -> Cost:
    """Return the medians of the benchmark, for a body of so many bytes."""
    runs = json.loads(RESULTS.read_text())["runs"]
    mine = [e["figures"] for e in runs if e["work"] == _WORKS[size] and e["candidate"] == "ours"]
    stage, broker, most = (
        median(each[name] for each in mine)
        for name in ("cpu_microseconds", "broker_cpu_microseconds", "messages_per_second")
    )
    return Cost(stage / 1e6, broker / 1e6, most)


def estimate(rate: float, size: int, stages: int, copies: int, copies_cost: float) -> list[str]:
    """Return what so many messages a second take, a line each.

    Args:
        rate: messages a second that come in.
        size: bytes of a body: 16 or 1024.
        stages: through which each message goes, one after the other.
        copies: brokers that have each queue.
        copies_cost: the CPU of all of them together, by that of one broker with one copy.
    """
    cost = measured(size)
    brokers = rate * cost.broker * copies_cost * stages / _LOAD
    workers = rate * cost.stage / _LOAD
    queues = math.ceil(rate / (cost.most * _LOAD))
    gigabits = rate * (size + _OVERHEAD) * 8 / 1e9
    return [
        f"{rate:,.0f} messages a second of {size} B, through {stages} stages, {copies} copies",
        f"brokers: {brokers:,.0f} cores at {_LOAD:.0%}",
        f"queues:  {queues} for each edge: one makes {cost.most:,.0f}/s at most, by one leader",
        f"stages:  {math.ceil(workers)} replicas for each stage, of a core each, at {_LOAD:.0%}",
        f"network: {gigabits:.1f} Gbit/s into the brokers for each edge, as much out of them,",
        f"         and {gigabits * (copies - 1):.1f} between them",
    ]


def main(arguments: Sequence[str]) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1_000_000, help="messages a second")
    parser.add_argument("--size", type=int, default=1024, choices=sorted(_WORKS), help="bytes")
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--copies-cost", type=float, default=3.0, help="by that of one copy")
    given = parser.parse_args(arguments)
    lines = estimate(given.rate, given.size, given.stages, given.copies, given.copies_cost)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
