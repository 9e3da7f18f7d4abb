"""When a halt is proved, with somebody in place of the broker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, cast

import pytest

from rabbit.amqp.channel import Count
from rabbit.control.client import ControlClient
from rabbit.control.messages import Command, Report, State
from rabbit.operations import halt
from rabbit.operations.halt import Halt
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas
from rabbit.topology import control_queue

NAMES = [f"r{number}" for number in range(6)]


def report(stage: str, replica: str, state: State, command: str = "1") -> Report:
    """Return what a replica says."""
    return Report(
        command_id=command,
        stage=stage,
        replica=replica,
        consumes=None,
        exchange=None,
        produces=None,
        state=state,
        in_flight=0,
        handled=0,
        failed=0,
        since=datetime.now(UTC),
        process=replica,
    )


class Late:
    """A client to which one last word after the other comes, all of them late."""

    def __init__(self, every_seconds: float) -> None:
        """Have one come each so many seconds."""
        self._every, self._began = every_seconds, monotonic()
        self._left = [report("crowd", name, State.HALTED) for name in NAMES]

    def reports(self) -> list[Report]:
        """Return what has come."""
        due = int((monotonic() - self._began) / self._every) - (len(NAMES) - len(self._left))
        come, self._left = self._left[: max(0, due)], self._left[max(0, due) :]
        return come

    def send(self, _command: object) -> bool:
        """Take a command."""
        return True

    def count(self, _queue: str) -> None:
        """Know no queue any more."""


class Gone:
    """A management API that has seen them when they were commanded, and never again."""

    def __init__(self) -> None:
        """Have them for two looks."""
        self._looks = 2

    def control_bindings(self) -> Mapping[str, Any]:
        """Return their queues, as long as they are there."""
        self._looks -= 1
        return {control_queue("crowd", name): () for name in NAMES} if self._looks >= 0 else {}

    def control_queues(self) -> set[str]:
        """Return no others."""
        return set()


def test_last_words_that_come_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many replicas they come for longer than a silence takes; it is over when none comes."""
    monkeypatch.setattr(halt, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(halt, "REPEAT_SECONDS", 0.1)
    client, management = cast("ControlClient", Late(0.15)), cast("Management", Gone())
    attempt = Halt(client, Replicas(client, management))

    assert attempt.run(20, lambda _: None), attempt.missing
    assert len(attempt.halted) == len(NAMES)


class Stages:
    """A client and a management API with replicas; one more comes before the last roll call.

    Attributes:
        bound: the control queues there are.
        halts: how many have been sent.
    """

    def __init__(self) -> None:
        """Have one replica."""
        self.bound = {control_queue("crowd", "a")}
        self.halts = 0
        self._come: list[Report] = []

    def send(self, command: Command) -> bool:
        """Have all obey that are there; who has just come says only that it is."""
        if command.command == "halt":
            self.halts += 1
            for each in sorted(self.bound):
                replica = each.rpartition(".")[2]
                self._come.append(report("crowd", replica, State.HALTED, command.id))
            self.bound.clear()
        elif self.halts == 1:
            self.bound.add(control_queue("crowd", "b"))
            self._come.append(report("crowd", "b", State.RUNNING, command.id))
        return True

    def reports(self) -> list[Report]:
        """Return what has come."""
        come, self._come = self._come, []
        return come

    def count(self, queue: str) -> Count | None:
        """Count no consumers: who has just come does not consume yet."""
        return Count(0, 0) if queue in self.bound else None

    def control_bindings(self) -> Mapping[str, Any]:
        """Return the queues there are."""
        return dict.fromkeys(self.bound, ())

    def control_queues(self) -> set[str]:
        """Return no others."""
        return set()


def test_who_has_come_since_the_last_look_is_halted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not got the command; by its answer to the roll call, or its queue, it is known."""
    monkeypatch.setattr(halt, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(halt, "REPEAT_SECONDS", 0.1)
    stages = Stages()
    client, management = cast("ControlClient", stages), cast("Management", stages)
    attempt = Halt(client, Replicas(client, management))

    assert attempt.run(20, lambda _: None), attempt.missing
    assert [each.name for each in attempt.halted] == ["crowd/a", "crowd/b"]
    assert stages.halts == 2
