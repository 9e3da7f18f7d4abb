"""What a user subclasses: Producer (a source), Worker, Consumer (a sink)."""

import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar, get_args, get_origin

from rabbit import settings as _settings
from rabbit import terminal
from rabbit.edges import check_replica, input_edge, output_edge
from rabbit.errors import ConfigurationError, IncompleteError, RabbitError
from rabbit.logs import Logger, capture_logging, logger
from rabbit.message import Message
from rabbit.messaging.retry import RetryPolicy, check_give_up_on
from rabbit.output import make_extras
from rabbit.payloads import Payload, annotation_of
from rabbit.runtime.batches import BatchHandler, BatchSize
from rabbit.runtime.dispatcher import Dispatcher
from rabbit.runtime.handler import Call, Handler, check_work, is_coroutine_function
from rabbit.runtime.ordered import OrderedDispatcher
from rabbit.runtime.replica import Replica
from rabbit.runtime.reporter import Identity
from rabbit.runtime.resources import check_hook, opened
from rabbit.runtime.runner import Connections, Runner
from rabbit.runtime.source import Source, check_seconds
from rabbit.runtime.watchdog import exit_guarded, leave
from rabbit.terminal import visible
from rabbit.topology import Edge

if TYPE_CHECKING:
    from rabbit.runtime.telemetry import Telemetry

T = TypeVar("T")

#: What `Stage.__init__` makes.
_OURS = {"__rabbit__", "__rabbit_handler__", "__rabbit_source__"} | {
    "settings",
    "name",
    "stage",
    "log",
    "local",
}


@dataclass
class _Known:
    """What the library knows of a stage: apart from what a subclass calls its own.

    Attributes:
        stage: the stage's name, as the three others not to be changed any more.
        name: the replica's name.
        settings: what it was made with.
        log: where it is told what happens.
        user_log: where the stage's own code tells what happens.
        input: what it consumes.
        output: what it publishes to.
        running: held while `start` runs.
        is_stopped: `stop` was called, and no `start` has ended since.
        replica: that of the last start.
        work: what is run, as it was when the stage was built.
        has_run: `start` was called.
        give_up_on: errors that no attempt cures.
        local: what each thread has for itself.
        resources: returns what is open while the stage runs.
        telemetry: what makes spans, where they are exported.
    """

    stage: str
    name: str
    settings: _settings.Settings
    log: Logger
    user_log: Logger
    input: Edge | None
    output: Edge | None
    work: Callable[..., object]
    running: threading.Lock = field(default_factory=threading.Lock)
    is_stopped: bool = False
    replica: Replica | None = None
    has_run: bool = False
    give_up_on: tuple[type[BaseException], ...] = ()
    local: threading.local = field(default_factory=threading.local)
    resources: Callable[[], AbstractContextManager[object]] = nullcontext
    telemetry: "Telemetry | None" = None

    def retry_policy(self) -> RetryPolicy:
        """Return what decides about a message whose `work` has failed."""
        assert self.input is not None  # noqa: S101 - a consumer has one
        return RetryPolicy(self.input, self.stage, self.name, self.give_up_on)

    def traced(self, kind: type[T]) -> type[T]:
        """Return the class that runs in place of `kind`: another one where spans are exported."""
        return self.telemetry.traced(kind) if self.telemetry else kind


