"""What the doctor makes of a pipeline and a broker, both as data."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from rabbit import ConfigurationError
from rabbit.operations.broker_state import BrokerState
from rabbit.operations.compose import DeclaredStage, stages
from rabbit.operations.limits import bounds
from rabbit.operations.policies import Policy
from rabbit.operations.topology_diff import TopologyDiff
from rabbit.topology import (
    Binding,
    Edge,
    Exchange,
    Queue,
    control_of_stage,
    control_subscription,
    marked_stage,
)


def pipeline(**services: dict[str, Any]) -> list[DeclaredStage]:
    """Return the stages of services with these variables."""
    entries = {name: {"environment": variables} for name, variables in services.items()}
    return stages(json.dumps({"services": entries}))


def broker(*edges: Edge, consumed: bool = True) -> BrokerState:
    """Return a broker that has what these edges need, and consumers for each."""
    items = [item for edge in edges for item in edge.for_consuming()]
    items += control_subscription("stage", "r")
    items += [each for stage in ("writer", "reader") for each in control_of_stage(stage)]
    queues = {each.name: dict(each.arguments) for each in items if isinstance(each, Queue)}
    return BrokerState(
        exchanges={each.name: each for each in items if isinstance(each, Exchange)},
        queues=queues,
        messages={name: 0 if marked_stage(name) else 3 for name in queues},
        bindings=frozenset(each for each in items if isinstance(each, Binding)),
        consumers=Counter(edge.queue for edge in edges if consumed),
    )


def test_stages_are_the_services_with_an_edge() -> None:
    """Named by STAGE, or by the STAGE of their image, or else as the service."""
    services = {
        "one": {"environment": {"INPUT_QUEUE": "a", "STAGE": "first", "PREFETCH": 5}},
        "two": {"environment": ["OUTPUT_QUEUE=a", "PREFETCH"], "build": {"args": {"STAGE": "b"}}},
        "three": {"environment": {"INPUT_QUEUE": "a"}, "build": "."},
        "control": {"environment": {"INPUT_QUEUE": None}},
        "rabbitmq": {},
    }

    found = stages(json.dumps({"services": services}))

    assert [each.name for each in found] == ["first", "b", "three"]
    assert found[0].settings.prefetch == 5


def test_only_the_services_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the doctor; files of another container are not looked for."""
    monkeypatch.setenv("OUTPUT_QUEUE", "mine")
    monkeypatch.setenv("PREFETCH", "garbage")

    [stage] = pipeline(one={"INPUT_QUEUE": "a", "RABBITMQ_CA_FILE": "/not/here.pem"})

    assert stage.output is None
    assert stage.settings.prefetch == "auto"


def test_every_wrong_setting_is_told() -> None:
    """A line for each service."""
    with pytest.raises(ConfigurationError) as raised:
        pipeline(one={"INPUT_QUEUE": ""}, two={"OUTPUT_QUEUE": "a", "OUTPUT_KIND": "x"})

    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["one", "two"]


def test_a_broker_as_declared_has_no_findings() -> None:
    """Queues of others are no business of ours."""
    declared = pipeline(
        writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a", "RETRY_DELAYS": "1"}
    )
    existing = broker(Edge("a", delays=(1.0,)))
    theirs = {**existing.queues, "theirs": {}, "their.dead": {}}

    existing = BrokerState(
        existing.exchanges, theirs, existing.messages, existing.bindings, existing.consumers
    )

    assert TopologyDiff(declared, existing).findings() == []


def test_a_replicas_queues_are_known() -> None:
    """Also those of a replica with dots in its name; another argument of them is found."""
    declared = pipeline(
        writer={"OUTPUT_QUEUE": "a", "OUTPUT_KIND": "broadcast"},
        reader={"INPUT_QUEUE": "a", "INPUT_KIND": "broadcast", "RETRY_DELAYS": "1"},
    )
    edge = declared[1].input("r.1")
    assert edge is not None
    existing = broker(edge)

    assert TopologyDiff(declared, existing).findings() == []
    changed = {**existing.queues, edge.queue: {"x-queue-type": "classic"}}
    other = BrokerState(
        existing.exchanges, changed, existing.messages, existing.bindings, existing.consumers
    )
    found = TopologyDiff(declared, other).findings()
    assert {(each.problem, each.name) for each in found} == {("differs", "a.reader.r.1")}


