"""A name lookup beside the loop."""

import threading
from collections import deque
from collections.abc import Callable

import pytest

from rabbit.amqp.outages import NoThread
from rabbit.amqp.services import Lookup

PATIENCE_SECONDS = 30.0


class Loop:
    """What other threads hand over, until the test takes a turn."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._callbacks: deque[Callable[[], None]] = deque()
        self._called = threading.Semaphore(0)

    def call(self, function: Callable[[], None]) -> None:
        """Note what is to be run."""
        self._callbacks.append(function)
        self._called.release()

    def turn(self) -> None:
        """Wait for something to run, and run it."""
        assert self._called.acquire(timeout=PATIENCE_SECONDS)
        self._callbacks.popleft()()


def test_what_is_found_is_told_in_the_loops_turn() -> None:
    """Not before that."""
    loop, found = Loop(), list[str]()
    lookup = Lookup(lambda: "here", found.append, loop.call)
    assert found == []

    loop.turn()

    assert found == ["here"]
    assert not lookup.cancel()


def test_an_error_is_told_like_a_result() -> None:
    """Pika expects it so."""
    loop, found = Loop(), list[object]()
    error = OSError("no such host")

    def fail() -> None:
        raise error

    Lookup(fail, found.append, loop.call)
    loop.turn()

    assert found == [error]


def test_no_thread_is_told_like_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of a container's pids, for one."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    loop, found = Loop(), list[object]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        Lookup(lambda: "here", found.append, loop.call)
    loop.turn()

    assert [(type(each), str(each)) for each in found] == [(NoThread, "can't start new thread")]


@pytest.mark.parametrize("is_over", [False, True])
def test_who_has_cancelled_is_told_nothing(*, is_over: bool) -> None:
    """Whether the lookup has ended meanwhile or not."""
    loop, found = Loop(), list[str]()
    begin = threading.Event()

    def look_up() -> str:
        begin.wait(PATIENCE_SECONDS)
        return "here"

    lookup = Lookup(look_up, found.append, loop.call)
    if is_over:
        begin.set()
    assert lookup.cancel()
    assert not lookup.cancel()
    begin.set()
    loop.turn()

    assert found == []