class Stage(ABC):
    """A replica of one stage: its name, its settings, its life from `start` to halt.

    Attributes:
        name: the replica's name; the container's host name, unless one is given.
        stage: the stage's name; the class's name in snake case, unless STAGE says otherwise.
        settings: what the environment says, overridden by the arguments.
        log: a structlog logger, bound to stage and replica, and within `work` to `message_id` and
            `correlation_id` of the message that this thread is handling; as LOG_LEVEL and
            LOG_FORMAT say. A class that has a `log` of its own keeps that.
        local: a `threading.local`: what each thread sets here, it alone sees. See
            `thread_resources`.
    """

    #: The settings this stage reads; extend it to give a stage settings of its own.
    Settings: ClassVar[type[_settings.Settings]] = _settings.Settings

    settings: _settings.Settings
    log: Logger
    local: Any
    __rabbit__: _Known
    __rabbit_source__: Source | None

    def __new__(cls, *_arguments: object, **_given: object) -> Self:
        """Raise ConfigurationError if the class has no `work`, where Python raises TypeError."""
        if cls.__abstractmethods__:
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise ConfigurationError(f"{cls.__name__} does not define {missing}(self, ...)")
        return super().__new__(cls)

    def __init__(self, name: str | None = None, **given: Any) -> None:  # noqa: ANN401 - checked by Settings
        """Read the settings; nothing is connected before `start`.

        Args:
            name: the replica's name.
            given: settings by name; one that is given (and is not None) wins over the environment.

        Raises:
            ConfigurationError: when a setting is missing or wrong.
        """
        self.settings = settings = _settings_class(type(self)).load(replica=name, **given)
        self.name = settings.replica
        self.stage = stage = settings.stage or _snake_case(type(self).__name__)
        check_replica(stage, self.name)
        reads, writes = isinstance(self, Consumer), isinstance(self, Worker | Producer)
        argument = "messages" if isinstance(self, BatchConsumer) else "message"
        check_work(self.work, type(self).__name__, *([argument] if reads else []))
        self.__rabbit__ = _Known(
            stage,
            self.name,
            settings,
            logger(settings, stage=stage, replica=self.name),
            logger(settings, self.__message_fields, stage=stage, replica=self.name),
            input_edge(settings, stage, self.name) if reads else None,
            output_edge(settings) if writes else None,
            self.work,
        )
        self.__rabbit__.telemetry = _telemetry(self.__rabbit__)
        self.__rabbit__.resources = _resources_of(self)
        if _main.is_running:
            capture_logging(settings, self.__message_fields, stage=stage, replica=self.name)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            """Say why there is nothing that the library has made: it was not asked to.

            `log` and `local` are looked for here, behind all that a class and its bases call so.
            """
            if name in {"log", "local"} and hasattr(type(self), name):
                return object.__getattribute__(self, name)
            if name in _OURS and "__rabbit__" not in vars(self):
                raise ConfigurationError(
                    f"{type(self).__name__}.__init__ has to call super().__init__() first"
                )
            if name == "log":
                self.log = self.__rabbit__.user_log
            if name == "local":
                self.local = self.__rabbit__.local
            return object.__getattribute__(self, name)  # raises, also what a property has raised

    @abstractmethod
    def work(self, *arguments: Any) -> Any:  # noqa: ANN401 - none, or a message; and None
        """Do what the stage is for."""

    def resources(self) -> AbstractContextManager[Any] | AbstractAsyncContextManager[Any]:
        """Open what this stage needs; a method with @contextmanager that yields once.

        It is entered before the replica connects, and left when the last message is acked, or given
        up: whatever ends the stage, unless the process is killed. DRAIN_TIMEOUT bounds the end of
        it, too. `work` may be called in other threads. If it fails, nothing is consumed, or no
        more, and the stage ends with exit code 1. Where `work` is an `async def`, it may be one
        with @asynccontextmanager, which is entered and left on the event loop of `work`.
        """
        return nullcontext()

    def start(self) -> None:
        """Run until halted: by SIGTERM (main thread), by `stop` or over the control exchange.

        It may be called again after it has ended, but not while it runs. After a `stop` that found
        nothing to end, it returns at once.

        Raises:
            RabbitError: another `start` is running.
            ConfigurationError: `work` is another one than when the stage was built.
            TopologyError: when the broker refuses what this stage declares.
            IncompleteError: a source was halted before its `work` had returned, unless `endless`.
            ResourcesError: `resources` or `thread_resources` has failed.
            DrainTimeoutError: when DRAIN_TIMEOUT passed while halting.
        """
        known = self.__rabbit__
        check_unchanged(self)
        if not known.running.acquire(blocking=False):
            raise RabbitError(f"start() of {known.name!r} is running already: stop() ends it")
        try:
            known.has_run = True
            if not known.is_stopped:
                self.__run(known)
        finally:
            known.is_stopped = False
            known.running.release()

    def stop(self) -> None:
        """Halt in order: `start` returns when that is done; if none runs, the next one, at once.

        Safe from any thread, at any time.
        """
        known = self.__rabbit__
        known.is_stopped = True
        if known.replica:
            known.replica.stop()

    def __message_fields(self) -> Mapping[str, object]:
        """Return what a line of the log is bound to while this thread handles a message."""
        handler: Handler | None = vars(self).get("__rabbit_handler__")
        return handler.log_fields() if handler else {}

    def __run(self, known: _Known) -> None:
        identity = Identity(known.stage, known.name, known.input, known.output)
        known.replica = replica = Replica(
            identity, known.settings, known.log, self.__make_runner, known.resources
        )
        if known.is_stopped:  # just now
            replica.stop()
        if known.telemetry:
            known.telemetry.begin()
        handler: Handler | None = vars(self).get("__rabbit_handler__")
        try:
            with handler.running() if handler else nullcontext():
                replica.run()
            _check_complete(self, replica)
        finally:
            if known.telemetry:
                known.telemetry.end(replica.seconds_left)

    def __make_runner(self, connections: Connections) -> Runner:
        known = self.__rabbit__
        if isinstance(self, Producer):
            assert known.output is not None  # noqa: S101 - a source has one
            self.__rabbit_source__ = source = known.traced(Source)(
                connections, known.output, known.settings, known.work, known.log
            )
            return source
        assert isinstance(self, Consumer) and known.input is not None  # noqa: S101, PT018 - likewise
        kind = OrderedDispatcher if known.input.is_ordered else Dispatcher
        return known.traced(kind)(
            connections,
            known.input,
            known.output,
            known.settings,
            self.__rabbit_handler__,
            known.retry_policy(),
            known.log,
        )

    @classmethod
    def main(cls) -> NoReturn:
        """Run as a process: settings from the environment, exit code 0, 1 or 2.

        The standard library's `logging`, and `warnings`, come out as lines like those of `log`,
        unless the root logger has a handler already.

        0: halted in order, or by a broadcast halt, however it ended: what is halted stays down, and
        a restart policy starts again what ends with another code. 1: gave up or failed, or a source
        was halted half-way. 2: bad configuration.
        """
        stage: Stage | None = None
        code = 0
        try:
            with _main():
                stage = cls()
            with exit_guarded():
                stage.start()
            if not stage.__rabbit__.has_run:
                raise ConfigurationError("start() is overridden and does not call super().start()")  # noqa: TRY301 - told as any other
        except RabbitError as error:
            terminal.say(f"{_snake_case(cls.__name__)}: {visible(str(error))}")
            code = error.exit_code
        except Exception:
            if not (stage and _was_commanded(stage)):
                raise
            stage.__rabbit__.log.exception("failed while halting")
            code = 1
        if code and stage and _was_commanded(stage):
            stage.__rabbit__.log.error("ends with 0 all the same: a halt was broadcast")
            code = 0
        leave(code)


