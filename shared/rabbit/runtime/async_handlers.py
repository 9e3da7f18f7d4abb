"""Handlers that are coroutines: many at a time on one event loop, in one thread of its own.

Only a stage whose `work` is an `async def` imports this, since to import asyncio takes long.
"""

import asyncio
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from sys import _current_frames
from time import perf_counter
from typing import Any, Generic, TypeVar

from rabbit.errors import HandlerTimeoutError, RabbitError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.runtime.forks import end_child, keep_from_children
from rabbit.runtime.handler import Call, Handler, M, unmeant
from rabbit.runtime.handler_threads import Handlers, Job, Result
from rabbit.runtime.handler_times import QUICK_SECONDS, HandlerTimes, SlowCalls
from rabbit.runtime.health import LONG_SECONDS

#: How long a job may take to end, in seconds, once it was cancelled because its time is up.
CANCEL_SECONDS = 5.0

#: An event loop that has not turned for so many seconds stands still.
STILL_SECONDS = 1.0

#: How long the tasks that are left behind may take to end, in seconds, once they are cancelled.
LEFT_SECONDS = 1.0

T = TypeVar("T")


class EventLoop:
    """An asyncio event loop in a thread of its own; it ends by `close`, or when it is forgotten.

    Attributes:
        jobs: the tasks of the messages that are handled on it, by message.
    """

    def __init__(self) -> None:
        """Prepare; the thread is started by who needs it."""
        self.jobs: dict[Any, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def started(
        self, name: str = "event loop", log: Logger | None = None
    ) -> asyncio.AbstractEventLoop:
        """Return the loop that runs.

        Args:
            name: of its thread.
            log: told of what goes wrong on it that concerns no message; None: asyncio's own logger.

        Raises:
            OSError: there is no file descriptor left for it.
        """
        if self._loop is None:
            self._loop = loop = asyncio.new_event_loop()
            if log is not None:
                loop.set_exception_handler(lambda _, context: _tell(log, context))
            self._is_over = is_over = threading.Event()
            self._thread = threading.Thread(
                target=_run_loop, args=(loop, is_over), name=name, daemon=True
            )
            self._thread.start()
            weakref.finalize(self, _end_loop, loop, is_over).atexit = False
        return self._loop

    @property
    def ident(self) -> int | None:
        """Which thread it is."""
        return self._thread.ident if self._thread else None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and wait until it has ended; for other threads."""
        loop = self.started()
        if threading.get_ident() == self.ident:
            coroutine.close()
            msg = "this thread is the event loop's: await what it is to run"
            raise RuntimeError(msg)
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    def close(self) -> None:
        """End; what is left on it is cancelled, and has a moment to end."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            _end_loop(loop, self._is_over)
            self._thread.join(2 * LEFT_SECONDS)


def _end_loop(loop: asyncio.AbstractEventLoop, is_over: threading.Event) -> None:
    is_over.set()
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)


