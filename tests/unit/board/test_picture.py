"""The pipeline as it is drawn, and what is said of it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from rabbit.control.messages import Report, State
from rabbit.operations.looks import Look, Seen
from rabbit.operations.management import Depth
from services.board.picture import MOST_UNREAD, Drawn, eta
from services.board.problems import ending

SINCE = datetime(2026, 11, 26, tzinfo=UTC)


def _seen(stage: str, number: int = 1, **told: Any) -> Seen:
    edges = {
        "to_upper": ("my_queue", "upper"),
        "printer": ("upper", None),
        "producer": (None, "my_queue"),
    }
    consumes, produces = edges[stage]
    given = {
        "command_id": "c",
        "stage": stage,
        "replica": f"r{number}",
        "consumes": consumes,
        "exchange": consumes,
        "produces": produces,
        "state": State.RUNNING,
        "in_flight": 0,
        "handled": 0,
        "failed": 0,
        "since": SINCE,
        "process": f"{stage}-{number}",
    }
    return Seen(f"{stage}/r{number}", Report(**{**given, **told}))


def _silent(stage: str) -> Seen:
    return Seen(f"{stage}/r1", None, "cut off or killed, since 12:00:00 UTC")


def _draw(drawn: Drawn, moment: float, *replicas: Seen, **depths: Depth) -> dict[str, Any]:
    return drawn.draw(Look(moment, replicas, depths), 1_000_000 + moment)


def _row(picture: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    (row,) = [each for each in picture["rows"] if (each["kind"], each["name"]) == (kind, name)]
    return dict(row)


def _wrong(picture: dict[str, Any]) -> list[str]:
    return [each["what"] for each in picture["problems"]]


def test_stages_and_queues_stand_in_flow_order() -> None:
    """Each queue in front of the stage that reads it; what nobody reads comes last."""
    picture = _draw(
        Drawn(),
        0,
        _seen("printer"),
        _seen("producer"),
        _seen("to_upper"),
        upper=Depth(),
        my_queue=Depth(),
        old=Depth(ready=3),
    )

    assert [each["name"] for each in picture["rows"]] == [
        "producer",
        "my_queue",
        "to_upper",
        "upper",
        "printer",
        "old",
    ]
    assert _row(picture, "queue", "upper")["writers"] == ["to_upper"]
    assert _wrong(picture) == ["Nobody reads old: 3 messages wait"]


def test_the_bottleneck_is_where_messages_wait_longest() -> None:
    """It says how fast, and when the queue is empty."""
    drawn = Drawn()
    for second in range(0, 31, 5):
        picture = _draw(
            drawn,
            second,
            _seen("to_upper", handled=100 * second),
            _seen("printer", handled=10 * second),
            my_queue=Depth(),
            upper=Depth(ready=4000 - 5 * second, in_flight=10),
        )

    assert picture["verdict"] == {
        "bottleneck": "printer",
        "queue": "upper",
        "waiting": 3860,
        "eta": pytest.approx(772),
    }
    queue = _row(picture, "queue", "upper")
    assert (queue["out"], queue["in"]) == (pytest.approx(10), pytest.approx(5))


def test_for_how_long_the_oldest_message_has_waited() -> None:
    """Of what came while the board looked; before that, as long as it has looked."""
    drawn = Drawn()
    _draw(drawn, 0, _seen("printer", handled=0), upper=Depth(ready=10))
    first = _draw(drawn, 6, _seen("printer", handled=5), upper=Depth(ready=8))
    then = _draw(drawn, 8, _seen("printer", handled=12, in_flight=1), upper=Depth(0, 1))
    last = _draw(drawn, 10, _seen("printer", handled=12), upper=Depth(ready=1))

    ages = [_row(each, "queue", "upper") for each in (first, then, last)]
    assert [(each["oldest_seconds"], each["oldest_is_exact"]) for each in ages] == [
        (6, False),
        (None, False),
        (7, True),
    ]


def test_a_queue_that_grows() -> None:
    """It never catches up, and how to help is said."""
    drawn = Drawn()
    for second in range(0, 31, 5):
        picture = _draw(
            drawn, second, _seen("printer", handled=10 * second), upper=Depth(ready=50 * second)
        )

    assert picture["verdict"]["eta"] == "grows"
    (problem,) = picture["problems"]
    assert problem["what"] == "The queue upper grows by 50 messages/s: printer does not keep up"
    assert problem["command"] == "docker compose up -d --scale printer=N printer"


def test_a_burst_that_is_over() -> None:
    """The queue has grown within the window, and is worked off: soon it is known until when."""
    drawn = Drawn()
    for second in range(0, 15, 2):
        ready = 1000 - 20 * second if second else 0
        picture = _draw(
            drawn, second, _seen("printer", handled=20 * second), upper=Depth(ready=ready)
        )

    assert picture["verdict"]["eta"] == pytest.approx(720 / 20)
    assert _wrong(picture) == []


def test_the_line_of_a_stage_ends_with_its_work() -> None:
    """The figure beside it is of a longer time: it is steady, and goes on for as long."""
    drawn = Drawn()
    for second in range(0, 30, 2):
        picture = _draw(drawn, second, _seen("to_upper", handled=min(800, 100 * second)))

    stage = _row(picture, "stage", "to_upper")
    assert (max(stage["line"]), stage["line"][-3:]) == (100, [0, 0, 0])
    assert stage["rate"] > 20


def test_a_stage_that_handles_nothing_while_messages_wait() -> None:
    """After a minute it is stuck, and not before."""
    drawn = Drawn()
    looks = ((second, _seen("printer"), Depth(ready=7)) for second in range(0, 121, 5))
    told = [_wrong(_draw(drawn, second, seen, upper=depth)) for second, seen, depth in looks]

    assert told[8] == []
    assert "printer has handled nothing for 1" in told[-1][0]


def test_a_stage_without_a_replica_stays_in_the_picture() -> None:
    """After a halt it is seen what was there; its queue is read by nobody then."""
    drawn = Drawn()
    _draw(drawn, 0, _seen("to_upper"), _seen("printer"), my_queue=Depth(), upper=Depth())

    picture = _draw(drawn, 5, _seen("to_upper"), my_queue=Depth(), upper=Depth(ready=2))

    assert [each["name"] for each in picture["rows"]] == [
        "my_queue",
        "to_upper",
        "upper",
        "printer",
    ]
    assert _row(picture, "stage", "printer")["count"] == 0
    (problem,) = picture["problems"]
    assert (problem["what"], problem["cure"]) == (
        "Nobody reads upper: 2 messages wait",
        "start printer:",
    )


def test_an_alarm_is_told_apart_from_a_full_queue() -> None:
    """Of who cannot answer it is known what it reads; nothing else is said of its queue."""
    drawn = Drawn()
    worker = _seen("to_upper")
    _draw(drawn, 0, worker, my_queue=Depth(ready=5))
    unheard = Seen(worker.name, None, earlier=worker.report, alarm="low on memory")
    blocked = [_draw(drawn, moment, unheard, my_queue=Depth(ready=5)) for moment in range(1, 200)][
        -1
    ]
    refused = _draw(Drawn(), 0, _seen("to_upper", state=State.BLOCKED), my_queue=Depth(ready=5))

    assert _wrong(blocked) == ["to_upper/r1 cannot publish or answer: the broker takes no messages"]
    assert _row(blocked, "queue", "my_queue")["reader"] == "to_upper"
    assert _wrong(refused) == ["to_upper/r1 finds no queue that takes its output"]


def test_one_missed_look_is_no_silence() -> None:
    """The last answer holds for a few seconds; then the replica is silent, and why is said."""
    drawn = Drawn()
    _draw(drawn, 0, _seen("printer", handled=5))

    soon = _draw(drawn, 2, _silent("printer"))
    late = _draw(drawn, 12, _silent("printer"))

    assert _row(soon, "stage", "printer")["states"] == {"running": 1}
    assert _row(late, "stage", "printer")["states"] == {"silent": 1}
    assert _wrong(late) == ["printer/r1 does not answer"]


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ({"state": State.GAVE_UP}, "printer/r1 gave up after DRAIN_TIMEOUT"),
        ({"trouble": "no right\nto read"}, "printer/r1: no right\\nto read"),
        ({"oldest_seconds": 400.0}, "printer has been at one message for 7 min"),
    ],
)
def test_what_a_replica_says_is_wrong(told: dict[str, Any], what: str) -> None:
    """It is said in words, and in one line."""
    assert _wrong(_draw(Drawn(), 0, _seen("printer", **told))) == [what]


def test_dead_letters_and_many_retries() -> None:
    """Those of a broadcast edge have a queue of their own, and count for its edge."""
    picture = _draw(
        Drawn(),
        0,
        _seen("printer"),
        upper=Depth(dead_letters=1, retrying=99),
        **{"news.log.dead": Depth(ready=4), "news.log.*": Depth()},
    )

    assert _wrong(picture) == [
        "printer gave up 1 message of upper",
        "99 messages of upper wait for another attempt",
        "4 messages of news.log.* were given up",
    ]


def test_two_hundred_replicas_fold() -> None:
    """All are counted, and drawn up to a bound."""
    picture = _draw(Drawn(), 0, *(_seen("printer", number) for number in range(300)))

    stage = _row(picture, "stage", "printer")
    assert stage["count"] == 300
    assert stage["states"] == {"running": 300}
    assert len(stage["replicas"]) == 250


@pytest.mark.parametrize(
    ("waiting", "out", "growth", "told"),
    [
        (0, 10.0, 0.0, "empty"),
        (5, None, None, None),
        (5, 10.0, 0.0, 0.5),
        (1000, 10.0, 0.0, "level"),
        (1000, 10.0, 5.0, "grows"),
        (1000, 10.0, -5.0, 200.0),
        (1000, 0.0, 0.0, "stuck"),
        (1000, 0.0, 3.0, "stuck"),
    ],
)
def test_when_a_queue_is_empty(
    waiting: int, out: float | None, growth: float | None, told: float | str | None
) -> None:
    """Or why that cannot be said."""
    assert eta(waiting, out, growth) == told


def test_a_stage_that_is_paused_is_not_called_stuck() -> None:
    """That its messages wait is meant so, with replicas and without; it is said as a note."""
    for replicas in ((), (_seen("printer", state=State.PAUSED),)):
        drawn = Drawn()
        _draw(drawn, 0, _seen("printer"), upper=Depth())
        look = Look(5, replicas, {"upper": Depth(ready=9)}, ("printer",))

        picture = drawn.draw(look, 1_000_005)

        assert _row(picture, "stage", "printer")["paused"]
        (problem,) = picture["problems"]
        assert (problem["rank"], problem["what"]) == (
            "note",
            "printer is paused: 9 messages wait in upper",
        )


def test_a_certificate_that_ends_soon() -> None:
    """Two weeks before, and with the command that replaces it."""
    (problem,) = ending({"rabbitmq:5671": 3 * 86400.0, "rabbitmq2:5671": 99 * 86400.0}, 0.0)

    assert problem["what"] == "The certificate of rabbitmq:5671 ends in 3 days"
    assert problem["command"] == "make secure ROTATE=certificates"


def test_a_certificate_that_has_ended() -> None:
    """It is as bad as it gets: connections that are there go on, and no other comes."""
    (problem,) = ending({"rabbitmq:5671": 86400.0}, 86401.0)

    assert (problem["rank"], problem["what"]) == (
        "alarm",
        "The certificate of rabbitmq:5671 has ended",
    )
    assert problem["command"] == "make secure ROTATE=certificates"


def test_what_comes_after_a_quiet_time_is_no_trouble() -> None:
    """A stage without work is not idle; half a second after it came, nothing is known yet."""
    drawn = Drawn()
    for second in range(0, 300, 2):
        _draw(drawn, second, _seen("printer", handled=50), upper=Depth())

    picture = _draw(drawn, 300, _seen("printer", handled=50, in_flight=1), upper=Depth(4, 1))

    assert _wrong(picture) == []
    assert picture["verdict"]["bottleneck"] is None
    assert _row(picture, "queue", "upper")["eta"] is None
    for second in range(302, 366, 2):
        picture = _draw(drawn, second, _seen("printer", handled=50, in_flight=1), upper=Depth(4, 1))
    assert picture["verdict"]["eta"] == "stuck"
    (wrong,) = _wrong(picture)
    assert wrong == "printer has handled nothing for 64 s while 4 messages wait in upper"


def test_after_an_outage_rates_are_of_what_was_seen_since() -> None:
    """Not of ten minutes in which nobody looked."""
    drawn = Drawn()
    for second in range(0, 40, 2):
        _draw(drawn, second, _seen("printer", handled=100 * second), upper=Depth(ready=50_000))
    rates = []
    for second in range(640, 652, 2):
        handled = 4000 + 100 * (second - 640)
        picture = _draw(drawn, second, _seen("printer", handled=handled), upper=Depth(ready=50_000))
        rates.append(_row(picture, "stage", "printer")["rate"])

    assert rates == [None, None, *[pytest.approx(100)] * 4]


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    """Lines go on, and a stage that is stuck is told: times are of a clock that runs forward."""
    drawn = Drawn()
    for second in range(0, 300, 2):
        given = 0 if second < 100 else 3600
        look = Look(second, (_seen("printer", handled=100),), {"upper": Depth(ready=second)})
        picture = drawn.draw(look, 1_000_000 + second - given)

    assert _row(picture, "queue", "upper")["line"][-1] == 298
    assert _wrong(picture)[0].startswith("printer has handled nothing for 2")


def test_thousands_of_queues_of_others() -> None:
    """The fullest are drawn, the others counted; those of stages are always there."""
    depths = {f"q{number}": Depth(ready=number) for number in range(5000)}

    picture = _draw(Drawn(), 0, _seen("printer"), upper=Depth(), **depths)

    names = [row["name"] for row in picture["rows"]]
    assert names[:2] == ["upper", "printer"]
    assert names[2:] == [f"q{number}" for number in range(5000 - MOST_UNREAD, 5000)]
    assert _wrong(picture)[-1] == f"{5000 - MOST_UNREAD} more queues that no stage reads"
