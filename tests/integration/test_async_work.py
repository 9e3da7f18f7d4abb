"""A stage whose `work` is an `async def`, as a process."""

from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.letters import letters
from tests.waiting import wait_until

AWAITING = ("-m", "tests.integration.stages.awaiting")

#: Ways to fail, and what the dead letter says.
FAILING = {"hang": "HandlerTimeoutError", "cancel": "CancelledError", "exit": "SystemExit"}


def test_many_run_at_a_time_and_one_that_fails_harms_no_other(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Each sees its own message; a stop waits for what runs, and requeues what has not begun."""
    meeting = [f"meet {40}"] * 40
    broker.put(unique("in"), [*FAILING, "leave", *meeting])
    given = edges | {"CONCURRENCY": 44, "HANDLER_TIMEOUT": 1.5, "RETRY_DELAYS": ""}
    worker = start(*AWAITING, **given)

    written = {each.text for each in broker.take(unique("out"), 41)}
    numbers = range(3, 44)
    texts = ["leave", *meeting]
    assert written == {
        f"{text} {unique('in')}-{number}" for text, number in zip(texts, numbers, strict=True)
    }
    dead = letters(broker, f"{unique('in')}.dead", len(FAILING))
    assert {each.body.decode(): each.headers["x-error-type"] for each in dead} == FAILING
    [hung] = [each for each in dead if each.body == b"hang"]
    assert "was cancelled" in hung.headers["x-error-message"]
    worker.wait_log("of no message's work")
    assert "only within work()" in worker.log

    broker.put(unique("in"), ["wait 1"] * 45)
    wait_until(lambda: worker.lines.count("wait 1") == 44, 20, "all that may run do")
    assert worker.halt() == 0
    assert len(broker.take_all(unique("out"))) == 44
    assert broker.depth(unique("in")) == 1
    assert "Task was destroyed" not in worker.log


@pytest.mark.thorough
def test_a_work_that_blocks_the_event_loop_ends_its_replica(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """The log names it, and it counts as failed when its time is up; the others come again."""
    broker.put(unique("in"), ["hang", "block 60"])
    given = edges | {"HANDLER_TIMEOUT": 1, "RETRY_DELAYS": "", "CONCURRENCY": 2}
    worker = start(*AWAITING, **given, DRAIN_TIMEOUT=1)

    assert worker.wait() == 1

    assert [each.body for each in letters(broker, f"{unique('in')}.dead", 1)] == [b"block 60"]
    wait_until(lambda: broker.depth(unique("in")) == 1, 10, "the other one is back")
    [told] = [line for line in worker.log.splitlines() if "stands still" in line]
    assert f"message_id={unique('in')}-1" in told
    assert "awaiting.py:" in told
    assert worker.log.splitlines()[-1].startswith("awaiting: work() has not returned within HAND")


HANGING = """
import asyncio
from contextlib import asynccontextmanager
from rabbit import Consumer
class Hanging(Consumer):
    @asynccontextmanager
    async def resources(self):
        yield
        print("closed", flush=True)
    async def work(self, message: str) -> None:
        print("began", flush=True)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            print("cancelled", flush=True)
Hanging.main()
"""


def test_what_a_stop_does_not_wait_for_is_cancelled(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """When DRAIN_TIMEOUT is over; what the stage has opened is closed after that."""
    broker.put(unique("in"), ["a"])
    stage = start("-c", HANGING, INPUT_QUEUE=unique("in"), DRAIN_TIMEOUT=0.5)
    stage.wait_printed("began")

    assert stage.halt() == 1
    assert stage.lines == ["began", "cancelled", "closed"]
    wait_until(lambda: broker.depth(unique("in")) == 1, 10, "the message is back")
