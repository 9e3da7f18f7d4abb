"""What pauses a replica."""

from typing import Literal

import pytest

from rabbit.control.messages import Command
from rabbit.control.pauses import Pauses


def command(kind: Literal["pause", "resume"], target: str | None = None) -> Command:
    """Return a command."""
    return Command(command=kind, target=target)


@pytest.fixture
def pauses() -> Pauses:
    """Return those of printer/1, whose stage is not marked."""
    made = Pauses("printer", "1")
    assert made.is_paused is None
    made.is_marked = False
    return made


@pytest.mark.parametrize("target", [None, "printer"])
def test_a_stage_is_paused_by_its_mark_only(pauses: Pauses, target: str | None) -> None:
    """The command, which may be old, says only to look."""
    assert pauses.hear(command("pause", target), 1) == [1]
    assert pauses.is_paused is False

    pauses.is_marked = True
    assert pauses.hear(command("resume", target), 2) == [2]
    assert pauses.is_paused is True


def test_a_replica_s_own_pause_stays_in_its_queue(pauses: Pauses) -> None:
    """Unacked until it is resumed; one of several will do."""
    assert pauses.hear(command("pause", "printer/1"), 1) == []
    assert pauses.hear(command("pause", "printer/1"), 2) == [1]
    assert pauses.is_paused is True

    assert pauses.hear(command("resume", "printer/1"), 3) == [2, 3]
    assert pauses.is_paused is False


@pytest.mark.parametrize("target", [None, "printer"])
def test_who_resumes_a_stage_resumes_each_of_its_replicas(
    pauses: Pauses, target: str | None
) -> None:
    """Whichever way it was paused."""
    pauses.hear(command("pause", "printer/1"), 1)

    assert pauses.hear(command("resume", target), 2) == [1, 2]
    assert pauses.is_paused is False


def test_a_lost_channel_takes_its_deliveries_along(pauses: Pauses) -> None:
    """They come again; until the mark is looked at again, nothing is known."""
    pauses.hear(command("pause", "printer/1"), 7)
    pauses.lost()
    assert pauses.is_paused is None

    pauses.is_marked = False
    assert pauses.is_paused is True
    assert pauses.hear(command("pause", "printer/1"), 1) == []
