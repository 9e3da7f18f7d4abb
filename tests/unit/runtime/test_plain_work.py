"""Work that cannot be meant so is refused when the stage is built, or fails its message."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from rabbit import ConfigurationError, Consumer, Producer, Settings, Worker
from rabbit.amqp.connection import Connection
from rabbit.amqp.loop import Loop
from rabbit.amqp.outage_log import OutageLog
from rabbit.logs import logger
from rabbit.message import Message
from rabbit.runtime.runner import Connections
from rabbit.runtime.source import Source
from rabbit.testing import Harness, harness
from rabbit.topology import Edge


async def a_coroutine(*_: object) -> None:
    """Do nothing when it is called."""


async def an_async_generator(*_: object) -> AsyncIterator[int]:
    """Likewise."""
    yield 1


def a_generator(*_: object) -> Iterator[int]:
    """Likewise."""
    yield 1


class Late:
    """An object that is called."""

    async def __call__(self, *_: object) -> None:
        """Do nothing when it is called."""


@functools.wraps(a_coroutine)
async def decorated(*_: object) -> None:
    """Do nothing when it is called."""


GENERATORS: list[Callable[..., object]] = [
    an_async_generator,
    a_generator,
    functools.partial(functools.partial(a_generator), 1),
]
COROUTINES: list[Callable[..., object]] = [
    a_coroutine,
    Late(),
    decorated,
    functools.partial(a_coroutine, 1),
    staticmethod(a_coroutine),
]


def made(base: type, **of: Any) -> type[Any]:
    """Return a stage with these attributes."""
    return type("Odd", (base,), of)


@pytest.mark.parametrize("base", [Worker, Consumer, Producer])
@pytest.mark.parametrize("work", GENERATORS)
def test_work_that_nobody_would_run_is_refused(
    base: type, work: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the stage is built: exit code 2, and what to do."""
    monkeypatch.setenv("INPUT_QUEUE", "in")
    monkeypatch.setenv("OUTPUT_QUEUE", "out")

    with pytest.raises(ConfigurationError, match=r"^Odd: work is a generator, which nobody runs"):
        made(base, work=work)()


