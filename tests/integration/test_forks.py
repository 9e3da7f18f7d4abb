"""Children that a handler forks: they end as any process does, and their parent goes on."""

from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.process import Process
from tests.variations import variations

#: Forks in `work`: what the child does is put in. The parent prints how the child has ended.
FORKING = """
import multiprocessing, os, signal, sys, time
from rabbit import Worker
class Forking(Worker):
    def work(self, message):
        child = os.fork()
        if not child:
            {child}
        else:
            {parent}
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(message, ended, flush=True)
            self.write(message)
Forking.main()
"""


def forking(
    start: Start, edges: dict[str, Any], child: str, parent: str = "pass", **given: Any
) -> Process:
    """Start a stage that forks at each message."""
    return start("-c", FORKING.format(child=child, parent=parent), **edges, **given)


ENDS = [
    ("sys.exit(0)", 0),
    ("sys.exit(7)", 7),
    ("sys.exit('a word')", 1),
    ("raise ValueError('in the child')", 1),
    ("return", 0),
    ("self.write('the child')", 0),
    ("os._exit(5)", 5),
]


@pytest.mark.parametrize(("child", "code"), variations(ENDS), ids=[each[0] for each in ENDS])
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_child_ends_where_its_work_does(
    broker: Broker,
    unique: Unique,
    start: Start,
    edges: dict[str, Any],
    child: str,
    code: int,
    timeout: int | None,
) -> None:
    """It handles no message of its parent's, writes nothing, and leaves the connections alone."""
    broker.put(unique("in"), ["a", "b", "c"])
    stage = forking(start, edges, child, HANDLER_TIMEOUT=timeout)

    taken = broker.take(edges["OUTPUT_QUEUE"], 3)

    assert [each.text for each in taken] == ["a", "b", "c"]
    assert stage.halt() == 0
    assert stage.lines == [f"{text} {code}" for text in "abc"]
    assert "message failed" not in stage.log
    assert ("in the child" in stage.log) == ("in the child" in child)


def test_sigterm_ends_a_child(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """By its default effect; the parent is not told of it, and obeys its own."""
    broker.put(unique("in"), ["a"])
    parent = "time.sleep(0.1); os.kill(child, signal.SIGTERM)"
    stage = forking(start, edges, "time.sleep(3600)", parent)

    assert [each.text for each in broker.take(edges["OUTPUT_QUEUE"], 1)] == ["a"]
    assert stage.lines == ["a -15"]
    assert "halting" not in stage.log
    assert stage.halt() == 0


def test_ctrl_c_is_pythons_own_in_a_child(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """KeyboardInterrupt, which a child may catch."""
    broker.put(unique("in"), ["a"])
    child = """
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(3600)
            except KeyboardInterrupt:
                sys.exit(3)
"""
    stage = forking(start, edges, child)

    assert [each.text for each in broker.take(edges["OUTPUT_QUEUE"], 1)] == ["a"]
    assert stage.lines == ["a 3"]
    assert stage.halt() == 0


MULTIPROCESSING = """
import multiprocessing, time
from rabbit import Worker
def double(text):
    return 2 * text
class Doubling(Worker):
    def work(self, message):
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:  # which it ends by SIGTERM
            [doubled] = pool.map(double, [message])
        idle = context.Process(target=time.sleep, args=(3600,))
        idle.start()
        idle.terminate()
        idle.join()
        print(idle.exitcode, flush=True)
        self.write(doubled)
Doubling.main()
"""


def test_multiprocessing_works_in_a_handler(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """A pool that is terminated ends, a process that is terminated ends."""
    broker.put(unique("in"), ["a", "b"])
    stage = start("-c", MULTIPROCESSING, **edges)

    assert [each.text for each in broker.take(edges["OUTPUT_QUEUE"], 2)] == ["aa", "bb"]
    assert stage.halt() == 0
    assert stage.lines == ["-15", "-15"]


def test_a_child_of_a_source_ends_with_its_work(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """What it would write nobody would send."""
    program = """
import os
from rabbit import Producer
class Forking(Producer):
    def work(self):
        self.write("before")
        child = os.fork()
        self.wait(0)
        self.write("after")
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
Forking.main()
"""
    stage = start("-c", program, ready=False, OUTPUT_QUEUE=unique("out"))

    assert stage.wait() == 0, stage.log
    assert stage.lines == ["0"]
    assert [each.text for each in broker.take(unique("out"), 2)] == ["before", "after"]
