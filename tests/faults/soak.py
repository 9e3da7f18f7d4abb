"""The long run: a million numbered messages, and a fault every twenty seconds.

    make soak
    make soak MESSAGES=100000 SEED=7

One source, two workers and three sinks, as shipped but for the numbers and the ids. At the end each
message is accounted for. The check takes ten bytes for each message, whatever happens.
"""

import random
import sys
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.status import Status

from rabbit.messaging.prefetch import DEEPEST
from tests.broker import Broker
from tests.faults.account import Account
from tests.faults.replica import Replica
from tests.faults.stream import Stream
from tests.faults.summary import Summary
from tests.support import images
from tests.support.containers import Containers
from tests.waiting import wait_until

_WORKERS, _SINKS = 2, 3
#: Messages that the source may have unconfirmed.
_BATCH = 1000
#: How long a replica is frozen, and how long an alarm lasts: less than the heartbeat notices.
_FREEZE_SECONDS = 5.0
_ALARM_SECONDS = 5.0
#: How long nothing may arrive, at most, before the soak gives up.
_STALL_SECONDS = 180.0
_LOOK_SECONDS = 1.0

#: What may come twice when all connections are lost.
_EVERYTHING = _BATCH + (2 * _WORKERS + _SINKS) * DEEPEST


class Fault(NamedTuple):
    """Something that may happen.

    Attributes:
        name: for people.
        weight: how often, compared with others.
        bound: how many messages may come twice because of it.
        happen: makes it happen, and ends it; names who it happened to.
    """

    name: str
    weight: int
    bound: int
    happen: Callable[[], str]


class Soak:
    """One long run."""

    def __init__(self, stream: Stream, broker: Broker, seed: int, console: Console) -> None:
        """Let faults happen to a stream and its broker, in the order that the seed gives."""
        self._stream = stream
        self._broker = broker
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._console = console
        self.happened: list[Fault] = []
        self._faults = [
            Fault("SIGKILL", 4, DEEPEST, self._kill),
            Fault("SIGTERM", 4, 0, self._terminate),
            Fault("connections closed", 3, _EVERYTHING, self._close_connections),
            Fault(f"frozen for {_FREEZE_SECONDS:g} s", 2, 0, self._freeze),
            Fault(f"memory alarm for {_ALARM_SECONDS:g} s", 2, 0, self._alarm),
            Fault("broker restarted", 1, _EVERYTHING, self._restart_broker),
        ]

    def run(self, messages: int, every_seconds: float) -> Account:
        """Send so many messages, with a fault now and then; return what became of them."""
        stream = self._stream
        for _ in range(_WORKERS):
            stream.worker()
        for _ in range(_SINKS):
            stream.sink()
        source = stream.source(COUNT=messages, BATCH=_BATCH, RATE=1e9)
        for replica in (*stream.workers, *stream.sinks):
            replica.wait_ready()
        with self._console.status("soaking") as status:
            self._provoke(source, messages, every_seconds, status)
            status.update("the rest arrives")
            self._wait_empty()
            status.update("counting")
            codes = {each.halt() for each in (*stream.workers, *stream.sinks)} | {source.exit_code}
            assert codes == {0}, f"exit codes {codes}\n{stream.logs()}"
            return self._account()

    def _provoke(
        self, source: Replica, messages: int, every_seconds: float, status: Status
    ) -> None:
        """Let faults happen until the source has ended."""
        begun = due = time.monotonic()
        weights = [fault.weight for fault in self._faults]
        while source.is_running:
            sent = _sent(source)
            status.update(f"{sent:,} of {messages:,} sent, {len(self.happened)} faults")
            if time.monotonic() >= due + every_seconds:
                (fault,) = self._random.choices(self._faults, weights)
                victim = fault.happen()
                self.happened.append(fault)
                after = time.monotonic() - begun
                if self._console.is_terminal:
                    self._console.print(f"{after:6.0f} s  {sent:>11,}  {fault.name} {victim}")
                due = time.monotonic()
            time.sleep(_LOOK_SECONDS)

    def _wait_empty(self) -> None:
        queues = (self._stream.input, self._stream.output)

        def is_empty() -> bool:
            known = self._broker.queues()
            return all(known[queue].get("messages") == 0 for queue in queues)

        wait_until(is_empty, _STALL_SECONDS, lambda: f"queues get empty\n{self._stream.logs()}")

    def _account(self) -> Account:
        account = Account()
        for source in self._stream.sources:
            account.told(source.lines())
        for sink in self._stream.sinks:
            account.arrived(sink.lines())
        return account

    # Faults

    def _victim(self) -> Replica:
        return self._random.choice([*self._stream.workers, *self._stream.sinks])

    def _kill(self) -> str:
        victim = self._victim()
        victim.crash()
        return str(victim)

    def _terminate(self) -> str:
        victim = self._victim()
        victim.restart()
        return str(victim)

    def _close_connections(self) -> str:
        self._stream.close_connections()
        return "of all"

    def _freeze(self) -> str:
        victim = self._victim()
        with victim.paused():
            time.sleep(_FREEZE_SECONDS)
        return str(victim)

    def _alarm(self) -> str:
        with self._broker.memory_alarm():
            time.sleep(_ALARM_SECONDS)
        return ""

    def _restart_broker(self) -> str:
        self._broker.restart()
        return ""


def _sent(source: Replica) -> int:
    """Read how much of it the source has sent."""
    numbers = [line.split()[3] for line in source.log(3).splitlines() if line.startswith("sent ")]
    return int(numbers[-1]) if numbers else 0


def main(
    messages: Annotated[int, typer.Option(min=1)] = 1_000_000,
    seed: Annotated[int | None, typer.Option(help="Of an earlier run, to have its faults.")] = None,
    every: Annotated[float, typer.Option(help="Seconds from one fault to the next.")] = 20.0,
) -> None:
    """Send numbered messages while faults happen; end with 0 when each one is accounted for."""
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311 - no secret
    console = Console(stderr=True, highlight=False)
    console.print(f"soak: {messages:,} messages, a fault every {every:g} s, SEED={seed}")
    images.build_stages()
    with Containers("soak") as containers, Broker(containers.network) as broker:
        stream = Stream(containers, broker, broker.inside, Summary())
        del stream.environment["PREFETCH"]  # as shipped
        soak = Soak(stream, broker, seed, console)
        begun = time.monotonic()
        account = soak.run(messages, every)
        seconds = time.monotonic() - begun
        left = stream.left()
    bound = sum(fault.bound for fault in soak.happened)
    lost = account.lost
    print(  # noqa: T201 - the result
        f"{account.sent:,} messages, {len(soak.happened)} faults, {seconds:.0f} s, SEED={seed}: "
        f"lost {len(lost)}, unexpected {len(account.unexpected)}, "
        f"duplicated {account.duplicated:,} (at most {bound:,} were in flight at the faults), "
        f"of these with another id {len(account.changed)}, left in queues {left or 'none'}"
    )
    wrong = [*lost, *account.unexpected, *account.changed]
    if wrong or left or account.confirmed < messages or account.duplicated > bound:
        print("wrong:", *wrong[:20])  # noqa: T201 - likewise
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
