"""What three copies of a queue cost brokers, by one: `python -m tests.benchmarks.copies`.

A queue is filled; then `to_upper` puts all of it into the next one. First with one broker, then
with the three of deploy/cluster. What counts is the CPU time of all brokers for a message.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import docker  # type: ignore[import-untyped]
import pika

from tests.benchmarks.bodies import template
from tests.support.containers import Container
from tests.support.pipeline import Pipeline
from tests.support.wire import Wire
from tests.waiting import wait_until

_FILES = {
    1: "docker-compose.yml",
    3: "docker-compose.yml:deploy/cluster/docker-compose.cluster.yml",
}
_LOGIN = {"RABBITMQ_USERNAME": "benchmark", "RABBITMQ_PASSWORD": "benchmark"}
_STAGES = ("to_upper", "printer")
_IN, _OUT = "my_queue", "upper"
#: Of the messages, so many are not counted: what a stage does while it warms up.
_WARM_SHARE = 0.1
_PATIENCE_SECONDS = 300.0


class Brokers:
    """One broker or three, and the stage that makes them work."""

    def __init__(self, pipeline: Pipeline, number: int) -> None:
        """Start them, with two queues that have all their copies."""
        self._pipeline = pipeline
        names = [f"rabbitmq{each}" if each > 1 else "rabbitmq" for each in range(1, number + 1)]
        pipeline.start(*names, *_STAGES)
        client = docker.from_env().containers
        self._all = [Container(client.get(pipeline.containers(each)[0])) for each in names]
        wait_until(lambda: self._copies() == {number}, _PATIENCE_SECONDS, "all copies are there")
        pipeline.compose("stop", *_STAGES)
        login = pika.PlainCredentials("benchmark", "benchmark")
        here = pika.ConnectionParameters(
            "127.0.0.1", pipeline.amqp_port, credentials=login, heartbeat=0
        )
        self._channel = pika.BlockingConnection(here).channel()

    def _copies(self) -> set[int]:
        command = ["rabbitmqctl", "--quiet", "list_queues", "name", "members"]
        told = self._all[0].raw.exec_run(command).output.decode().splitlines()
        rows = [line.split("\t") for line in told]
        return {row[1].count("rabbit@") for row in rows if row[0] in {_IN, _OUT}}

    def relay(self, size: int, count: int) -> float:
        """Have so many messages of so many bytes relayed; return microseconds of CPU for each."""
        with Wire("127.0.0.1", self._pipeline.amqp_port, *_LOGIN.values()) as wire:
            wire.publish(_IN, _IN, template(size).messages(count))
        self._pipeline.compose("start", "to_upper")
        began = self._wait(int(count * _WARM_SHARE))
        ended = self._wait(count)
        self._pipeline.compose("stop", "to_upper")
        self._channel.queue_purge(_OUT)
        return (ended[1] - began[1]) / (ended[0] - began[0]) * 1e6

    def _wait(self, count: int) -> tuple[int, float]:
        """Wait until so many have come; return how many have, and the CPU seconds so far."""
        wait_until(lambda: self._depth() >= count, _PATIENCE_SECONDS, f"{count} are relayed")
        return self._depth(), sum(each.cpu_seconds for each in self._all)

    def _depth(self) -> int:
        return int(self._channel.queue_declare(_OUT, passive=True).method.message_count)


@contextmanager
def brokers(number: int) -> Iterator[Brokers]:
    """Have so many, for the time of a `with`."""
    cookie = secrets.token_hex()
    name = f"pipeline-copies-{os.getpid()}"
    variables = {"COMPOSE_FILE": _FILES[number], "RABBITMQ_ERLANG_COOKIE": cookie, **_LOGIN}
    pipeline = Pipeline(name, **variables)
    try:
        yield Brokers(pipeline, number)
    finally:
        pipeline.remove()


def main(arguments: Sequence[str]) -> None:
    """Print what a message costs, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a body")
    parser.add_argument("--messages", type=int, default=50_000)
    given = parser.parse_args(arguments)
    costs = {}
    for number in _FILES:
        with brokers(number) as made:
            seen = [made.relay(given.size, given.messages) for _ in range(given.rounds)]
        costs[number] = median(seen)
        each = ", ".join(f"{one:.0f}" for one in seen)
        sys.stdout.write(f"{number} copies: {costs[number]:.0f} µs of CPU a message ({each})\n")
        sys.stdout.flush()
    sys.stdout.write(f"three cost {costs[3] / costs[1]:.1f} times as much as one\n")


if __name__ == "__main__":
    main(sys.argv[1:])
