"""A loop in a thread of its own, for callers that wait."""

import atexit
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic

from rabbit.amqp.connection import Connection
from rabbit.amqp.loop import check_may_wait, may_wait
from rabbit.amqp.network import Network
from rabbit.amqp.outage_log import OutageLog
from rabbit.errors import BrokerUnavailableError, ClosedError, RabbitError
from rabbit.logs import Logger
from rabbit.settings import Settings

#: How long closing in order may take before the connections are simply dropped.
CLOSE_SECONDS = 5.0

#: How much longer the thread may take to end.
_MARGIN_SECONDS = 1.0

#: No caller waits longer at a time, in seconds. A signal that comes just before a wait, or to
#: another thread, does not end it, and Python runs the signal's handler only afterwards.
WAIT_SECONDS = 2.0


class LoopThread:
    """Owns the connections of one caller; they are closed in order at the latest at exit.

    Its thread knows nothing of that caller, who may so be forgotten.
    """

    def __init__(self, settings: Settings, log: Logger, on_turn: Callable[[], None]) -> None:
        """Start the thread; nothing is connected yet.

        Args:
            settings: where to connect.
            log: told when the broker goes away and comes back.
            on_turn: called on the loop's thread at the end of each turn.

        Raises:
            RabbitError: there is no file descriptor or no thread left for it.
        """
        self._settings = settings
        self._log = log
        self._ended: RabbitError | None = None
        self._waiting: list[Callable[[RabbitError], object]] = []
        self._is_closing = False
        try:
            self._network = Network(settings, log, on_turn)
            self._thread = threading.Thread(target=self._run, name="rabbit", daemon=True)
            try:
                self._thread.start()
            except BaseException:  # Ctrl-C, say: nobody gets this, to close it
                self.begin_to_close()
                raise
        except (OSError, RuntimeError) as error:
            msg = (
                f"no connection can be made in this process: {error}. Is there a limit (ulimit), "
                "or does each call make a MessageQueue of its own? Keep one"
            )
            raise RabbitError(msg) from error
        _living.add(self)

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended: closed, failed, or left behind in the parent process."""
        return self._ended is not None

    @property
    def outage_log(self) -> OutageLog:
        """What is wrong with the broker."""
        return self._network.outage_log

    @property
    def heartbeat(self) -> float:
        """Seconds between heartbeats."""
        return self._settings.rabbitmq_heartbeat

    def connection(self, name: str) -> Connection:
        """Return a new connection; its users are added before `call(connection.connect)`."""
        return self._network.connection(f"{self._settings.replica} {name}")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Run `function` on the loop's thread, soon.

        Raises:
            RabbitError: the loop has ended, and why.
        """
        self._check()
        self._network.loop.call(function, *arguments)

    def begin(self, task: Iterator[None]) -> None:
        """Have the loop's thread go through a step task, a step a turn. Raises as `call`."""
        self.call(self._network.begin, task)

    @contextmanager
    def waking(self, fail: Callable[[RabbitError], object]) -> Iterator[None]:
        """Have `fail` called if the loop ends meanwhile: whoever waits for it is to be woken.

        Raises:
            RabbitError: it has ended already, and why; or a loop runs in this thread.
        """
        check_may_wait()
        self._waiting.append(fail)  # before the look: `_end` does it the other way round
        try:
            self._check()
            yield
        finally:
            with suppress(ValueError):
                self._waiting.remove(fail)

    def see_through(self, task: Iterator[None], timeout: float | None = CLOSE_SECONDS) -> bool:
        """Have the loop's thread go through a step task; wait for its end.

        Args:
            task: yields while it has to wait for something.
            timeout: seconds to wait; None: for ever.

        Returns:
            whether the task has ended in time.

        Raises:
            RabbitError: the loop has ended before it, and why; or one runs in this thread.
        """
        over: SimpleQueue[bool] = SimpleQueue()  # a signal's handler may close us meanwhile

        def whole() -> Iterator[None]:
            yield from task
            over.put(True)

        with self.waking(lambda _error: over.put(False)):
            self.begin(whole())
            is_done = _next(over, timeout)
        if is_done is False:
            self._check()
        return is_done is not None

    def wait(self, task: Iterator[None], timeout: float, missing: str) -> None:
        """See a step task through that waits for the broker.

        Args:
            task: as above.
            timeout: seconds to wait.
            missing: what there is not, when it has not ended by then.

        Raises:
            BrokerUnavailableError: it has not; with what is known of why.
        """
        if not self.see_through(task, timeout):
            why = self.outage_log.reason or "it takes connections, and does not answer"
            raise BrokerUnavailableError(f"{missing} within {timeout:g} s: {why}")

    def disconnect(self, connections: list[Connection]) -> Iterator[None]:
        """Close connections in order: a step task for `see_through`."""
        yield from self._network.disconnect(connections)

    def close(self, task: Iterable[None] = ()) -> None:
        """Go through a last step task, close all connections in order, and end the thread.

        It takes no longer than some seconds, and raises nothing: what is not closed in order by
        then is dropped, and the broker gives what was not acked out again. In the thread of a loop
        it does not wait, as `begin_to_close`.
        """
        self.begin_to_close(task)
        self._join(CLOSE_SECONDS + _MARGIN_SECONDS)

    def begin_to_close(self, task: Iterable[None] = ()) -> None:
        """Do the same without waiting for it: safe anywhere, in a finaliser too."""
        if self._ended is None:
            self._network.loop.call(self._leave, task)

    def _join(self, seconds: float) -> None:
        if self._ended is None and may_wait():
            self._thread.join(max(0.0, seconds))
            self._end(None)

    def _leave(self, task: Iterable[None]) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._network.loop.call_later(CLOSE_SECONDS, self._network.loop.stop)
            self._network.begin(self._last(task))

    def _last(self, task: Iterable[None]) -> Iterator[None]:
        yield from task
        yield from self._network.disconnect(self._network.connections)
        self._network.loop.stop()

    def _run(self) -> None:
        """Be the loop's thread. A loop that has ended runs nothing any more: tell who waits."""
        cause: BaseException | None = None
        try:
            self._network.loop.start()
        except BaseException as error:  # noqa: BLE001 - told to everybody who waits
            cause = error
        if cause is not None:  # first: who is told may end the process
            with suppress(Exception):  # a log that cannot be written
                self._log.error("the connection's thread has failed", exc_info=cause)
        self._end(cause)
        _living.discard(self)
        with suppress(Exception):
            self._network.loop.close()
        self._network.drop()

    def _end(self, cause: BaseException | None) -> None:
        if self._ended is not None:
            return
        if cause is None:
            self._ended = ClosedError()
        else:
            self._ended = RabbitError(f"the connection's thread has failed: {cause!r}")
            self._ended.__cause__ = cause
        for fail in list(self._waiting):
            fail(self._reason(self._ended))

    def _check(self) -> None:
        if self._ended is not None:
            raise self._reason(self._ended)

    @staticmethod
    def _reason(ended: RabbitError) -> RabbitError:
        """Return an error of its own for each thread that it is raised in."""
        error = type(ended)(str(ended))
        error.__cause__ = ended.__cause__
        return error

    def _disown(self) -> None:
        """Leave all to the parent process, after a fork: its thread and its connections."""
        self._ended = RabbitError("this connection is the parent process's: nothing was done")
        self._network.drop()  # this process's copies of its sockets only


def _next(told: SimpleQueue[bool], timeout: float | None) -> bool | None:
    """Wait for what is told; None: nothing within so many seconds."""
    deadline = inf if timeout is None else monotonic() + timeout
    while (left := deadline - monotonic()) > 0:
        with suppress(Empty):
            return told.get(timeout=min(left, WAIT_SECONDS))
    return None


_living: set[LoopThread] = set()


def _close_all() -> None:
    """Close what is open still, all at once, at exit."""
    living = list(_living)
    for loop_thread in living:
        loop_thread.begin_to_close()
    deadline = monotonic() + CLOSE_SECONDS + _MARGIN_SECONDS
    for loop_thread in living:
        loop_thread._join(deadline - monotonic())  # noqa: SLF001 - of this file


def _disown_all() -> None:
    """Leave all to the parent process, in a child that was forked: there are no threads here."""
    for loop_thread in list(_living):
        loop_thread._disown()  # noqa: SLF001 - of this file
    _living.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_disown_all)
