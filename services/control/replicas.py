"""Who is there: what replicas say of themselves, held against what the broker knows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, sleep

from rabbit.control import Command, Report, State
from rabbit.roll_call import RollCall
from rabbit.topology import CONTROL_EXCHANGE, control_queue

from .management import Management

#: How often reports are collected, and how often a command is sent again.
POLL_SECONDS = 0.1
REPEAT_SECONDS = 1.0

#: How long to listen for replicas that should not answer any more, and for those that should.
SILENCE_SECONDS = 1.0
ANSWER_SECONDS = 3.0


@dataclass
class Replica:
    """One replica, as far as is known.

    Attributes:
        name: `stage/replica`.
        queue: its control queue.
        report: the last thing it said; None: nothing yet.
        heard: when it said that.
        missed: when it was first seen to have no connection; None while it has one.
    """

    name: str
    queue: str
    report: Report | None = None
    heard: datetime | None = None
    missed: datetime | None = None

    @property
    def is_halted(self) -> bool:
        """Whether it has said that it is halted."""
        return self.report is not None and self.report.state is State.HALTED


class Replicas:
    """All replicas: each has a queue bound to the control exchange, those cut off included."""

    def __init__(self, roll_call: RollCall, management: Management) -> None:
        """Know nobody yet."""
        self._roll_call = roll_call
        self._management = management
        self._known: dict[str, Replica] = {}

    def __iter__(self) -> Iterator[Replica]:
        """Go through all that have been seen, by name."""
        return iter(sorted(self._known.values(), key=lambda replica: replica.name))

    def bound(self) -> set[str]:
        """Return the control queues there are now; a replica that ends in order deletes its own."""
        queues = self._management.control_queues()
        for queue in queues:
            name = queue.removeprefix(f"{CONTROL_EXCHANGE}.").replace(".", "/", 1)
            self._known.setdefault(queue, Replica(name, queue))
        return queues

    def send(self, command: Command) -> None:
        """Broadcast a command; the management API takes it also during an alarm."""
        if self._roll_call.is_blocked:
            self._management.broadcast(command.model_dump_json(), self._roll_call.id)
        else:
            self._roll_call.send(command)

    def listen(self, until: Callable[[], bool], seconds: float) -> bool:
        """Collect reports until `until` is true, at most for `seconds`; return whether it is."""
        deadline = monotonic() + seconds
        while True:
            for report in self._roll_call.reports():
                self._hear(report)
            if until() or monotonic() >= deadline:
                return until()
            sleep(POLL_SECONDS)

    def call(self, target: str | None = None) -> None:
        """Ask who is there; wait until all that the broker knows have answered, but not long."""
        asked = datetime.now(UTC)
        queues = {queue for queue in self.bound() if self.concerns(queue, target)}
        self.send(Command(command="report", target=target))
        self.listen(lambda: all(self._answered(queue, asked) for queue in queues), ANSWER_SECONDS)

    def concerns(self, queue: str, target: str | None) -> bool:
        """Tell whether a command with this target is for the replica with this control queue."""
        name = self._known[queue].name
        return target in {None, name, name.partition("/")[0]}

    def explain(self, replica: Replica) -> str:
        """Say why a replica has not said that it is halted."""
        count = self._roll_call.count(replica.queue)
        if count is None:
            return "has ended without a word"
        if count.consumers == 0:
            replica.missed = replica.missed or datetime.now(UTC)
            since = _clock(replica.missed)
            return f"cut off since {since} or longer; commands that wait for it: {count.ready}"
        if replica.report and replica.report.state is State.HALTING:
            return f"still halting, {replica.report.in_flight} messages in flight"
        heard = f" since {_clock(replica.heard)}" if replica.heard else ""
        return f"not answering{heard}"

    def _answered(self, queue: str, asked: datetime) -> bool:
        heard = self._known[queue].heard
        return heard is not None and heard >= asked

    def _hear(self, report: Report) -> None:
        name = f"{report.stage}/{report.replica}"
        queue = control_queue(report.stage, report.replica)
        replica = self._known.setdefault(queue, Replica(name, queue))
        replica.report, replica.heard, replica.missed = report, datetime.now(UTC), None


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")