def _run_loop(loop: asyncio.AbstractEventLoop, is_over: threading.Event) -> None:
    """Be the loop's thread."""
    try:
        while not is_over.is_set():  # a task that stops the loop does not end it
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:  # of a task that `work` has made
                loop.call_exception_handler(
                    {"message": "a task has asked for the end of the process", "exception": error}
                )
        with suppress(Exception, SystemExit, KeyboardInterrupt):
            loop.run_until_complete(_end_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        with suppress(RuntimeError):
            loop.close()


async def _end_tasks() -> None:
    """Cancel what is left, and wait a moment for it."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=LEFT_SECONDS)


def _tell(log: Logger, context: dict[str, Any]) -> None:
    """Log what asyncio has to say of what is no message's failure: a task's, say."""
    error = context.get("exception")
    task = context.get("task") or context.get("future")
    named = {"task": task.get_name()} if isinstance(task, asyncio.Task) else {}
    log.error(
        "an error on the event loop, of no message's work",
        said=context.get("message", ""),
        **named,
        **({"exc_info": error} if error else {}),
    )


class _CurrentInTask:
    """What a task is working on, and the tasks and threads that were begun from it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._held: ContextVar[list[Call[Any] | None] | None] = ContextVar("rabbit", default=None)

    @property
    def call(self) -> Call[Any] | None:
        """The call; None outside of `work`, and when that has returned."""
        held = self._held.get()
        return None if held is None else held[0]

    @call.setter
    def call(self, call: Call[Any] | None) -> None:
        if call is not None:
            self._held.set([call])
        elif held := self._held.get():
            held[0] = None  # for whoever has inherited it, too


class AsyncHandler(Handler):
    """Runs a stage's `async def work`, and keeps the tasks apart."""

    _where = "until that has returned, in its task and in what that has begun"

    def __init__(self, *arguments: Any, **given: Any) -> None:  # noqa: ANN401 - as of a Handler
        """Run `work`; see `Handler`."""
        super().__init__(*arguments, **given)
        self._current = _CurrentInTask()
        # A task may write from several threads at a time, and no two outputs may have one id.
        self.writing = threading.RLock()
        self.event_loop = EventLoop()

    def write(self, *arguments: Any, **given: Any) -> None:  # noqa: ANN401 - as of a Handler
        """Add an output; it leaves when `work` has returned."""
        with self.writing:
            super().write(*arguments, **given)

    def run(self, message: M) -> Call[M]:
        """Handle one message on the event loop, and wait for it; see `rabbit.testing`."""
        return self.event_loop.run(self.run_async(message))

    async def run_async(self, message: M) -> Call[M]:
        """Handle one message, as `run` does for a plain function."""
        self._current.call = call = Call(message)
        try:
            returned = await self._work(self._value(message))  # type: ignore[misc] # an `async def`
            if returned is not None:
                raise unmeant(returned)  # noqa: TRY301 - a failure as any other
        except BaseException as error:  # noqa: BLE001 - that of one message must not end the loop
            if self._is_disowned:
                end_child(error)
            return Call(message, error=error)
        finally:
            with self.writing:
                self._current.call = None
        if self._is_disowned:
            end_child(None)
        return call

    def start(
        self,
        *,
        concurrency: int,
        limit: float | None,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        log: Logger,
    ) -> Handlers[M, Call[M]]:
        """Return what runs so many of these at a time; see `AsyncHandlers`."""

        def timed_out(call: Call[M]) -> Call[M]:
            error = HandlerTimeoutError(
                f"work() has not returned within HANDLER_TIMEOUT={limit:g} s for message "
                f"{call.message.id}: it was cancelled, and counts as failed"
            )
            return Call(call.message, error=error)

        return AsyncHandlers(
            self.run_async,
            self.event_loop,
            concurrency=concurrency,
            wake=wake,
            fail=fail,
            log=log,
            limit=limit,
            timed_out=timed_out,
        )

    @contextmanager
    def enter(self, made: Any) -> Iterator[None]:  # noqa: ANN401 - an asynchronous context manager
        """Have it entered and left on the event loop, by one task, for the time of a `with`."""
        loop = self.event_loop.started()
        entered: Future[None] = Future()
        leave = asyncio.Event()

        async def hold() -> None:
            async with made:
                entered.set_result(None)
                while not leave.is_set():  # `work` may cancel this, as by asyncio.all_tasks()
                    with suppress(asyncio.CancelledError):
                        await leave.wait()
                # Only where the stage has given up is one left, and cancelled: it may use this yet.
                if left := list(self.event_loop.jobs.values()):
                    await asyncio.wait(left, timeout=LEFT_SECONDS)

        holding = asyncio.run_coroutine_threadsafe(hold(), loop)
        wait([entered, holding], return_when=FIRST_COMPLETED)
        if not entered.done():
            holding.result()  # raises
        try:
            yield
        finally:
            loop.call_soon_threadsafe(leave.set)
            holding.result()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have the event loop end with the stage."""
        try:
            yield
        finally:
            self.event_loop.close()


class AsyncHandlers(Generic[Job, Result]):
    """Runs `handle` on each job, `concurrency` of them at a time, each in a task of its own.

    It is to the dispatcher what `HandlerThreads` is: jobs in, results out, and each way one wake-up
    per batch. Its methods are for the thread of the network's loop, those that begin with `_on_`
    for the event loop's.
    """

    def __init__(
        self,
        handle: Callable[[Job], Coroutine[Any, Any, Result]],
        event_loop: EventLoop,
        *,
        concurrency: int,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        log: Logger,
        limit: float | None = None,
        timed_out: Callable[[Result], Result] = lambda result: result,
    ) -> None:
        """Start the event loop.

        Args:
            handle: called on the event loop; it must not raise.
            event_loop: where.
            concurrency: the number of jobs at a time.
            wake: called there when there are results to take.
            fail: called there when something ends by an error that must not.
            log: told when the event loop stands still, and of what fails there beside the jobs.
            limit: seconds that a job may take before it is cancelled; None: as long as it likes.
            timed_out: returns what counts in place of the result of a job that was cancelled so.
        """
        self._handle = handle
        self._loop = event_loop.started("handler-loop", log)
        self._thread = event_loop.ident
        self._concurrency = concurrency
        self._wake = wake
        self._fail = fail
        self._log = log
        self._limit = limit
        self._make_timed_out = timed_out
        self._jobs: deque[Job] = deque()
        self._results: deque[Result] = deque()
        self._tasks: dict[Job, asyncio.Task[None]] = event_loop.jobs
        self._since: dict[Job, float] = {}  # when what is running was started; the oldest first
        self._submitted = 0
        self._seconds = self._told = 0.0
        self._slow = SlowCalls()
        self._ended = 0  # calls whose result has been taken
        self._is_starting = self._is_announcing = self._woken = self._stopped = False
        self._step: tuple[Job, float] | None = None  # what holds the event loop, and since when
        self._long: deque[Job] = deque()
        self._asked: float | None = None  # when the event loop was asked whether it turns
        self._is_told_still = False
        self._cancelled: dict[Job, float] = {}  # when they were, for their time was up
        self._given_up: set[Job] = set()
        self._is_child = False
        keep_from_children(self)

    @property
    def busy(self) -> int:
        """Count the jobs whose result has not been taken."""
        return self._submitted

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs for the event loop."""
        jobs = list(jobs)
        self._submitted += len(jobs)
        self._jobs.extend(jobs)
        if not self._is_starting:
            self._is_starting = True
            self._soon(self._on_jobs)

    def take_results(self) -> tuple[list[Result], float]:
        """Return what has been finished since the last call, and how many seconds it took."""
        self._woken = False
        results = [self._results.popleft() for _ in range(len(self._results))]
        self._submitted -= len(results)
        self._ended += len(results)
        before, self._told = self._told, self._seconds
        return results, self._told - before

    def times(self) -> HandlerTimes:
        """Return how long calls took until now, what they awaited included."""
        return HandlerTimes.of(self._seconds, self._ended, [self._slow])

    def take_unstarted(self) -> list[Job]:
        """Take back the jobs that have not been started."""
        unstarted: list[Job] = []
        with suppress(IndexError):  # the event loop may take them, too
            while True:
                unstarted.append(self._jobs.popleft())
        self._submitted -= len(unstarted)
        return unstarted

    def longest_running(self) -> float:
        """Return for how many seconds the oldest job has been running; 0.0 if there is none."""
        since = list(self._since.values())
        return perf_counter() - min(since) if since else 0.0

    def take_long(self) -> list[Job]:
        """Return the jobs that hold the event loop for long by now, or have since this was called.

        One that awaits something holds nothing, however long it takes.
        """
        step = self._step
        running = [step[0]] if step and perf_counter() - step[1] > LONG_SECONDS else []
        ended = [self._long.popleft() for _ in range(len(self._long))]
        return list(dict.fromkeys([*running, *ended]))

    def overdue(self) -> list[Job]:
        """Have jobs cancelled whose time is up; return those that do not end by it, once.

        Tell, too, when the event loop stands still: then nothing else on it gets on.
        """
        now = perf_counter()
        stuck: list[Job] = []
        if self._asked is not None:
            stuck = self._look_at_still(now, now - self._asked)
        elif self._submitted:
            late = [job for job in self._late(now) if job not in self._cancelled]
            self._asked = now
            self._soon(self._on_asked, now, late)
            since = list(self._cancelled.items())
            stuck = [job for job, at in since if now - at > CANCEL_SECONDS]
        stuck = [job for job in stuck if job in self._since and job not in self._given_up]
        self._given_up.update(stuck)
        return stuck

    def stop(self) -> None:
        """Start nothing more, and cancel what runs: nobody waits for it any more."""
        self._stopped = True
        self._soon(self._on_stop)

    @property
    def is_leaving(self) -> bool:
        """Whether there is something to wait for after `stop`: no."""
        return False

    def disown(self) -> None:
        """Have a child that was forked on the event loop run no task that is its parent's."""
        self._is_child = threading.get_ident() == self._thread

    def _soon(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the event loop call something soon."""
        with suppress(RuntimeError):  # it is closed: the stage has given up
            self._loop.call_soon_threadsafe(function, *arguments)

    def _late(self, now: float) -> list[Job]:
        if self._limit is None:
            return []
        latest = now - self._limit
        return [job for job, since in list(self._since.items()) if since < latest]

    def _look_at_still(self, now: float, seconds: float) -> list[Job]:
        """Tell of an event loop that stands still; return the job that nothing can end, if any."""
        step = self._step
        if seconds > STILL_SECONDS and not self._is_told_still:
            self._is_told_still = True
            job = step[0] if step else None
            named = {"message_id": job.id} if isinstance(job, Message) else {}
            self._log.warning(
                "the event loop stands still: no other message gets on",
                **named,
                seconds=round(seconds, 1),
                at=_place(self._thread),
                advice="await what takes long, or let a thread do it: await asyncio.to_thread(...)",
            )
        if seconds <= CANCEL_SECONDS:
            return []
        late = self._late(now)
        # What stands in its way is at fault; the others are late for want of the loop.
        return [step[0]] if step and step[0] in late else late[:1]

    def _on_jobs(self) -> None:
        self._is_starting = False
        self._on_room()

    def _on_room(self) -> None:
        """Start as many jobs as there is room for."""
        try:
            while len(self._tasks) < self._concurrency and not self._stopped:
                try:
                    job = self._jobs.popleft()
                except IndexError:
                    return
                # A context of its own: what one message has set there is no other's business.
                self._tasks[job] = self._loop.create_task(self._work(job), context=Context())
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for its result
            self._fail(error)

    async def _work(self, job: Job) -> None:
        """Be the task of one job."""
        try:
            self._since[job] = began = perf_counter()
            result: Result = await self._steps(self._handle(job), job)
            if self._cancelled and self._cancelled.pop(job, None) is not None:
                result = self._make_timed_out(result)
            self._results.append(result)
            del self._since[job], self._tasks[job]
            seconds = perf_counter() - began
            self._seconds += seconds
            if seconds > QUICK_SECONDS:
                self._slow.add(seconds)
            if not (self._woken or self._is_announcing):
                self._is_announcing = True
                self._loop.call_soon(self._on_results)
        except BaseException as error:  # noqa: BLE001 - likewise
            self._fail(error)
        if self._jobs:
            self._on_room()

    def _on_stop(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    def _on_results(self) -> None:
        """Have the results taken that this turn of the event loop has brought."""
        self._is_announcing = False
        if not (self._woken or self._stopped):  # stopped: given up, and the loop may be closed
            self._woken = True
            self._wake()

    @types.coroutine
    def _steps(
        self, coroutine: Coroutine[Any, Any, Result], job: Job
    ) -> Generator[Any, Any, Result]:
        """Run a coroutine as `await` does, and note what holds the event loop, and for how long."""
        thrown: BaseException | None = None
        while True:
            began = perf_counter()
            self._step = job, began
            try:
                awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
            except StopIteration as stop:
                returned: Result = stop.value
                return returned
            finally:
                thrown = None
                self._step = None
                if perf_counter() - began > LONG_SECONDS:
                    self._long.append(job)
            if self._is_child:
                end_child(RabbitError("a child that an async def work has forked cannot await"))
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001 - for the coroutine
                thrown = error

    def _on_asked(self, asked: float, late: list[Job]) -> None:
        """Answer, and cancel what is late; not if it could not have been in time.

        When the loop has stood still, that one's time may have run out for nothing of its own: what
        comes of the next question counts.
        """
        now = perf_counter()
        self._asked = None
        self._is_told_still = False
        self._start_again()
        if now - asked > LONG_SECONDS:
            return
        for job in late:
            task = self._tasks.get(job)
            if task is not None:
                self._cancelled[job] = now
                task.cancel()

    def _start_again(self) -> None:
        """Start jobs anew that others have cancelled before their first step: nothing of them ran.

        Only such a task is cancelled in the end: `_work` has seen to the job of any other.
        """
        for job in [job for job, task in self._tasks.items() if task.cancelled()]:
            del self._tasks[job]
            self._jobs.appendleft(job)
        self._on_room()


def _place(ident: int | None) -> str:
    """Return where a thread is in its code."""
    frame = _current_frames().get(ident or 0)
    if frame is None:
        return "unknown"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"
