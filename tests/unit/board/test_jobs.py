"""What people do from the board, one thing at a time."""

import threading
from typing import Any

import pytest
import structlog

from rabbit.errors import RabbitError
from services.board.jobs import MOST_SHOWN, BusyError, Jobs, Tell
from tests.waiting import wait_until


class Shown:
    """What a page would show."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.jobs: list[dict[str, Any]] = []

    def __call__(self, jobs: list[dict[str, Any]]) -> None:
        """Take it."""
        self.jobs = jobs

    def wait_over(self) -> dict[str, Any]:
        """Wait until the newest is over; return it."""
        wait_until(lambda: self.jobs and self.jobs[0]["ok"] is not None, 5, "it is over")
        return self.jobs[0]


@pytest.fixture
def shown() -> Shown:
    """Show to nobody."""
    return Shown()


@pytest.fixture
def jobs(shown: Shown) -> Jobs:
    """Have none yet."""
    return Jobs(structlog.get_logger(), shown)


def test_what_was_done_by_whom_and_what_came_of_it(jobs: Jobs, shown: Shown) -> None:
    """All of it is shown when it is over."""
    jobs.begin("pipeline", "halt printer", "ada", lambda _tell: ("halted 1/1", True))

    job = shown.wait_over()
    assert (job["what"], job["who"], job["said"], job["ok"]) == (
        "halt printer",
        "ada",
        "halted 1/1",
        True,
    )
    assert job["began"] <= job["ended"]


def test_one_thing_at_a_time(jobs: Jobs, shown: Shown) -> None:
    """Who is at it is said to the second one; another lane is free."""
    go_on = threading.Event()

    def work(tell: Tell) -> tuple[str, bool]:
        tell("half-way")
        go_on.wait(5)
        return "done", True

    jobs.begin("pipeline", "drain all stages", "ada", work)
    with pytest.raises(BusyError, match="ada is at it: drain all stages"):
        jobs.begin("pipeline", "halt all stages", "wilma", work)
    jobs.begin("letters", "look", "wilma", lambda _tell: ("", True))

    go_on.set()
    wait_until(lambda: all(job["ok"] for job in shown.jobs), 5, "both are over")


def test_one_can_be_cancelled(jobs: Jobs, shown: Shown) -> None:
    """It ends at its next word."""
    begun = threading.Event()

    def work(tell: Tell) -> tuple[str, bool]:
        begun.set()
        while True:
            tell("still at it")

    job = jobs.begin("pipeline", "drain", "ada", work, can_cancel=True)
    begun.wait(5)
    jobs.cancel(job.number, "wilma")

    assert "cancelled" in shown.wait_over()["said"]
    assert shown.jobs[0]["ok"] is False


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RabbitError("no broker"), "no broker"),
        (KeyError("x"), "a defect of the board, see its log"),
    ],
)
def test_who_asked_hears_why_it_failed(
    jobs: Jobs, shown: Shown, error: Exception, said: str
) -> None:
    """And the lane is free again."""

    def work(_tell: Tell) -> tuple[str, bool]:
        raise error

    jobs.begin("pipeline", "halt", "ada", work)

    assert said in shown.wait_over()["said"]
    assert jobs.under_way("pipeline") is None


def test_a_long_one_outlives_many_short_ones(jobs: Jobs, shown: Shown) -> None:
    """What is shown is bounded; what is under way stays known."""
    go_on = threading.Event()
    jobs.begin("pipeline", "drain", "ada", lambda _tell: (str(go_on.wait(5)), True))
    for number in range(2 * MOST_SHOWN):
        jobs.begin("letters", f"look {number}", "ada", lambda _tell: ("", True))
        wait_until(lambda: jobs.under_way("letters") is None, 5, "over")

    assert len(shown.jobs) <= MOST_SHOWN + 2
    assert jobs.under_way("pipeline")
    go_on.set()
    wait_until(lambda: not jobs.under_way("pipeline"), 5, "over")
