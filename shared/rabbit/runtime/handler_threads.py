"""Handler threads: jobs in, results out, one wake-up of the loop per batch."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from time import monotonic, perf_counter
from typing import Generic, Protocol, TypeVar

from rabbit.runtime.handler_times import QUICK_SECONDS, HandlerTimes, SlowCalls
from rabbit.runtime.health import LONG_SECONDS

Job = TypeVar("Job")
Result = TypeVar("Result")


class Handlers(Protocol[Job, Result]):
    """What runs jobs, so many at a time, and starts them in order: threads, or an event loop.

    Its methods are for the loop's thread.
    """

    @property
    def busy(self) -> int:
        """Count the jobs whose result has not been taken."""

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs."""

    def take_results(self) -> tuple[list[Result], float]:
        """Return what has been finished since the last call, and how many seconds it took."""

    def times(self) -> HandlerTimes:
        """Return how long calls took until now."""

    def take_unstarted(self) -> list[Job]:
        """Take back the jobs that have not been started."""

    def longest_running(self) -> float:
        """Return for how many seconds the oldest job has been running; 0.0 if there is none."""

    def take_long(self) -> list[Job]:
        """Return the jobs that take long by now, or have ended so since this was called."""

    def overdue(self) -> list[Job]:
        """Return the jobs whose time is up and which nothing can end, each of them once.

        It is to be called now and then.
        """

    def stop(self) -> None:
        """Start nothing more, and end when what runs has ended."""

    @property
    def is_leaving(self) -> bool:
        """Whether something that was stopped is closing what it has opened."""


