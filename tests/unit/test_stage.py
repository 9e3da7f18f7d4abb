"""What a user subclasses, before it connects."""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rabbit import BatchConsumer, ConfigurationError, Consumer, Producer, Worker
from rabbit.message import Message
from rabbit.output import new_output
from rabbit.runtime.batches import BatchHandler
from rabbit.stage import Stage
from rabbit.testing import harness


class ToUpper(Worker):
    """The tutorial's worker, with its constructor."""

    def __init__(self, name: str) -> None:
        """Name the queues, as the tutorial does."""
        super().__init__(name, "my_queue", "upper")

    def work(self, message: str) -> None:
        """Write the message in upper case."""
        self.write(message.upper())


class Printer(Consumer):
    """A sink."""

    def work(self, message: str) -> None:
        """Do nothing with it."""


class Lines(Producer):
    """A source."""

    def work(self) -> None:
        """Write one message."""
        self.write("hello")


class HTTPLog(Printer):
    """A sink with capitals in its name."""


def test_the_tutorials_constructor() -> None:
    """A name and two queues are all it takes."""
    stage = ToUpper("worker-1")

    assert stage.name == "worker-1"
    assert stage.settings.input_queue == "my_queue"
    assert stage.settings.output_queue == "upper"


def test_the_environment_names_what_the_code_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the same class runs anywhere."""
    monkeypatch.setenv("REPLICA", "printer-7")
    monkeypatch.setenv("INPUT_QUEUE", "upper")
    stage = Printer()

    assert (stage.name, stage.settings.input_queue) == ("printer-7", "upper")


def test_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code says is not overridden by the environment."""
    monkeypatch.setenv("REPLICA", "elsewhere")
    monkeypatch.setenv("INPUT_QUEUE", "elsewhere")
    monkeypatch.setenv("CONCURRENCY", "9")
    stage = Printer("here", "upper", concurrency=2)

    assert stage.name == "here"
    assert (stage.settings.input_queue, stage.settings.concurrency) == ("upper", 2)


@pytest.mark.parametrize(
    ("stage", "name"), [(ToUpper("w"), "to_upper"), (Printer(input="q"), "printer")]
)
def test_a_stage_is_called_as_its_class(stage: Stage, name: str) -> None:
    """In snake case, as folders and services are."""
    assert name == stage.stage


def test_a_stage_may_be_called_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """STAGE tells two uses of one class apart."""
    monkeypatch.setenv("STAGE", "archive")

    assert Printer(input="q").stage == "archive"


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Printer, "INPUT_QUEUE is not set: name the queue to consume"),
        (Lines, "OUTPUT_QUEUE is not set: name the queue to publish to"),
    ],
)
def test_a_queue_without_a_name_is_an_error(stage: type[Stage], message: str) -> None:
    """It is said before anything is connected."""
    with pytest.raises(ConfigurationError) as raised:
        stage()

    assert message == str(raised.value)


def test_a_wrong_setting_ends_the_process_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback, and the name of the stage in front."""
    monkeypatch.setenv("RABBITMQ_PORT", "garbage")

    with pytest.raises(SystemExit) as raised:
        Printer.main()

    expected = (
        "printer: RABBITMQ_PORT: 'garbage' is not allowed; allowed: a port number, 1 to 65535\n"
    )
    assert raised.value.code == 2
    assert ("", expected) == capsys.readouterr()


def test_writing_outside_of_work_is_an_error() -> None:
    """There is no input to ack for it, and nobody who sends it."""
    with pytest.raises(RuntimeError, match="only within work"):
        ToUpper("w").write("lost")
    with pytest.raises(RuntimeError, match="is for work"):
        Lines(output="q").write("lost")


def test_a_source_has_confirmed_nothing_before_it_starts() -> None:
    """It can be asked at any time."""
    assert Lines(output="q").confirmed == 0


@pytest.mark.parametrize("wrong", [dict, object, {"a": 1}, None])
def test_settings_that_are_none_of_ours_are_one_line(
    wrong: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what to do."""
    stage: Any = type("Odd", (Printer,), {"Settings": wrong})

    with pytest.raises(SystemExit) as ended:
        stage.main()

    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        "odd: Odd.Settings is no settings class of the library: "
        "make it one, class Settings(rabbit.Settings)"
    )


