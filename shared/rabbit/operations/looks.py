"""One look at the pipeline: who says what, and what each queue holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from rabbit.control.client import ControlClient
from rabbit.control.messages import Report, State
from rabbit.operations.management import Depth, Management, fold, pause_marks
from rabbit.operations.replicas import ANSWER_SECONDS, Replica, Replicas, are_meant

#: Of so many silent replicas it is said why, for which the broker is asked of each.
MOST_EXPLAINED = 100

#: States that replicas do not have by their own words; see `Seen.state`.
SILENT, REFUSED = "silent", "refused"

#: How long to wait for those that have not answered the look before.
SILENT_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """One replica, at one moment.

    Attributes:
        name: `stage/replica`.
        report: what it has answered; None: nothing.
        silence: why not, for a person.
        earlier: what it had said before, when it has not answered.
        alarm: the broker's, if that is why it takes no messages from this one, its answer included;
            None: there is none, or this one is not connected.
    """

    name: str
    report: Report | None
    silence: str = ""
    earlier: Report | None = None
    alarm: str | None = None

    @property
    def stage(self) -> str:
        """The name of its stage."""
        return self.name.partition("/")[0]

    @property
    def last(self) -> Report | None:
        """What it has said last, however long ago: what it reads and writes stays the same."""
        return self.report or self.earlier

    @property
    def state(self) -> str:
        """What it does, by its own words, or what is known of it without them.

        `blocked`: by an alarm. `refused`: no queue takes its output, as when it is full. `silent`:
        it does not answer, and no alarm keeps it from that.
        """
        if self.report is None:
            return State.BLOCKED.value if self.alarm else SILENT
        if self.report.state is State.BLOCKED and not self.alarm:
            return REFUSED
        return self.report.state.value

    @property
    def process(self) -> str:
        """What tells its process from others of its name: totals are of one process."""
        return (self.report.process or str(self.report.since)) if self.report else ""


@dataclass(frozen=True)
class Look:
    """What there was at one moment.

    Attributes:
        moment: when, in seconds of a clock that only runs forward.
        replicas: who is there, by name.
        depths: what each queue holds, by name; what belongs to it is folded into it.
        paused: the stages that are marked as paused, whether they are there or not; it lags behind.
        at: when, by the clock of who looks; None: not known.
        partitions: which partitions of ordered edges a replica is active for, by its name: as far
            as the broker's statistics say, which lag behind.
        strange: what there is to say of reports that nobody can have sent; None: there are none.
        alarm: why the broker takes no messages, as `low on memory`; None: it does.
    """

    moment: float
    replicas: tuple[Seen, ...]
    depths: Mapping[str, Depth] = field(default_factory=dict)
    paused: tuple[str, ...] = ()
    strange: str | None = None
    partitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alarm: str | None = None
    at: datetime | None = None


class Looks:
    """Looks at the pipeline as often as it is asked to."""

    def __init__(
        self,
        client: ControlClient,
        management: Management,
        replicas: Replicas,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Look with these; `clock` tells the time, in seconds."""
        self._client = client
        self._management = management
        self._replicas = replicas
        self._clock = clock
        self._has_waited = False  # in vain, for an answer

    def take(self, targets: Sequence[str] = ()) -> Look:
        """Ask all replicas and the broker.

        Args:
            targets: stages, or `stage/replica`: only these, and the queues that they read.

        Raises:
            RabbitError: nobody of a target's name is there.
            BrokerUnavailableError: no broker answers.
        """
        asked = datetime.now(UTC)
        alarm = self._client.alarm
        self._replicas.call(seconds=SILENT_SECONDS if self._has_waited else ANSWER_SECONDS)
        alarm = self._client.alarm or alarm  # one that is just over has kept answers back, too
        there = [each for each in self._replicas if self._is_there(each, asked)]
        if targets:
            self._replicas.require(targets, "show")
        meant = [each for each in there if are_meant(each.name, targets)]
        unheard = [each for each in meant if not _answers(each, asked)]
        self._has_waited = bool(unheard)
        silent = [each for each in unheard if not (alarm and each.is_connected)]
        why = {each.name: "not answering" for each in silent}
        why |= {each.name: self._replicas.explain(each) for each in silent[:MOST_EXPLAINED]}
        seen = tuple(
            Seen(each.name, each.report, alarm=alarm)
            if _answers(each, asked)
            else Seen(
                each.name,
                None,
                why.get(each.name, ""),
                earlier=each.report,
                alarm=None if each.name in why else alarm,
            )
            for each in meant
        )
        read = {each.last.consumes for each in seen if each.last}
        messages = self._management.messages()
        paused = tuple(stage for stage, is_marked in pause_marks(messages).items() if is_marked)
        depths = fold(messages)
        depths = {name: depth for name, depth in depths.items() if not targets or name in read}
        self._count(depths, seen)
        partitions = self._partitions(seen)
        strange = self._replicas.strange
        now = datetime.now(UTC)
        return Look(self._clock(), seen, depths, paused, strange, partitions, alarm, now)

    def _partitions(self, seen: Sequence[Seen]) -> dict[str, tuple[str, ...]]:
        """Return who is the single active consumer of what, where there are partitions."""
        queues = {
            queue
            for each in seen
            if each.report and each.report.partitions
            for queue in each.report.queues
        }
        found: dict[str, list[str]] = {}
        if queues:
            for queue, tag in self._management.active_consumers():
                if queue in queues:
                    found.setdefault(tag, []).append(queue.rpartition(".")[2])
        return {tag: tuple(sorted(numbers, key=int)) for tag, numbers in found.items()}

    def _is_there(self, replica: Replica, asked: datetime) -> bool:
        """Tell whether it is; who has not answered may be known not to run."""
        if not _answers(replica, asked) or replica.has_ended:
            self._replicas.weigh(replica)
        return replica.is_there

    def _count(self, depths: Mapping[str, Depth], seen: Sequence[Seen]) -> None:
        """Put exact counts in place of those that lag behind, where it can be known."""
        reports = [each.report for each in seen if each.report]
        for queue in sorted({each.consumes or "" for each in reports} & depths.keys()):
            readers = [each for each in reports if each.consumes == queue]
            counts = [self._client.count(each) for each in readers[0].queues]
            if known := [each for each in counts if each]:
                depths[queue].ready = sum(each.ready for each in known)
                depths[queue].in_flight = sum(each.in_flight for each in readers)


def _answers(replica: Replica, asked: datetime) -> bool:
    return replica.heard is not None and replica.heard >= asked and replica.report is not None
