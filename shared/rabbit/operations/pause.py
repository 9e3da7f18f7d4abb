"""Pause and resume, with proof that everybody has."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Literal

from rabbit.control.client import ControlClient
from rabbit.control.messages import Command, State
from rabbit.errors import RabbitError
from rabbit.operations.halt import MOST_EXPLAINED, are_whole
from rabbit.operations.management import Management, pause_marks
from rabbit.operations.replicas import (
    REPEAT_SECONDS,
    SILENCE_SECONDS,
    Replica,
    Replicas,
    are_meant,
    is_meant,
)
from rabbit.topology import pause_mark

#: What a replica says that has done neither yet.
_ON_THE_WAY = {State.STARTING, State.PAUSING, State.HALTING}


class Pause:
    """One pause, or its end, of all stages or of targets, as far as it has come.

    A stage is paused by a mark in the broker, which replicas look at whenever they connect, and
    whenever this tells them to; so those are paused too that come later. One replica is paused by a
    command that stays in its control queue. It is proved when each replica that is there has said
    `paused` after that, and the broker counts no consumer on the queues of whole stages. Taking
    that back is proved when each has said that it does something else.
    """

    def __init__(
        self,
        client: ControlClient,
        management: Management,
        replicas: Replicas,
        command: Literal["pause", "resume"],
        targets: Sequence[str] = (),
    ) -> None:
        """Pause or resume `targets`, each a stage or `stage/replica`; none: every stage."""
        self._client = client
        self._management = management
        self._replicas = replicas
        self._command = command
        self._targets = targets
        self._asked: set[str] = set()  # ids of commands
        self._consumed = ""
        self.stages: list[str] = []

    @property
    def concerned(self) -> list[Replica]:
        """The replicas that are meant and there."""
        meant = [each for each in self._replicas if are_meant(each.name, self._targets)]
        return [each for each in meant if each.is_there]

    @property
    def done(self) -> list[Replica]:
        """Those of them that have said so."""
        return [each for each in self.concerned if self._has_said_so(each)]

    @property
    def missing(self) -> list[str]:
        """Why it is not proved: each replica that has not said so, or else what contradicts it."""
        unsaid = [each for each in self.concerned if not self._has_said_so(each)]
        named = [f"{each.name}: {self._explain(each)}" for each in unsaid[:MOST_EXPLAINED]]
        named += [f"{each.name}: has not said so" for each in unsaid[MOST_EXPLAINED:]]
        return named or ([self._consumed] if self._consumed else [])

    def run(self, timeout: float, tell: Callable[[str], None]) -> bool:
        """Set or take away the marks, and broadcast until it is proved.

        Args:
            timeout: seconds.
            tell: given a line of progress, now and then.

        Returns:
            whether it was proved in this time. The marks are set or taken away in any case, so who
            is missing follows as soon as it can.

        Raises:
            RabbitError: nobody has a target's name, or it cannot be done to a replica alone.
        """
        self._replicas.look()
        self._mark()
        deadline = monotonic() + timeout
        while True:
            self._replicas.reach()
            self._broadcast()
            self._replicas.look()
            is_said = self._replicas.listen(self._is_said, REPEAT_SECONDS)
            for replica in self.concerned:
                if not self._has_said_so(replica):
                    self._replicas.weigh(replica)
            tell(f"{self._command}: {len(self.done)}/{len(self.concerned)}")
            if is_said and not self._is_consumed():
                return True
            if monotonic() > deadline or self._is_hopeless():
                return False

    def _mark(self) -> None:
        """Set or take away the marks of the stages that are meant, and check the targets."""
        marks = pause_marks(self._management.messages())
        there = {each.name for each in self._replicas if each.is_there}
        known = there | marks.keys()
        for target in self._targets:
            if not any(is_meant(name, target) for name in known):
                names = ", ".join(sorted(known)) or "nobody"
                raise RabbitError(
                    f"nobody to {self._command} of the name {target}: there is {names}"
                )
        if not known:
            raise RabbitError(f"nobody to {self._command}: no stage has been at this broker")
        self.stages = sorted(
            {name.partition("/")[0] for name in known if are_whole(name, self._targets)}
        )
        if self._command == "resume":
            self._check_alone()
        if self._command == "pause":
            for stage in self.stages:
                self._set_mark(stage)

    def _set_mark(self, stage: str) -> None:
        text = Command(command="pause", target=stage).model_dump_json()
        if not self._management.mark_paused(stage, text):
            msg = (
                f"{stage} cannot be marked as paused: {pause_mark(stage)!r} is not there; an older "
                "version of the stage does not make it, and cannot be paused"
            )
            raise RabbitError(msg)

    def _check_alone(self) -> None:
        """Raise RabbitError for a replica that is paused with its stage."""
        for target in self._targets:
            stage = target.partition("/")[0]
            if stage in self.stages:
                continue
            count = self._client.count(pause_mark(stage))
            if count and count.ready:
                msg = f"{target} is paused with its stage: resume {stage}, all of it"
                raise RabbitError(msg)

    def _broadcast(self) -> None:
        if self._command == "resume":  # again: a replica may have had a mark out, to look at it
            for stage in self.stages:
                self._management.unmark_paused(stage)
        for target in self._targets or (None,):
            command = Command(command=self._command, target=target)
            self._asked.add(command.id)
            self._replicas.send(command)

    def _has_said_so(self, replica: Replica) -> bool:
        report = replica.report
        if report is None or report.command_id not in self._asked:
            return False
        if self._command == "pause":
            return report.state is State.PAUSED
        return report.state not in {State.PAUSED, *_ON_THE_WAY}

    def _is_said(self) -> bool:
        return all(self._has_said_so(each) for each in self.concerned)

    def _is_consumed(self) -> bool:
        """Ask the broker whether a queue of theirs has consumers, when there are to be none."""
        self._consumed = ""
        if self._command == "resume":
            return False
        others = [each for each in self._replicas if each.is_there and each not in self.concerned]
        reading = {queue for each in others if each.report for queue in each.report.queues}
        queues = {
            queue
            for each in self.concerned
            if each.name.partition("/")[0] in self.stages and each.report
            for queue in each.report.queues
            if not each.report.partitions  # it stays in line for these
        }
        for queue in sorted(queues - reading):
            count = self._client.count(queue)
            if count and count.consumers and self._replicas.are_alive(queue):
                number = count.consumers
                self._consumed = f"{queue} still has consumers, by the broker's count: {number}"
        return bool(self._consumed)

    def _is_hopeless(self) -> bool:
        """Tell whether all who have not said so have no connection: they hear it when they have."""
        unsaid = [each for each in self.concerned if not self._has_said_so(each)]
        if not unsaid or any(self._is_connected(each) for each in unsaid):
            return False
        return not self._replicas.listen(self._is_said, SILENCE_SECONDS)

    def _is_connected(self, replica: Replica) -> bool:
        count = self._client.count(replica.queue)
        return bool(count and count.consumers)

    def _explain(self, replica: Replica) -> str:
        report = replica.report
        if report and report.command_id in self._asked:
            held = f", {report.in_flight} messages in flight" if report.in_flight else ""
            return f"is {report.state.value}{held}"
        return self._replicas.explain(replica)