class Telling(Consumer):
    """Tells of each message."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        """Tell that it is there."""
        super().__init__(*arguments, **given)
        self.log.info("made")

    def work(self, message: str) -> None:
        """Tell its length."""
        self.log.info("took it", length=len(message))
        self.log.debug("not told")


def test_a_line_of_the_stages_own_is_bound_to_its_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To the stage and its replica always, to the message while it is handled."""
    told = harness(Telling, "t1", log_format="json")
    told.send("hello", message_id="m1")
    told.stage.log.warning("idle")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    always = {"stage": "telling", "replica": "t1"}
    assert [{**line, "timestamp": ""} for line in lines] == [
        {"timestamp": "", **always, **line}
        for line in (
            {"event": "made", "level": "info"},
            {
                "event": "took it",
                "level": "info",
                "length": 5,
                "message_id": "m1",
                "correlation_id": "m1",
            },
            {"event": "idle", "level": "warning"},
        )
    ]


class TellingLater(Consumer):
    """Tells of each message from its task, and from a thread of it."""

    async def work(self, message: str) -> None:
        """Tell, after others have had their turn."""
        await asyncio.sleep(0.01)
        self.log.info(message)
        await asyncio.to_thread(self.log.info, message)


class TellingOfMany(BatchConsumer):
    """Tells of each batch."""

    def work(self, messages: list[str]) -> None:
        """Tell."""
        self.log.info(" ".join(messages))


def test_a_line_is_bound_to_the_message_of_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many on one event loop, and in threads that a task begins."""
    told = harness(TellingLater, log_format="json")
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda each: told.send(each, message_id=f"id-{each}"), "abcde"))

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sorted((line["event"], line["message_id"]) for line in lines) == [
        (each, f"id-{each}") for each in "aabbccddee"
    ]


def test_a_line_about_many_messages_tells_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    """And about one, which."""
    told = harness(TellingOfMany, log_format="json")
    told.send("a", message_id="m1")
    properties = new_output(b"", "m2", "c2").properties
    messages = [
        Message(text, properties, redelivered=False, routing_key="") for text in (b"b", b"c")
    ]
    handler = told.stage.__rabbit_handler__
    assert isinstance(handler, BatchHandler)
    handler.run_batch(messages)

    alone, both = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (alone["event"], alone["message_id"]) == ("a", "m1")
    assert (both["event"], both["messages"]) == ("b c", 2)
    assert "message_id" not in both


class _Mixin:
    """Something of somebody else's that has a `log`."""

    def log(self) -> str:
        """Tell whose it is."""
        return "theirs"


class OwnMethod(Printer, _Mixin):  # type: ignore[misc] # what mypy would refuse still runs
    """Inherits a `log`, behind the library's classes."""


class OwnAttribute(Printer):
    """Sets a `log`, before the library has made its own."""

    def __init__(self) -> None:
        """As in any class."""
        self.log = logging.getLogger("own")  # type: ignore[assignment] # likewise
        super().__init__(input="q")


class OwnProperty(Printer):
    """Has one that fails."""

    @property
    def log(self) -> str:  # type: ignore[override] # likewise
        """Fail."""
        return str(self.missing)  # type: ignore[attr-defined]


def test_a_log_of_ones_own_is_kept() -> None:
    """A method, an attribute, a property: the name was free before."""
    assert OwnMethod(input="q").log() == "theirs"  # type: ignore[operator]
    assert OwnAttribute().log is logging.getLogger("own")  # type: ignore[comparison-overlap]
    with pytest.raises(AttributeError, match="missing"):
        _ = OwnProperty(input="q").log


def test_what_is_built_in_a_program_leaves_its_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `main` has the standard library's logging come out like the stage's."""
    monkeypatch.setattr(logging.root, "handlers", [])
    Printer(input="q")

    assert logging.root.handlers == []


class Batched(BatchConsumer):
    """Does nothing with many."""

    def work(self, messages: list[str]) -> None:
        """Do nothing."""


def _batch_of(annotation: object, **attributes: object) -> type[BatchConsumer]:
    """Return a class whose `work` takes that."""

    def work(self: BatchConsumer, messages: Any) -> None:
        """Do nothing."""

    work.__annotations__["messages"] = annotation
    return type("Odd", (BatchConsumer,), {"work": work, **attributes})


@pytest.mark.parametrize("annotation", [list, list[str], list[bytes], list[dict[str, int]], Any])
def test_a_batch_is_a_list_of_anything(annotation: object) -> None:
    """Of what a message can be read as."""
    assert _batch_of(annotation)(input="q").batch_size == 500


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (_batch_of(str), r"Odd: work is called with a list of messages: annotate it with list"),
        (_batch_of(tuple[str, ...]), r"annotate it with list\[str\]"),
        (_batch_of(list[str], batch_size=0), r"Odd\.batch_size is 0: make it a number, 1 or more"),
        (type("Both", (Batched, Worker), {}), r"Both: a BatchConsumer is a sink"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(stage: type[BatchConsumer], said: str) -> None:
    """When the stage is built, in one line."""
    with pytest.raises(ConfigurationError, match=said):
        stage(input="q", output="r") if issubclass(stage, Worker) else stage(input="q")
