"""Messages handled many at a time: how a batch comes together, and what becomes of one that fails.

A batch that fails is taken one by one, so that one bad message harms no other: it may be handled
again, like whatever comes again.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count, repeat
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from rabbit.amqp.properties import HEADERS_BIT
from rabbit.errors import Reject, Retry
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.messaging.retry import describe
from rabbit.runtime.forks import end_child
from rabbit.runtime.handler import Call, Handler, M, unmeant
from rabbit.runtime.handler_threads import HandlerThreads
from rabbit.runtime.handler_times import QUICK_SECONDS, HandlerTimes
from rabbit.runtime.health import LONG_SECONDS


class BatchSize(NamedTuple):
    """When a batch is complete.

    Attributes:
        messages: when it has so many.
        seconds: or when so long ago its first message has come; 0: with what is there.
    """

    messages: int
    seconds: float


class _Batch(threading.local):
    """What one handler thread is working on."""

    messages: Sequence[Message] = ()


class BatchHandler(Handler):
    """Runs a stage's `work` on many messages at once, in any thread.

    Attributes:
        size: when a batch is complete.
    """

    def __init__(self, *arguments: Any, size: BatchSize, log: Logger, **given: Any) -> None:  # noqa: ANN401 - a Handler's
        """Run `work` on lists of messages.

        Args:
            arguments: as a `Handler` takes them.
            size: when a batch is complete.
            log: told of a batch that fails.
            given: as a `Handler` takes them.
        """
        super().__init__(*arguments, **given)
        self.size = size
        self.batch_size = size.messages
        self._log = log
        self._batch = _Batch()

    @property
    def messages(self) -> Sequence[Message]:
        """What this thread is handling. Raises RuntimeError outside of `work`."""
        if not self._batch.messages:
            msg = "there are messages only within work(), in the thread that work() was called in"
            raise RuntimeError(msg)
        return self._batch.messages

    @property
    def message(self) -> Message:
        """Raise RuntimeError: there are several."""
        msg = "a BatchConsumer has self.messages, in the order of what work() is called with"
        raise RuntimeError(msg)

    def log_fields(self) -> dict[str, object]:
        """Return what tells what this thread is handling; of many messages, how many."""
        messages = self._batch.messages
        if len(messages) == 1:
            (message,) = messages
            return {"message_id": message.id, "correlation_id": message.correlation_id}
        return {"messages": len(messages)} if messages else {}

    def run(self, message: M) -> Call[M]:
        """Handle one message: a batch of one."""
        ((call,), _) = self.run_batch([message])
        return call

    def run_batch(self, messages: Sequence[M]) -> tuple[list[Call[M]], list[M]]:
        """Handle many messages with one call of `work`.

        What is too large, or cannot be decoded, `work` never sees: that fails alone.

        Returns:
            the calls that have ended, and the messages to be handled one by one, each as a batch of
            its own: `work` has raised, and it is not known which of them it was about.
        """
        calls: list[Call[M]] = []
        try:
            values = [self._value(message) for message in messages]
        except BaseException:  # noqa: BLE001 - as in `Handler.run`
            messages, values, calls = self._readable(messages)
        if messages:
            error = self._call_work(messages, values)
            if error is not None and len(messages) > 1:
                self.tell_failed(error, len(messages))
                return calls, list(messages)
            calls += [Call(message, error=error) for message in messages]
        return calls, []

    def start(
        self,
        *,
        concurrency: int,
        limit: float | None,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        log: Logger,  # noqa: ARG002 - it has one
    ) -> "BatchThreads[M]":
        """Return what runs so many batches at a time; see `BatchThreads`."""
        return BatchThreads(self, limit=limit, concurrency=concurrency, wake=wake, fail=fail)

    def disown(self) -> None:
        """Have a child that `work` has forked end with `work`: what follows is its parent's."""
        self._is_disowned = bool(self._batch.messages)

    def _call_work(self, messages: Sequence[Message], values: list[Any]) -> BaseException | None:
        """Call `work`, return what it has raised."""
        failed: BaseException | None = None
        self._batch.messages = tuple(messages)
        try:
            returned: object = self._work(values)
            if returned is not None:
                raise unmeant(returned)  # noqa: TRY301 - a failure as any other
        except BaseException as error:  # noqa: BLE001 - sys.exit() must not end just this thread
            failed = error
        finally:
            self._batch.messages = ()
        if self._is_disowned:
            end_child(failed)
        return failed

    def _readable(self, messages: Sequence[M]) -> tuple[list[M], list[Any], list[Call[M]]]:
        """Return the messages that can be read, what they are, and the calls of the others."""
        readable: list[M] = []
        values: list[Any] = []
        failed: list[Call[M]] = []
        for message in messages:
            try:
                values.append(self._value(message))
                readable.append(message)
            except BaseException as error:  # noqa: BLE001 - as in `Handler.run`
                failed.append(Call(message, error=error))
        return readable, values, failed

    def tell_failed(self, error: BaseException, count: int) -> None:
        """Tell of a batch that has failed; those of its messages that do so alone are told, too."""
        trace = not isinstance(error, Reject | Retry)
        self._log.warning(
            "batch failed, its messages are handled one by one",
            messages=count,
            **({"exc_info": error} if trace else {"reason": describe(error)}),
        )


