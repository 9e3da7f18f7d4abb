"""How long messages have waited, as far as depth and totals tell."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbit.operations.ages import MOST_MOMENTS, Ages, QueueAges
from rabbit.operations.pipeline import Age
from tests.unit.operations.test_pipeline import look, seen


def test_what_was_there_at_first_is_as_old_as_it_was_watched() -> None:
    """Or older, and it says so."""
    ages = QueueAges(100, waiting=5)

    assert ages.oldest(0) == Age(0, is_exact=False)
    ages.look(107, waiting=5, settled=0)
    assert ages.oldest(0) == Age(7, is_exact=False)
    ages.look(108, waiting=1, settled=4)
    assert ages.oldest(0) == Age(8, is_exact=False)


def test_what_came_first_goes_first() -> None:
    """Five came, then three more; once five have gone, the oldest is one of the three."""
    ages = QueueAges(0, waiting=0)
    assert ages.oldest(0) is None
    ages.look(2, waiting=5, settled=0)
    ages.look(4, waiting=8, settled=0)

    assert ages.oldest(0) == Age(3, is_exact=True)
    assert ages.oldest(in_flight=5) == Age(1, is_exact=True)
    ages.look(6, waiting=3, settled=5)
    assert ages.oldest(0) == Age(3, is_exact=True)
    ages.look(8, waiting=0, settled=3)
    assert ages.oldest(0) is None


def test_what_comes_and_goes_between_two_looks_is_young() -> None:
    """A queue that is never empty, and whose messages wait for a moment."""
    ages = QueueAges(0, waiting=10)
    for moment in range(2, 60, 2):
        ages.look(moment, waiting=10, settled=1000)

    assert ages.oldest(0) == Age(1, is_exact=True)


def test_messages_that_vanish_were_the_oldest() -> None:
    """They were purged, or whoever has handled them is gone and has told nobody."""
    ages = QueueAges(0, waiting=100)
    ages.look(10, waiting=50, settled=0)
    assert ages.oldest(0) == Age(10, is_exact=False)

    ages.look(20, waiting=0, settled=0)
    ages.look(30, waiting=7, settled=0)

    assert ages.oldest(0) == Age(5, is_exact=True)


def test_looks_that_are_not_of_one_instant() -> None:
    """A report may be of a moment later than the depth: nothing has come by that.

    100,000 are settled in 200 seconds. Half-way 500 more come: those are left in the end.
    """
    ages = QueueAges(0, waiting=0)
    ages.look(2, waiting=100_000, settled=0)
    for number in range(1, 101):
        late = 50 if number % 2 else -50
        more = 500 if number > 50 else 0
        waiting = 100_000 - 1000 * number + more + late
        ages.look(2 + 2 * number, waiting=waiting, settled=1000)
    ages.look(204, waiting=500, settled=0)

    assert ages.oldest(0) == Age(204 - 103, is_exact=True)


def test_an_empty_queue_has_no_oldest_message() -> None:
    """Whatever was thought to be there."""
    ages = QueueAges(0, waiting=100)
    ages.look(2, waiting=10, settled=70)
    assert ages.oldest(10) is None

    ages.look(4, waiting=0, settled=20)
    assert ages.oldest(0) is None
    ages.look(6, waiting=3, settled=0)

    assert ages.oldest(0) == Age(1, is_exact=True)


def test_what_is_kept_is_bounded() -> None:
    """A day of backlog: what is lost is a little of how exact it is."""
    ages = QueueAges(0, waiting=0)
    for moment in range(1, 40_000):
        ages.look(moment, waiting=moment, settled=0)
        assert len(ages._came) <= MOST_MOMENTS  # noqa: SLF001 - what is bounded
    ages.look(40_000, waiting=20_000, settled=19_999)

    oldest = ages.oldest(0)
    assert oldest
    assert oldest.seconds == pytest.approx(20_000, rel=0.02)


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40
    )
)
def test_it_is_true_to_half_the_time_between_two_looks(
    steps: list[tuple[int, int, int]],
) -> None:
    """Beside a queue whose messages know when they came."""
    queue: deque[float] = deque()
    ages = QueueAges(0, waiting=0)
    for number, (come, go, in_flight) in enumerate(steps):
        queue.extend([2 * number + 1.0] * come)
        gone = min(go, len(queue))
        for _ in range(gone):
            queue.popleft()
        now = 2 * number + 2.0
        ages.look(now, waiting=len(queue), settled=gone)

        expected = [now - moment for moment in queue][in_flight:]
        oldest = ages.oldest(in_flight)
        assert (oldest.seconds if oldest else None) == (expected[0] if expected else None)


def test_of_a_pipeline() -> None:
    """What its readers settle, retries too, has gone; each edge by its name."""
    ages = Ages()
    ages.take(look(0, seen("printer/1", "upper", handled=7), upper=0, lone=4))
    ages.take(look(10, seen("printer/1", "upper", handled=7), upper=6, lone=4))
    ages.take(look(20, seen("printer/1", "upper", handled=10, failed=1), upper=6, lone=4))

    assert ages.take(
        look(20, seen("printer/1", "upper", handled=10, failed=1), upper=6, lone=4)
    ) == {
        "upper": Age(15, is_exact=True),
        "lone": Age(20, is_exact=False),
    }
    assert ages.take(look(30, seen("printer/1", "upper", handled=12, failed=1), upper=4)) == {
        "upper": Age(15, is_exact=True)
    }
