"""Sources without a broker."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import inf

import pytest

from rabbit import Halted, Producer
from rabbit.testing import harness
from services.producer import Producer as Shipped


class Counter(Producer):
    """Writes numbers, up to one or for ever; notes how it has ended."""

    up_to: int | None = None
    ended = ""

    def work(self) -> None:
        """Write them."""
        try:
            for number in count() if self.up_to is None else range(self.up_to):
                self.write(str(number), None if self.settings.output_kind == "work" else "red")
            self.ended = "returned"
        except Halted:
            self.ended = "halted"
            raise


def test_what_it_has_written_until_it_returned() -> None:
    """Each output with an id of its own, which is its correlation id too."""
    run = harness(Counter, output="there")
    run.stage.up_to = 3

    written = run.run()

    assert (written.outputs, written.keys, written.is_halted) == (
        ["0", "1", "2"],
        3 * [None],
        False,
    )
    assert len(set(written.ids)) == 3
    assert [(each.id, each.correlation_id, each.text) for each in written.messages] == [
        (id_, id_, text) for id_, text in zip(written.ids, written.outputs, strict=True)
    ]
    assert {each.routing_key for each in written.messages} == {"there"}
    assert (run.stage.confirmed, run.stage.ended) == (3, "returned")


def test_one_that_would_never_return_is_halted() -> None:
    """By Halted, as a running one; it can be run again then."""
    run = harness(Counter, output_kind="topic")

    assert run.run(stop_after=2).outputs == ["0", "1"]
    assert (run.written.is_halted, run.written.keys, run.stage.ended) == (
        True,
        ["red", "red"],
        "halted",
    )
    assert run.run(stop_after=0).outputs == []
    run.stage.up_to = 1
    assert not run.run(stop_after=1).is_halted
    with pytest.raises(ValueError, match="stop_after: -1 is below 0"):
        run.run(stop_after=-1)


def test_one_that_fails_raises_what_it_has_raised() -> None:
    """What it has written before is there to be looked at: it would have left."""

    class Failing(Counter):
        def work(self) -> None:
            self.write("a")
            raise LookupError

    class Returning(Producer):
        def work(self) -> str:  # type: ignore[override]
            return "a"

    failing = harness(Failing)
    with pytest.raises(LookupError):
        failing.run()
    assert failing.written.outputs == ["a"]
    with pytest.raises(TypeError, match="returned a str, which goes nowhere"):
        harness(Returning).run()
    with pytest.raises(ValueError, match="no key"):
        harness(Failing, output_kind="topic").run()


def test_it_may_write_in_several_threads_until_it_has_returned() -> None:
    """A thread that it does not wait for is told so."""
    errors: list[BaseException] = []

    class Threads(Producer):
        def work(self) -> None:
            threads = [threading.Thread(target=self.write, args=("a",)) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    run = harness(Threads)
    assert run.run().outputs == 10 * ["a"]
    try:
        run.stage.write("late")
    except RuntimeError as error:
        errors.append(error)
    assert "after work() has returned" in str(errors)


def test_it_can_stop_itself() -> None:
    """`stop` has the next `write` raise Halted, here as in a running one."""

    class Modest(Producer):
        def work(self) -> None:
            self.write("a")
            self.stop()
            self.write("b")

    run = harness(Modest)
    assert run.run().outputs == ["a"]
    assert run.written.is_halted
    assert run.run().outputs == ["a"]


def test_the_producer_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the texts that it is given."""
    monkeypatch.setenv("MESSAGES", "hello world")

    assert harness(Shipped).run().outputs == ["hello", "world"]


def test_waiting_takes_no_time_and_resources_are_open_meanwhile() -> None:
    """A source that polls is tried at once; one that waits for its halt is halted."""

    class Polling(Producer):
        is_open = False
        cleaned = 0

        @contextmanager
        def resources(self) -> Iterator[None]:
            self.is_open = True
            yield
            self.is_open = False

        def work(self) -> None:
            try:
                while True:
                    self.write(str(self.is_open))
                    self.wait(3600)
            finally:
                self.cleaned += 1

    class Listening(Producer):
        def work(self) -> None:
            self.write("a")
            self.wait(inf)

    run = harness(Polling)
    assert run.run(stop_after=3).outputs == 3 * ["True"]
    assert (run.stage.cleaned, run.stage.is_open) == (1, False)
    assert harness(Listening).run().is_halted
