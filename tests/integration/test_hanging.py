"""Whatever hangs: the loop goes on where it can, and DRAIN_TIMEOUT holds where it cannot."""

import signal
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.process import Process
from tests.variations import variations
from tests.waiting import wait_until

RECORDER = "tests.integration.stages.recorder"
FALLIBLE = "tests.integration.stages.fallible"

#: Has a stream go into a pipe that is full, and that nobody reads.
FULL = """
import os
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"x" * 65536)
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, {})
"""

#: How long a process may take to end that gives up after one second, on a machine under load.
GIVES_UP_SECONDS = 15.0


def run(before: str, module: str = RECORDER) -> tuple[str, str]:
    """Run a stage after something has been changed."""
    ending = f'import runpy\nrunpy.run_module({module!r}, run_name="__main__")\n'
    return "-c", f"{before}\n{ending}"


def gives_up(process: Process, code: int = 1) -> None:
    """Check that a process ends soon, with this code, and says that it has given up."""
    began = monotonic()

    assert process.wait() == code, process.log
    assert monotonic() - began < GIVES_UP_SECONDS
    assert process.log.count("gave up") == 1, process.log


@pytest.mark.thorough
def test_a_stderr_that_nobody_reads_stops_nothing(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Messages flow and fail, heartbeats go on, SIGTERM has its effect: exit code 0."""
    texts = [*["fail 1"] * 100, "a"]
    broker.put(unique("in"), texts)
    given = edges | {"RETRY_DELAYS": "0.001", "RABBITMQ_HEARTBEAT": 1}
    worker = start(*run(FULL.format(2), FALLIBLE), **given)

    taken = broker.take(edges["OUTPUT_QUEUE"], len(texts))
    assert sorted(each.text for each in taken) == sorted(texts)
    began = monotonic()
    wait_until(lambda: monotonic() > began + 4, 6, "several heartbeats are due")
    assert worker.is_running
    assert worker.is_ready

    assert worker.halt() == 0


def test_a_stdout_that_nobody_reads_is_given_up(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """The handler hangs in its print, buffered: exit code 1 after DRAIN_TIMEOUT, and one line."""
    broker.put(unique("in"), ["a"])
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "DRAIN_TIMEOUT": 1}
    sink = start(*run(FULL.format(1)), PYTHONUNBUFFERED=None, **given)
    wait_until(lambda: broker.depth(unique("in")) == 0, 20, "it has the message")

    sink.terminate()

    gives_up(sink)
    assert "gave up after DRAIN_TIMEOUT=1 s" in sink.log
    assert "Fatal Python error" not in sink.log
    wait_until(lambda: broker.depth(unique("in")) == 1, 20, "the message is queued")


HANGING_LOOP = """
import time
from rabbit.runtime.dispatcher import Dispatcher
def hang(self):
    print("hangs", flush=True)
    time.sleep(3600)
Dispatcher.{method} = hang
"""


@pytest.mark.parametrize("before", variations(["", FULL.format(2)]), ids=["", "nobody reads"])
def test_a_loop_that_hangs_is_given_up(unique: Unique, start: Start, before: str) -> None:
    """The signal is heard all the same; the line says where it hangs, if anybody reads it."""
    before += HANGING_LOOP.format(method="tick")
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "DRAIN_TIMEOUT": 1}
    sink = start(*run(before), ready=False, **given)
    sink.wait_printed("hangs")

    began = monotonic()
    sink.terminate()

    assert sink.wait() == 1
    assert monotonic() - began < GIVES_UP_SECONDS
    if not before.startswith(FULL[:5]):
        assert sink.log.count("gave up: DRAIN_TIMEOUT is over") == 1
        assert "hangs='MainThread at " in sink.log
        assert "(hang)" in sink.log


def test_a_second_signal_ends_a_stage_whose_loop_hangs(unique: Unique, start: Start) -> None:
    """At once, with exit code 1."""
    hanging = run(HANGING_LOOP.format(method="tick"))
    sink = start(*hanging, ready=False, INPUT_QUEUE=unique("in"), DRAIN_TIMEOUT=60)
    sink.wait_printed("hangs")

    began = monotonic()

    def has_ended() -> bool:
        sink.send(signal.SIGTERM)  # the kernel makes one of two that come too fast
        return not sink.is_running

    wait_until(has_ended, 20, "it has ended")

    assert sink.wait() == 1
    assert monotonic() - began < GIVES_UP_SECONDS


@pytest.mark.thorough
def test_a_broadcast_halt_that_hangs_is_given_up_with_0(
    unique: Unique, start: Start, vhost: str
) -> None:
    """Who was told to halt stays down."""
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "DRAIN_TIMEOUT": 1}
    sink = start(*run(HANGING_LOOP.format(method="halt")), RABBITMQ_VHOST=vhost, **given)

    halt = start(
        *("-m", "services.control", "halt", "--timeout", "3"), ready=False, RABBITMQ_VHOST=vhost
    )

    gives_up(sink, 0)
    assert halt.wait() == 1


HANGING_EXITS = {
    "an exit handler": """
import atexit, time
def hang():
    time.sleep(3600)
atexit.register(hang)
""",
    "a thread": """
import threading, time
def hang():
    time.sleep(3600)
threading.Thread(target=hang, name="user's").start()
""",
}


@pytest.mark.thorough
@pytest.mark.parametrize("what", variations(HANGING_EXITS))
def test_an_exit_that_hangs_is_given_up(unique: Unique, start: Start, what: str) -> None:
    """What a user's code does at the end is the stage's, too: exit code 1, and what hangs."""
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "DRAIN_TIMEOUT": 1}
    sink = start(*run(HANGING_EXITS[what]), **given)

    sink.terminate()

    gives_up(sink)
    assert "halted" in sink.log
    assert "(hang)" in sink.log


def test_an_exit_that_takes_its_time_is_waited_for(unique: Unique, start: Start) -> None:
    """What ends within DRAIN_TIMEOUT is no failure."""
    before = """
import atexit, time
atexit.register(print, "done", flush=True)
atexit.register(time.sleep, 0.5)
"""
    sink = start(*run(before), INPUT_QUEUE=unique("in"))

    assert sink.halt() == 0
    assert sink.lines == ["done"]


def test_exit_handlers_run_although_a_handler_hangs(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Also what is printed and not flushed gets out."""
    before = """
import atexit
atexit.register(print, "done")
"""
    broker.put(unique("in"), ["a"])
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "DELAY": 60, "DRAIN_TIMEOUT": 1}
    sink = start(*run(before), PYTHONUNBUFFERED=None, **given)
    wait_until(lambda: sink.lines, 20, "it handles the message")

    sink.terminate()

    gives_up(sink)
    assert sink.lines[-1] == "done"


