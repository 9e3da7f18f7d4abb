"""Where the messages of a source come from: its own work, as fast as they are confirmed."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, ClassVar

from rabbit.errors import Halted, PublishError, TooLargeError
from rabbit.logs import Logger
from rabbit.messaging.keyed_publisher import KeyedPublisher
from rabbit.messaging.publisher import Publication, Publisher
from rabbit.output import Extras, Output, first_output
from rabbit.payloads import encoded
from rabbit.runtime.forks import end_child, keep_from_children
from rabbit.runtime.handler import unmeant
from rabbit.runtime.health import WatchedCall
from rabbit.runtime.runner import Connections, Runner
from rabbit.settings import Settings
from rabbit.topology import Edge

#: `write` waits while so many messages are not confirmed.
WINDOW = 1000

#: How long a halt waits for work that calls neither `write` nor `wait`, in seconds: nothing can
#: tell it of the halt, and it may be reading from something that brings nothing more.
PATIENCE_SECONDS = 2.0


class Source(Runner):
    """Runs a source's work in a thread of its own and publishes what it writes.

    Attributes:
        is_complete: the work has returned by itself.
    """

    publisher_class: ClassVar[type[Publisher[Any]]] = Publisher
    keyed_publisher_class: ClassVar[type[Publisher[Any]]] = KeyedPublisher

    def __init__(
        self,
        connections: Connections,
        edge: Edge,
        settings: Settings,
        work: Callable[[], object],
        log: Logger,
    ) -> None:
        """Run `work`, whose writes wait for room.

        Args:
            connections: one of them is to publish on.
            edge: where to.
            settings: PUBLISH_TIMEOUT.
            work: the source's work; it calls `write`.
            log: told when outputs are not taken.
        """
        super().__init__()
        self._loop = connections.loop
        self._work: Callable[[], object] = work
        self._edge = edge
        self._publish_timeout = settings.publish_timeout
        kind = self.keyed_publisher_class if edge.is_ordered else self.publisher_class
        self._publisher: Publisher[None] = kind(
            connections.publishing,
            edge,
            log,
            on_confirmed=self._count,
            on_nacked=self._nacked,
            on_failed=self.fail,
        )
        self.publishers = [self._publisher]
        self._outbox: deque[Output] = deque()
        self._queue: Callable[[Output], None] = self._outbox.append
        self._written = 0
        self._last_progress = monotonic()
        self._room = threading.Condition()
        self._woken = False
        self._is_held = self._is_to_pause = self._halting = False
        self._has_noticed = False  # Halted was raised
        self._returned = False
        self.is_complete = False
        self._has_given_up = False
        self._is_disowned = False
        self._error: BaseException | None = None
        keep_from_children(self)
        self._call = WatchedCall()
        self._thread: threading.Thread | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the work has begun."""
        return self._thread is not None

    @property
    def in_flight(self) -> int:
        """Count what has been written and is not confirmed."""
        return self._written - self.handled

    def write(self, value: object, key: str | None, extras: Extras | None = None) -> None:
        """Queue one message; wait while too many are not confirmed, or paused. For any thread.

        Raises:
            Halted: when the source is being stopped.
            RuntimeError: the work has returned already: nothing would be waited for.
            TypeError: it is nothing that `encoded` takes.
            ValueError: a key that the edge does not have.
        """
        body, content = encoded(value)
        output = first_output(body, self._edge.check_key(key), content, extras)
        with self._room:
            while self._has_to_wait() and not (self._halting or self._returned):
                self._room.wait()
            if self._halting:
                self._has_noticed = True
                raise Halted
            if self._returned:
                msg = "write() after work() has returned: it has to wait for its threads"
                raise RuntimeError(msg)
            self._written += 1
        self._queue(output)
        self._wake()

    def wait(self, seconds: float) -> None:
        """Wait so long; for any thread.

        Raises:
            Halted: at once when the source is being stopped.
            RuntimeError: the work has returned already.
        """
        until = monotonic() + seconds
        with self._room:
            while not (self._halting or self._returned) and (left := until - monotonic()) > 0:
                self._room.wait(left)
            if self._halting:
                self._has_noticed = True
                raise Halted
            if self._returned:
                msg = "wait() after work() has returned: it has to wait for its threads"
                raise RuntimeError(msg)

    def turn(self) -> None:
        """Publish what has been written since the last turn; start the work, end it."""
        self._woken = False
        if not (self._thread or self._halting or self._is_held) and self._publisher.is_flowing:
            self._start()
        if self._outbox:
            outputs = [self._outbox.popleft() for _ in range(len(self._outbox))]
            self._publisher.send(outputs, None)
        if self._returned and self._error:
            self.fail(self._error)
        elif self._returned and not self.in_flight:
            self.ask_to_end("all published")

    def tick(self) -> None:
        """Give up when nothing moves for longer than PUBLISH_TIMEOUT."""
        if (self._thread is not None or self._is_to_pause) and not self.in_flight:
            self._last_progress = monotonic()  # idle is not stalled
        stalled = monotonic() - self._last_progress
        if self._publish_timeout and stalled > self._publish_timeout:
            self._publish_timeout, self._has_given_up = None, True
            self.fail(self._why_stalled(stalled))

    def take_long(self) -> list[str | None]:
        """Return the call of the work, if it takes long: one without a message."""
        return self._call.take_long()

    def hold(self) -> None:
        """Do not begin the work for now; one that has begun goes on."""
        self._is_held = True

    def pause(self, *, alone: bool) -> None:  # noqa: ARG002 - nobody writes in its place
        """Have `write` wait, and the work not begin; what is written is confirmed yet."""
        with self._room:  # not between a look of `write` and what it adds
            self._is_held = self._is_to_pause = True

    def resume(self) -> None:
        """Let `write` return, and the work begin."""
        with self._room:
            self._is_held = self._is_to_pause = False
            self._room.notify_all()

    @property
    def is_paused(self) -> bool:
        """Whether nothing more is published: all that was written is confirmed."""
        return self._is_to_pause and not self.in_flight

    def halt(self) -> Iterator[None]:
        """Stop in order: no new messages; the written ones are confirmed. A step task.

        Work that has been told of it, by Halted, is waited for: it may have to clean up. What waits
        for something else than `write` and `wait` cannot be interrupted: it gets a moment.
        """
        self.release()
        patience = monotonic() + PATIENCE_SECONDS
        while self._is_working() and (self._has_noticed or monotonic() < patience):
            yield
        while self.in_flight and not self._has_given_up:
            yield

    def let_go(self) -> str:
        """Say what is left."""
        return f"{self.in_flight} messages not confirmed: their queue may have them, or not"

    def release(self) -> None:
        """Take no more messages: `write` raises Halted, also where it waits.

        Who writes when the work has returned by itself is told that, as before: it is an error.
        """
        with self._room:
            self._halting = self._halting or not self._returned
            self._room.notify_all()

    def _count(self, owners: list[None]) -> None:
        """Note confirmed messages, and make room for others."""
        self.handled += len(owners)
        self._last_progress = monotonic()
        with self._room:
            self._room.notify_all()  # work may write in several threads

    def _nacked(self, publication: Publication[None], error: PublishError) -> None:
        """Try again; what is too large ends the source."""
        if isinstance(error, TooLargeError):
            with self._room:
                self._written -= 1  # the others are confirmed yet
            self.fail(error)
        else:
            self._publisher.publish_again(publication, error)

    def disown(self) -> None:
        """Have the work end in a forked child: its `write` would write nothing."""
        self._room = threading.Condition()
        self._halting = self._is_disowned = True

    def _has_to_wait(self) -> bool:
        return self._is_to_pause or self.in_flight >= WINDOW

    def _is_working(self) -> bool:
        return self._thread is not None and not self._returned

    def _start(self) -> None:
        self._last_progress = monotonic()
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._call.begin(None)
        try:
            returned = self._work()
            if returned is not None:
                self._error = unmeant(returned)
            self.is_complete = self._error is None
        except Halted:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the replica, which ends the process
            self._error = error
        self._call.end()
        if self._is_disowned:
            end_child(self._error)
        with self._room:
            self._returned = True
            self._room.notify_all()
        self._loop.wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.wake()

    def _why_stalled(self, seconds: float) -> PublishError:
        reason = self._publisher.refusal or "the broker does not answer"
        return PublishError(
            f"{self.handled} messages confirmed, {self.in_flight} not, none for {seconds:.0f} s: "
            f"{reason}"
        )


def check_seconds(seconds: float) -> float:
    """Return for how long to wait. Raises TypeError or ValueError if that is no time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"wait() takes a number of seconds, not a {type(seconds).__name__}"
        raise TypeError(msg)
    if not seconds >= 0:
        msg = f"wait() takes seconds, 0 or more, not {seconds}"
        raise ValueError(msg)
    return min(seconds, threading.TIMEOUT_MAX)
