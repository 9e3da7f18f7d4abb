"""Halt, with proof that it reached everybody."""

from collections.abc import Callable
from time import monotonic

from rabbit.control import Command
from rabbit.roll_call import RollCall

from .replicas import REPEAT_SECONDS, SILENCE_SECONDS, Replica, Replicas


class Halt:
    """One halt of all replicas, or of a target, as far as it has come.

    It is proved when every replica has said `halted` and taken its control queue away, the broker
    counts no consumer on any queue they consumed, and a last roll call stays without an answer.
    """

    def __init__(self, roll_call: RollCall, replicas: Replicas, target: str | None = None) -> None:
        """Halt `target`: a stage, or `stage/replica`; None: everybody."""
        self._roll_call = roll_call
        self._replicas = replicas
        self._target = target

    @property
    def concerned(self) -> list[Replica]:
        """The replicas that are to halt, as far as they are known."""
        return [each for each in self._replicas if self._is_concerned(each.queue)]

    @property
    def missing(self) -> list[Replica]:
        """Those of them that have not been proved halted."""
        bound = self._replicas.bound()
        return [each for each in self.concerned if each.queue in bound and not each.is_halted]

    def run(self, timeout: float, tell: Callable[[str], None]) -> bool:
        """Broadcast until it is proved; return whether it was within `timeout` seconds.

        A command that a replica missed is sent again; the second one does no harm.
        `tell` is given a line of progress, now and then.
        """
        deadline = monotonic() + timeout
        while True:
            self._replicas.bound()
            self._replicas.send(Command(command="halt", target=self._target))
            self._replicas.listen(lambda: not self._waiting(), REPEAT_SECONDS)
            done = len(self.concerned) - len(self._waiting())
            tell(f"halting {done}/{len(self.concerned)}")
            if self._is_proved():
                return True
            if monotonic() > deadline:
                return False

    def _waiting(self) -> list[Replica]:
        return [each for each in self.concerned if not each.is_halted]

    def _is_proved(self) -> bool:
        if any(self._is_concerned(queue) for queue in self._replicas.bound()):
            return False
        return not self._is_consuming() and self._is_silent()

    def _is_consuming(self) -> bool:
        """Ask the broker whether a queue of theirs has consumers; other replicas may have some."""
        if "/" in (self._target or ""):
            return False
        queues = {each.report.consumes for each in self.concerned if each.report} - {None}
        counts = [self._roll_call.count(str(queue)) for queue in queues]
        return any(count.consumers > 0 for count in counts if count)

    def _is_silent(self) -> bool:
        """Ask once more who is there: nobody answers."""
        question = Command(command="report", target=self._target)
        self._replicas.send(question)
        return not self._replicas.listen(
            lambda: any(
                each.report and each.report.command_id == question.id for each in self.concerned
            ),
            SILENCE_SECONDS,
        )

    def _is_concerned(self, queue: str) -> bool:
        return self._replicas.concerns(queue, self._target)
