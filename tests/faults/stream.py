"""Numbered messages on their way through source, worker and sink, and what is asserted of them."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from rabbit.amqp import frames
from tests.broker import PASSWORD, USERNAME, Operator
from tests.faults.account import Account
from tests.faults.replica import Replica, stage_image
from tests.faults.summary import Row, Summary
from tests.support.containers import Containers
from tests.support.wire import Wire
from tests.waiting import wait_until

#: Messages that a replica of a stage here may hold, and messages that the source has unconfirmed.
PREFETCH = 100
BATCH = 20

#: How long messages may take to flow again after a fault is over, unless the fault says otherwise.
HEAL_SECONDS = 30.0
#: How long the backlog may last once nothing new is sent.
BACKLOG_SECONDS = 60.0

NO_ID = 32 * "0"

#: A size of frames that any broker agrees to.
FRAME_BYTES = 131_072

_RATE = 300  # messages a second
_FLOWS_SECONDS = 30.0


class Stream:
    """A source, a worker and a sink on queues of their own; more replicas where a fault asks.

    Attributes:
        broker: what connects them.
        sources, workers, sinks: their containers; a fault may add some.
        mounts: what every replica gets to see besides its image.
        may_be_dead: whether a message may be in the dead letters of the input, not at the sink.
    """

    def __init__(
        self,
        containers: Containers,
        broker: Operator,
        environment: dict[str, str],
        summary: Summary,
    ) -> None:
        """Choose names that no other stream has; nothing runs before `start`.

        Args:
            containers: where replicas are started.
            broker: what operators use.
            environment: how a replica finds the broker.
            summary: where the outcome of a fault is noted.
        """
        self.broker = broker
        self.containers = containers
        suffix = uuid.uuid4().hex[:6]
        self.input, self.output = f"in-{suffix}", f"out-{suffix}"
        self.environment = {"PREFETCH": str(PREFETCH), **environment}
        self.sources: list[Replica] = []
        self.workers: list[Replica] = []
        self.sinks: list[Replica] = []
        self.mounts: tuple[tuple[Path, str], ...] = ()
        self.may_be_dead = False
        self._retired: list[Replica] = []
        self._told: list[str] = []
        self._dead_letters: list[str] = []
        self._summary = summary

    # Replicas

    def source(self, **environment: object) -> Replica:
        """Start another source."""
        given = {"RATE": _RATE, "BATCH": BATCH, **environment, "STAGE": "source"}
        replica = self._run("source", given, OUTPUT_QUEUE=self.input)
        self.sources.append(replica)
        return replica

    def worker(self, name: str = "to_upper", **environment: object) -> Replica:
        """Start another worker."""
        given = {**environment, "STAGE": "to_upper"}
        replica = self._run(name, given, INPUT_QUEUE=self.input, OUTPUT_QUEUE=self.output)
        self.workers.append(replica)
        return replica

    def sink(self, **environment: object) -> Replica:
        """Start another sink."""
        replica = self._run(
            "recorder", {**environment, "STAGE": "printer"}, INPUT_QUEUE=self.output
        )
        self.sinks.append(replica)
        return replica

    def _run(self, name: str, environment: dict[str, object], **queues: str) -> Replica:
        given = {key: str(value) for key, value in environment.items()}
        image = stage_image(name)
        image = image._replace(mounts=(*image.mounts, *self.mounts))
        return Replica.run(self.containers, image, {**self.environment, **queues, **given})

    def retire(self, *replicas: Replica) -> None:
        """Let replicas that have ended be; what they have printed still counts."""
        self._retired += replicas
        self.sources = [each for each in self.sources if each not in replicas]
        self.workers = [each for each in self.workers if each not in replicas]
        self.sinks = [each for each in self.sinks if each not in replicas]

    @property
    def replicas(self) -> list[Replica]:
        """All of them, in flow order."""
        return [*self.sources, *self.workers, *self.sinks]

    def start(self) -> Self:
        """Start those that are missing of one each, and wait until messages flow."""
        if not self.sinks:
            self.sink()
        if not self.workers:
            self.worker()
        if not self.sources:
            self.source()
        self.wait_flowing(_FLOWS_SECONDS)
        return self

    def _ever(self, replicas: list[Replica]) -> list[Replica]:
        kind = {each.stage for each in replicas}
        return [*replicas, *(each for each in self._retired if each.stage in kind)]

    # What happened so far

    def account(self) -> Account:
        """Read the logs of sources and sinks."""
        account = Account()
        arrived = [sink.out for sink in self._ever(self.sinks)]  # first: so all of it was sent
        for source in self._ever(self.sources):
            account.told(source.out)
        account.told(self._told)
        for lines in (*arrived, self._dead_letters):
            account.arrived(lines)
        return account

    def put(self, run: str, properties: Sequence[bytes], digits: int = 1, padding: int = 0) -> None:
        """Publish a run of messages of the test's own to the input, confirmed.

        Args:
            run: its name; the messages' texts are RUN-0, RUN-1 and so on.
            properties: those of each message, as they stand in a content header.
            digits: how many digits each number has at least.
            padding: how many bytes follow each text, as a word of their own.
        """
        more = f" {padding * '.'}" if padding else ""
        contents = (
            frames.content(1, each, f"{run}-{number:0{digits}}{more}".encode(), FRAME_BYTES)
            for number, each in enumerate(properties)
        )
        self._told.append(f"sent {run} 0 {len(properties)}")
        with Wire(self.broker.host, self.broker.port, USERNAME, PASSWORD) as wire:
            wire.publish(self.input, self.input, map(b"".join, contents))
        self._told.append(f"confirmed {run} 0 {len(properties)}")

    def _take_dead(self) -> None:
        """Take the dead letters of the input: they count as arrived.

        What is in their headers may be more than pika can read; so their ids are not looked at.
        """
        dead = f"{self.input}.dead"
        with Wire(self.broker.host, self.broker.port, USERNAME, PASSWORD) as wire:
            bodies = list(wire.consume(dead, self.broker.depth(dead)))
        self._dead_letters += [f"{NO_ID} {body.decode()}" for body in bodies]

    def wait_dead(self, count: int) -> None:
        """Wait until so many dead letters of the input are there."""
        dead = f"{self.input}.dead"
        wait_until(lambda: self.broker.depth(dead) >= count, _FLOWS_SECONDS, self.logs)

    def wait_arrived(self, run: str, seconds: float) -> None:
        """Wait until all of a run of `put` is at the sink."""

        def missing() -> list[str]:
            return [each for each in self.account().lost if each.startswith(f"{run}-")]

        wait_until(
            lambda: not missing(), seconds, lambda: f"{run}: {len(missing())} left\n{self.logs()}"
        )

    def wait_sent(self, count: int) -> None:
        """Wait until the source has sent so many."""
        wait_until(lambda: self.account().sent >= count, _FLOWS_SECONDS, self.logs)

    def wait_flowing(self, seconds: float = HEAL_SECONDS) -> None:
        """Wait until all are ready and what is sent from now on arrives."""
        deadline = time.monotonic() + seconds
        for replica in self.replicas:
            replica.wait_ready(max(0.0, deadline - time.monotonic()))
        progress = self.account().progress
        wait_until(
            lambda: self.account().is_beyond(progress),
            max(0.0, deadline - time.monotonic()),
            lambda: f"messages flow\n{self.logs()}",
        )

    def wait_backlog(self, count: int, queue: str | None = None) -> None:
        """Wait until so many messages wait for a consumer."""
        queue = queue or self.input
        wait_until(lambda: self.broker.depth(queue) >= count, _FLOWS_SECONDS, f"{queue} fills")

    def close_connections(self) -> None:
        """Close all connections of all replicas by force; each has one for each direction."""
        for replica in self.replicas:
            name = replica.id[:12]
            wait_until(
                lambda: len(self.broker.connections(name)) >= 2,  # noqa: B023
                _FLOWS_SECONDS,
                f"the broker lists the connections of {replica.name}",
            )
            self.broker.close_connections(name)

    def wait_disconnected(self, replica: Replica) -> None:
        """Wait until the broker has no connection of a replica any more."""
        wait_until(
            lambda: not self.broker.connections(replica.id[:12]),
            _FLOWS_SECONDS,
            f"the broker gives up {replica.name}",
        )

    def logs(self) -> str:
        """The last words of all replicas."""
        return "\n".join(f"--- {each.name}\n{each.log(10)}" for each in self.replicas)

    # The fault

    @contextmanager
    def fault(
        self,
        name: str,
        *,
        source: int = 0,
        worker: int = 0,
        sink: int = 0,
        heal_seconds: float = HEAL_SECONDS,
        backlog_seconds: float = BACKLOG_SECONDS,
    ) -> Iterator[None]:
        """Assert, after the `with`, that nothing is lost and everything heals.

        Args:
            name: for the summary.
            source: how many times a replica of it may lose its connection or its process; each
                time, a batch may come twice. Likewise for the others, with what they hold.
            worker: likewise.
            sink: likewise.
            heal_seconds: by then messages flow again.
            backlog_seconds: by then nothing is left, once nothing new is sent.
        """
        bound = source * BATCH + (worker + sink) * PREFETCH
        row = Row(name, bound)
        self._summary.rows.append(row)
        yield
        begun = time.monotonic()
        self.wait_flowing(heal_seconds)
        row.heal_seconds = time.monotonic() - begun
        self.settle(row, backlog_seconds)

    def settle(self, row: Row, backlog_seconds: float) -> None:
        """Stop the source, let the rest finish, stop it; assert all that is promised."""
        codes = [each.halt() for each in self.sources]

        def is_gone() -> bool:
            if self.may_be_dead:
                self._take_dead()
            return not self.account().lost

        try:
            wait_until(is_gone, backlog_seconds, "the backlog is gone")
        except AssertionError as error:
            lost = self.account().lost
            row.take(self.account())
            raise AssertionError(f"{error}: {len(lost)}: {lost[:20]}\n{self.logs()}") from None
        codes += [each.halt() for each in [*self.workers, *self.sinks]]
        account = self.account()
        row.take(account)
        assert set(codes) == {0}, f"exit codes {codes}\n{self.logs()}"
        assert account.lost == []
        assert account.unexpected == []
        assert account.changed == []
        assert account.duplicated <= row.bound, f"{account.duplicated} duplicates"
        assert self.left() == {}, "nothing is left in any queue"
        row.passed = True

    def left(self) -> dict[str, int]:
        """Count what is in the queues of this stream, dead letters included."""
        queues = [self.input, self.output, f"{self.input}.dead", f"{self.output}.dead"]
        depths = {queue: self.broker.depth(queue) for queue in queues}
        return {queue: depth for queue, depth in depths.items() if depth}

    def remove(self) -> None:
        """Remove the replicas, running or not."""
        for each in [*self.replicas, *self._retired]:
            each.remove()
