"""Who is there: what replicas say of themselves, held against what the broker knows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic, sleep

from rabbit.amqp.channel import Count
from rabbit.control.client import ControlClient
from rabbit.control.messages import (
    LAST_WORDS_SECONDS,
    SAID_BY_BINDING,
    Command,
    Report,
    State,
)
from rabbit.errors import RabbitError
from rabbit.operations.compose import Containers
from rabbit.operations.management import Management
from rabbit.terminal import counted
from rabbit.topology import CONTROL_EXCHANGE, control_queue

#: How often reports are collected, and how often a command is sent again.
POLL_SECONDS = 0.1
REPEAT_SECONDS = 1.0

#: How long to listen for replicas that should not answer any more, and for those that should.
SILENCE_SECONDS = 1.0
ANSWER_SECONDS = 3.0

#: Whose last word that is, is gone.
ENDED = {State.HALTED, State.GAVE_UP}

#: Who has ended has deleted its control queue after so long, or does not any more.
LEAVING_SECONDS = LAST_WORDS_SECONDS + 1

#: Anybody who may publish can make reports up: how many processes of one name are told apart, and
#: how many reports of replicas are kept that the broker does not know, or not yet.
MOST_PROCESSES = 100
MOST_STRANGERS = 1000


@dataclass
class Replica:
    """One replica, as far as is known.

    Attributes:
        name: `stage/replica`.
        queue: its control queue.
        report: the last thing it said; None: nothing yet.
        heard: when it said that.
        missed: when it was first seen to have no connection; None while it has one.
        processes: the last thing that each process of this name has said.
        said: how it has ended, by a binding, because it could not publish.
        is_there: whether its control queue was there at the last look.
        is_bound: whether commands got to it then.
        is_connected: whether it was when it was weighed last.
        must_say: whether it was there after a command: it has an answer to give.
        unreachable: why its control queue, which is not bound, could not be bound again.
        forgotten: why nobody waits for it any more.
    """

    name: str
    queue: str
    report: Report | None = None
    heard: datetime | None = None
    missed: datetime | None = None
    processes: dict[str, Report] = field(default_factory=dict)
    said: State | None = None
    is_there: bool = False
    is_bound: bool = True
    is_connected: bool = False
    must_say: bool = False
    unreachable: str | None = None
    forgotten: str | None = None

    def hear(self, report: Report) -> None:
        """Note what a process of this name says."""
        self.report, self.heard, self.missed = report, datetime.now(UTC), None
        process = report.process or str(report.since)
        if process in self.processes or len(self.processes) < MOST_PROCESSES:
            self.processes[process] = report

    @property
    def states(self) -> set[State]:
        """The last states of all processes of this name."""
        said = {self.said} if self.said else set()
        return said | {each.state for each in self.processes.values()}

    @property
    def is_halted(self) -> bool:
        """Whether it has said that it is halted: each process of this name has."""
        return self.said is State.HALTED or self.states == {State.HALTED}

    @property
    def has_left(self) -> bool:
        """Whether it has ended before it could hear a command."""
        has_heard = self.states & {State.HALTING, State.HALTED, State.GAVE_UP}
        return not (self.is_there or self.must_say or has_heard)

    @property
    def has_ended(self) -> bool:
        """Whether it has said that it ends, halted or not: each process of this name has."""
        return bool(self.said) or (bool(self.processes) and self.states <= ENDED)

    @property
    def leaves_queue(self) -> bool:
        """Whether it has ended, and somebody else has to delete its control queue.

        That must not be two at a time. RabbitMQ 4.3 has two deletions of one quorum queue end after
        one another: the later one takes away a queue that the next process of this name has made
        meanwhile, or lets nobody make one (541, cluster_not_formed).
        """
        is_late = (
            not self.heard or (datetime.now(UTC) - self.heard).total_seconds() > LEAVING_SECONDS
        )
        return bool(self.said) or (self.has_ended and is_late)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to come of it."""
        return self.has_ended or bool(self.forgotten) or not self.is_there


