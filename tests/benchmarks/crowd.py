"""What replicas cost one broker that only connect: `python -m tests.benchmarks.crowd 10 100 1000`.

Each has what every replica has: two connections, a control queue, a lock on its name, a consumer on
the queue of its stage, which stays empty. A process of this machine holds many of them, so their
own memory is not measured here; `make bench` measures that.
"""

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import NamedTuple

from rabbit import Consumer
from tests.benchmarks.broker import Broker
from tests.support.containers import Containers
from tests.waiting import wait_until

#: So many are held by one process, at most.
_PER_PROCESS = 100
#: For how long the broker is watched while nothing happens, in seconds.
_IDLE_SECONDS = 30.0
_PATIENCE_SECONDS = 600.0
_QUEUE = "crowd"


class _Idle(Consumer):
    """One of the crowd."""

    def work(self, message: str) -> None:
        """Get nothing."""


class Row(NamedTuple):
    """What was measured with so many replicas.

    Attributes:
        replicas: how many.
        mebibytes: what the broker holds more than without any.
        idle_cores: its CPU while nothing happens.
        connected_seconds: until all were there.
        status: seconds that `status` takes, and the broker's CPU seconds for it.
        halt: likewise `halt`, until it is proved.
    """

    replicas: int
    mebibytes: float
    idle_cores: float
    connected_seconds: float
    status: tuple[float, float]
    halt: tuple[float, float]


def hold(first: int, number: int) -> None:
    """Be so many replicas until all are halted."""
    names = (f"r{each}" for each in range(first, first + number))
    stages = [_Idle(name, _QUEUE, stage="crowd") for name in names]
    threads = [threading.Thread(target=each.start) for each in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _crowd(number: int, environment: dict[str, str]) -> Iterator[None]:
    """Have so many replicas in processes of their own, which end when all are halted."""
    firsts = range(0, number, _PER_PROCESS)
    command = (sys.executable, "-m", "tests.benchmarks.crowd", "--hold")
    processes = [
        subprocess.Popen(
            (*command, str(first), str(min(_PER_PROCESS, number - first))),
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for first in firsts
    ]
    try:
        yield
        for each in processes:
            each.wait(_PATIENCE_SECONDS)
    finally:
        for each in processes:
            each.kill()
            each.wait()


def _control(broker: Broker, environment: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Run a command of control; return its seconds, and the broker's CPU seconds."""
    before, began = broker.container.cpu_seconds, monotonic()
    done = subprocess.run(
        (sys.executable, "-m", "services.control", *arguments),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return monotonic() - began, broker.container.cpu_seconds - before


def measure(broker: Broker, number: int) -> Row:
    """Connect so many, look at them, and halt them."""
    environment = {**os.environ, **broker.environment_here, "LOG_LEVEL": "error"}
    environment |= {"HALT_TIMEOUT": str(_PATIENCE_SECONDS)}
    broker.declare(_QUEUE)
    sleep(_IDLE_SECONDS)  # what it has taken to start, it gives back
    empty, began = broker.container.resident_mebibytes, monotonic()
    with _crowd(number, environment):
        wait_until(
            lambda: broker.consumers(_QUEUE) == number,
            _PATIENCE_SECONDS,
            lambda: f"{broker.consumers('crowd')} of {number} are there",
            pause_seconds=0.5,
        )
        connected_seconds = monotonic() - began
        sleep(_IDLE_SECONDS)  # what there was to do to connect them is done, and counted
        before = broker.container.cpu_seconds
        sleep(_IDLE_SECONDS)
        idle_cores = (broker.container.cpu_seconds - before) / _IDLE_SECONDS
        mebibytes = broker.container.resident_mebibytes - empty
        status = _control(broker, environment, "status")
        halt = _control(broker, environment, "halt", "--timeout", str(_PATIENCE_SECONDS))
    return Row(number, mebibytes, idle_cores, connected_seconds, status, halt)


def main(arguments: Sequence[str]) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("replicas", nargs="+", type=int)
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.hold:
        hold(*given.replicas)
        return
    sys.stdout.write(_TABLE)
    for number in given.replicas:
        # A broker keeps what it has once taken: each number has one of its own.
        with Containers() as containers:
            row = measure(Broker(containers), number)
        sys.stdout.write(f"{_cells(row)}\n")
        sys.stdout.flush()


_TABLE = """\
| replicas | MiB of each | idle, cores | all there, s | status, s (CPU s) | halt, s (CPU s) |
|---:|---:|---:|---:|---:|---:|
"""


def _cells(row: Row) -> str:
    timed = [f"{seconds:.1f} ({cpu:.1f})" for seconds, cpu in (row.status, row.halt)]
    each = row.mebibytes / row.replicas
    idle = (f"{each:.2f}", f"{row.idle_cores:.3f}", f"{row.connected_seconds:.0f}")
    return f"| {' | '.join([f'{row.replicas:,}', *idle, *timed])} |"


if __name__ == "__main__":
    main(sys.argv[1:])
