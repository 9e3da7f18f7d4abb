"""What a stage's own code logs, and what the packages that it uses log: lines like all others."""

import json
from typing import Any

from tests.broker import Broker
from tests.conftest import Start, Unique

PROGRAM = """
import logging, os, threading, warnings
from rabbit import Consumer

{before}
theirs = logging.getLogger("theirs")

class Telling(Consumer):
    def __init__(self):
        super().__init__()
        self.log.info("made")
        theirs.info("made")

    def work(self, message):
        self.both.wait(20)  # both messages are handled at a time
        self.log.info("ours", text=message)
        theirs.info("theirs", extra={{"text": message}})
        thread = threading.Thread(target=theirs.info, args=("thread",))
        thread.start()
        thread.join()
        warnings.warn("old " + message)
        if message == "a" and not os.fork():
            self.log.info("child")

    both = threading.Barrier(2)

Telling.main()
"""


def run(start: Start, queue: str, before: str = "", **given: Any) -> list[dict[str, Any]]:
    """Run it until it has handled two messages; return what it has logged."""
    sink = start(
        "-c",
        PROGRAM.format(before=before),
        INPUT_QUEUE=queue,
        CONCURRENCY=2,
        PREFETCH=2,
        REPLICA="r1",
        LOG_FORMAT="json",
        **given,
    )
    sink.wait_log("old a")
    sink.wait_log("old b")
    sink.wait_log("child")
    assert sink.halt() == 0, sink.log
    return [
        json.loads(line) if line.startswith("{") else {"raw": line}
        for line in sink.log.splitlines()
    ]


def test_what_a_stage_and_its_packages_log(broker: Broker, unique: Unique, start: Start) -> None:
    """Each line is bound to the message of the thread that logs; pika tells nothing."""
    broker.put(unique("in"), ["a", "b"])
    ids = {"a": f"{unique('in')}-0", "b": f"{unique('in')}-1"}
    said = run(start, unique("in"), LOG_LEVEL="debug")

    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in said:
        assert (line["stage"], line["replica"]) == ("telling", "r1"), line
        assert not line.get("logger", "").startswith("pika"), line
        by_event.setdefault(line["event"], []).append(line)
    assert [line.get("logger") for line in by_event["made"]] == [None, "theirs"]
    for event in ("ours", "theirs"):
        assert {line["text"]: line["message_id"] for line in by_event[event]} == ids
        assert all(line["correlation_id"] for line in by_event[event])
    assert ["message_id" in line for line in by_event["thread"]] == [False, False]
    assert [line["message_id"] for line in by_event["child"]] == [ids["a"]]
    warned = [line for line in said if line.get("logger") == "py.warnings"]
    assert {line["event"][-1]: line["message_id"] for line in warned} == ids


def test_logging_that_a_program_has_configured_is_its_own(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """What it has configured before `main` stays; the stage's own lines are as ever."""
    broker.put(unique("in"), ["a", "b"])
    before = "logging.basicConfig(format='own: %(message)s', level='INFO')"
    said = run(start, unique("in"), before)

    raw = [line["raw"] for line in said if "raw" in line]
    assert raw.count("own: theirs") == 2
    assert [line["event"] for line in said if line.get("text")] == ["ours", "ours"]
    assert not any("logger" in line for line in said)
