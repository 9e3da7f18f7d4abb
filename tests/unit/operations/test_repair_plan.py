"""What can be done about differences, and what is left to a person."""

from collections import Counter
from dataclasses import replace

from rabbit.operations.repair_plan import Orphan, repair_plan
from rabbit.operations.topology_diff import TopologyDiff
from rabbit.topology import Binding, Edge, Exchange, Queue
from tests.unit.operations.test_topology_diff import broker, pipeline

READER = pipeline(reader={"INPUT_QUEUE": "a", "RETRY_DELAYS": ""})


def test_nothing_to_do() -> None:
    """Where all is as declared."""
    plan = repair_plan(TopologyDiff(READER, broker(Edge("a"))))

    assert plan.is_empty
    assert plan.left == []


def test_what_is_missing_is_made_in_order() -> None:
    """Exchanges, queues, bindings; those of a queue that is missing, too."""
    there = broker(Edge("a"))
    queues = {name: each for name, each in there.queues.items() if name != "a.dead"}
    exchanges = {name: each for name, each in there.exchanges.items() if name != "a.back"}
    bindings = there.bindings - {Binding("a.dead", "a.dead", ""), Binding("a.back", "a", "")}

    plan = repair_plan(
        TopologyDiff(READER, replace(there, exchanges=exchanges, queues=queues, bindings=bindings))
    )

    assert [type(each) for each in plan.create] == [Exchange, Queue, Binding, Binding]
    assert plan.left == []


def test_what_was_interrupted_goes_on() -> None:
    """Also where the queue itself is gone: nobody else makes it then."""
    there = broker(Edge("a"))
    queues = {name: each for name, each in there.queues.items() if name != "a"}
    queues["a.moving"] = {"x-queue-type": "quorum"}

    plan = repair_plan(TopologyDiff(READER, replace(there, queues=queues)))

    assert [each.queue.name for each in plan.move] == ["a"]
    assert plan.stages == ["reader"]
    assert plan.create == []
    assert [each.problem for each in plan.left] == []


def test_the_dead_letters_of_what_is_not_empty_stay() -> None:
    """And so does what somebody reads."""
    there = broker(Edge("a"), Edge("old"), Edge("gone"), Edge("read"))
    messages = {"old": 1}
    consumers = Counter({"a": 1, "read": 1})

    plan = repair_plan(TopologyDiff(READER, replace(there, messages=messages, consumers=consumers)))

    assert plan.delete == [
        Orphan("gone", "", ("gone", "gone.back")),
        Orphan("gone.dead", "gone", ("gone.dead",)),
    ]
    assert {each.name for each in plan.left} == {"old", "old.dead", "read", "read.dead"}


def test_contradictions_are_left() -> None:
    """Whatever was made, the other stage could not start."""
    declared = pipeline(
        one={"INPUT_QUEUE": "a", "QUEUE_TYPE": "classic", "RETRY_DELAYS": ""},
        two={"INPUT_QUEUE": "a", "RETRY_DELAYS": ""},
    )

    plan = repair_plan(TopologyDiff(declared, broker(Edge("a"))))

    assert plan.is_empty
    assert "contradiction" in {each.problem for each in plan.left}