class Consumer(Stage):
    """A sink: takes messages from its input queue. Subclass it and define `work`."""

    #: Errors that another attempt does not cure: a `work` that raises one of these classes, or of
    #: their subclasses, has its message made a dead letter at once.
    give_up_on: ClassVar[tuple[type[BaseException], ...]] = ()

    def __init__(self, name: str | None = None, input: str | None = None, **given: Any) -> None:  # noqa: A002, ANN401
        """Read the settings.

        Args:
            name: the replica's name; default: REPLICA, or else the host name.
            input: the queue to consume; default: INPUT_QUEUE.
            given: any other setting, by name.

        Raises:
            ConfigurationError: when a setting is missing or wrong.
        """
        super().__init__(name, input_queue=input, **given)
        if type(self).handle is not Consumer.handle:
            raise ConfigurationError(
                f"{type(self).__name__}: handle() is not what a running stage calls: define work()"
            )
        known = self.__rabbit__
        known.give_up_on = check_give_up_on(type(self).give_up_on, type(self).__name__)
        output = known.output
        if known.settings.poison_pill and output and output.needs_key:
            raise ConfigurationError(
                f"POISON_PILL is set, but {output.name!r} is of kind {output.kind}, which routes "
                "by key, and the pill has none to be handed on with: use `make halt`"
            )
        self.__rabbit_handler__ = _handler_of(self, known)
        self.__rabbit_handler__.thread_resources = _thread_resources_of(self)

    @abstractmethod
    def work(self, message: Any, /) -> Any:  # noqa: ANN401 - what a subclass says, and None
        """Handle one message, in a handler thread; an `async def work` on the event loop.

        What its argument is annotated with is what it gets: str; bytes; or what pydantic reads JSON
        into, such as a model, a dataclass, a TypedDict, dict or list[...]. A message that is
        something else is a dead letter at once.

        Whatever it raises, the message comes again after each of the RETRY_DELAYS, on any replica;
        then it is a dead letter. `raise Reject("why")` makes it one at once, and so does an error
        of `give_up_on`; `raise Retry(after=60)` chooses the delay. It returns nothing:
        a value that is returned (a text that was meant for `write`, a coroutine) is an error too.
        """

    def thread_resources(self) -> AbstractContextManager[Any]:
        """Open what each handler thread needs for itself; a method with @contextmanager.

        It is entered in each of the CONCURRENCY threads before its first message, and left in that
        thread after its last one, within `resources`. `self.local` keeps it: `self.local.database
        = ...`. If it fails, the stage ends with exit code 1, and its messages come again.
        """
        return nullcontext()

    @property
    def message(self) -> Message:
        """What else is known of the message that this thread, or task, is handling."""
        return self.__rabbit_handler__.message

    def handle(self, message: Message) -> Call[Message]:
        """Run `work` on one message, in this thread or its event loop; see `rabbit.testing`."""
        return self.__rabbit_handler__.run(message)


