"""One call of a stage's work: the message it sees, the outputs it writes, how it ended."""

import inspect
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from rabbit.amqp.properties import HEADERS_BIT
from rabbit.amqp.sent_properties import PLAIN_TEXT, TEXT
from rabbit.errors import ConfigurationError, TooLargeError
from rabbit.logs import Logger
from rabbit.message import Message
from rabbit.output import Extras, Output, check_key, derived_output
from rabbit.payloads import MOST_UNPACKED_BYTES, Payload, encoded
from rabbit.runtime.forks import end_child, keep_from_children
from rabbit.runtime.handler_threads import Handlers, HandlerThreads
from rabbit.topology import Edge

M = TypeVar("M", bound=Message)


class Call(Generic[M]):
    """One call of a handler.

    Attributes:
        message: what it handles.
        outputs: what it has written; none when it has failed.
        error: what it has raised, or None.
    """

    __slots__ = ("error", "message", "outputs")

    def __init__(
        self,
        message: M,
        outputs: list[Output] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Begin with `message`, and no outputs by default."""
        self.message = message
        self.outputs = [] if outputs is None else outputs
        self.error = error


class Current(Protocol):
    """What the code that asks is working on.

    Attributes:
        call: None outside of `work`.
    """

    call: Call[Any] | None


class _CurrentInThread(threading.local):
    """What one handler thread is working on."""

    call: Call[Any] | None = None


class Handler:
    """Runs a stage's `work`, in any thread, and keeps the threads apart."""

    #: How many messages it can handle at once.
    batch_size = 1

    #: Returns what each handler thread is to enter before its first message; None: nothing.
    thread_resources: Callable[[], AbstractContextManager[object]] | None = None

    #: Where there is a message.
    _where = "in the thread that work() was called in"

    #: Held by who adds an output, where several threads may do so for one message.
    writing: AbstractContextManager[object] = nullcontext()

    def __init__(
        self,
        work: Callable[[Any], object],
        stage: str,
        max_message_bytes: int | None = None,
        output: Edge | None = None,
        payload: Payload | None = None,
    ) -> None:
        """Run `work`.

        Args:
            work: what is done with each message.
            stage: the stage's name.
            max_message_bytes: no body may be larger.
            output: where outputs go, and which keys they may have; None: any that can be sent.
            payload: what `work` takes; None: text.
        """
        self._work = work
        self._payload = payload or Payload()
        self._is_text = self._payload.is_text
        self._check_key = output.check_key if output else check_key
        self._needs_key = output is not None and output.needs_key
        self._most_bytes = sys.maxsize if max_message_bytes is None else max_message_bytes
        self._most_unpacked = max_message_bytes or MOST_UNPACKED_BYTES
        self._stage = stage
        self._current: Current = _CurrentInThread()
        self._is_disowned = False
        keep_from_children(self)

    @property
    def message(self) -> Message:
        """The message that this thread is handling. Raises RuntimeError outside of `work`."""
        message: Message = self._call.message
        return message

    @property
    def current(self) -> Message | None:
        """The same, and None outside of `work`."""
        call = self._current.call
        return None if call is None else call.message

    def log_fields(self) -> dict[str, object]:
        """Return what tells what this thread is handling."""
        message = self.current
        if message is None:
            return {}
        return {"message_id": message.id, "correlation_id": message.correlation_id}

    def write(self, value: object, key: str | None, extras: Extras | None = None) -> None:
        """Add an output; it leaves when `work` has returned. Telemetry adds to it: `Telemetry`."""
        call = self._current.call or self._call
        outputs = call.outputs
        checked = self._check_key(key) if self._needs_key or key is not None else None
        body, content = (value.encode(), TEXT) if type(value) is str else encoded(value)
        outputs.append(
            derived_output(call.message, self._stage, len(outputs), body, checked, content, extras)
        )

    def forward(self, message: Message) -> Output:
        """Return an output that is the text of a message as it came: how a poison pill goes on."""
        return derived_output(message, self._stage, 0, message.body)

    def run(self, message: M) -> Call[M]:
        """Handle one message. All or nothing: a call that fails has no outputs.

        What is too large, is not what it takes, or has headers that cannot be decoded, `work` never
        sees.
        """
        self._current.call = call = Call(message)
        try:
            body = message.body
            is_plain = self._is_text and message.properties.startswith(PLAIN_TEXT)
            if is_plain and len(body) <= self._most_bytes:
                returned = self._work(body.decode())
            else:
                returned = self._work(self._read(message))
            if returned is not None:
                raise unmeant(returned)  # noqa: TRY301 - a failure as any other
        except BaseException as error:  # noqa: BLE001 - sys.exit() must not end just this thread
            if self._is_disowned:
                end_child(error)
            # Another one: the error knows this frame, and with it `call`. A cycle would keep
            # the message in memory until it is found.
            return Call(message, error=error)
        finally:
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
        log: Logger,  # noqa: ARG002 - of use to those that run on an event loop
    ) -> Handlers[M, Call[M]]:
        """Return what runs so many of these at a time; see `HandlerThreads`."""
        return HandlerThreads(
            self.run,
            concurrency=concurrency,
            name="handler",
            wake=wake,
            fail=fail,
            limit=limit,
            around=self.thread_resources,
        )

    def enter(self, made: Any) -> AbstractContextManager[Any] | None:  # noqa: ANN401, ARG002
        """Return what enters an asynchronous context manager; None: there is no event loop."""
        return None

    def running(self) -> AbstractContextManager[object]:
        """Return what there is to be while the stage runs: nothing, for threads."""
        return nullcontext()

    def disown(self) -> None:
        """Have a child that `work` has forked end with `work`: what follows is its parent's."""
        self._is_disowned = self._current.call is not None

    @property
    def _call(self) -> Call[Any]:
        if self._current.call is None:
            msg = f"there is a message only within work(), {self._where}"
            raise RuntimeError(msg)
        return self._current.call

    def _value(self, message: Message) -> Any:  # noqa: ANN401 - what `work` takes
        """Return what `work` takes, as `run` does in place; raise an error likewise."""
        body = message.body
        is_plain = self._is_text and message.properties.startswith(PLAIN_TEXT)
        return body.decode() if is_plain and len(body) <= self._most_bytes else self._read(message)

    def _read(self, message: Message) -> Any:  # noqa: ANN401 - what `work` takes
        """Return what `work` takes; raise an error if it could do nothing with this message."""
        size = len(message.body)
        if size > self._most_bytes:
            msg = f"a message of {size} bytes: MAX_MESSAGE_BYTES allows {self._most_bytes}"
            raise TooLargeError(msg)
        if message.properties[0] & HEADERS_BIT:
            _ = message.origin  # its headers are checked there
        return self._payload.read(message, self._most_unpacked)


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Tell whether it is an `async def`, wrapped or not, or an object that is called as one."""
    return _is_any(function, inspect.iscoroutinefunction)


def is_async(function: Callable[..., object]) -> bool:
    """Tell whether calling it runs nothing: coroutines and generators, wrapped or not."""
    return is_coroutine_function(function) or _is_generator(function)


def _is_generator(function: Callable[..., object]) -> bool:
    return _is_any(function, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def _is_any(function: Callable[..., object], *kinds: Callable[[object], bool]) -> bool:
    while isinstance(function, partial):
        function = function.func
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object, or of a function
    return any(is_kind(each) for is_kind in kinds for each in (function, called))


def check_work(work: Callable[..., object], owner: str, *arguments: str) -> None:
    """Raise ConfigurationError unless `work` can be called, and does its work when it is.

    Args:
        work: as it will be called.
        owner: whose it is, for a person.
        arguments: what it will be called with, by their names; none: it is a source's.
    """
    if not callable(work):
        raise ConfigurationError(f"{owner}: work is no function: define work(self, ...)")
    if _is_generator(work):
        raise ConfigurationError(
            f"{owner}: work is a generator, which nobody runs: make it a function, "
            "and write outputs with self.write(text)"
        )
    if not arguments and is_coroutine_function(work):
        raise ConfigurationError(
            f"{owner}: work is an async def, and that of a source cannot be, since its write() "
            "waits: make it a plain function (asyncio.run runs a coroutine in it)"
        )
    try:
        signature = inspect.signature(work)
    except ValueError:
        return  # of something that is not written in Python: it is found out by the call
    try:
        signature.bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(("self", *arguments))
        raise ConfigurationError(f"{owner}: work is called as work({wanted}): {error}") from None


def unmeant(returned: object) -> TypeError:
    """Return the error that something was returned: whoever did so meant something to happen."""
    kind = type(returned).__name__
    if inspect.iscoroutine(returned):
        returned.close()
    if inspect.isawaitable(returned) or hasattr(returned, "__next__"):
        return TypeError(
            f"work() has returned a {kind}, which nobody runs: await it in an async def work, or "
            "do the work in work()"
        )
    return TypeError(
        f"work() has returned a {kind}, which goes nowhere: outputs are written with "
        "self.write(text), and work() returns nothing"
    )
