"""Handler threads."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from time import monotonic

import pytest

from rabbit.control.messages import HANDLER_BOUNDS
from rabbit.runtime import handler_threads as module
from rabbit.runtime.handler_threads import HandlerThreads
from rabbit.runtime.handler_times import QUICK_SECONDS
from tests.waiting import wait_until

PATIENCE_SECONDS = 30.0


class Desk:
    """HandlerThreads, and a semaphore that stands for the loop they wake."""

    def __init__(self, handle: Callable[[int], int], concurrency: int) -> None:
        """Start the threads."""
        self._wakes = threading.Semaphore(0)
        self.failures: SimpleQueue[BaseException] = SimpleQueue()
        self.workers = HandlerThreads(
            handle,
            concurrency=concurrency,
            name="handler",
            wake=self._wakes.release,
            fail=self.failures.put,
        )

    def take(self, count: int) -> list[int]:
        """Return the next results, woken up for each batch of them."""
        results: list[int] = []
        while len(results) < count:
            assert self._wakes.acquire(timeout=PATIENCE_SECONDS), f"not woken up after {results}"
            results += self.workers.take_results()[0]
        return results


@contextmanager
def desk(handle: Callable[[int], int], *, concurrency: int = 1) -> Iterator[Desk]:
    """Start workers, and stop them in the end."""
    made = Desk(handle, concurrency)
    try:
        yield made
    finally:
        made.workers.stop()


def fails(error: BaseException) -> None:
    """Be told of a thread's end where none may end so."""
    raise error


class Gate:
    """A handler that waits until it is let through."""

    def __init__(self) -> None:
        """Begin closed."""
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def handle(self, job: int) -> int:
        """Wait, then return the job."""
        self.entered.release()
        assert self._open.wait(PATIENCE_SECONDS)
        return job

    def wait_for(self, count: int) -> None:
        """Wait until so many calls have begun."""
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_SECONDS)

    def open(self) -> None:
        """Let everything through."""
        self._open.set()


def test_one_thread_keeps_order() -> None:
    """With concurrency 1, results come in the order of the jobs, over many hand-overs."""
    with desk(lambda job: -job) as at:
        at.workers.submit(range(500))
        at.workers.submit(range(500, 1000))

        assert [-job for job in range(1000)] == at.take(1000)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_every_job_has_one_result(concurrency: int) -> None:
    """None is lost and none is done twice, however many threads there are."""
    with desk(lambda job: job, concurrency=concurrency) as at:
        for first in range(0, 1000, 100):
            at.workers.submit(range(first, first + 100))

        assert list(range(1000)) == sorted(at.take(1000))
        assert at.workers.busy == 0


def test_what_has_been_handled_is_not_kept() -> None:
    """A thread that waits, or handles something else, keeps neither the job before nor its result.

    A large message would stay in memory with all that was made of it.
    """

    class Thing:
        pass

    made: list[weakref.ref[Thing]] = []

    def handle(job: Thing) -> Thing:
        result = Thing()
        made.extend((weakref.ref(job), weakref.ref(result)))
        return result

    woken = threading.Event()
    threads = HandlerThreads(handle, concurrency=1, name="handler", wake=woken.set, fail=fails)
    threads.submit([Thing()])
    assert woken.wait(PATIENCE_SECONDS)
    threads.take_results()

    wait_until(lambda: not any(each() for each in made), PATIENCE_SECONDS, "both are gone")
    threads.stop()


def test_threads_run_side_by_side() -> None:
    """As many calls run at a time as there are threads, and no more."""
    gate = Gate()
    with desk(gate.handle, concurrency=3) as at:
        at.workers.submit(range(5))
        gate.wait_for(3)
        assert not gate.entered.acquire(blocking=False)

        gate.open()
        assert list(range(5)) == sorted(at.take(5))


def test_results_tell_how_long_they_took() -> None:
    """The seconds are those of the handler alone."""
    took = threading.Event()

    def handle(job: int) -> int:
        took.wait(0.02)
        return job

    woken = threading.Event()
    workers = HandlerThreads(handle, concurrency=1, name="handler", wake=woken.set, fail=fails)
    workers.submit([7])
    assert woken.wait(PATIENCE_SECONDS)
    results, seconds = workers.take_results()
    workers.stop()

    assert results == [7]
    assert 0.02 <= seconds < PATIENCE_SECONDS


def test_unstarted_jobs_are_taken_back() -> None:
    """What runs goes on to its result; the rest is returned in order, and never done."""
    gate = Gate()
    with desk(gate.handle) as at:
        at.workers.submit(range(4))
        gate.wait_for(1)
        assert at.workers.take_unstarted() == [1, 2, 3]
        assert at.workers.busy == 1

        gate.open()
        assert at.take(1) == [0]
        at.workers.submit([9])
        assert at.take(1) == [9]


def test_busy_counts_until_the_result_is_taken() -> None:
    """A finished job whose result nobody has seen is not settled yet."""
    woken = threading.Event()
    workers: HandlerThreads[int, int] = HandlerThreads(
        lambda job: job, concurrency=1, name="handler", wake=woken.set, fail=fails
    )
    workers.submit([1])
    assert woken.wait(PATIENCE_SECONDS)
    assert workers.busy == 1

    workers.take_results()
    assert workers.busy == 0
    workers.stop()


