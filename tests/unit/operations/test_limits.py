"""How much of a broker stages can take."""

import re
from dataclasses import replace
from typing import Any

from rabbit.operations.definitions import definitions
from rabbit.operations.limits import bounds, user_limits
from rabbit.operations.limits_diff import Limits, missing
from rabbit.topology import EXPIRES_MILLISECONDS, Queue, control_queue, name_lock, own_part
from tests.unit.operations.test_definitions import PIPELINE, pipeline


def bounding(services: dict[str, dict[str, Any]], queue: str) -> list[str]:
    """Return the names of the policies that bound a queue."""
    return [each.name for each in bounds(pipeline(services)) if each.is_for(queue)]


def test_what_a_stage_can_declare_or_fill_is_bounded_by_one_policy() -> None:
    """Of several operator policies RabbitMQ would take one."""
    for queue, name in {
        control_queue("to_upper", "r1"): "pipeline-control-queues",
        name_lock("printer", "r1"): "pipeline-name-locks",
        "control.replies.1f": "pipeline-replies",
        "upper.dead": "pipeline-failed-messages",
        "my_queue.retry.500ms": "pipeline-failed-messages",
    }.items():
        assert bounding(PIPELINE, queue) == [name]


def test_what_is_to_last_or_is_somebody_else_s_is_not() -> None:
    """The mark of a pause, an edge's own queue: a backlog is no mischief."""
    for queue in ("control.paused/printer", "upper", "other.dead", "x.upper"):
        assert bounding(PIPELINE, queue) == []


def test_the_lock_on_a_name_does_not_expire() -> None:
    """Nobody consumes it, so that it would be unused, and gone while its replica runs."""
    (lock,) = [each for each in bounds(pipeline(PIPELINE)) if each.name == "pipeline-name-locks"]

    assert lock.definition == {"max-length": 0}


def test_no_policy_shortens_what_a_replica_declares() -> None:
    """It is there for the queue that was declared without an end."""
    services = {
        "a": {"INPUT_QUEUE": "news", "INPUT_KIND": "broadcast", "RETRY_DELAYS": "7200"},
        **PIPELINE,
    }
    (edge,) = [stage.input("r1") for stage in pipeline(services) if stage.name == "a"]
    assert edge
    queues = [each for each in own_part(edge.for_consuming()) if isinstance(each, Queue)]

    assert len(queues) == 2
    assert bounding(services, "news.a.dead") == ["pipeline-failed-messages"]
    for queue in queues:
        (bound,) = [each for each in bounds(pipeline(services)) if each.is_for(queue.name)]
        assert bound.definition["expires"] >= queue.arguments["x-expires"]
    (control,) = [each for each in bounds(pipeline(services)) if each.is_for("control.a.r1")]
    assert control.definition["expires"] == EXPIRES_MILLISECONDS


def test_limits_grow_with_what_compose_starts() -> None:
    """There is room for a hundred replicas, or twice as many as it starts; two services add up."""
    (few,) = pipeline({"a": {"INPUT_QUEUE": "x"}})
    (ordered,) = pipeline({"a": {"INPUT_QUEUE": "x", "INPUT_KIND": "ordered", "PARTITIONS": "256"}})
    limits = user_limits([few])

    assert limits == {"max-connections": 400, "max-channels": 2000}
    assert user_limits([few, few]) == {name: 2 * most for name, most in limits.items()}
    assert user_limits([ordered])["max-channels"] > 2 * 100 * 256


def test_there_is_room_for_the_queues_of_all_replicas() -> None:
    """Those of the edges, and two for each replica."""
    made = definitions(pipeline(PIPELINE))
    (limits,) = [each for each in made["parameters"] if each["component"] == "vhost-limits"]

    assert limits["value"] == {"max-queues": len(made["queues"]) + 3 * 100 * 2 + 100}
    assert limits["vhost"] == "/"
    assert [re.compile(each["value"]["pattern"]) for each in made["parameters"][1:]]


def test_the_doctor_misses_a_limit() -> None:
    """One that is not there, is larger, or is for others; a smaller one is a wish."""
    declared = pipeline(PIPELINE)
    there = Limits(
        {each.name: each for each in bounds(declared)},
        {name: user_limits([stage]) for name, stage in zip(PIPELINE, declared, strict=True)},
        {"max-queues": 5},
    )
    (first, second, *others) = there.bounds.values()
    smaller = replace(second, definition={"max-length": 0, "expires": 5})
    fewer = {**there.users, "printer": {"max-connections": 1, "max-channels": 1}}
    wrong = {first.name: replace(first, pattern="^control"), **{each.name: each for each in others}}

    def told(there: Limits) -> list[tuple[str, str, str]]:
        return [(each.problem, each.what, each.name) for each in missing(declared, there)]

    assert told(there) == []
    assert told(replace(there, users=fewer, bounds={**there.bounds, second.name: smaller})) == []
    assert told(Limits(wrong, {**there.users, "printer": {"max-channels": 2000}}, {})) == [
        ("differs", "policy", first.name),
        ("missing", "policy", second.name),
        ("differs", "limit", "user printer"),
        ("missing", "limit", "virtual host"),
    ]
