"""Handlers that take too long."""

import threading

from rabbit.runtime.handler_threads import HandlerWatchdog
from tests.waiting import wait_until


def test_what_ends_in_time_is_not_overdue() -> None:
    """Its result is passed on."""
    watch = HandlerWatchdog(str.upper, 60.0)

    assert watch.handle("a") == "A"
    assert watch.overdue() == []


def test_what_does_not_end_is_overdue_once() -> None:
    """Whoever asks is told of each job one time; it may go on all the same."""
    go_on = threading.Event()
    watch: HandlerWatchdog[str, bool] = HandlerWatchdog(lambda _: go_on.wait(30), 0.01)
    thread = threading.Thread(target=watch.handle, args=("a",))
    thread.start()

    assert wait_until(watch.overdue, 5, "it is overdue") == ["a"]
    assert watch.overdue() == []
    go_on.set()
    thread.join()
    assert watch.overdue() == []


def test_a_call_that_raises_has_ended() -> None:
    """It is not waited for."""
    watch: HandlerWatchdog[str, int] = HandlerWatchdog(int, 0.0)
    try:
        watch.handle("x")
    except ValueError:
        assert watch.overdue() == []
