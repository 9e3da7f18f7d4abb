"""A source, with the broker's part played by hand."""

import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import pytest

from rabbit import Halted
from rabbit.runtime.runner import Connections
from rabbit.runtime.source import Source, check_seconds
from rabbit.settings import Settings
from rabbit.topology import Edge
from tests.unit.scripted import ScriptedConnection, ScriptedLoop, as_connection, as_loop, log
from tests.waiting import wait_until


def made(work: Callable[[], None]) -> tuple[Source, ScriptedConnection]:
    """Return a source, and the connection that it is to publish on."""
    loop = ScriptedLoop()
    publishing = ScriptedConnection(loop)
    connections = Connections(as_loop(loop), as_connection(publishing), as_connection(publishing))
    return Source(connections, Edge("out"), Settings.load(), work, log), publishing


def test_one_that_is_halted_before_it_begins_never_does() -> None:
    """Its channel opens while it halts: nothing is written, and there is nothing to wait for."""
    begun: list[str] = []
    source, publishing = made(lambda: begun.append("work"))
    source.turn()

    for _ in source.halt():
        publishing.users[0].open()
        source.turn()
    publishing.users[0].open()
    source.turn()

    assert begun == []
    assert not source.is_ready
    assert (source.in_flight, source.handled, source.end) == (0, 0, None)


def test_a_halt_ends_a_wait_at_once() -> None:
    """In whatever thread; then there is nothing to wait for."""
    ends: list[type[BaseException]] = []
    begun = threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        try:
            source.wait(3600)
        except Halted as error:
            ends.append(type(error))

    def work() -> None:
        thread = threading.Thread(target=wait)
        thread.start()
        try:
            wait()
        finally:
            thread.join()

    source, publishing = made(work)
    publishing.users[0].open()
    source.turn()
    for _ in range(2):
        assert begun.acquire(timeout=10)
    began = monotonic()
    for _ in source.halt():
        sleep(0.001)

    assert monotonic() - began < 0.5
    assert ends == [Halted, Halted]
    with pytest.raises(Halted):
        source.wait(0)


def test_a_wait_ends_by_itself_and_after_the_work_is_refused() -> None:
    """It takes as long as it says."""
    took: list[float] = []

    def work() -> None:
        began = monotonic()
        source.wait(0.05)
        took.append(monotonic() - began)

    source, _ = made(work)
    source._run()  # noqa: SLF001 - what its thread runs

    assert took[0] >= 0.05
    assert source.is_complete
    with pytest.raises(RuntimeError, match=r"wait\(\) after work\(\) has returned"):
        source.wait(0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("-inf")])
def test_a_wait_of_no_time_is_refused(seconds: float) -> None:
    """In one line."""
    with pytest.raises(ValueError, match="takes seconds, 0 or more"):
        check_seconds(seconds)


@pytest.mark.parametrize("seconds", ["5", None, True])
def test_a_wait_for_no_number_is_refused(seconds: Any) -> None:
    """Likewise."""
    with pytest.raises(TypeError, match="takes a number of seconds, not a"):
        check_seconds(seconds)


def test_a_wait_may_be_endless() -> None:
    """Whatever number it is, a lock can wait so long."""
    assert check_seconds(float("inf")) == check_seconds(10**400) == threading.TIMEOUT_MAX


def test_one_begins_when_the_broker_takes_messages() -> None:
    """Not before: what it wrote would wait in memory."""
    source, publishing = made(lambda: None)
    source.turn()
    assert not source.is_ready

    publishing.users[0].open()
    source.turn()

    assert source.is_ready


def test_a_paused_source_waits_in_write_and_is_not_stalled() -> None:
    """What was written before is published; `write` goes on when it is resumed."""
    begun = threading.Event()
    written: list[str] = []

    def work() -> None:
        for text in ("a", "b"):
            source.write(text, None)
            written.append(text)
            begun.wait(10)

    source, publishing = made(work)
    channel = publishing.users[0]
    channel.open()
    source.hold()
    source.turn()
    assert not source.is_ready

    source.resume()
    source.turn()
    wait_until(lambda: written, 10, "it writes")
    source.pause(alone=False)
    begun.set()
    source.turn()
    assert not source.is_paused
    channel.listener.acked(1, multiple=False)
    source.turn()
    assert source.is_paused
    source._publish_timeout = 60.0  # noqa: SLF001 - and nothing has been confirmed for longer
    source._last_progress -= 3600  # noqa: SLF001
    source.tick()
    assert source.end is None
    assert [each.body for each in channel.published] == ["a"]

    source.resume()
    wait_until(lambda: len(written) == 2, 10, "it goes on")


@pytest.mark.parametrize("is_refused", [True, False])
def test_who_gives_up_says_what_the_broker_refuses_and_not_what_it_has_refused_once(
    *, is_refused: bool
) -> None:
    """A queue was full, and has taken the message since: what is missing now has no answer."""
    may_end, written = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        for text in ("a", "b"):
            source.write(text, None)
            written.release()
        may_end.wait(10)

    source, publishing = made(work)
    channel = publishing.users[0]
    channel.open()
    source.turn()
    for _ in range(2):
        assert written.acquire(timeout=10)
    source.turn()
    channel.listener.nacked(1, multiple=False)
    if not is_refused:
        publishing._loop.pass_time()  # noqa: SLF001 - the test's own
        channel.listener.acked(3, multiple=False)
    source._publish_timeout = 60.0  # noqa: SLF001 - and nothing has been confirmed for longer
    source._last_progress -= 3600  # noqa: SLF001
    source.tick()
    may_end.set()

    assert source.end is not None
    said = "'out' refuses messages" if is_refused else "the broker does not answer"
    assert said in str(source.end.error)
