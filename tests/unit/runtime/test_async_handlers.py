"""Handlers on an event loop, with the network's loop played by hand."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from rabbit.control.messages import HANDLER_BOUNDS
from rabbit.runtime import async_handlers as module
from rabbit.runtime.async_handlers import AsyncHandlers, EventLoop
from tests.waiting import wait_until

PATIENCE_SECONDS = 30.0

Handle = Callable[[Any], Coroutine[Any, Any, Any]]


class Desk:
    """AsyncHandlers, and a semaphore that stands for the loop they wake."""

    def __init__(self, handle: Handle, concurrency: int, limit: float | None) -> None:
        """Start the event loop."""
        self.wakes = threading.Semaphore(0)
        self.failures: SimpleQueue[BaseException] = SimpleQueue()
        self.event_loop = EventLoop()
        self.log = CapturingLogger()
        self.handlers: AsyncHandlers[Any, Any] = AsyncHandlers(
            handle,
            self.event_loop,
            concurrency=concurrency,
            wake=self.wakes.release,
            fail=self.failures.put,
            log=self.log,
            limit=limit,
            timed_out=lambda result: f"{result} timed out",
        )

    def take(self, count: int) -> list[Any]:
        """Return the next results, woken up for each batch of them."""
        results: list[Any] = []
        while len(results) < count:
            assert self.wakes.acquire(timeout=PATIENCE_SECONDS), f"not woken up after {results}"
            results += self.handlers.take_results()[0]
        return results

    def overdue(self, count: int) -> list[Any]:
        """Return what is overdue, looking as often as it takes."""
        found: list[Any] = []

        def look() -> bool:
            found.extend(self.handlers.overdue())
            return len(found) >= count

        wait_until(look, PATIENCE_SECONDS, "they are overdue")
        return found


@contextmanager
def desk(handle: Handle, *, concurrency: int = 1, limit: float | None = None) -> Iterator[Desk]:
    """Start an event loop, and end it."""
    made = Desk(handle, concurrency, limit)
    try:
        yield made
    finally:
        made.handlers.stop()
        made.event_loop.close()


class Gate:
    """A handler that waits until it is let through."""

    def __init__(self) -> None:
        """Begin closed."""
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    async def handle(self, job: object) -> object:
        """Wait, then return the job."""
        self.entered.release()
        while not self.open.is_set():  # noqa: ASYNC110 - it is opened by another thread
            await asyncio.sleep(0.001)
        return job

    def wait_for(self, count: int) -> None:
        """Wait until so many jobs have begun."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_SECONDS)


async def same(job: int) -> int:
    """Return the job."""
    return job


async def after_a_moment(job: int) -> int:
    """Let others get on meanwhile."""
    await asyncio.sleep(0)
    return job


def test_one_at_a_time_keeps_order() -> None:
    """With concurrency 1, results come in the order of the jobs, over many hand-overs."""
    with desk(after_a_moment) as at:
        at.handlers.submit(range(500))
        at.handlers.submit(range(500, 1000))

        assert at.take(1000) == list(range(1000))
        assert at.handlers.busy == 0


@pytest.mark.parametrize("handle", [same, after_a_moment])
def test_every_job_has_one_result(handle: Handle) -> None:
    """None is lost and none is done twice."""
    with desk(handle, concurrency=50) as at:
        for first in range(0, 1000, 100):
            at.handlers.submit(range(first, first + 100))

        assert sorted(at.take(1000)) == list(range(1000))


def test_so_many_run_at_a_time_and_no_more() -> None:
    """The others wait, and can be taken back unstarted, in order."""
    gate = Gate()
    with desk(gate.handle, concurrency=3) as at:
        at.handlers.submit(range(6))
        gate.wait_for(3)
        assert at.handlers.take_unstarted() == [3, 4, 5]
        assert at.handlers.busy == 3
        assert not gate.entered.acquire(blocking=False)
        first = at.handlers.longest_running()
        assert 0 < first < at.handlers.longest_running()

        gate.open.set()
        assert sorted(at.take(3)) == [0, 1, 2]
        assert (at.handlers.busy, at.handlers.longest_running()) == (0, 0.0)