def test_the_longest_running_call_is_known() -> None:
    """It grows while a handler runs, and is zero when none does."""
    gate = Gate()
    with desk(gate.handle, concurrency=2) as at:
        assert at.workers.longest_running() == 0.0

        began = monotonic()
        at.workers.submit([1, 2])
        gate.wait_for(2)
        first = at.workers.longest_running()
        assert first < at.workers.longest_running() <= monotonic() - began

        gate.open()
        at.take(2)
        assert at.workers.longest_running() == 0.0


def test_calls_that_take_long_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """While they run, and once more when they have ended; quick ones never."""
    gate = Gate()
    monkeypatch.setattr(module, "LONG_SECONDS", 0.0)
    with desk(gate.handle) as at:
        assert at.workers.take_long() == []

        at.workers.submit([1])
        gate.wait_for(1)
        assert at.workers.take_long() == at.workers.take_long() == [1]

        gate.open()
        at.take(1)
        assert at.workers.take_long() == [1]
        assert at.workers.take_long() == []

        monkeypatch.setattr(module, "LONG_SECONDS", PATIENCE_SECONDS)
        at.workers.submit([2])
        at.take(1)
        assert at.workers.take_long() == []


def test_threads_end_when_stopped() -> None:
    """Idle threads end at once, busy ones with their call."""
    gate = Gate()
    before = set(threading.enumerate())
    with desk(gate.handle, concurrency=3) as at:
        started = set(threading.enumerate()) - before
        at.workers.submit([1])
        gate.wait_for(1)
    gate.open()
    for thread in started:
        thread.join(PATIENCE_SECONDS)

    assert len(started) == 3
    assert [thread for thread in started if thread.is_alive()] == []


def test_a_quick_result_can_be_taken_while_a_slow_job_runs() -> None:
    """Nobody announces it, but whoever looks finds it."""
    gate = Gate()
    with desk(lambda job: gate.handle(job) if job else job) as made:
        made.workers.submit([0, 1])
        gate.wait_for(1)

        assert made.workers.take_results()[0] == [0]
        gate.open()
        assert made.take(1) == [1]


def test_a_batch_of_quick_jobs_wakes_the_loop_once() -> None:
    """The results that are there when nothing is left to do are taken together."""
    wakes = threading.Semaphore(0)
    begin = threading.Event()

    def handle(job: int) -> int:
        assert begin.wait(PATIENCE_SECONDS)
        return job

    workers = HandlerThreads(handle, concurrency=1, name="handler", wake=wakes.release, fail=fails)
    try:
        workers.submit([0])
        workers.submit(range(1, 50))
        begin.set()
        assert wakes.acquire(timeout=PATIENCE_SECONDS)  # of the first one, which took long
        taken = workers.take_results()[0]
        while len(taken) < 50:
            assert wakes.acquire(timeout=PATIENCE_SECONDS)
            taken += workers.take_results()[0]

        assert taken == list(range(50))
        assert not wakes.acquire(blocking=False)
    finally:
        workers.stop()


def test_a_slow_result_does_not_wait_for_the_jobs_behind_it() -> None:
    """The loop is woken up for it although another job is running."""
    gate = Gate()

    def handle(job: int) -> int:
        if job == 0:
            deadline = monotonic() + 2 * QUICK_SECONDS
            while monotonic() < deadline:
                pass
            return job
        return gate.handle(job)

    with desk(handle) as made:
        made.workers.submit([0, 1])
        gate.wait_for(1)

        assert made.take(1) == [0]
        gate.open()
        assert made.take(1) == [1]


class Contested(deque[int]):
    """Jobs of which another thread takes the last one between a look and a grasp, once."""

    has_looked = threading.Event()

    def __bool__(self) -> bool:
        """Say that there is something, although it has just been taken."""
        seen = len(self) > 0 or not self.has_looked.is_set()
        self.has_looked.set()
        return seen

    def popleft(self) -> int:
        """Take a job; whoever finds none may have looked before."""
        if not len(self):
            self.has_looked.set()
        return super().popleft()


def test_a_job_that_another_thread_was_quicker_to_take_ends_no_thread() -> None:
    """A thread that finds nothing, having seen something, waits for the next one."""
    with desk(lambda job: job) as at:
        jobs = Contested()
        at.workers._jobs = jobs  # noqa: SLF001 - the race itself
        with at.workers._available:  # noqa: SLF001
            at.workers._available.notify_all()  # noqa: SLF001
        assert jobs.has_looked.wait(PATIENCE_SECONDS)
        at.workers.submit([7])

        assert at.take(1) == [7]
        assert at.failures.empty()


def test_a_thread_that_ends_by_an_error_is_heard_of() -> None:
    """It never ends silently: a job would be in flight for ever."""

    def handle(job: int) -> int:
        raise SystemExit(job)

    with desk(handle) as at:
        at.workers.submit([7])

        assert repr(at.failures.get(timeout=PATIENCE_SECONDS)) == "SystemExit(7)"


def test_it_is_known_how_long_calls_took() -> None:
    """Each in its bucket, those that were too quick to be timed in the first one."""

    def nap(seconds_in_tenths: int) -> int:
        threading.Event().wait(seconds_in_tenths / 10)
        return seconds_in_tenths

    with desk(nap, concurrency=2) as at:
        at.workers.submit([0, 0, 2])
        at.take(3)
        seconds, buckets = at.workers.times()

    assert sum(buckets) == 3
    assert seconds >= 0.2
    assert sum(buckets[HANDLER_BOUNDS.index(0.1) + 1 :]) == 1
