"""Wait for what happens elsewhere: poll to a deadline, never for a fixed time."""

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05


def wait_until(
    condition: Callable[[], T],
    seconds: float,
    what: str | Callable[[], str],
    pause_seconds: float = POLL_SECONDS,
) -> T:
    """Call `condition` until what it returns is true, and return that.

    Args:
        condition: called again and again.
        seconds: the deadline.
        what: what is waited for, for the person who reads that it did not come; a function is
            called only then.
        pause_seconds: between two calls; longer where a call takes CPU.

    Raises:
        AssertionError: when the deadline has passed.
    """
    deadline = monotonic() + seconds
    while not (value := condition()):
        if monotonic() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {seconds:g} s: {told}")
        sleep(pause_seconds)
    return value
