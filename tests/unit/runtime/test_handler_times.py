"""How long calls took, as buckets."""

import pytest

from rabbit.control.messages import HANDLER_BOUNDS
from rabbit.runtime.handler_times import HandlerTimes, SlowCalls


def test_a_call_is_in_the_first_bucket_that_is_long_enough() -> None:
    """A bound belongs to its bucket; quick calls are what is left; nothing is too long."""
    one, other = SlowCalls(), SlowCalls()
    for seconds in (0.0011, HANDLER_BOUNDS[1], 0.0051, HANDLER_BOUNDS[-1]):
        one.add(seconds)
    other.add(HANDLER_BOUNDS[-1] + 1)

    seconds, buckets = HandlerTimes.of(1.5, 105, [one, other])

    assert seconds == pytest.approx(1.5)
    assert buckets == (100, 2, 1, *[0] * (len(HANDLER_BOUNDS) - 4), 1, 1)


def test_what_is_slow_is_never_more_than_all() -> None:
    """A slow call is counted before its result is taken: there is no negative number."""
    slow = SlowCalls()
    slow.add(1.0)

    assert min(HandlerTimes.of(1.0, 0, [slow]).buckets) == 0
