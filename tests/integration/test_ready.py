"""Promise 7: ready means that messages can be settled; alive means that the loop turns."""

from pathlib import Path
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.ports import free_port
from tests.waiting import wait_until

RECORDER = ("-m", "tests.integration.stages.recorder")
FALLIBLE = ("-m", "tests.integration.stages.fallible")


def test_who_is_refused_is_not_ready(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """A full queue: each message is refused. With room again, it is ready again."""
    worker = start(*FALLIBLE, **edges)
    assert "blocked" not in worker.log
    broker.fill(edges["OUTPUT_QUEUE"])
    broker.put(unique("in"), ["a"])

    wait_until(lambda: not worker.is_ready, 20, "it is not ready")
    worker.wait_log("blocked")
    broker.clear_policy(edges["OUTPUT_QUEUE"])
    worker.wait_ready()

    assert worker.halt() == 0


def test_who_cannot_put_failures_anywhere_is_not_ready(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any], vhost: str
) -> None:
    """The channel for failures is needed, and the broker refuses it."""
    edges |= {"RABBITMQ_VHOST": vhost}
    worker = start(*FALLIBLE, **edges)
    for queue in broker.queues(vhost):
        if queue.startswith(f"{edges['INPUT_QUEUE']}.retry"):
            broker.delete_queue(queue, vhost)
    broker.limit_vhost(vhost, "max-queues", 0)
    broker.put(unique("in"), ["fail"], vhost)

    wait_until(lambda: not worker.is_ready, 20, "it is not ready")
    broker.limit_vhost(vhost, "max-queues", None)
    worker.wait_ready()

    assert worker.halt() == 0


@pytest.mark.thorough
def test_an_alarm_leaves_a_stage_ready(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """It is the broker's, and to start the stage anew helps nobody; also with a first failure."""
    texts = [*["hang 0.05"] * 30, "fail 1", *["hang 0.05"] * 30]
    broker.put(unique("in"), texts)
    with broker.memory_alarm():
        worker = start(*FALLIBLE, PREFETCH=100, **edges)
        worker.wait_log("blocked")
        worker.wait_log("message failed")

        wait_until(lambda: len(worker.lines) == len(texts), 60, "it has handled them all")
        assert worker.is_ready
    wait_until(lambda: broker.depth(edges["OUTPUT_QUEUE"]) == len(texts), 30, "it goes on")
    assert worker.halt() == 0


def test_a_stage_without_a_broker_is_alive(unique: Unique, start: Start, tmp_path: Path) -> None:
    """It is not ready, and must not be started anew for that."""
    alive = tmp_path / "alive"
    given: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "ALIVE_FILE": alive}
    sink = start(*RECORDER, ready=False, RABBITMQ_PORT=free_port(), **given)
    wait_until(alive.exists, 20, "it is alive")
    sink.wait_log("broker unavailable")

    first = alive.stat().st_mtime_ns
    wait_until(lambda: alive.stat().st_mtime_ns > first, 20, "the file is fresh")
    assert not sink.is_ready
    assert sink.halt() == 0
    assert not alive.exists()


def test_a_loop_that_hangs_is_not_alive(unique: Unique, start: Start, tmp_path: Path) -> None:
    """Nothing touches the file any more."""
    alive = tmp_path / "alive"
    program = f"""
import time
from rabbit.runtime.dispatcher import Dispatcher
from pathlib import Path
tick = Dispatcher.tick
def hang(self):
    tick(self)
    if Path({str(alive)!r}).exists():
        print("hangs", flush=True)
        time.sleep(3600)
Dispatcher.tick = hang
import runpy
runpy.run_module({RECORDER[1]!r}, run_name="__main__")
"""
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"), ALIVE_FILE=alive)
    sink.wait_printed("hangs")
    alive.unlink()

    sink.terminate()
    with pytest.raises(AssertionError):
        wait_until(alive.exists, 1.5, "it is alive")


@pytest.mark.parametrize("name", ["READY_FILE", "ALIVE_FILE"])
def test_a_file_in_a_missing_folder_ends_a_stage_at_start(
    unique: Unique, start: Start, tmp_path: Path, name: str
) -> None:
    """Exit code 2, and one line."""
    path = tmp_path / "missing" / "file"
    program = f"""
import os, runpy
os.environ[{name!r}] = {str(path)!r}
runpy.run_module({RECORDER[1]!r}, run_name="__main__")
"""
    sink = start("-c", program, ready=False, INPUT_QUEUE=unique("in"))

    assert sink.wait() == 2
    [line] = sink.log.splitlines()
    assert line.startswith(f"recorder: {name}: '{path}' cannot be written: No such file")


def test_a_ready_file_that_is_taken_away_ends_nothing(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path
) -> None:
    """Nor does its folder: it is said once, and messages flow."""
    folder = tmp_path / "folder"
    folder.mkdir()
    alive = folder / "alive"
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), ALIVE_FILE=alive)

    def is_gone() -> bool:
        alive.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            return False
        return True

    wait_until(is_gone, 20, "the folder is gone")
    sink.wait_log("the health check's file cannot be written")
    broker.put(unique("in"), ["a"])
    wait_until(lambda: sink.lines, 20, "it handles a message")

    assert sink.halt() == 0
    assert sink.log.count("the health check's file cannot be written") == 1