@pytest.mark.parametrize("work", COROUTINES)
def test_a_coroutine_is_no_work_of_a_source(
    work: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `write` waits, which nothing on an event loop may; a worker's does not."""
    monkeypatch.setenv("OUTPUT_QUEUE", "out")

    with pytest.raises(ConfigurationError, match=r"^Odd: work is an async def, .*plain function"):
        made(Producer, work=work)()


@pytest.mark.parametrize("work", COROUTINES)
def test_a_coroutine_is_work(work: Callable[..., object]) -> None:
    """However it is wrapped, it is awaited."""
    sent = harness(made(Worker, work=work)).send("a")

    assert (sent.settled, sent.error) == ("acked", None)


@pytest.mark.parametrize(
    ("base", "work", "said"),
    [
        (Worker, lambda _self: None, r"work\(self, message\): too many positional"),
        (Worker, lambda _self, _a, _b: None, r"work\(self, message\): missing a required"),
        (Producer, lambda _self, _a: None, r"work\(self\): missing a required"),
        (Worker, 3, "work is no function"),
    ],
)
def test_work_with_other_arguments_is_refused(
    base: type, work: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likewise."""
    monkeypatch.setenv("INPUT_QUEUE", "in")
    monkeypatch.setenv("OUTPUT_QUEUE", "out")

    with pytest.raises(ConfigurationError, match=said):
        made(base, work=work)()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (a_coroutine, "a coroutine, which nobody runs"),
        (a_generator, "a generator, which nobody runs"),
        (an_async_generator, "a async_generator, which"),
        (str, r"a str, which goes nowhere: outputs are written with self\.write"),
        (lambda: True, "a bool, which goes nowhere"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_work_returns_fails_its_message(returned: Callable[[], object], said: str) -> None:
    """A plain function that returns something has not done what was meant."""
    sent = harness(made(Worker, work=lambda _self, _message: returned())).send("a")

    assert sent.settled == "retried"
    with pytest.raises(TypeError, match=said):
        raise sent.error or AssertionError


def test_a_source_that_returns_something_fails() -> None:
    """The process ends with that error."""
    settings = Settings.load()
    log = logger(settings)
    loop = Loop(lambda: None)
    publishing = Connection(loop, settings, "publishes", OutageLog(log))
    work: Any = a_coroutine
    source = Source(Connections(loop, publishing, publishing), Edge("x"), settings, work, log)
    source._run()  # noqa: SLF001 - what its thread runs
    source.turn()

    assert source.end
    assert isinstance(source.end.error, TypeError)
    with pytest.raises(RuntimeError, match="after work"):
        source.write("late", None)
    loop.close()


class Careless(Worker):
    """Calls its own things what it likes."""

    def __init__(self, *arguments: str) -> None:
        """Choose names that the library might have had."""
        super().__init__(*arguments)
        for name in ("output", "input", "stopped", "log", "handler", "engine", "source", "run"):
            setattr(self, f"_{name}", [])
            setattr(self, f"_Stage__{name}", [])
        self.name = self.stage = "mine"

    def _furnish(self) -> None:
        raise AssertionError

    def _input_edge(self) -> None:
        raise AssertionError

    _output_edge = _input_edge

    def work(self, message: str) -> None:
        """Write it."""
        self.write(message)


def test_a_stage_may_call_its_attributes_what_it_likes() -> None:
    """The library's are elsewhere."""
    assert harness(Careless).send("a").outputs == ["a"]


class Forgetful(Worker):
    """Does not call the library's constructor."""

    def __init__(self) -> None:
        """Forget it."""

    def work(self, message: str) -> None:
        """Write it."""
        self.write(message)


class Hasty(Forgetful):
    """Uses what is not there yet."""

    def __init__(self) -> None:
        """Look at the settings."""
        assert self.settings


@pytest.mark.parametrize("stage", [Forgetful, Hasty])
def test_a_constructor_that_was_not_called_is_told(
    stage: type[Worker], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, in the harness and as a process."""
    with pytest.raises(ConfigurationError, match=r"has to call super\(\).__init__\(\) first"):
        harness(stage)
    with pytest.raises(SystemExit) as raised:
        stage.main()

    assert raised.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{stage.__name__}.__init__ has to call super().__init__() first")


def test_what_a_property_raises_is_told_as_it_is() -> None:
    """Not as a missing property."""

    def bad(_self: object) -> object:
        return asyncio.no_such_thing  # type: ignore[attr-defined]

    stage = harness(made(Worker, work=lambda _self, _message: None, bad=property(bad))).stage

    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = stage.bad


def test_handle_cannot_be_overridden() -> None:
    """A running stage would not call it."""

    def handle(_self: object, _message: Message) -> None:
        raise AssertionError

    with pytest.raises(ConfigurationError, match=r"Odd: handle\(\) .* define work\(\)"):
        harness(made(Worker, work=lambda _self, _message: None, handle=handle))


@pytest.mark.parametrize("base", [Worker, Consumer, Producer])
def test_a_stage_without_work_is_refused(base: type) -> None:
    """In one line, as what is wrong with its work."""
    with pytest.raises(ConfigurationError, match=r"^Odd does not define work"):
        made(base)()


def test_work_that_is_set_too_late_is_refused() -> None:
    """The other one would run, and nobody would have looked at this one."""
    stage = harness(made(Worker, work=lambda _self, _message: None)).stage
    stage.work = a_coroutine

    with pytest.raises(ConfigurationError, match="work was set after super"):
        Harness(stage)
    with pytest.raises(ConfigurationError, match="work was set after super"):
        stage.start()


def test_the_harness_knows_what_a_running_stage_knows() -> None:
    """Not what the stage calls its own since."""
    fed = harness(made(Consumer, work=lambda _self, message: int(message) / 0), retry_delays=(1,))
    fed.stage.settings = fed.stage.name = fed.stage.stage = None

    assert fed.send("1").settled == "retried"
