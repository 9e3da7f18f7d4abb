"""What is declared for an edge."""

from typing import Any

import pytest

from rabbit.topology import (
    EXPIRES_MILLISECONDS,
    RETRY_EXPIRES_MILLISECONDS,
    Binding,
    Declaration,
    Edge,
    Exchange,
    Kind,
    Queue,
    check_declarations,
    check_name,
    control_queue,
    control_subscription,
    is_control_queue,
    marked_stage,
    pause_mark,
)

QUORUM = {"x-queue-type": "quorum"}
PRIVATE = {**QUORUM, "x-expires": EXPIRES_MILLISECONDS, "x-delivery-limit": -1}


KEPT = {**QUORUM, "x-delivery-limit": -1, "x-overflow": "reject-publish"}


def shared(dead: str) -> dict[str, Any]:
    """Return the arguments of a queue whose messages go to `dead` when they are given up."""
    return {
        **QUORUM,
        "x-dead-letter-exchange": dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def fanout(name: str, arguments: dict[str, Any]) -> list[Declaration]:
    """Return an exchange and its only queue."""
    return [Exchange(name, "fanout"), Queue(name, arguments), Binding(name, name, "")]


WORK = [
    Queue("upper", shared("upper.dead")),
    Exchange("upper", "direct"),
    Binding("upper", "upper", "upper"),
    *fanout("upper.dead", KEPT),
]
BACK = [Exchange("upper.back", "fanout"), Binding("upper.back", "upper", "")]


def test_a_work_queue_is_an_exchange_a_queue_and_dead_letters() -> None:
    """The queue comes first: when one of other arguments exists, nothing else is made."""
    assert [*WORK, *BACK] == list(Edge("upper").for_consuming())


def test_publishing_to_a_work_queue_declares_it_too() -> None:
    """Messages that are published before any consumer exists wait in the queue."""
    assert list(Edge("upper", delays=(1.0,)).for_publishing()) == WORK


def test_each_delay_has_a_queue_of_its_own() -> None:
    """What waits there goes back to the queue it came from, and is not lost if that is away."""
    waiting = {**shared("upper.back"), "x-delivery-limit": -1}

    assert [
        *WORK,
        *BACK,
        *fanout("upper.retry.1s", {**waiting, "x-message-ttl": 1000}),
        *fanout("upper.retry.250ms", {**waiting, "x-message-ttl": 250}),
    ] == list(Edge("upper", delays=(1.0, 0.25, 1.0)).for_consuming())


@pytest.mark.parametrize(
    ("delay", "name"),
    [(1, "1s"), (0.5, "500ms"), (1.5, "1500ms"), (30.0, "30s"), (0.001, "1ms"), (86400, "86400s")],
)
def test_the_name_of_a_retry_queue_tells_the_delay(delay: float, name: str) -> None:
    """Whoever looks at the queues sees for how long messages wait in them."""
    assert Edge("upper").retry_queue(delay) == f"upper.retry.{name}"


def stays(declared: Declaration) -> Exchange | None:
    """Return an exchange that does not go with its last binding."""
    return declared if isinstance(declared, Exchange) and not declared.auto_delete else None


def test_the_queue_of_one_replica_leaves_its_dead_letters_behind() -> None:
    """All that is its own expires, after its longest delay; dead letters stay, for the stage."""
    edge = Edge(
        "news",
        "broadcast",
        (),
        "mail.me",
        private=True,
        delays=(2.0,),
        dead_letters="news.mail.dead",
    )
    declared = {
        each.name: each.arguments for each in edge.for_consuming() if isinstance(each, Queue)
    }

    assert [each.name for each in map(stays, edge.for_consuming()) if each] == [
        "news",
        "news.mail.dead",
    ]
    assert declared == {
        "news.mail.me": {**shared("news.mail.dead"), "x-expires": EXPIRES_MILLISECONDS},
        "news.mail.dead": KEPT,
        "news.mail.me.retry.2s": {
            **shared("news.mail.me.back"),
            "x-message-ttl": 2000,
            "x-delivery-limit": -1,
            "x-expires": RETRY_EXPIRES_MILLISECONDS + 2000,
        },
    }


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
        Queue("news.me", PRIVATE),
        Exchange("news", "fanout"),
        Binding("news", "news.me", ""),
    ] == list(Edge("news", "broadcast", group="me", private=True).for_consuming())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "an empty name"),
        ("amq.topic", "belongs to the broker"),
        ("two\nlines", "control characters"),
        ("a\x00b", "control characters"),
        ("two\u2028lines", "control characters"),
        ("half\udcff", "control characters"),
        (256 * "x", "has 256 bytes: 255 allowed"),
        (128 * "ü", "has 256 bytes: 255 allowed"),
    ],
)
def test_a_name_that_cannot_be(name: str, reason: str) -> None:
    """AMQP cannot carry it, or the broker makes another one of it."""
    with pytest.raises(ValueError, match=reason):
        check_name(name)