def test_what_no_stage_declares_is_orphaned() -> None:
    """The queue of a stage that is gone, its dead letters and its retries; how much they hold."""
    declared = pipeline(writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a"})
    old = Edge("old", delays=(1.0,))
    new = Edge("a", delays=(1.0, 5.0, 30.0))

    found = TopologyDiff(declared, broker(new, old)).findings()

    assert [each.name for each in found] == ["old", "old.dead", "old.retry.1s"]
    assert {each.problem for each in found} == {"orphaned"}
    assert "messages in it: 3" in found[0].detail


def test_a_binding_that_no_stage_declares_is_told() -> None:
    """From one of ours to one of ours: commands that come as messages, say; not from others."""
    declared = pipeline(writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a"})
    known = broker(Edge("a", delays=(1.0, 5.0, 30.0)))
    more = {Binding("control", "a", ""), Binding("theirs", "a", ""), Binding("a", "theirs", "a")}
    to_exchange = frozenset({Binding("control", "a", "k"), Binding("a", "theirs", "")})
    changed = replace(known, bindings=known.bindings | more, exchange_bindings=to_exchange)

    found = TopologyDiff(declared, changed).findings()

    assert {(each.problem, each.what, each.name) for each in found} == {
        ("undeclared", "binding", "control → a")
    }
    assert sorted(each.detail[:8] for each in found) == ["key '': ", "key 'k':"]


def test_nobody_consumes() -> None:
    """A queue that is there and has no consumer."""
    declared = pipeline(writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a"})
    edge = Edge("a", delays=(1.0, 5.0, 30.0))

    [found] = TopologyDiff(declared, broker(edge, consumed=False)).findings()

    assert (found.problem, found.name, found.stages) == ("unconsumed", "a", ("reader",))


def test_a_paused_stage_is_said_to_be_paused() -> None:
    """Not that nobody reads its queue."""
    declared = pipeline(writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a"})
    existing = broker(Edge("a", delays=(1.0, 5.0, 30.0)), consumed=False)
    messages = {**existing.messages, "control.paused/reader": 1}

    [found] = TopologyDiff(declared, replace(existing, messages=messages)).findings()

    assert (found.problem, found.what, found.name) == ("paused", "stage", "reader")
    assert "make resume STAGE=reader" in found.detail


def test_a_policy_that_loses_what_is_kept() -> None:
    """Once for each effect, with all queues it is on; the queues of others are theirs."""
    declared = pipeline(
        writer={"OUTPUT_QUEUE": "a"}, reader={"INPUT_QUEUE": "a", "RETRY_DELAYS": "1"}
    )
    existing = broker(Edge("a", delays=(1.0,)))
    policy = Policy("policy short", {"message-ttl": 10})
    policies = dict.fromkeys(("a.dead", "control.stage.r", "theirs"), policy)
    queues = {**existing.queues, "theirs": {}}

    [found] = TopologyDiff(declared, replace(existing, queues=queues, policies=policies)).findings()

    assert (found.problem, found.what, found.name) == ("loses", "policy", "policy short")
    assert found.stages == ("writer", "reader")
    assert found.detail == (
        "message-ttl on a.dead, control.stage.r: what is older than 10 ms is dropped; "
        "take message-ttl out of it, or let its pattern leave these queues out"
    )


def test_what_bounds_a_stage_loses_nothing() -> None:
    """As `make secure` makes it; what somebody has made smaller does."""
    declared = pipeline(
        reader={"INPUT_QUEUE": "a", "STAGE": "stage", "RETRY_DELAYS": "1"},
        writer={"OUTPUT_QUEUE": "a"},
    )
    existing = broker(Edge("a", delays=(1.0,)))
    policies = {
        queue: Policy(f"operator policy {each.name}", each.definition)
        for each in bounds(declared)
        for queue in existing.queues
        if each.is_for(queue)
    }

    def found(policies: dict[str, Policy]) -> list[str]:
        diff = TopologyDiff(declared, replace(existing, policies=policies))
        told = [each for each in diff.findings() if each.problem == "loses"]
        return [each.detail.partition(":")[0] for each in told]

    dropped = Policy("more", {**policies["control.stage.r"].definition, "max-length": 3})
    assert policies.keys() == {"control.stage.r", "a.dead", "a.retry.1s"}
    assert found(policies) == []
    assert found({**policies, "control.stage.r": dropped}) == ["max-length on control.stage.r"]


def test_replicas_that_no_command_reaches_are_told() -> None:
    """Their control queue is there and not bound; queues for replies, and others, are none."""
    there = broker()
    private = there.queues["control.stage.r"]
    others = {"control.replies.1": private, "control/stage/r": {"x-queue-type": "classic"}}
    alone = replace(there, bindings=frozenset(), queues={**there.queues, **others})

    assert TopologyDiff([], there).findings() == []
    [found] = TopologyDiff([], alone).findings()
    assert (found.problem, found.name) == ("missing", "control → control.stage.r")
    assert "make halt binds it again" in found.detail


def ordered(**partitions: int) -> list[DeclaredStage]:
    """Return a writer and a reader of an ordered edge, each with so many partitions."""
    edges = {"writer": "OUTPUT", "reader": "INPUT"}
    return pipeline(
        **{
            name: {f"{side}_QUEUE": "orders", f"{side}_KIND": "ordered", "PARTITIONS": number}
            for (name, side), number in zip(edges.items(), partitions.values(), strict=True)
        }
    )


@pytest.mark.parametrize("declared", [1, 3])
def test_another_number_of_partitions_is_one_finding(declared: int) -> None:
    """It says how to change it; queues that are too few or too many are not told of beside it."""
    there = broker(Edge("orders", "ordered", partitions=2))
    there.consumers["orders.0"] += 1

    [found] = TopologyDiff(ordered(writer=declared, reader=declared), there).findings()

    assert (found.problem, found.what, found.name) == ("differs", "edge", "orders")
    assert found.detail.startswith(f"PARTITIONS: declared {declared}, there are 2; set it as it is")
    assert "make repartition ARGS=orders" in found.detail
    assert found.stages == ("writer", "reader")


def test_what_stages_are_given_they_do_not_make() -> None:
    """What is missing is made by `make secure`, as is another number of partitions."""
    there = broker(Edge("orders", "ordered", partitions=2))
    there.consumers["orders.0"] += 1
    given = {"TOPOLOGY": "given", "OUTPUT_QUEUE": "orders", "OUTPUT_KIND": "ordered"}
    writer = {"writer": {**given, "PARTITIONS": 2}}
    reader = {"reader": {"INPUT_QUEUE": "orders", "INPUT_KIND": "ordered", "PARTITIONS": 2}}
    changed = {"writer": {**given, "PARTITIONS": 3}}
    queues = {name: each for name, each in there.queues.items() if name != "orders.1"}
    lost = replace(there, queues=queues)

    [made_by_secure] = missing(TopologyDiff(pipeline(**writer), lost), "orders.1")
    [made_by_reader] = missing(TopologyDiff(pipeline(**writer, **reader), lost), "orders.1")
    [number, *_] = TopologyDiff(pipeline(**changed), there).findings()

    assert made_by_secure == (
        "no stage makes it, with TOPOLOGY=given: make secure; elsewhere import what control "
        "definitions prints, as the administrator"
    )
    assert made_by_reader == "start reader: it is made then"
    assert "make drain, make repartition ARGS=orders, make secure, make up" in number.detail


def missing(diff: TopologyDiff, queue: str) -> list[str]:
    """Return what is said of a queue that is missing."""
    return [
        each.detail for each in diff.findings() if (each.problem, each.name) == ("missing", queue)
    ]


def test_what_else_is_bound_to_an_ordered_edge_is_told() -> None:
    """Whatever its key, queue or exchange: it is given keys, and all others go another way."""
    there = broker(Edge("orders", "ordered", partitions=2))
    there.consumers["orders.0"] += 1
    taps = frozenset({Binding("orders", "tap", "x")})
    changed = replace(there, bindings=there.bindings | taps, exchange_bindings=taps)

    found = TopologyDiff(ordered(writer=2, reader=2), changed).findings()

    assert TopologyDiff(ordered(writer=2, reader=2), there).findings() == []
    assert [(each.problem, each.what, each.name) for each in found] == [
        ("undeclared", "binding", "orders → tap")
    ] * 2
    assert found[0].detail.startswith("key 'x': an ordered edge shares its keys out")


def test_two_stages_with_different_partitions_contradict_each_other() -> None:
    """Whichever comes second cannot start; who differs from the broker is told as well."""
    there = broker(Edge("orders", "ordered", partitions=2))
    there.consumers["orders.0"] += 1

    contradiction, differs = TopologyDiff(ordered(writer=2, reader=3), there).findings()

    assert (contradiction.problem, contradiction.name) == ("contradiction", "orders")
    assert contradiction.detail == (
        "PARTITIONS=2 by writer, PARTITIONS=3 by reader: set the same for all who write or read it"
    )
    assert (differs.problem, differs.stages) == ("differs", ("reader",))


def test_a_partition_that_is_gone_is_missing() -> None:
    """Keys go nowhere then."""
    there = broker(Edge("orders", "ordered", partitions=2))
    there.consumers["orders.0"] += 1
    there = replace(
        there, queues={name: a for name, a in there.queues.items() if name != "orders.1"}
    )

    found = TopologyDiff(ordered(writer=2, reader=2), there).findings()

    assert ("missing", "orders.1") in {(each.problem, each.name) for each in found}
