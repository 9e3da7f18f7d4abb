"""A source that is run by hand: what it has written until it returned, or was stopped."""

import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from rabbit.errors import Halted
from rabbit.message import Message
from rabbit.output import Extras, first_output
from rabbit.payloads import encoded
from rabbit.runtime.handler import unmeant
from rabbit.runtime.source import Source
from rabbit.stage import Producer, check_unchanged
from rabbit.topology import Edge

P = TypeVar("P", bound=Producer)


@dataclass(frozen=True)
class Written:
    """What a source has written in one run.

    Attributes:
        outputs: what it has written.
        keys: the routing key of each output.
        ids: the message id of each output.
        messages: each output as the next stage gets it: with its headers, correlation id and so on.
        is_halted: whether it was stopped before it had returned by itself.
    """

    outputs: list[Any] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    is_halted: bool = False


class SourceHarness(Generic[P]):
    """One replica of a source, whose messages are all confirmed at once.

    Attributes:
        stage: the source itself, for a look at its state.
        written: what the last run has written; also when that ended by an error.
    """

    def __init__(self, stage: P) -> None:
        """Run `stage`, in place of a running one's `Source`."""
        self.stage = stage
        self.written = Written()

    def run(self, *, stop_after: int | None = None) -> Written:
        """Let the source do its work, in this thread; return what it has written.

        Args:
            stop_after: halt it once it has written so many messages: `write` and `wait` then raise
                Halted, as in a source that is stopped. None: let it run until it returns, or calls
                its `stop`. No `wait` takes time.

        Raises:
            ValueError: `stop_after` is below 0.
            BaseException: whatever its `work` raises; a running source would end with that.
        """
        if stop_after is not None and stop_after < 0:
            msg = f"stop_after: {stop_after!r} is below 0"
            raise ValueError(msg)
        known = self.stage.__rabbit__
        work: Callable[[], object] = known.work
        check_unchanged(self.stage)
        assert known.output is not None  # noqa: S101 - a source has one
        self.written = Written()
        source = _Source(self, known.output, stop_after)
        self.stage.__rabbit_source__ = cast("Source", source)
        is_halted, failed = False, None
        with known.resources():  # which hear nothing of what `work` raises
            try:
                returned = work()
                if returned is not None:
                    raise unmeant(returned)  # noqa: TRY301 - as what it raises itself
            except Halted:
                is_halted = True
            except BaseException as error:  # noqa: BLE001 - raised again below
                failed = error
            finally:
                source.has_returned, known.is_stopped = True, False
        if failed is not None:
            raise failed
        self.written = Written(**{**vars(self.written), "is_halted": is_halted})
        return self.written


class _Source:
    """What a source writes to: see `rabbit.runtime.source.Source`."""

    def __init__(self, owner: SourceHarness[Any], edge: Edge, most: int | None) -> None:
        """Add to what `owner` has written, up to `most` messages."""
        self.has_returned = False
        self._owner = owner
        self._edge = edge
        self._most = most
        self._lock = threading.Lock()  # work may write in several threads

    @property
    def handled(self) -> int:
        """How many messages are confirmed."""
        return len(self._owner.written.messages)

    def write(self, value: object, key: str | None, extras: Extras | None = None) -> None:
        """Keep one message."""
        body, content = encoded(value)
        output = first_output(body, self._edge.check_key(key), content, extras)
        with self._lock:
            if self.has_returned:
                msg = "write() after work() has returned: it has to wait for its threads"
                raise RuntimeError(msg)
            if self._is_halted:
                raise Halted
            written = self._owner.written
            written.outputs.append(deepcopy(value))
            written.keys.append(output.key)
            written.ids.append(output.id)
            message = Message(
                output.body, output.properties, redelivered=False, routing_key=self._edge.key(key)
            )
            written.messages.append(message)

    def wait(self, seconds: float) -> None:
        """Let the time pass, which takes none here; one that waits for a halt is halted."""
        if self.has_returned:
            msg = "wait() after work() has returned: it has to wait for its threads"
            raise RuntimeError(msg)
        if self._is_halted or seconds >= threading.TIMEOUT_MAX:
            raise Halted

    @property
    def _is_halted(self) -> bool:
        is_full = self._most is not None and self.handled >= self._most
        return is_full or self._owner.stage.__rabbit__.is_stopped
