"""Steps 5 and 6: stages in threads of one process, and one HALT for all of them."""

from tests.broker import Broker
from tests.process import START_SECONDS, Process
from tests.tutorial.conftest import Run
from tests.waiting import wait_until


def wait_consumers(broker: Broker, vhost: str, printers: int) -> None:
    """Wait until every stage consumes."""
    wait_until(
        lambda: (
            broker.consumers("my_queue", vhost) == 1
            and broker.consumers("upper", vhost) == printers
        ),
        START_SECONDS,
        f"a worker and {printers} printers consume",
    )


def halted_in_order(workflow: Process, stages: int) -> None:
    """Check that a workflow has ended by itself, and that each of its stages said so."""
    assert workflow.wait() == 0
    assert "Traceback" not in workflow.log
    assert workflow.log.count(" halted ") == stages


def test_a_workflow_prints_in_upper_case(run: Run, broker: Broker, vhost: str) -> None:
    """Messages flow through both stages; without a pill, HALT is a message like any other."""
    workflow = run("workflow")
    run("producer").wait()
    broker.put("my_queue", ["HALT", "still here"], vhost)

    wait_until(lambda: len(workflow.lines) >= 4, START_SECONDS, lambda: workflow.log)
    assert workflow.lines == ["HELLO", "WORLD", "HALT", "STILL HERE"]
    assert workflow.is_running


def test_one_pill_halts_the_workflow(run: Run, broker: Broker, vhost: str) -> None:
    """It goes through the stages behind all messages: each is printed, then the program ends."""
    workflow = run("workflow", POISON_PILL="HALT")
    run("producer").wait()
    broker.put("my_queue", ["HALT"], vhost)

    halted_in_order(workflow, stages=2)
    assert workflow.lines[:2] == ["HELLO", "WORLD"]
    assert workflow.lines[2:] == ["bye"]


def test_what_comes_behind_the_pill_stays(run: Run, broker: Broker, vhost: str) -> None:
    """It waits for the next workflow, and none of it is lost."""
    broker.put("my_queue", ["hello", "HALT", "world"], vhost)
    halted_in_order(run("workflow", POISON_PILL="HALT"), stages=2)
    assert [taken.text for taken in broker.take_all("my_queue", vhost)] == ["world"]


def test_two_printers_share_the_work_and_one_pill(run: Run, broker: Broker, vhost: str) -> None:
    """Both print, each message is printed once, and one HALT reaches both of them."""
    workflow = run("workflow2", POISON_PILL="HALT")
    wait_consumers(broker, vhost, printers=2)
    broker.put("my_queue", [*"abcdefgh", "HALT"], vhost)

    halted_in_order(workflow, stages=3)
    *printed, last = workflow.lines
    assert last == "bye"
    by_printer = [line.split(": ") for line in printed]
    assert sorted(text for _, text in by_printer) == [*"ABCDEFGH"]
    assert {name for name, _ in by_printer} == {"printer1", "printer2"}
    # The last of them has passed the pill on, to an output that it has not: nothing is left.
    assert broker.take_all("my_queue", vhost) == broker.take_all("upper", vhost) == []