def test_a_batch_of_results_wakes_the_loop_once() -> None:
    """However many have ended in one turn of the event loop."""
    ended = asyncio.Event()
    gate = threading.Event()

    async def handle(job: int) -> int:
        if job == 99:
            gate.wait(PATIENCE_SECONDS)
            ended.set()
        await ended.wait()
        return job

    with desk(handle, concurrency=100) as at:
        at.handlers.submit(range(100))
        gate.set()
        assert len(at.take(100)) == 100
        assert not at.wakes.acquire(blocking=False)


def test_results_tell_how_long_they_took() -> None:
    """The seconds are those of each job, side by side or not."""

    async def handle(job: int) -> int:
        await asyncio.sleep(0.05)
        return job

    with desk(handle, concurrency=10) as at:
        at.handlers.submit(range(10))
        seconds = 0.0
        while at.handlers.busy:
            assert at.wakes.acquire(timeout=PATIENCE_SECONDS)
            seconds += at.handlers.take_results()[1]
    assert seconds >= 0.5


def test_each_job_has_a_context_of_its_own() -> None:
    """What one message sets there no other one sees."""
    variable: ContextVar[int] = ContextVar("variable", default=-1)

    async def handle(job: int) -> int:
        before = variable.get()
        variable.set(job)
        await asyncio.sleep(0)
        return before

    with desk(handle) as at:
        at.handlers.submit(range(3))
        assert at.take(3) == [-1, -1, -1]


def test_a_job_that_is_late_is_cancelled() -> None:
    """It has failed, also where it ends well by then; the others go on."""

    async def handle(job: float) -> str:
        try:
            await asyncio.sleep(job)
        except asyncio.CancelledError:
            return f"{job} cancelled"
        return f"{job} ended"

    with desk(handle, concurrency=2, limit=0.1) as at:
        at.handlers.submit([60.0, 0.0])
        assert at.take(1) == ["0.0 ended"]
        wait_until(
            lambda: at.handlers.overdue() or at.wakes.acquire(blocking=False),
            PATIENCE_SECONDS,
            "it has ended",
        )
        assert at.handlers.take_results()[0] == ["60.0 cancelled timed out"]
        assert at.handlers.overdue() == []


def test_a_job_that_does_not_end_when_it_is_cancelled_is_overdue_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a while; then it is for the replica to end."""
    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.1)
    gate = Gate()

    async def handle(job: int) -> object:
        while not gate.open.is_set():
            try:
                await gate.handle(job)
            except asyncio.CancelledError:
                continue
        return job

    with desk(handle, limit=0.05) as at:
        at.handlers.submit([7])
        assert at.overdue(1) == [7]
        assert at.handlers.overdue() == []
        gate.open.set()
        assert at.take(1) == ["7 timed out"]


def test_an_event_loop_that_stands_still_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with the place; and it is what holds it that is overdue, and not the others."""
    monkeypatch.setattr(module, "STILL_SECONDS", 0.1)
    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.3)
    monkeypatch.setattr(module, "LONG_SECONDS", 0.1)
    gate, entered = threading.Event(), threading.Event()

    async def handle(job: str) -> str:
        await asyncio.sleep(0)
        if job == "holds":
            entered.set()
            gate.wait(PATIENCE_SECONDS)
        await asyncio.sleep(0)
        return job

    with desk(handle, concurrency=3, limit=0.05) as at:
        at.handlers.submit(["a", "holds", "b"])
        assert entered.wait(PATIENCE_SECONDS)
        assert at.overdue(1) == ["holds"]
        assert at.handlers.overdue() == []
        assert at.handlers.take_long() == ["holds"]
        [call] = at.log.calls
        gate.set()
        assert sorted(at.take(3)) == ["a", "b", "holds"]
        assert at.handlers.take_long() == ["holds"]
        assert at.handlers.take_long() == []

    assert call.method_name == "warning"
    assert "the event loop stands still" in call.args[0]
    assert "threading.py" in call.kwargs["at"]


