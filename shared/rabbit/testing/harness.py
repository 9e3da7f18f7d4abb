"""A stage that is fed by hand: one message in, what came of it out."""

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import (
    Any,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)
from unittest.mock import patch

from rabbit.amqp import frames
from rabbit.amqp.pika_types import decode_properties, encode_properties
from rabbit.message import ATTEMPTS_HEADER, Message, new_id
from rabbit.messaging.failures import log_failure
from rabbit.output import Output, new_output
from rabbit.payloads import encoded
from rabbit.runtime.batches import BatchHandler
from rabbit.runtime.handler import Call
from rabbit.stage import Consumer, Producer, Stage, checked
from rabbit.testing.source import SourceHarness
from rabbit.topology import Edge

Settled: TypeAlias = Literal["acked", "retried", "dead-lettered"]

S = TypeVar("S", bound=Consumer)
P = TypeVar("P", bound=Producer)


class Given(TypedDict, total=False):
    """What else a message may be published with; see `rabbit.Message`."""

    content_type: str
    content_encoding: str
    reply_to: str
    priority: int
    expiration: float
    timestamp: datetime


@dataclass(frozen=True)
class Sent:
    """What a stage made of one message.

    Attributes:
        outputs: what it has written; nothing when it failed.
        keys: the routing key of each output.
        ids: the message id of each output.
        settled: what a stage would do: ack it; or else retry it, after a delay, or dead-letter it,
            as RETRY_DELAYS says. There is no broker here that could confirm anything first.
        error: what `work` raised, or what is wrong with the message, or None.
        messages: each output as the next stage gets it: with its headers, correlation id and so on.
        message: what was sent.
        delay: seconds until the next attempt, where it is retried.
        kept: where it is retried, what comes again then; where it is dead-lettered, what is kept.
    """

    outputs: list[Any]
    keys: list[str | None]
    ids: list[str]
    settled: Settled
    error: BaseException | None
    messages: list[Message]
    message: Message
    delay: float | None
    kept: Message | None


class _New(Message):
    """One that comes from its sender, and not from a retry queue."""

    __slots__ = ()
    is_counted = False


