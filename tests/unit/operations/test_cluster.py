"""What the doctor makes of three brokers, as data."""

from typing import Any

from rabbit.operations.cluster import Cluster, Node

A, B, C = "rabbit@a", "rabbit@b", "rabbit@c"


def view(*running: str, **changed: Node) -> list[Node]:
    """Return three nodes, of which these run, as one of them sees them."""
    nodes = {name: Node(name, name in running, version="4.3.6") for name in (A, B, C)}
    return list((nodes | {each.name: each for each in changed.values()}).values())


def queue(*members: str, online: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return a quorum queue with copies on these nodes."""
    return {"name": "q", "members": list(members), "online": list(online or members)}


def found(*views: list[Node], queues: tuple[dict[str, Any], ...] = ()) -> list[tuple[str, str]]:
    """Return what is found: problem and name."""
    return [(each.problem, each.name) for each in Cluster(views, queues).findings()]


def test_nothing_is_wrong_where_all_is_well() -> None:
    """With three brokers, and with one that is alone; a classic queue has no copies."""
    well = view(A, B, C)

    assert found(well, well, well, queues=(queue(A, B, C), {"name": "classic"})) == []
    assert found([Node(A, runs=True)], queues=(queue(A),)) == []


def test_a_node_that_is_away() -> None:
    """It is named once, and its copies are not told of one by one."""
    seen = view(A, B)

    assert found(seen, seen, queues=(queue(A, B, C, online=(A, B)),)) == [("down", C)]


def test_a_cut_between_nodes() -> None:
    """Both sides answer, and do not see each other: neither is said to be down."""
    cut = Cluster([view(A, B), view(A, B), view(C)])

    findings = cut.findings()

    assert {(each.problem, each.name) for each in findings} == {
        ("partition", A),
        ("partition", B),
        ("partition", C),
    }
    assert [each.detail for each in findings if each.name == C] == [
        f"it runs, and is not seen by {A} and {B}: the network between is cut"
    ]


def test_maintenance_and_versions() -> None:
    """Of a node that runs; one that is away has no version."""
    drained = Node(B, runs=True, is_drained=True, version="4.3.6")
    newer = Node(C, runs=True, version="4.4.0")

    assert found(view(A, B, C, b=drained, c=newer)) == [
        ("maintenance", B),
        ("version", "RabbitMQ"),
    ]


def test_a_queue_with_too_few_copies() -> None:
    """Fewer than there are nodes, or one that does not run although its node does."""
    well = view(A, B, C)

    assert found(well, queues=(queue(A, B),)) == [("members", "q")]
    assert found(well, queues=(queue(A, B, C, online=(A, B)),)) == [("members", "q")]


def test_what_the_api_tells() -> None:
    """A node that does not run has neither version nor applications."""
    applications = [{"name": "stdlib", "version": "7"}, {"name": "rabbit", "version": "4.3.6"}]
    told = {"name": A, "running": True, "being_drained": True, "applications": applications}

    assert Node.of(told) == Node(A, runs=True, is_drained=True, version="4.3.6")
    assert Node.of({"name": B, "running": False}) == Node(B, runs=False)