class Replicas:
    """All replicas: each has a queue bound to the control exchange, those cut off included."""

    def __init__(
        self, client: ControlClient, management: Management, containers: Containers | None = None
    ) -> None:
        """Know nobody yet, but what Compose says of its containers."""
        self.heard = 0  # reports, of anybody
        self._client = client
        self._management = management
        self.containers = containers or Containers()
        self._known: dict[str, Replica] = {}
        self._strangers: dict[str, Report] = {}
        self._strange = 0  # reports of strangers

    def __iter__(self) -> Iterator[Replica]:
        """Go through all that have been seen, by name."""
        return iter(sorted(self._known.values(), key=lambda replica: replica.name))

    def look(self, *, commanded: bool = False) -> set[str]:
        """Look at the control queues there are; a replica that ends in order deletes its own.

        Args:
            commanded: a command was confirmed before: whoever is bound now has got it.

        Returns:
            their names.
        """
        # In this order: who is bound is not leaving, since a replica unbinds its queue first.
        bound = self._management.control_bindings()
        queues = self._management.control_queues() | bound.keys()
        for queue in queues:
            name = queue.removeprefix(f"{CONTROL_EXCHANGE}.").replace(".", "/", 1)
            replica = self._known.setdefault(queue, Replica(name, queue))
            if queue in self._strangers:  # it has come since the last look
                replica.hear(self._strangers.pop(queue))
                self._strange -= 1
        for queue, replica in self._known.items():
            replica.is_there = queue in queues
            replica.is_bound = queue in bound
            replica.must_say |= commanded and replica.is_bound
            if queue in bound:  # a new process takes away what the one before has said
                said = (SAID_BY_BINDING[key] for key in bound[queue] if key in SAID_BY_BINDING)
                replica.said = next(said, None)
        return queues

    def reach(self) -> None:
        """Bind those again that are cut off from the exchange: it was deleted, for instance.

        A replica that ends unbinds its queue as well, for a moment: look first, and once more.
        """
        loose = [each for each in self if each.is_there and not each.is_bound]
        if not loose:
            return
        self.look()
        for replica in loose:
            if not replica.is_there or replica.is_bound:
                continue
            try:
                self._client.bind(replica.queue)
            except RabbitError as error:
                replica.unreachable = str(error)

    def send(self, command: Command) -> None:
        """Broadcast a command; the management API takes it also during an alarm."""
        if not self._client.send(command):
            self._management.broadcast(command.model_dump_json(), self._client.id)

    def listen(self, until: Callable[[], bool], seconds: float) -> bool:
        """Collect reports until `until` is true, at most for `seconds`; return whether it is."""
        deadline = monotonic() + seconds
        while True:
            reports = self._client.reports()  # not more than it holds, however many come
            for report in reports:
                self._hear(report)
            self.heard += len(reports)
            if until() or monotonic() >= deadline:
                return until()
            if not reports:
                sleep(POLL_SECONDS)

    def call(self, target: str | None = None, seconds: float = ANSWER_SECONDS) -> None:
        """Ask who is there; wait until all that the broker knows have answered, but not long.

        When the broker that was to bring the answers has failed meanwhile, another one is asked.

        Args:
            target: who is to answer: a stage, or `stage/replica`; None: everybody.
            seconds: how long to wait for the last of them.
        """
        for _ in range(2):
            asked, epoch = datetime.now(UTC), self._client.epoch
            queues = {queue for queue in self.look() if is_meant(self._known[queue].name, target)}
            self.reach()
            self.send(Command(command="report", target=target))
            if self.listen(partial(self._have_answered, queues, asked), seconds):
                return
            began = monotonic()
            for queue in sorted(each for each in queues if not self._has_answered(each, asked)):
                # It takes as long as a broker takes to replace another.
                self._client.count(queue)
                if monotonic() - began > SILENCE_SECONDS:
                    break
            else:
                if self._client.epoch == epoch:
                    return

    def require(self, targets: Sequence[str], verb: str) -> None:
        """Tell by the last look whether the targets are there; without any: whether anybody is.

        Raises:
            RabbitError: nobody is, or nobody of a target's name.
        """
        there = [each.name for each in self if each.is_there]
        unknown = [each for each in targets if not any(is_meant(name, each) for name in there)]
        if unknown or not there:
            names = f" of the name {', '.join(unknown)}" if unknown else ""
            known = f"there are {', '.join(there)}" if there else "no replica is at the broker"
            raise RabbitError(f"nobody to {verb}{names}: {known}; {self.containers}")

    @property
    def strange(self) -> str | None:
        """What there is to say of reports that nobody can have sent; None: there are none."""
        if not self._strange:
            return None
        return (
            f"{counted(self._strange, 'report')} of replicas without a control queue: not listed; "
            "who may publish to the exchange replies can make them up"
        )

    def are_alive(self, queue: str) -> bool:
        """Tell whether consumers that a queue counts may be those of a process.

        A queue goes on to count those of a node that has failed, until it is back.
        """
        return self._management.is_whole() or bool(self._management.consumers()[queue])

    def weighed(self) -> list[Replica]:
        """Return those there are, without those that are known not to run."""
        for each in self:
            self.weigh(each)
        return [each for each in self if each.is_there]

    def weigh(self, replica: Replica) -> None:
        """Let go of a replica that is known not to run, and of the queue of one that has ended."""
        if not replica.is_there:
            return
        count = self._count(replica)
        replica.is_connected = bool(count and count.consumers)
        if count is None or replica.is_connected:
            return
        dead = None if replica.has_ended else self.containers.why_dead(replica.name)
        if replica.leaves_queue or dead:
            self._client.delete(replica.queue)
        if replica.has_ended or dead:
            replica.is_there, replica.forgotten = False, dead

    def forget(self, name: str, *, missing_ok: bool = False) -> bool:
        """Let go of a replica that is cut off, and of the commands that wait for it.

        Args:
            name: `stage/replica`.
            missing_ok: it need not be there.

        Returns:
            whether it was there.

        Raises:
            RabbitError: there is no such replica, or it is connected.
        """
        stage, _, replica = name.partition("/")
        queue = control_queue(stage, replica)
        count = self._client.count(queue, for_certain=True) if stage and replica else None
        if count is None and missing_ok:
            return False
        if count is None:
            self.look()
            there = ", ".join(each.name for each in self if each.is_there) or "none"
            raise RabbitError(f"no replica {name!r} is known to the broker; there are: {there}")
        if count.consumers:
            raise RabbitError(f"{name} is connected: halt it, do not forget it")
        self._client.delete(queue)
        return True

    def explain(self, replica: Replica) -> str:
        """Say why a replica has not said that it is halted."""
        said = _said(replica)
        if said:
            return said
        count = self._count(replica)
        if count is None:
            return "has ended without a word"
        if replica.unreachable:
            return f"out of reach: {replica.unreachable}"
        if count.consumers == 0:
            return self._missed(replica, count)
        if alarm := self._client.alarm:
            return f"cannot answer: the broker is {alarm} and takes no messages"
        return _why_silent(replica)

    def _missed(self, replica: Replica, count: Count) -> str:
        replica.missed = replica.missed or datetime.now(UTC)
        since = _clock(replica.missed)
        hint = self.containers.hint(replica.name)
        waiting = f"commands that wait for it: {count.ready}"
        return f"cut off or killed, since {since} or longer; {waiting}; {hint}"

    def _count(self, replica: Replica) -> Count | None:
        return self._client.count(replica.queue)

    def _have_answered(self, queues: Iterable[str], asked: datetime) -> bool:
        return all(self._has_answered(queue, asked) for queue in queues)

    def _has_answered(self, queue: str, asked: datetime) -> bool:
        heard = self._known[queue].heard
        return heard is not None and heard >= asked

    def _hear(self, report: Report) -> None:
        queue = control_queue(report.stage, report.replica)
        if queue in self._known:
            self._known[queue].hear(report)
            return
        self._strange += 1
        if queue in self._strangers or len(self._strangers) < MOST_STRANGERS:
            self._strangers[queue] = report


