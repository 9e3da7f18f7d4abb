"""Messages that one call publishes."""

import threading
from time import monotonic

import pytest

from rabbit.errors import BrokerUnavailableError, RefusedError, UnroutableError
from rabbit.runtime.blocking_publisher import PendingConfirms

PATIENCE_SECONDS = 30.0


def test_an_empty_batch_does_not_wait() -> None:
    """Publishing nothing succeeds at once."""
    PendingConfirms().wait(0, timeout=0)


def test_it_waits_for_every_confirm() -> None:
    """The thread that publishes goes on when the last one has come, from another thread."""
    batch = PendingConfirms()
    batch.add(3)
    batch.confirmed()
    batch.confirmed()
    with pytest.raises(BrokerUnavailableError, match="1 messages not confirmed for 0 s"):
        batch.wait(0, timeout=0)

    threading.Timer(0.01, batch.confirmed).start()
    began = monotonic()
    batch.wait(0, timeout=PATIENCE_SECONDS)
    assert monotonic() - began < PATIENCE_SECONDS


def test_it_waits_for_room_only() -> None:
    """As many may be under way as are allowed."""
    batch = PendingConfirms()
    batch.add(3)
    batch.confirmed()

    batch.wait(2, timeout=0)
    with pytest.raises(BrokerUnavailableError):
        batch.wait(1, timeout=0)


def test_the_first_error_counts() -> None:
    """It is raised at once, whatever is confirmed or fails after it."""
    batch = PendingConfirms()
    batch.add(3)
    batch.fail(RefusedError("first"))
    batch.fail(UnroutableError("second"))
    batch.confirmed()

    with pytest.raises(RefusedError, match="first"):
        batch.wait(0, timeout=None)


def test_an_error_wakes_who_waits() -> None:
    """Nobody waits for confirms that will not come."""
    batch = PendingConfirms()
    batch.add(1)
    threading.Timer(0.01, batch.fail, [RefusedError()]).start()

    began = monotonic()
    with pytest.raises(RefusedError):
        batch.wait(0, timeout=PATIENCE_SECONDS)
    assert monotonic() - began < PATIENCE_SECONDS


def test_progress_is_no_time_out() -> None:
    """The time-out counts from the last confirm."""
    batch = PendingConfirms()
    batch.add(2)
    for seconds in (0.25, 0.5):
        threading.Timer(seconds, batch.confirmed).start()

    batch.wait(0, 0.45)
