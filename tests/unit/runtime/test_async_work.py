"""A stage whose `work` is an `async def`, without a broker."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rabbit import Consumer, Worker
from rabbit.message import Message
from rabbit.runtime.async_handlers import AsyncHandler
from rabbit.testing import Harness, harness


class Echo(Worker):
    """Does what the text says, and writes."""

    left: "asyncio.Task[None]"
    stray_error: BaseException | None = None

    async def work(self, message: str) -> None:
        """Do it."""
        await getattr(self, message)()

    async def gathered(self) -> None:
        """Write from tasks."""
        await asyncio.gather(*(self.put(str(number)) for number in range(3)))

    async def put(self, text: str) -> None:
        """Write after a moment."""
        await asyncio.sleep(0.001)
        self.write(f"{text} {self.message.text}")

    async def returns(self) -> str:
        """Return what is meant for nobody; `work` passes it on in `value`."""
        return "x"

    async def leaves(self) -> None:
        """Leave a task behind that writes."""
        self.left = asyncio.create_task(self.late())

    async def late(self) -> None:
        """Write when `work` has returned."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        try:
            self.write("late")
        except RuntimeError as error:
            self.stray_error = error

    async def waits_for_it(self) -> None:
        """Wait for the task that another message has left behind."""
        await self.left

    async def cancels(self) -> None:
        """Be cancelled by its own hand."""
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(30)

    async def exits(self) -> None:
        """Ask for the end of the process."""
        sys.exit(3)

    async def exits_late(self) -> None:
        """Leave a task behind that does."""
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0.01)

    async def stops(self) -> None:
        """Stop the event loop."""
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)
        self.write("went on")


@pytest.fixture(scope="module")
def echo() -> Harness[Echo]:
    """Return a stage."""
    return harness(Echo)


def test_tasks_that_work_begins_write_for_its_message(echo: Harness[Echo]) -> None:
    """They know its message, too."""
    sent = echo.send("gathered")

    assert sorted(sent.outputs) == [f"{number} gathered" for number in range(3)]
    assert sent.settled == "acked"


def test_threads_that_work_begins_write_for_its_message() -> None:
    """At the same time, and no two outputs have one id: who drops duplicates would lose one."""

    async def work(_: str) -> None:
        numbers = range(200)
        await asyncio.gather(*(asyncio.to_thread(made.write, str(n), None) for n in numbers))

    made = AsyncHandler(work, "stage")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        call = made.run(Message(b"a", b"\x00\x00", redelivered=False, routing_key=""))
    finally:
        sys.setswitchinterval(before)

    assert sorted(int(output.body) for output in call.outputs) == list(range(200))
    assert len({output.id for output in call.outputs}) == 200


def test_a_task_that_is_left_behind_writes_nothing(echo: Harness[Echo]) -> None:
    """Its message is settled by then: it is told so."""
    assert echo.send("leaves").outputs == []
    sent = echo.send("waits_for_it")

    assert (sent.outputs, sent.settled) == ([], "acked")
    assert "only within work()" in str(echo.stage.stray_error)


def test_the_end_of_a_task_is_a_failure_of_its_message(echo: Harness[Echo]) -> None:
    """The stage goes on."""
    sent = echo.send("cancels")

    assert (type(sent.error), sent.settled) == (asyncio.CancelledError, "retried")
    assert echo.send("gathered").settled == "acked"


def test_a_work_that_asks_for_the_end_ends_no_event_loop(echo: Harness[Echo]) -> None:
    """It ends the test, as with a plain function, and its message would have failed."""
    with pytest.raises(SystemExit):
        echo.send("exits")

    assert echo.send("gathered").settled == "acked"


@pytest.mark.parametrize(("text", "outputs"), [("exits_late", []), ("stops", ["went on"])])
def test_what_work_does_to_the_event_loop_does_not_end_it(
    echo: Harness[Echo], text: str, outputs: list[str]
) -> None:
    """Neither what it calls there nor a stop: other messages are on it."""
    sent = echo.send(text)

    assert (sent.outputs, sent.settled) == (outputs, "acked")


class Open(Consumer):
    """Has something open, and cancels all tasks that there are beside its own."""

    is_open = False

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        """Be open."""
        self.is_open = True
        try:
            yield
        finally:
            self.is_open = False

    async def work(self, message: str) -> None:
        """Cancel all, and see whether it is open still."""
        del message
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.001)
        assert self.is_open


def test_what_an_async_stage_has_open_is_open_until_its_end() -> None:
    """Whatever becomes of the tasks on its event loop."""
    with harness(Open) as fed:
        assert fed.send("x").error is None
        assert fed.send("x").error is None
    assert not fed.stage.is_open


def test_what_an_async_work_returns_fails_its_message() -> None:
    """As with a plain function."""

    class Returning(Consumer):
        async def work(self, message: str) -> Any:
            return message

    assert "a str, which goes nowhere" in str(harness(Returning).send("a").error)


def test_what_is_no_text_never_reaches_work(echo: Harness[Echo]) -> None:
    """It is a dead letter at once, as with a plain function."""
    assert echo.send(b"\xff").settled == "dead-lettered"


def test_a_subclass_says_how_its_work_is_run() -> None:
    """A plain function in place of an `async def`, in the thread of who sends."""

    class Plain(Echo):
        def work(self, message: str) -> None:  # type: ignore[override]
            self.write(f"{message} {threading.current_thread() is threading.main_thread()}")

    assert harness(Plain).send("a").outputs == ["a True"]


def test_the_harness_works_within_an_event_loop() -> None:
    """Of a test that is an `async def` itself: the stage has an event loop of its own."""

    async def test() -> list[str]:
        return harness(Echo).send("gathered").outputs

    assert len(asyncio.run(test())) == 3


def test_an_event_loop_that_nobody_needs_ends() -> None:
    """So does its thread; a thousand tests leave none behind."""
    made = harness(Echo)
    made.send("gathered")
    thread = made._handler.event_loop._thread  # type: ignore[attr-defined]  # noqa: SLF001
    del made
    gc.collect()
    thread.join(5)

    assert not thread.is_alive()