def is_meant(name: str, target: str | None) -> bool:
    """Tell whether a command with this target is for the replica of this name."""
    return target in {None, name, name.partition("/")[0]}


def are_meant(name: str, targets: Sequence[str]) -> bool:
    """Tell whether one of the targets, or all replicas when there is none, means this one."""
    return not targets or any(is_meant(name, target) for target in targets)


def _said(replica: Replica) -> str | None:
    """Say what its processes have said, if that settles it."""
    is_halted = replica.report and replica.report.state is State.HALTED
    if State.GAVE_UP in replica.states:
        return _gave_up(replica)
    if is_halted and len(replica.processes) > 1:
        return "was restarted before it had said halted; its new process has halted"
    return None


def _why_silent(replica: Replica) -> str:
    report = replica.report
    if report and report.state is State.HALTING:
        return f"still halting, {report.in_flight} messages in flight"
    heard = f" since {_clock(replica.heard)}" if replica.heard else ""
    return f"not answering{heard}"


def _gave_up(replica: Replica) -> str:
    left = [each for each in replica.processes.values() if each.state is State.GAVE_UP]
    number = f" with {left[-1].in_flight} messages in flight, which come again" if left else ""
    return f"gave up after DRAIN_TIMEOUT{number}; it has ended, and does not come back by itself"


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S UTC")
