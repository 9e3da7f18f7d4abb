"""The loop had stood still: what a lost connection is put down to."""

import json
from typing import Any

import pytest

from rabbit.logs import logger
from rabbit.runtime.health import MOST_NAMED, Standstills
from rabbit.settings import Settings

HEARTBEAT_SECONDS = 10.0


class Desk:
    """Standstills, with a clock and messages that a test sets."""

    def __init__(self) -> None:
        """Begin with no message, and log as JSON to where the test that makes this reads it."""
        self.now = 1000.0
        self.messages: list[str] = []
        log = logger(Settings.load(log_format="json"))
        self.standstills = Standstills(
            HEARTBEAT_SECONDS, lambda: self.messages, log, lambda: self.now
        )

    def look_after(self, seconds: float, *messages: str) -> None:
        """Look after so long, in which these messages were with a handler."""
        self.now += seconds
        self.messages = list(messages)
        self.standstills.look()

    def lose_after(self, seconds: float, *messages: str) -> None:
        """Lose a connection after so long, likewise."""
        self.now += seconds
        self.messages = list(messages)
        self.standstills.lost()


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Return what has been logged: which messages, and for how many seconds."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert all(each["level"] == "warning" for each in lines)
    return [(each["message_id"], each["seconds"]) for each in lines]


def test_a_loss_that_a_look_has_not_come_before(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the first that the loop does when it turns again; two connections, one line."""
    desk = Desk()
    desk.look_after(0.5)
    desk.lose_after(25.04, "a")
    desk.lose_after(0.001, "a")

    assert said(capsys) == [("a", 25.0)]


def test_a_loss_soon_after_a_look(capsys: pytest.CaptureFixture[str]) -> None:
    """The message may have been handled by then."""
    desk = Desk()
    desk.look_after(25, "a")
    desk.look_after(0.5)
    desk.lose_after(0.2)

    assert said(capsys) == [("a", 25.0)]


def test_what_has_another_cause(capsys: pytest.CaptureFixture[str]) -> None:
    """No handler was running, not for a heartbeat, or a loss that came much later."""
    desk = Desk()
    desk.lose_after(25)
    desk.lose_after(9, "a")
    desk.look_after(25, "a")
    for _ in range(20):
        desk.look_after(0.5, "b")
    desk.lose_after(0.1, "b")

    assert said(capsys) == []


def test_of_many_messages_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The line stays one that can be read."""
    desk = Desk()
    desk.lose_after(25, *[str(number) for number in range(100)])

    first = ", ".join(map(str, range(MOST_NAMED)))
    assert said(capsys) == [(f"{first} and {100 - MOST_NAMED} more", 25.0)]