class BatchThreads(HandlerThreads[M, Call[M]]):
    """Runs a `BatchHandler` in threads; each takes a batch when it is complete.

    A batch is complete by its size, by its age, or when nothing more can come.
    """

    def __init__(
        self,
        handler: BatchHandler,
        *,
        limit: float | None,
        concurrency: int,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Start the threads.

        Args:
            handler: runs in them.
            limit: how many seconds a call of `work` may take; None: any.
            concurrency: as for `HandlerThreads`, and so the others.
            wake: called when there are results to take.
            fail: called in a thread that ends by an error.
        """
        self._handler = handler
        self._most, self._seconds_to_wait = handler.size
        self._limit = limit
        self._arrived: deque[float] = deque()  # when each of the jobs did
        self._alone: deque[M] = deque()  # of batches that have failed
        self._batches: dict[int, tuple[float, list[M]]] = {}  # what runs, and since when
        # The same, until it is overdue, by a number that no other batch has: see `overdue`.
        self._timed: dict[int, tuple[float, list[M]]] = {}
        self._numbers = count()
        self._nothing_comes = False
        self._calls_ended = [0] * concurrency
        super().__init__(
            handler.run,
            concurrency=concurrency,
            name="handler",
            wake=wake,
            fail=fail,
            around=handler.thread_resources,
        )

    def submit(self, jobs: Iterable[M]) -> None:
        """Queue messages for the threads."""
        jobs = list(jobs)
        self._submitted += len(jobs)
        with self._available:
            is_first = not self._jobs
            self._jobs.extend(jobs)
            self._arrived.extend(repeat(monotonic(), len(jobs)))
            if is_first or len(self._jobs) >= self._most:  # else a thread waits for its time
                self._available.notify(1 + len(self._jobs) // self._most)

    def take_unstarted(self) -> list[M]:
        """Take back what is in no call of `work`, in the order in which it came."""
        with self._available:
            unstarted = [*self._alone, *self._jobs]
            self._alone.clear()
            self._jobs.clear()
            self._arrived.clear()
        self._submitted -= len(unstarted)
        return unstarted

    def expect_more(self, *, more: bool) -> None:
        """Say whether more can come before something of what is there is settled."""
        self._nothing_comes = not more
        if self._nothing_comes and self._jobs:
            with self._available:
                self._available.notify()

    def times(self) -> HandlerTimes:
        """Return how long calls of `work` took until now, each for a batch."""
        return HandlerTimes.of(sum(self._seconds), sum(self._calls_ended), self._slow)

    def longest_running(self) -> float:
        """Return for how many seconds the oldest call of `work` has been running; 0.0 if none."""
        started = [since for since, _ in list(self._batches.values())]
        return perf_counter() - min(started) if started else 0.0

    def overdue(self) -> list[M]:
        """Return the messages whose call of `work` has taken too long, each of them once."""
        if self._limit is None:
            return []
        latest = perf_counter() - self._limit
        late = [number for number, (since, _) in list(self._timed.items()) if since < latest]
        # A thread that ends meanwhile has removed its own: then its result counts.
        taken = [self._timed.pop(number, (0.0, []))[1] for number in late]
        return [message for batch in taken for message in batch]

    def _is_running(self, slot: int) -> bool:
        return slot in self._batches

    def _calls(self) -> list[tuple[M, float]]:
        running = list(self._batches.values())
        return [(message, since) for since, batch in running for message in batch]

    def _work(self, slot: int) -> None:
        while batch := self._take():
            began, number = perf_counter(), next(self._numbers)
            self._timed[number] = self._batches[slot] = began, batch
            calls, alone = self._handler.run_batch(batch)
            is_late = self._timed.pop(number, None) is None
            del self._batches[slot]
            seconds = perf_counter() - began
            self._seconds[slot] += seconds
            self._calls_ended[slot] += 1
            if seconds > QUICK_SECONDS:
                self._slow[slot].add(seconds)
            if seconds > LONG_SECONDS:
                self._long.extend(batch)
            if is_late:  # counted as failed by now; nobody waits for it
                calls += [Call(message) for message in alone]
            elif alone:
                with self._available:
                    self._alone.extend(alone)
                    self._available.notify(len(alone) - 1)
            del batch, alone
            self._results.extend(calls)
            if calls and not self._woken:
                self._woken = True
                self._wake()
            del calls

    def _take(self) -> list[M]:
        """Wait for a batch; an empty one means stop."""
        with self._available:
            while True:
                if self._alone:
                    return [self._alone.popleft()]
                wait = self._wait_for_more()
                if self._jobs and (wait is None or wait <= 0):
                    return self._pop()
                if self._stopped and not self._jobs:
                    return []
                self._available.wait(wait)

    def _wait_for_more(self) -> float | None:
        """Return for how many seconds a batch is to wait for more; None: for no certain time."""
        if not self._jobs:
            return None
        if len(self._jobs) >= self._most or self._stopped:
            return 0.0
        # What has ended and is not settled yet makes room for more.
        if self._nothing_comes and not self._results:
            return 0.0
        return self._arrived[0] + self._seconds_to_wait - monotonic()

    def _pop(self) -> list[M]:
        """Take a batch; what is left is for another thread, which may have to be told."""
        count = min(len(self._jobs), self._most)
        batch = [self._jobs.popleft() for _ in range(count)]
        for _ in range(count):
            self._arrived.popleft()
        if self._limit is not None:
            batch = self._apart(batch)
        if self._jobs:
            self._available.notify()
        return batch

    def _apart(self, batch: list[M]) -> list[M]:
        """Have what has failed before handled one by one: it may be what took too long.

        A batch that takes too long fails as a whole, since nobody knows what it was about. Taken
        together again, all of it would be given up.
        """
        again = [message for message in batch if _has_failed(message)]
        if not again or len(batch) == 1:
            return batch
        self._alone.extend(again)
        self._available.notify(len(again))
        rest = [message for message in batch if not _has_failed(message)]
        return rest or [self._alone.popleft()]


def _has_failed(message: Message) -> bool:
    if not message.properties[0] & HEADERS_BIT:
        return False
    try:
        return message.failures > 0
    except ValueError:  # UndecodableError
        return False
