"""A source whose work writes in several threads, and threads that outlive the work."""

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from rabbit import Halted, Producer
from tests.broker import Broker
from tests.conftest import Unique
from tests.integration.background import InBackground, Running
from tests.waiting import wait_until

THREADS = 8

#: Together they write more than may be unconfirmed at a time.
COUNT = 500


class Writers(Producer):
    """Writes in several threads, and knows how each `write` has ended."""

    #: Whether the work waits for its threads.
    joins = True

    #: How many messages a thread writes, when nothing ends it.
    count = COUNT

    def work(self) -> None:
        """Start the threads."""
        self.written: list[str] = []
        self.ends: Counter[type[BaseException] | None] = Counter()
        self.writers = [
            threading.Thread(target=self.write_all, args=(number,)) for number in range(THREADS)
        ]
        for writer in self.writers:
            writer.start()
        for writer in self.writers if self.joins else ():
            writer.join()

    def write_all(self, number: int) -> None:
        """Write in one thread, until that is refused."""
        end: type[BaseException] | None = None
        try:
            for index in range(self.count):
                self.write(f"{number} {index}")
                self.written.append(f"{number} {index}")
        except (Halted, RuntimeError) as error:
            end = type(error)
        self.ends[end] += 1

    def wait_ended(self) -> None:
        """Wait until no thread writes any more."""
        wait_until(lambda: self.ends.total() == THREADS, 20, "all threads have ended")


@pytest.fixture
def writers(broker: Broker, unique: Unique) -> Writers:
    """Give such a source, and the queue it writes to."""
    return Writers(unique("writers"), broker.declare(unique("out")), **broker.settings)


def check_queued(broker: Broker, writers: Writers, queue: str) -> None:
    """Check that what `write` has taken is confirmed and queued, once, in each thread's order."""
    messages = broker.take_all(queue)
    texts = [message.text for message in messages]
    assert sorted(texts) == sorted(writers.written)
    assert len({message.id for message in messages}) == len(texts) == writers.confirmed
    for number in range(THREADS):
        indexes = [int(text.split()[1]) for text in texts if text.startswith(f"{number} ")]
        assert indexes == list(range(len(indexes)))


def test_several_threads_write(broker: Broker, unique: Unique, writers: Writers) -> None:
    """All is confirmed, none is lost, no two have the same id."""
    InBackground(writers.start).join()

    assert writers.ends == {None: THREADS}
    assert writers.confirmed == THREADS * COUNT
    check_queued(broker, writers, unique("out"))


def test_a_halt_ends_all_threads_that_write(
    broker: Broker, unique: Unique, writers: Writers
) -> None:
    """Each of them gets `Halted`, also where it waits for room; what it has written is queued."""
    writers.count = 10**9
    with Running(writers):
        wait_until(lambda: broker.depth(unique("out")) > COUNT, 20, "it is in mid-stream")

    writers.wait_ended()
    assert writers.ends == {Halted: THREADS}
    check_queued(broker, writers, unique("out"))


def test_threads_that_outlive_the_work_are_refused(
    broker: Broker, unique: Unique, writers: Writers
) -> None:
    """RuntimeError, also where they wait for room; what was written before is queued."""
    writers.joins, writers.count = False, 10**9

    InBackground(writers.start).join()

    writers.wait_ended()
    assert writers.ends == {RuntimeError: THREADS}
    check_queued(broker, writers, unique("out"))


class Late(Producer):
    """Leaves a thread behind that writes when it is told to."""

    def work(self) -> None:
        """Write one message, and leave the other to the thread."""
        self.go = threading.Event()
        self.write("in time")
        self.late = InBackground(self.write_late)

    def write_late(self) -> None:
        """Write when told to."""
        self.go.wait(20)
        self.write("too late")


def refusing(call: Callable[[], object]) -> None:
    """Check that a `write` says that the work is over."""
    with pytest.raises(RuntimeError, match=r"write\(\) after work\(\) has returned"):
        call()


def test_a_write_after_the_end(broker: Broker, unique: Unique) -> None:
    """Nothing waits for it any more: it is an error, in whatever thread, and publishes nothing."""
    source = Late(unique("late"), broker.declare(unique("out")), **broker.settings)
    InBackground(source.start).join()

    source.go.set()
    refusing(source.late.join)
    refusing(lambda: source.write("outside"))
    assert [message.text for message in broker.take_all(unique("out"))] == ["in time"]
    assert source.confirmed == 1
