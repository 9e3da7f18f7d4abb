"""How the queues are put together for a person."""

from rabbit.operations.management import Depth, fold, pause_marks


def test_retries_and_dead_letters_are_with_their_queue() -> None:
    """One row for each queue that somebody reads; the control queues are not shown."""
    messages = {
        "one": (5, 2),
        "one.dead": (3, 1),
        "one.retry.1s": (1, 0),
        "one.retry.500ms": (2, 0),
        "two": (0, 0),
        "control.printer.r": (1, 0),
    }

    assert fold(messages) == {
        "one": Depth(ready=5, in_flight=2, retrying=3, dead_letters=4),
        "two": Depth(),
    }


def test_partitions_are_one_edge() -> None:
    """A queue whose name merely ends in a number is one by itself."""
    messages = {
        "orders.0": (5, 2),
        "orders.1": (1, 0),
        "orders.partitions": (0, 0),
        "orders.dead": (3, 0),
        "lonely.7": (1, 0),
    }

    assert fold(messages) == {
        "orders": Depth(ready=6, in_flight=2, dead_letters=3),
        "lonely.7": Depth(ready=1),
    }


def test_what_belongs_to_no_queue_stands_for_itself() -> None:
    """The dead letters of a broadcast edge stay when the replica's queue has gone."""
    messages = {"news.recorder.dead": (3, 0), "of.somebody.retry": (1, 0)}

    assert fold(messages) == {
        "news.recorder.dead": Depth(ready=3),
        "of.somebody.retry": Depth(ready=1),
    }


def test_marks_of_paused_stages_are_no_queues_of_theirs() -> None:
    """They tell which stages can be paused, and which are."""
    messages = {"control.paused/a": (1, 0), "control.paused/b": (0, 0), "control.a.r": (5, 0)}

    assert pause_marks(messages) == {"a": True, "b": False}
    assert fold(messages) == {}
