"""When a halt is proved, with somebody in place of the broker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any, cast

import pytest

from rabbit.control.client import ControlClient
from rabbit.control.messages import Report, State
from rabbit.operations import halt
from rabbit.operations.halt import Halt
from rabbit.operations.management import Management
from rabbit.operations.replicas import Replicas
from rabbit.topology import control_queue

NAMES = [f"r{number}" for number in range(6)]


class Late:
    """A client to which one last word after the other comes, all of them late."""

    def __init__(self, every_seconds: float) -> None:
        """Have one come each so many seconds."""
        self._every, self._began = every_seconds, monotonic()
        self._left = [
            Report(
                command_id="1",
                stage="crowd",
                replica=name,
                consumes=None,
                exchange=None,
                produces=None,
                state=State.HALTED,
                in_flight=0,
                handled=0,
                failed=0,
                since=datetime.now(UTC),
            )
            for name in NAMES
        ]

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