class BatchConsumer(Consumer):
    """A sink that handles many messages at a time. Subclass it and define `work`.

    Its argument is a list of what each message is read as: list[str], list[Order] and so on.

    A batch has up to BATCH_SIZE messages. It is handed over when there are so many, BATCH_SECONDS
    after its first message has come, or when nothing more can come: in a halt, say, or when
    PREFETCH is reached. A replica begins with one message at a time; so it does where messages
    come that were delivered before, which may have ended a process.
    """

    @abstractmethod
    def work(self, messages: list[Any], /) -> Any:  # noqa: ANN401 - what a subclass says, and None
        """Handle messages, in the order in which they came; they are acked when it has returned.

        If it raises, it is called again for each of these messages alone, so that one bad message
        harms no other: then what it raises is about this one, as in a `Consumer`. So all that it
        has done with a batch should be undone if it raises (a transaction), or do no harm when it
        is done again. With HANDLER_TIMEOUT, what has failed before is handled alone, too.
        """

    @property
    def batch_size(self) -> int:
        """How many messages a batch may have: BATCH_SIZE, unless a subclass knows better."""
        return self.settings.batch_size

    @property
    def messages(self) -> Sequence[Message]:
        """What else is known of the messages that this thread is handling, in the same order."""
        handler = self.__rabbit_handler__
        assert isinstance(handler, BatchHandler)  # noqa: S101 - `_handler_of`
        return handler.messages


class Worker(Consumer):
    """Takes messages from its input queue and writes to its output queue."""

    def __init__(
        self,
        name: str | None = None,
        input: str | None = None,  # noqa: A002 - the tutorial's word
        output: str | None = None,
        **given: Any,  # noqa: ANN401
    ) -> None:
        """Read the settings.

        Args:
            name: the replica's name; default: REPLICA, or else the host name.
            input: the queue to consume; default: INPUT_QUEUE.
            output: the queue to publish to; default: OUTPUT_QUEUE.
            given: any other setting, by name.

        Raises:
            ConfigurationError: when a setting is missing or wrong.
        """
        super().__init__(name, input, output_queue=output, **given)

    def write(
        self,
        text: object,
        key: str | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        priority: int | None = None,
        expiration: float | None = None,
        message_id: str | None = None,
    ) -> None:
        """Add an output to the message being handled, any number of times.

        It leaves when `work` has returned; a `work` that raises has written nothing. The headers
        that the input's sender has set go on to it.

        Args:
            text: a text, bytes, or what is sent as JSON: a pydantic model, a dataclass, a dict, a
                list or a tuple.
            key: the routing key, for an output of kind direct or topic.
            headers: headers of its own, in place of those that the input has by the same name; a
                value of None: that of the input does not go on.
            priority: 0 to 255, for a queue that has priorities.
            expiration: seconds, 0 to 4294967, after which the broker takes it out of its queue if
                nobody has handled it: then it is a dead letter.
            message_id: 1 to 255 bytes; None: one that is the same when the input comes again.

        Raises:
            RuntimeError: outside of `work`.
            TypeError: it cannot be sent, or an argument is of a wrong type.
            ValueError: a key for an output of kind work, which has none; none for direct or topic,
                which route by it; or an argument that is out of range.
        """
        if headers is None and priority is None and expiration is None and message_id is None:
            self.__rabbit_handler__.write(text, key)
            return
        extras = make_extras(headers, priority, expiration, message_id)
        self.__rabbit_handler__.write(text, key, extras)