def test_a_result_that_nobody_waits_for_wakes_nobody() -> None:
    """The replica has given up: what runs is cancelled, and what waits behind it not started."""
    gate = Gate()

    async def handle(job: int) -> object:
        with suppress(asyncio.CancelledError):
            await gate.handle(job)
        return job

    with desk(handle) as at:
        at.handlers.submit([1, 2])
        gate.wait_for(1)
        at.handlers.stop()
        wait_until(lambda: at.handlers.longest_running() == 0, PATIENCE_SECONDS, "it has ended")
    assert at.handlers.take_results()[0] == [1]
    assert not at.wakes.acquire(blocking=False)
    assert at.failures.empty()


def test_a_job_that_others_have_cancelled_before_its_first_step_is_started_again() -> None:
    """No step of it has run: nobody would hear of it, and it would take up room for ever."""

    async def handle(job: str) -> str:
        if job == "cancels":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        await asyncio.sleep(0)
        return job

    with desk(handle, concurrency=3) as at:
        at.handlers.submit(["cancels", "a", "b"])
        assert at.take(1) == ["cancels"]
        assert at.handlers.busy == 2

        results: list[str] = []

        def have_ended() -> bool:
            assert at.handlers.overdue() == []
            results.extend(at.handlers.take_results()[0])
            return len(results) == 2

        wait_until(have_ended, PATIENCE_SECONDS, "they have ended")
        assert sorted(results) == ["a", "b"]


def test_what_is_left_behind_ends_with_the_event_loop() -> None:
    """It is cancelled; its error is told, as that of no message."""
    ended = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def fails() -> None:
        raise LookupError("left behind")

    left: list[asyncio.Task[None]] = []

    async def handle(job: int) -> int:
        left.append(asyncio.create_task(waits()))
        failing = asyncio.create_task(fails())
        await asyncio.sleep(0)
        del failing
        return job

    with desk(handle) as at:
        at.handlers.submit([1])
        assert at.take(1) == [1]
        wait_until(lambda: at.log.calls, PATIENCE_SECONDS, "it is told")
    assert ended.wait(PATIENCE_SECONDS)
    [call] = at.log.calls
    assert "of no message's work" in call.args[0]
    assert str(call.kwargs["exc_info"]) == "left behind"


def test_what_the_event_loop_cannot_start_is_heard_of() -> None:
    """A job would be in flight for ever."""

    def handle(_: int) -> Coroutine[Any, Any, int]:
        raise MemoryError

    with desk(handle) as at:
        at.handlers.submit([7])

        assert repr(at.failures.get(timeout=PATIENCE_SECONDS)) == "MemoryError()"


@pytest.mark.parametrize("awaits", [True, False])
def test_a_child_that_was_forked_runs_no_other_task(awaits: bool) -> None:  # noqa: FBT001 - a case
    """It ends where it awaits, or where it says so; its parent goes on."""
    reading, writing = os.pipe()

    async def handle(job: str) -> int:
        if job == "other":
            os.write(writing, b"other ")
            return 0
        child = os.fork()
        if child == 0:
            os.write(writing, b"child ")
            if not awaits:
                os._exit(1)
            await asyncio.sleep(0)
            os.write(writing, b"awaited ")
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
            if ended:
                return os.waitstatus_to_exitcode(status)
            await asyncio.sleep(0.005)

    with desk(handle, concurrency=2) as at:
        at.handlers.submit(["forks", "other"])
        assert sorted(at.take(2)) == [0, 1]
    assert sorted(os.read(reading, 100).split()) == [b"child", b"other"]
    os.close(reading)
    os.close(writing)


def test_it_is_known_how_long_calls_took() -> None:
    """With what they awaited, each in its bucket."""

    async def nap(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    with desk(nap, concurrency=2) as at:
        at.handlers.submit([0.0, 0.2])
        at.take(2)
        seconds, buckets = at.handlers.times()

    assert sum(buckets) == 2
    assert seconds >= 0.2
    assert sum(buckets[HANDLER_BOUNDS.index(0.1) + 1 :]) == 1