@pytest.mark.thorough
def test_a_handler_that_holds_the_interpreter_is_given_up(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """Not even the watchdog's thread gets on then: the process ends a little later, with 1."""
    flag = tmp_path / "flag"
    program = f"""
import re, time
from pathlib import Path
from rabbit import Consumer
class Regular(Consumer):
    def work(self, message):
        print("waits", flush=True)
        while not Path({str(flag)!r}).exists():
            time.sleep(0.01)
        re.match("(a+)+$", "a" * 60 + "b")
Regular.main()
"""
    broker.put(unique("in"), ["a"])
    sink = start("-c", program, INPUT_QUEUE=unique("in"), DRAIN_TIMEOUT=1)
    sink.wait_printed("waits")
    sink.terminate()
    sink.wait_log("halting")
    began = monotonic()
    flag.touch()

    assert sink.wait() == 1
    assert monotonic() - began < GIVES_UP_SECONDS


@pytest.mark.thorough
def test_a_program_that_goes_on_after_its_stage_is_left_alone(unique: Unique, start: Start) -> None:
    """`start` has returned: nobody watches what comes after."""
    program = f"""
import time
from tests.integration.stages.recorder import Recorder
Recorder(input={unique("in")!r}, drain_timeout=1.0).start()
print("halted", flush=True)
time.sleep(7)
print("goes on", flush=True)
"""
    sink = start("-c", program)

    assert sink.halt() == 0
    assert sink.lines == ["halted", "goes on"]


def test_a_log_without_a_reader_ends_nothing(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Standard error is closed, or a pipe whose reader has gone: messages flow; exit code 0."""
    for before in ("os.close(2)", "r, w = os.pipe(); os.dup2(w, 2); os.close(r)"):
        broker.put(unique("in"), ["fail 1"])
        given = edges | {"RETRY_DELAYS": "0.001", "REPLICA": None}
        worker = start(*run(f"import os; {before}", FALLIBLE), **given)

        assert [each.text for each in broker.take(edges["OUTPUT_QUEUE"], 1)] == ["fail 1"]
        assert worker.halt() == 0