class Producer(Stage):
    """A source: writes messages to its output queue. Subclass it and define `work`.

    Attributes:
        endless: its work has no end but a halt, as that of one that polls or listens: when it is
            halted, nothing is left undone, and the exit code is 0. Of a class or of one source.
    """

    endless: bool = False

    def __init__(self, name: str | None = None, output: str | None = None, **given: Any) -> None:  # noqa: ANN401
        """Read the settings.

        Args:
            name: the replica's name; default: REPLICA, or else the host name.
            output: the queue to publish to; default: OUTPUT_QUEUE.
            given: any other setting, by name.

        Raises:
            ConfigurationError: when a setting is missing or wrong.
        """
        super().__init__(name, output_queue=output, **given)
        self.__rabbit_source__ = None

    @abstractmethod
    def work(self) -> None:
        """Write all messages and return nothing; the source ends when they are all confirmed.

        When it is halted, `write` and `wait` raise Halted, which is to pass: what `finally` does is
        waited for, up to DRAIN_TIMEOUT. A `work` that is in something else then gets two seconds.
        If it has not returned by itself, the exit code is 1; see `endless`.
        """

    def write(
        self,
        text: object,
        key: str | None = None,
        *,
        headers: Mapping[str, Any] | None = None,
        priority: int | None = None,
        expiration: float | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publish one message; waits while many are not confirmed yet.

        Args:
            text: a text, bytes, or what is sent as JSON: a pydantic model, a dataclass, a dict, a
                list or a tuple.
            key: the routing key, for an output of kind direct or topic.
            headers: its headers, by name.
            priority: 0 to 255, for a queue that has priorities.
            expiration: seconds, 0 to 4294967, after which the broker takes it out of its queue if
                nobody has handled it: then it is a dead letter.
            message_id: 1 to 255 bytes; None: a new one.

        Raises:
            Halted: when the source is being stopped; let it pass.
            RuntimeError: outside of `work`, or after it has returned: it waits for its threads.
            TypeError: it cannot be sent, or an argument is of a wrong type.
            ValueError: a key for an output of kind work, which has none; none for direct or topic,
                which route by it; or an argument that is out of range.
        """
        if self.__rabbit_source__ is None:
            msg = "write() is for work(), which runs between start() and halt"
            raise RuntimeError(msg)
        extras = make_extras(headers, priority, expiration, message_id)
        self.__rabbit_source__.write(text, key, extras)

    def wait(self, seconds: float) -> None:
        """Wait, in `work` or a thread of its, where `time.sleep` would not notice a halt.

        Args:
            seconds: how long, 0 or more; infinite: until the source is halted.

        Raises:
            Halted: at once when the source is being stopped; let it pass.
            RuntimeError: outside of `work`, or after it has returned.
            TypeError: it is no number.
            ValueError: it is negative, or not a number.
        """
        seconds = check_seconds(seconds)
        if self.__rabbit_source__ is None:
            msg = "wait() is for work(), which runs between start() and halt"
            raise RuntimeError(msg)
        self.__rabbit_source__.wait(seconds)

    @property
    def confirmed(self) -> int:
        """How many messages a queue has taken so far."""
        return self.__rabbit_source__.handled if self.__rabbit_source__ else 0


class _Main:
    """Whether a stage is being made that is all of its process."""

    is_running = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Say so meanwhile."""
        self.is_running = True
        try:
            yield
        finally:
            self.is_running = False


_main = _Main()


def _telemetry(known: _Known) -> "Telemetry | None":
    """Return what makes spans, if they are to be exported and OpenTelemetry is installed."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next(filter(os.environ.get, endpoints), None)
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if endpoint is None or is_off or os.environ.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return None
    try:
        from rabbit.runtime.telemetry import Telemetry  # noqa: PLC0415 - only where it is wanted
    except ImportError as error:
        known.log.warning(
            "no spans are exported, though they are asked for: add opentelemetry-sdk and "
            "opentelemetry-exporter-otlp-proto-http to the stage's requirements.in",
            asked_by=endpoint,
            reason=str(error),
        )
        return None
    return Telemetry(
        known.settings,
        known.stage,
        known.input,
        known.output,
        known.log,
        is_process=_main.is_running,
    )


def _handler_class(work: Callable[..., object]) -> type[Handler]:
    """Return what runs such a `work`: in threads, or on an event loop."""
    if not is_coroutine_function(work):
        return Handler
    from rabbit.runtime.async_handlers import AsyncHandler  # noqa: PLC0415 - asyncio takes long

    return AsyncHandler


def _check_complete(stage: Stage, replica: Replica) -> None:
    """Raise IncompleteError if a source has published less than it was to."""
    if not isinstance(stage, Producer) or stage.endless or stage.__rabbit_source__ is None:
        return
    if not stage.__rabbit_source__.is_complete:
        error = IncompleteError(
            f"halted: {stage.confirmed} messages are published and confirmed, the rest is not"
        )
        error.by_broadcast = replica.was_commanded
        raise error


def _resources_of(stage: Stage) -> Callable[[], AbstractContextManager[object]]:
    """Return what opens a stage's resources. Raises ConfigurationError if that cannot be."""
    if type(stage).resources is Stage.resources:
        return nullcontext
    hook, owner = stage.resources, f"{type(stage).__name__}.resources()"
    is_async = isinstance(stage, Consumer) and is_coroutine_function(stage.work)
    check_hook(hook, owner, is_async=is_async)

    def enter(made: Any) -> AbstractContextManager[object] | None:  # noqa: ANN401 - whatever it is
        handler: Handler | None = vars(stage).get("__rabbit_handler__")
        return handler.enter(made) if handler else None

    return lambda: opened(hook, owner, enter)


def _thread_resources_of(
    stage: Consumer,
) -> Callable[[], AbstractContextManager[object]] | None:
    """Return what opens a handler thread's resources; None: there are none. Raises as above."""
    if type(stage).thread_resources is Consumer.thread_resources:
        return None
    hook, owner = stage.thread_resources, f"{type(stage).__name__}.thread_resources()"
    check_hook(hook, owner, is_async=False)
    if is_coroutine_function(stage.work):
        raise ConfigurationError(
            f"{owner}: work is an async def, and all of it runs in one thread: use resources()"
        )
    return lambda: opened(hook, owner)


def _handler_of(stage: Consumer, known: _Known) -> Handler:
    """Return what runs a stage's `work`. Raises ConfigurationError if that cannot be."""
    name = type(stage).__name__
    given = (known.work, known.stage, known.settings.max_message_bytes, known.output)
    if not isinstance(stage, BatchConsumer):
        return known.traced(_handler_class(known.work))(
            *given, Payload(annotation_of(known.work, name))
        )
    if is_coroutine_function(known.work):
        raise ConfigurationError(
            f"{name}: work is an async def, and that of a BatchConsumer cannot be: make it a plain "
            "function (asyncio.run runs a coroutine in it)"
        )
    if isinstance(stage, Worker):
        raise ConfigurationError(f"{name}: a BatchConsumer is a sink: it cannot be a Worker too")
    if known.input and known.input.is_ordered:
        raise ConfigurationError(
            f"{name}: a BatchConsumer cannot read an edge of kind ordered, where each key's "
            "messages are handled one after the other: make it a Consumer"
        )
    size: object = stage.batch_size
    if not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"{name}.batch_size is {size!r}: make it a number, 1 or more")
    batches = BatchSize(size, known.settings.batch_seconds)
    payload = Payload(_element_of(annotation_of(known.work, name, list[str]), name))
    return known.traced(BatchHandler)(*given, payload, size=batches, log=known.log)


