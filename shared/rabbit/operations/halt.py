"""Halt, with proof that it reached everybody."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from time import monotonic

from rabbit.control.client import ControlClient
from rabbit.control.messages import Command
from rabbit.errors import RabbitError
from rabbit.operations.replicas import (
    LEAVING_SECONDS,
    POLL_SECONDS,
    REPEAT_SECONDS,
    SILENCE_SECONDS,
    Replica,
    Replicas,
    are_meant,
)

#: Of so many it is said why they have not halted, for which the broker is asked of each.
MOST_EXPLAINED = 100


class Halt:
    """One halt of all replicas, or of targets, as far as it has come.

    It is proved when each replica that was there has said `halted`, the broker counts no consumer
    on any queue they consumed, and a last roll call stays without an answer. There is who has a
    control queue after the command was confirmed, and who comes later.
    """

    def __init__(
        self,
        client: ControlClient,
        replicas: Replicas,
        targets: Sequence[str] = (),
        on_commanded: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Halt `targets`, each a stage or `stage/replica`; none: everybody.

        Args:
            client: sends the command.
            replicas: who is there.
            targets: who is to halt.
            on_commanded: called once with the targets, when all that are there have the command:
                who would start again what has ended, is told here not to.
        """
        self._client = client
        self._replicas = replicas
        self._targets = targets
        self._on_commanded = on_commanded
        self.is_nobody = False
        self._consumed = ""

    @property
    def concerned(self) -> list[Replica]:
        """The replicas that are to halt, as far as they are known."""
        meant = [each for each in self._replicas if are_meant(each.name, self._targets)]
        return [each for each in meant if not (each.forgotten or each.has_left)]

    @property
    def halted(self) -> list[Replica]:
        """Those of them that have said so."""
        return [each for each in self.concerned if each.is_halted]

    @property
    def missing(self) -> list[str]:
        """Why it is not proved: each replica that has not said so, or else what contradicts it."""
        unsaid = [each for each in self.concerned if not each.is_halted]
        named = [f"{each.name}: {self._replicas.explain(each)}" for each in unsaid[:MOST_EXPLAINED]]
        named += [f"{each.name}: has not said so" for each in unsaid[MOST_EXPLAINED:]]
        return named or [self._consumed or "a replica still answers: run it again"]

    @property
    def forgotten(self) -> list[str]:
        """The replicas that nobody waits for any more, and why."""
        return [f"{each.name}: {each.forgotten}" for each in self._replicas if each.forgotten]

    def run(self, timeout: float, tell: Callable[[str], None]) -> bool:
        """Broadcast until it is proved; return whether it was within `timeout` seconds.

        It ends earlier when nothing can prove it any more. A command that a replica missed is sent
        again; the second one does no harm.

        Args:
            timeout: seconds.
            tell: given a line of progress, now and then.

        Raises:
            RabbitError: nobody is there, or nobody of a target's name (`is_nobody`).
        """
        self._replicas.look()
        self._require_somebody()
        is_proved = self._broadcast_until(monotonic() + timeout, tell)
        self._clear_away()
        return is_proved

    def _broadcast_until(self, deadline: float, tell: Callable[[str], None]) -> bool:
        while True:
            self._broadcast()
            self._replicas.listen(self._is_said, REPEAT_SECONDS)
            for replica in takewhile(lambda _: monotonic() < deadline, self.concerned):
                self._replicas.weigh(replica)
            self._replicas.look()
            if not self.concerned:
                self._require_somebody()
            tell(f"halting {len(self.halted)}/{len(self.concerned)}")
            if self._is_said():
                if self._is_proved():
                    return True
            elif self._is_settled(deadline):
                return False
            if monotonic() > deadline:
                return False

    def _clear_away(self) -> None:
        """Delete the queues that replicas which have ended leave; most delete theirs at once."""
        deadline = monotonic() + LEAVING_SECONDS + SILENCE_SECONDS
        while monotonic() < deadline:
            self._replicas.look()
            left = [each for each in self.concerned if each.is_there and each.has_ended]
            if not left:
                return
            for replica in left:
                self._replicas.weigh(replica)
            self._replicas.listen(lambda: False, POLL_SECONDS)

    def _broadcast(self) -> None:
        self._replicas.reach()
        for target in self._targets or (None,):
            self._replicas.send(Command(command="halt", target=target))
        self._replicas.look(commanded=True)
        if self._on_commanded:
            self._on_commanded(self._targets)
            self._on_commanded = None

    def _is_said(self) -> bool:
        return all(each.is_halted for each in self.concerned)

    def _is_settled(self, deadline: float) -> bool:
        """Tell whether it cannot be proved any more."""
        if not all(each.is_settled for each in self.concerned):
            return False
        # The last words of those that have just gone may still be on their way: of a thousand, for
        # longer than a silence takes, as long as there is none.
        heard = -1
        while heard != self._replicas.heard and monotonic() < deadline:
            heard = self._replicas.heard
            if self._replicas.listen(self._is_said, SILENCE_SECONDS):
                return False
        return True

    def _is_proved(self) -> bool:
        return not self._is_consumed() and self._is_silent()

    def _is_consumed(self) -> bool:
        """Ask the broker whether a queue of theirs has consumers; other replicas may have some."""
        self._consumed = ""
        whole = [each for each in self.concerned if are_whole(each.name, self._targets)]
        for queue in sorted(
            {queue for each in whole if each.report for queue in each.report.queues}
        ):
            count = self._client.count(queue)
            if count and count.consumers and self._replicas.are_alive(queue):
                number = count.consumers
                self._consumed = f"{queue} still has consumers, by the broker's count: {number}"
        return bool(self._consumed)

    def _is_silent(self) -> bool:
        """Ask once more who is there: nobody answers, and nobody has come since the last look."""
        questions = [Command(command="report", target=each) for each in self._targets or (None,)]
        for question in questions:
            self._replicas.send(question)
        asked = {each.id for each in questions}
        if self._replicas.listen(
            lambda: any(each.report and each.report.command_id in asked for each in self._replicas),
            SILENCE_SECONDS,
        ):
            return False
        self._replicas.look()
        return self._is_said()

    def _require_somebody(self) -> None:
        try:
            self._replicas.require(self._targets, "halt")
        except RabbitError as error:
            self.is_nobody = True
            forgotten = "".join(f"; forgotten: {each}" for each in self.forgotten)
            raise RabbitError(f"{error}{forgotten}") from None


def are_whole(name: str, targets: Sequence[str]) -> bool:
    """Tell whether all replicas of this one's stage are to halt."""
    return not targets or name.partition("/")[0] in targets
