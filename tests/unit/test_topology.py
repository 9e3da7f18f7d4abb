"""What is declared for an edge."""

import pytest

from rabbit.settings import Kind
from rabbit.topology import (
    EXPIRES_MILLISECONDS,
    Binding,
    Edge,
    Exchange,
    Queue,
    control_queue,
    control_subscription,
)

QUORUM = {"x-queue-type": "quorum"}
PRIVATE = {**QUORUM, "x-expires": EXPIRES_MILLISECONDS, "x-delivery-limit": -1}


def shared(dead: str) -> dict[str, str]:
    """Return the arguments of a queue that keeps what is given up at `dead`."""
    return {
        **QUORUM,
        "x-dead-letter-exchange": dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def test_a_work_queue_is_an_exchange_a_queue_and_dead_letters() -> None:
    """The dead letters exist before the queue that needs them."""
    assert [
        Exchange("upper.dead", "fanout"),
        Queue("upper.dead", QUORUM),
        Binding("upper.dead", "upper.dead", ""),
        Exchange("upper", "direct"),
        Queue("upper", shared("upper.dead")),
        Binding("upper", "upper", "upper"),
    ] == list(Edge("upper").for_consuming())


def test_publishing_to_a_work_queue_declares_the_same() -> None:
    """Messages that are published before any consumer exists wait in the queue."""
    edge = Edge("upper")

    assert list(edge.for_consuming()) == list(edge.for_publishing())


@pytest.mark.parametrize(
    ("kind", "type_"), [("broadcast", "fanout"), ("direct", "direct"), ("topic", "topic")]
)
def test_publishing_to_other_kinds_declares_the_exchange_only(kind: Kind, type_: str) -> None:
    """Which queues there are is for the consumers to say."""
    assert [("news", type_)] == [
        (each.name, each.type)
        for each in Edge("news", kind).for_publishing()
        if isinstance(each, Exchange)
    ]
    assert len(list(Edge("news", kind).for_publishing())) == 1


@pytest.mark.parametrize(
    ("kind", "bound_with"),
    [("broadcast", [""]), ("direct", ["red", "blue"]), ("topic", ["red", "blue"])],
)
def test_a_group_has_a_queue_of_its_own(kind: Kind, bound_with: list[str]) -> None:
    """Its name tells exchange and group; direct and topic bind each key."""
    edge = Edge("news", kind, ("red", "blue"), "archive")
    declared = list(edge.for_consuming())

    assert edge.queue == "news.archive"
    assert Queue("news.archive", shared("news.archive.dead")) in declared
    assert [Binding("news", "news.archive", key) for key in bound_with] == [
        each for each in declared if isinstance(each, Binding) and each.exchange == "news"
    ]


def test_a_private_queue_expires_and_leaves_nothing_behind() -> None:
    """It has no dead letters and no delivery limit: nobody would look after them."""
    assert [
        Exchange("news", "fanout"),
        Queue("news.me", PRIVATE),
        Binding("news", "news.me", ""),
    ] == list(Edge("news", "broadcast", group="me", private=True).for_consuming())


def test_a_work_queue_has_one_routing_key() -> None:
    """Other kinds use the key that is asked for."""
    assert Edge("upper").key("ignored") == "upper"
    assert Edge("news", "direct").key("red") == "red"
    assert Edge("news", "broadcast").key(None) == ""


@pytest.mark.parametrize("purge", [True, False])
def test_a_replica_hears_commands_on_a_queue_of_its_own(*, purge: bool) -> None:
    """A new process of the same name forgets what was sent to the one before."""
    assert [
        Exchange("control", "fanout"),
        Exchange("control.replies", "direct"),
        Queue("control.printer.host-1", PRIVATE, purge=purge),
        Binding("control", "control.printer.host-1", ""),
    ] == list(control_subscription("printer", "host-1", purge=purge))
    assert control_queue("printer", "host-1") == "control.printer.host-1"