def _element_of(annotation: object, name: str) -> object:
    """Return what each message of a list is. Raises ConfigurationError if it is no list."""
    if annotation in (list, Any, object):
        return str
    if get_origin(annotation) is list:
        return get_args(annotation)[0]
    raise ConfigurationError(
        f"{name}: work is called with a list of messages: annotate it with list[str], say, or "
        "list[Order]"
    )


def _settings_class(stage: type[Stage]) -> type[_settings.Settings]:
    """Return the settings that a stage reads. Raises ConfigurationError if they are none."""
    given: object = stage.Settings
    if isinstance(given, type) and issubclass(given, _settings.Settings):
        return given
    name = stage.__name__
    raise ConfigurationError(
        f"{name}.Settings is no settings class of the library: "
        "make it one, class Settings(rabbit.Settings)"
    )


def check_unchanged(stage: Stage) -> None:
    """Raise ConfigurationError if `work` was replaced, which would not be run or looked at."""
    if stage.work != stage.__rabbit__.work:
        raise ConfigurationError(
            f"{type(stage).__name__}: work was set after super().__init__(): set it before"
        )


def checked(stage: Consumer) -> Handler:
    """Return what runs a stage's `work`. Raises ConfigurationError where `start` would."""
    check_unchanged(stage)
    return stage.__rabbit_handler__


def _was_commanded(stage: Stage) -> bool:
    """Whether a broadcast halt was heard."""
    known: _Known | None = vars(stage).get("__rabbit__")
    return known is not None and known.replica is not None and known.replica.was_commanded


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