def test_any_other_name_can_be() -> None:
    """Up to the last byte of a short string."""
    for name in (255 * "x", "with blanks, ü and .", "amq", "xamq.x"):
        assert name == check_name(name)


@pytest.mark.parametrize(
    ("edge", "composed"),
    [
        (Edge(243 * "x", "topic", ("a",), "group", delays=(1.0,)), ".group.retry.1s"),
        (Edge(251 * "x"), ".dead"),
        (Edge(100 * "x", "broadcast", (), "y.z", private=True, dead_letters=256 * "d"), "ddd"),
    ],
)
def test_names_that_are_composed_have_to_fit_too(edge: Edge, composed: str) -> None:
    """Before anything is declared; the line says which name it is."""
    with pytest.raises(ValueError, match=rf"{composed}' has 2\d\d bytes"):
        check_declarations(edge.for_consuming())


def test_keys_to_bind_with_have_to_fit() -> None:
    """As those to publish with."""
    with pytest.raises(ValueError, match="a routing key of 256 bytes"):
        check_declarations(Edge("news", "topic", (256 * "k",), "me").for_consuming())


def test_an_edge_knows_its_keys() -> None:
    """One of a work queue would be ignored; one that is forgotten would reach nobody."""
    with pytest.raises(ValueError, match="the edge has no keys: 'upper' is of kind work"):
        Edge("upper").check_key("")
    for kind in ("direct", "topic"):
        with pytest.raises(ValueError, match=f"no key: 'news' is of kind {kind}"):
            Edge("news", kind).check_key(None)
        assert Edge("news", kind).check_key("") == ""
    with pytest.raises(ValueError, match="a routing key of 256 bytes"):
        Edge("news", "direct").check_key(128 * "ü")
    assert Edge("upper").check_key(None) is None
    assert Edge("news", "broadcast").check_key(None) is None
    assert Edge("news", "broadcast").check_key("told along") == "told along"


def test_a_work_queue_has_one_routing_key() -> None:
    """Other kinds use the key that is asked for."""
    assert Edge("upper").key("ignored") == "upper"
    assert Edge("news", "direct").key("red") == "red"
    assert Edge("news", "broadcast").key(None) == ""


def test_a_replica_hears_commands_on_a_queue_of_its_own() -> None:
    """Beside it, its stage has a queue for the mark that it is paused, which lasts."""
    mark = {"x-queue-type": "quorum", "x-max-length": 1, "x-delivery-limit": -1}
    assert [
        Exchange("control", "fanout"),
        Exchange("control.replies", "direct"),
        Exchange("control.paused", "direct"),
        Queue("control.paused/printer", mark),
        Binding("control.paused", "control.paused/printer", "printer"),
        Queue("control.printer.host-1", PRIVATE),
        Binding("control", "control.printer.host-1", ""),
    ] == list(control_subscription("printer", "host-1"))
    assert control_queue("printer", "host-1") == "control.printer.host-1"
    assert marked_stage(pause_mark("printer")) == "printer"
    assert not marked_stage("control.paused")
    assert not marked_stage("control/paused/printer")
    assert not is_control_queue(pause_mark("printer"), PRIVATE)


def test_an_ordered_edge_is_a_queue_for_each_partition() -> None:
    """What says how many there are comes first: where it differs, nothing is made."""
    edge = Edge("orders", "ordered", partitions=2)
    declared = list(edge.for_consuming())
    made = {each.name: each for each in declared if isinstance(each, Queue)}

    assert declared == list(edge.for_publishing())
    assert declared[0] == made["orders.partitions"]
    assert made["orders.partitions"].arguments["x-max-length"] == 2
    assert edge.queues == ("orders.0", "orders.1")
    assert all(made[queue].arguments["x-single-active-consumer"] for queue in edge.queues)
    assert Exchange("orders", "x-modulus-hash") in declared
    one = list(edge.for_partition(1))
    assert [each for each in declared if each in one] == one
    assert Binding("orders", "orders.0", "0") not in one


@pytest.mark.parametrize("key", [None, ""])
def test_an_ordered_edge_needs_a_key(key: str | None) -> None:
    """A message without one has no order."""
    with pytest.raises(ValueError, match="'orders' is of kind ordered, which keeps the order"):
        Edge("orders", "ordered", partitions=2).check_key(key)