class HandlerThreads(Generic[Job, Result]):
    """Runs `handle` on each job in one of `concurrency` threads, starting them in order.

    Its methods are for the loop's thread. The threads are daemons: a handler that never returns
    must not keep a process from ending that has given up waiting for it.
    """

    def __init__(
        self,
        handle: Callable[[Job], Result],
        *,
        concurrency: int,
        name: str,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        limit: float | None = None,
        around: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        """Start the threads.

        Args:
            handle: called in a handler thread; it must not raise.
            concurrency: the number of threads.
            name: what the threads are called.
            wake: called in a handler thread when there are results to take.
            fail: called in a handler thread that ends by an error; it takes no more jobs.
            limit: seconds that a job may take; None: as long as it likes.
            around: returns what each thread is to enter before its first job and to leave after its
                last one; None: nothing.
        """
        self._watchdog = HandlerWatchdog(handle, limit) if limit else None
        self._handle = self._watchdog.handle if self._watchdog else handle
        self._wake = wake
        self._fail = fail
        self._jobs: deque[Job] = deque()
        self._results: deque[Result] = deque()
        self._seconds = [0.0] * concurrency  # of work, since the threads started
        self._told = 0.0
        self._slow = [SlowCalls() for _ in range(concurrency)]
        self._ended = 0  # calls whose result has been taken
        self._submitted = 0
        self._running: list[Job | None] = [None] * concurrency
        self._started = [0.0] * concurrency  # when what is running was
        self._long: deque[Job] = deque()
        self._woken = False
        self._stopped = False
        self._around = around
        self._within: set[int] = set()  # the threads that have entered what is around them
        self._available = threading.Condition()
        for slot in range(concurrency):
            threading.Thread(
                target=self._run, args=(slot,), name=f"{name}-{slot}", daemon=True
            ).start()

    @property
    def busy(self) -> int:
        """Count the jobs whose result has not been taken."""
        return self._submitted

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs for the threads."""
        jobs = list(jobs)
        self._submitted += len(jobs)
        with self._available:
            self._jobs.extend(jobs)
            self._available.notify(len(jobs))

    def take_results(self) -> tuple[list[Result], float]:
        """Return what has been finished since the last call, and how many seconds it took."""
        self._woken = False
        results = [self._results.popleft() for _ in range(len(self._results))]
        self._submitted -= len(results)
        self._ended += len(results)
        before, self._told = self._told, sum(self._seconds)
        return results, self._told - before

    def times(self) -> HandlerTimes:
        """Return how long calls took until now."""
        return HandlerTimes.of(sum(self._seconds), self._ended, self._slow)

    def take_unstarted(self) -> list[Job]:
        """Take back the jobs that no thread has started."""
        unstarted: list[Job] = []
        while self._jobs:
            try:
                unstarted.append(self._jobs.popleft())
            except IndexError:  # a thread was faster
                break
        self._submitted -= len(unstarted)
        return unstarted

    def longest_running(self) -> float:
        """Return for how many seconds the oldest handler call has been running; 0.0 if none."""
        started = [since for _, since in self._calls()]
        return perf_counter() - min(started) if started else 0.0

    def take_long(self) -> list[Job]:
        """Return the jobs whose call takes long by now, or has ended so since this was called."""
        latest = perf_counter() - LONG_SECONDS
        running = [job for job, since in self._calls() if since < latest]
        ended = [self._long.popleft() for _ in range(len(self._long))]
        return list(dict.fromkeys([*running, *ended]))

    def overdue(self) -> list[Job]:
        """Return the jobs whose time is up, each of them once: a thread cannot be ended."""
        return self._watchdog.overdue() if self._watchdog else []

    def stop(self) -> None:
        """Let the threads end when they have finished what they are doing."""
        with self._available:
            self._stopped = True
            self._available.notify_all()

    @property
    def is_leaving(self) -> bool:
        """Whether a thread that has nothing to do any more is leaving what is around it."""
        return any(not self._is_running(slot) for slot in list(self._within))

    def _is_running(self, slot: int) -> bool:
        return self._running[slot] is not None

    def _calls(self) -> list[tuple[Job, float]]:
        """Return the jobs that are running, and since when."""
        calls = zip(self._running, self._started, strict=True)
        return [(job, since) for job, since in calls if job is not None]

    def _run(self, slot: int) -> None:
        """Be a handler thread; one that dies is heard of."""
        try:
            if self._around is None:
                self._work(slot)
            elif self._is_needed():
                with self._around():
                    self._within.add(slot)
                    self._work(slot)
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for its result
            self._fail(error)
        if self._around is not None:
            self._within.discard(slot)
            self._wake()

    def _is_needed(self) -> bool:
        """Wait until there is a job, and leave it where it is; False means stop."""
        with self._available:
            while not (self._jobs or self._stopped):
                self._available.wait()
            return bool(self._jobs)

    def _work(self, slot: int) -> None:
        job = self._wait()
        began = perf_counter()
        while job is not None:
            self._started[slot], self._running[slot] = began, job
            result = self._handle(job)
            ended = perf_counter()
            seconds = ended - began
            self._seconds[slot] += seconds
            self._results.append(result)
            del result  # this thread may wait for long, with another large message or with none
            # The result of a quick one waits for those of the jobs behind it.
            if seconds > QUICK_SECONDS or not self._jobs:
                self._announce(slot, job, seconds)
            try:
                job, began = self._jobs.popleft(), ended
            except IndexError:
                self._running[slot] = job = None
                job, began = self._wait(), perf_counter()

    def _announce(self, slot: int, job: Job, seconds: float) -> None:
        """Have the results taken."""
        if seconds > QUICK_SECONDS:
            self._slow[slot].add(seconds)
        if seconds > LONG_SECONDS:
            self._long.append(job)
        self._running[slot] = None
        if not self._woken:
            self._woken = True
            self._wake()

    def _wait(self) -> Job | None:
        """Wait for a job; None means stop."""
        with self._available:
            while True:
                with suppress(IndexError):  # `_run` and `take_unstarted` take without the lock
                    return self._jobs.popleft()
                if self._stopped:
                    return None
                self._available.wait()


class HandlerWatchdog(Generic[Job, Result]):
    """Times each call of a handler, in whatever thread, and looks at those that do not end."""

    def __init__(self, handle: Callable[[Job], Result], limit: float) -> None:
        """Allow each call of `handle` so many seconds."""
        self._handle = handle
        self._limit = limit
        self._since: dict[Job, float] = {}

    def handle(self, job: Job) -> Result:
        """Run `work` on one message, while the watchdog knows since when."""
        self._since[job] = monotonic()
        try:
            return self._handle(job)
        finally:
            self._since.pop(job, None)

    def overdue(self) -> list[Job]:
        """Return the jobs whose time is up, each of them once."""
        latest = monotonic() - self._limit
        # A thread that ends meanwhile has removed its own: then its result counts.
        late = [job for job, since in list(self._since.items()) if since < latest]
        return [job for job in late if self._since.pop(job, None) is not None]