class Harness(Generic[S]):
    """One replica of a stage, fed by hand.

    What it opens, it has open within `with`: `resources`, and `thread_resources` of this thread.

    Attributes:
        stage: the stage itself, for a look at its state.
    """

    def __init__(self, stage: S) -> None:
        """Feed `stage`, by what a running one is fed by."""
        self.stage = stage
        self._handler = checked(stage)
        self._known = known = stage.__rabbit__
        assert known.input is not None  # noqa: S101 - a consumer has one
        self._input = known.input
        self._retry_policy = known.retry_policy()
        self._opened: ExitStack | None = None
        self._values: list[Any] = []
        self._record()

    def __enter__(self) -> Self:
        """Open what the stage opens. Raises ResourcesError if that fails."""
        if self._opened is not None:
            msg = f"{self._known.stage} is open already: one `with` at a time"
            raise RuntimeError(msg)
        with ExitStack() as opened:
            opened.enter_context(self._handler.running())
            opened.enter_context(self._known.resources())
            if self._handler.thread_resources:
                opened.enter_context(self._handler.thread_resources())
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it. Raises ResourcesError if that fails."""
        opened, self._opened = self._opened, None
        if opened:
            opened.close()  # as in a running stage, they hear nothing of an error elsewhere

    def send(
        self,
        text: object,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        headers: dict[str, Any] | None = None,
        routing_key: str | None = None,
        redelivered: bool = False,
        attempt: int | None = None,
        **given: Unpack[Given],
    ) -> Sent:
        """Let the stage handle one message, in this thread; return what came of it.

        Whatever `work` raises is in `error`, and in the log as if the stage were running; but what
        ends a test, such as a failing assertion or KeyboardInterrupt, ends the test.

        Args:
            text: the message, as `write` takes it: a text, bytes, or what is sent as JSON, such as
                a model. Bytes are sent as they are, to try what is no UTF-8, or no JSON.
            message_id: default: a new one. The same id gives outputs with the same ids.
            correlation_id: default: the message id, as at a source.
            headers: the message's headers. An `x-attempts` among them is its sender's own, and no
                count; see `attempt`.
            routing_key: what it was published with; default: that of a work queue, or "".
            redelivered: as if the broker had delivered it before.
            attempt: which attempt this is, from 1: it has failed so many times less one before.
            given: what else it was published with: `content_type` (default: as `write` says it),
                `content_encoding`, `reply_to`, `priority`, `expiration` in seconds, `timestamp`.

        Raises:
            TypeError: the message is nothing that can be sent, or there is no such property.
            ValueError: `attempt` is below 1.
        """
        message_id = message_id or new_id()
        body, content = encoded(text)
        written = new_output(body, message_id, correlation_id or message_id, content=content)
        properties = _with_others(written.properties, _counted(headers, attempt), given)
        key = self._input.key(None) if routing_key is None else routing_key
        kind = _New if attempt is None else Message
        return self.deliver(kind(body, properties, redelivered=redelivered, routing_key=key))

    def send_batch(self, texts: Iterable[object]) -> list[Sent]:
        """Let a BatchConsumer handle messages together; return what came of each, in this order.

        As in a running one, a batch has up to BATCH_SIZE of them; and when one has raised, its
        messages are handled one by one.

        Args:
            texts: the messages, each as for `send`; or messages that there are already, as for
                `deliver`.

        Raises:
            TypeError: the stage handles one message at a time; or as for `send`.
        """
        if not isinstance(self._handler, BatchHandler):
            msg = f"{self._known.stage} is no BatchConsumer: send() it one message at a time"
            raise TypeError(msg)
        return self.deliver_all(
            [each if isinstance(each, Message) else _written(each, self._input) for each in texts]
        )

    def deliver(self, message: Message) -> Sent:
        """Let the stage handle a message that there is already; see `send`.

        Args:
            message: such as one of `Sent.messages`, which another stage has written, or
                `Sent.kept`, to make another attempt.
        """
        (sent,) = self.deliver_all([message])
        return sent

    def deliver_all(self, messages: Sequence[Message]) -> list[Sent]:
        """Let the stage handle messages, one after the other, or in batches; see `send_batch`.

        Raises:
            RuntimeError: the stage opens something, and this is not within `with`.
        """
        handler = self._handler
        opens = handler.thread_resources or self._known.resources is not nullcontext
        if opens and self._opened is None:
            msg = (
                f"{self._known.stage} opens resources: feed it within `with`, as in "
                f"`with harness({type(self.stage).__name__}) as fed:`"
            )
            raise RuntimeError(msg)
        if not isinstance(handler, BatchHandler):
            return [self._handle(message) for message in messages]
        sent: dict[Message, Sent] = {}  # by identity
        most = handler.size.messages
        for begin in range(0, len(messages), most):
            calls, alone = handler.run_batch(messages[begin : begin + most])
            calls += [handler.run(message) for message in alone]
            sent |= {call.message: self._settled(call) for call in calls}
        return [sent[message] for message in messages]

    def _handle(self, message: Message) -> Sent:
        self._values.clear()
        return self._settled(self._handler.run(message))

    def _settled(self, call: Call[Message]) -> Sent:
        message = call.message
        if call.error is None:
            made = [_as_delivered(output, self._known.output) for output in call.outputs]
            keys = [output.key for output in call.outputs]
            ids = [output.id for output in call.outputs]
            values = list(self._values)
            return Sent(values, keys, ids, "acked", None, made, message, None, None)
        if _ends_the_test(call.error):
            raise call.error
        return self._failed(message, call.error)

    def _failed(self, message: Message, error: BaseException) -> Sent:
        decided = self._retry_policy.decide(
            message, error, frames.most_property_bytes(frames.FRAME_MAX)
        )
        log_failure(self._known.log, message, decided, error)
        settled: Settled = "dead-lettered" if decided.delay is None else "retried"
        kept = _as_delivered(decided.output, None)
        return Sent([], [], [], settled, error, [], message, decided.delay, kept)

    def _record(self) -> None:
        """Keep what is written, as it is at that moment; let nothing that ends a test pass."""
        write = self._handler.write

        def recorded(value: Any, *more: Any) -> None:  # noqa: ANN401 - as `write` takes them
            with self._handler.writing:
                write(value, *more)
                self._values.append(deepcopy(value))

        self._handler.write = recorded  # type: ignore[method-assign, assignment]
        if isinstance(self._handler, BatchHandler):
            tell = self._handler.tell_failed

            def told(error: BaseException, count: int) -> None:
                if _ends_the_test(error):
                    raise error
                tell(error, count)

            self._handler.tell_failed = told  # type: ignore[method-assign]


@overload
def harness(stage: type[S], *arguments: Any, **given: Any) -> Harness[S]: ...  # noqa: ANN401
@overload
def harness(stage: type[P], *arguments: Any, **given: Any) -> SourceHarness[P]: ...  # noqa: ANN401
def harness(stage: type[Stage], *arguments: Any, **given: Any) -> Any:
    """Make a replica of `stage` that needs no broker.

    Queues that neither the arguments nor the environment name are called `input` and `output`.

    Args:
        stage: the class: a worker or a sink, to `send` to; or a source, to `run`.
        arguments: as the class's constructor takes them.
        given: likewise.
    """
    queues = {"INPUT_QUEUE": "input", "OUTPUT_QUEUE": "output"}
    missing = {name: queue for name, queue in queues.items() if name not in os.environ}
    with patch.dict(os.environ, missing):
        return replica_of(stage(*arguments, **given))


def replica_of(stage: Stage) -> Harness[Any] | SourceHarness[Any]:
    """Return what feeds or runs a stage that is built already."""
    if isinstance(stage, Consumer):
        return Harness(stage)
    if isinstance(stage, Producer):
        return SourceHarness(stage)
    msg = f"{type(stage).__name__} is neither a Producer nor a Worker nor a Consumer"
    raise TypeError(msg)


def _as_delivered(output: Output, edge: Edge | None) -> Message:
    """Return what a consumer gets of an output: of an edge, or of an exchange that it names."""
    key = edge.key(output.key) if edge else output.key or ""
    return Message(output.body, output.properties, redelivered=False, routing_key=key)


def _counted(headers: dict[str, Any] | None, attempt: int | None) -> dict[str, Any] | None:
    """Return headers that say which attempt it is."""
    if attempt is None:
        return headers
    if attempt < 1:
        msg = f"attempt: {attempt!r} is below 1, which is the first"
        raise ValueError(msg)
    return {**(headers or {}), ATTEMPTS_HEADER: attempt - 1}


def _written(value: object, edge: Edge) -> Message:
    """Return a message that is this value, as one that has just come from a source."""
    message_id = new_id()
    body, content = encoded(value)
    properties = new_output(body, message_id, message_id, content=content).properties
    return _New(body, properties, redelivered=False, routing_key=edge.key(None))


def _with_others(written: bytes, headers: dict[str, Any] | None, given: Given) -> bytes:
    """Return the properties of a message with headers, and with what else is given."""
    unknown = ", ".join(given.keys() - Given.__annotations__.keys())
    if unknown:
        msg = f"no property of a message: {unknown}"
        raise TypeError(msg)
    properties = decode_properties(written)
    properties.headers = headers
    for name, value in given.items():
        setattr(properties, name, value)
    if "expiration" in given:
        properties.expiration = str(round(given["expiration"] * 1000))
    if "timestamp" in given:
        properties.timestamp = int(given["timestamp"].timestamp())
    return encode_properties(properties)


def _ends_the_test(error: BaseException) -> bool:
    """Tell whether an error is meant for who tests: a failing assertion, Ctrl-C, pytest.fail()."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_ends_the_test, error.exceptions))
    if type(error).__name__ == "CancelledError":  # of asyncio: a task of the stage's has ended
        return False
    return isinstance(error, AssertionError) or not isinstance(error, Exception)
