"""What a user subclasses: Producer (a source), Worker, Consumer (a sink)."""

import re
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NoReturn

from rabbit import settings as _settings
from rabbit.edges import input_edge, output_edge
from rabbit.engine import Engine, Role
from rabbit.errors import RabbitError
from rabbit.failure_publisher import FailurePublisher
from rabbit.failures import Failures
from rabbit.handler import Call, Handler
from rabbit.intake import QueueIntake
from rabbit.logs import logger
from rabbit.message import Message
from rabbit.publisher import Publisher
from rabbit.source import SourceIntake
from rabbit.subscription import Delivery
from rabbit.text import visible
from rabbit.topology import Edge


class Stage(ABC):
    """A replica of one stage: its name, its settings, its life from `start` to halt.

    Attributes:
        name: the replica's name; the container's host name, unless one is given.
        stage: the stage's name; the class's name in snake case, unless STAGE says otherwise.
        settings: what the environment says, overridden by the arguments.
    """

    #: The settings this stage reads; extend it to give a stage settings of its own.
    Settings: ClassVar[type[_settings.Settings]] = _settings.Settings

    settings: _settings.Settings

    def __init__(self, name: str | None = None, **given: Any) -> None:  # noqa: ANN401 - checked by Settings
        """Read the settings; nothing is connected before `start`.

        Args:
            name: the replica's name.
            given: settings by name; one that is given (and is not None) wins over the environment.

        Raises:
            ConfigurationError: when a setting is missing or wrong.
        """
        self.settings = self.Settings.load(replica=name, **given)
        self.name = self.settings.replica
        self.stage = self.settings.stage or _snake_case(type(self).__name__)
        self._log = logger(self.settings, stage=self.stage, replica=self.name)
        self._input = self._input_edge()
        self._output = self._output_edge()
        self._engine: Engine | None = None
        self._stopped = False

    def start(self) -> None:
        """Run until halted: by SIGTERM (main thread), by `stop` or over the control exchange.

        Raises:
            TopologyError: when the broker refuses what this stage declares.
            DrainTimeoutError: when DRAIN_TIMEOUT passed while halting.
        """
        engine = Engine(
            Role(self.stage, self.name, self._input, self._output), self.settings, self._log
        )
        self._furnish(engine)
        self._engine = engine
        if self._stopped:
            engine.stop()
        engine.run()

    def stop(self) -> None:
        """Halt in order; `start` returns when that is done. Safe from any thread, at any time."""
        self._stopped = True
        if self._engine:
            self._engine.stop()

    @classmethod
    def main(cls) -> NoReturn:
        """Run as a process: settings from the environment, exit code 0, 1 or 2.

        0: halted in order, or by a broadcast halt, however it ended: what is halted stays down, and
        a restart policy starts again what ends with another code. 1: gave up or failed. 2: bad
        configuration.
        """
        stage: Stage | None = None
        code = 0
        try:
            stage = cls()
            stage.start()
        except RabbitError as error:
            said = visible(str(error))
            print(f"{_snake_case(cls.__name__)}: {said}", file=sys.stderr)  # noqa: T201 - for a person
            code = error.exit_code
        except Exception:
            if not (stage and stage._was_commanded):
                raise
            stage._log.exception("failed while halting")
            code = 1
        if code and stage and stage._was_commanded:
            stage._log.error("ends with 0 all the same: a halt was broadcast")
            code = 0
        sys.exit(code)

    @property
    def _was_commanded(self) -> bool:
        """Whether a broadcast halt was heard."""
        return self._engine is not None and self._engine.was_commanded

    @abstractmethod
    def _furnish(self, engine: Engine) -> None:
        """Give the engine its intake and its publisher."""

    def _input_edge(self) -> Edge | None:
        return None

    def _output_edge(self) -> Edge | None:
        return None


class Consumer(Stage):
    """A sink: takes messages from its input queue. Subclass it and define `work`."""

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
        self._handler = Handler(self.work, self.stage, self.settings.max_message_bytes)

    @abstractmethod
    def work(self, message: str) -> None:
        """Handle one message.

        Whatever it raises, the message comes again after each of the RETRY_DELAYS, on any replica;
        then it is a dead letter. `raise Reject("why")` makes it one at once.
        """

    @property
    def message(self) -> Message:
        """What else is known of the message that this thread is handling."""
        return self._handler.message

    def handle(self, message: Message) -> Call[Message]:
        """Run `work` on one message, in this thread; see `rabbit.testing`."""
        return self._handler.run(message)

    def _input_edge(self) -> Edge:
        return input_edge(self.settings, self.stage, self.name)

    def _furnish(self, engine: Engine) -> None:
        assert self._input is not None  # noqa: S101 - _input_edge returns one
        intake = QueueIntake(
            engine.loop,
            engine.consuming,
            self._input,
            self.settings,
            self._handler,
            Failures(self._input, self.stage, self.name),
            self._log,
            on_pill=lambda: engine.halt("poison pill"),
            on_failed=engine.fail,
        )
        engine.intake = intake
        intake.failure_publisher = FailurePublisher(
            engine.publishing,
            self._input,
            self._log,
            on_confirmed=intake.parted,
            on_refused=intake.refused_failure,
            on_failed=engine.fail,
        )
        if self._output:
            publisher: Publisher[Delivery] = Publisher(
                engine.publishing,
                self._output,
                self._log,
                on_confirmed=intake.confirmed,
                on_refused=intake.refused,
                on_failed=engine.fail,
            )
            intake.publisher = publisher
            engine.output_flows = lambda: publisher.is_flowing


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

    def write(self, text: str, key: str | None = None) -> None:
        """Add an output to the message being handled, any number of times.

        It leaves when `work` has returned; a `work` that raises has written nothing.

        Args:
            text: any text.
            key: the routing key, for an output of kind direct or topic.

        Raises:
            RuntimeError: outside of `work`.
        """
        self._handler.write(text, key)

    def _output_edge(self) -> Edge:
        return output_edge(self.settings)


class Producer(Stage):
    """A source: writes messages to its output queue. Subclass it and define `work`."""

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
        self._source: SourceIntake | None = None

    @abstractmethod
    def work(self) -> None:
        """Write all messages and return; the source ends when they are all confirmed."""

    def write(self, text: str, key: str | None = None) -> None:
        """Publish one message; waits while many are not confirmed yet.

        Args:
            text: any text.
            key: the routing key, for an output of kind direct or topic.

        Raises:
            Halted: when the source is being stopped; let it pass.
            RuntimeError: outside of `work`.
        """
        if self._source is None:
            msg = "write() is for work(), which runs between start() and halt"
            raise RuntimeError(msg)
        self._source.write(text, key)

    @property
    def confirmed(self) -> int:
        """How many messages a queue has taken so far."""
        return self._source.handled if self._source else 0

    def _output_edge(self) -> Edge:
        return output_edge(self.settings)

    def _furnish(self, engine: Engine) -> None:
        assert self._output is not None  # noqa: S101 - _output_edge returns one
        source = SourceIntake(
            engine.loop, self.work, self.settings.publish_timeout, on_end=engine.end
        )
        publisher: Publisher[None] = Publisher(
            engine.publishing,
            self._output,
            self._log,
            on_confirmed=source.confirmed,
            on_refused=source.refused,
            on_failed=engine.fail,
        )
        source.publisher = publisher
        engine.intake = self._source = source
        engine.output_flows = lambda: publisher.is_flowing


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
