"""Dead letters: listed, shown, replayed and purged, by services.control as a real process."""

import base64
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import pytest

from rabbit.dead_letters.archive import to_line
from rabbit.dead_letters.browser import IDLE_SECONDS, LARGEST_PREFETCH
from rabbit.dead_letters.dead_letter import DeadLetter
from rabbit.message import Message
from rabbit.topology import Edge
from tests.broker import Broker, Outgoing
from tests.conftest import Start
from tests.integration.proxy import Proxy
from tests.process import ROOT, Process
from tests.variations import variations
from tests.waiting import wait_until

MANY = 10_000
#: Enough where the cut comes after a number of bytes: more than two windows.
FEWER = 5_000

#: How many may be under way at a time.
WINDOW = 2 * LARGEST_PREFETCH

Command = Callable[..., Process]
Bury = Callable[..., None]


@pytest.fixture
def command(start: Start, vhost: str) -> Command:
    """Give a function that runs `control dead-letters ...` to its end."""

    def run(*arguments: str) -> Process:
        process = begin(start, vhost, *arguments)
        process.wait(90)
        return process

    return run


def begin(start: Start, vhost: str, *arguments: str, **environment: Any) -> Process:
    """Start `control dead-letters ...`."""
    program = ("-m", "services.control", "dead-letters", *arguments)
    return start(*program, ready=False, RABBITMQ_VHOST=vhost, REPLICA=vhost, **environment)


@pytest.fixture
def bury(broker: Broker, vhost: str) -> Bury:
    """Give a function that puts messages among the dead letters of a queue, as a stage does."""

    def put(
        queue: str,
        bodies: Iterable[str | bytes],
        error: str = "ValueError",
        failed_at: str = "2026-11-24T10:{:02}:{:02}+00:00",
    ) -> None:
        broker.declare(queue, vhost)
        with broker.channel(vhost) as channel:
            broker.send_all(
                channel,
                (
                    Outgoing(
                        Edge(queue).dead,
                        f"key-{index}",
                        body,
                        delivery_mode=2,
                        message_id=f"{queue}-{error}-{index}",
                        correlation_id="c",
                        content_type="text/plain",
                        app_id="test",
                        headers={
                            "theirs": "kept",
                            "x-error-type": error,
                            "x-error-message": f"no {index}\x1b[31m",
                            "x-failed-stage": "stage",
                            "x-failed-replica": "r1",
                            "x-attempts": 4,
                            "x-failed-at": failed_at.format(index // 60 % 60, index % 60),
                        },
                    )
                    for index, body in enumerate(bodies)
                ),
            )

    return put


def test_list_counts_by_queue_and_reason(
    broker: Broker, vhost: str, command: Command, bury: Bury
) -> None:
    """As tables and as JSON; looking leaves everything as it was, order included."""
    bury("one", ["a", "b"])
    bury("one", ["c"], error="KeyError")
    bury("two", ["d"])

    table, data = command("list"), command("list", "--format", "json")

    assert [table.wait(), data.wait()] == [0, 0], table.log + data.log
    assert "one-ValueError-1" in table.out
    assert "no 1\\x1b[31m" in table.out
    told = json.loads(data.out)
    assert told["counts"] == [
        {"queue": "one", "reason": "KeyError", "count": 1},
        {"queue": "one", "reason": "ValueError", "count": 2},
        {"queue": "two", "reason": "ValueError", "count": 1},
    ]
    assert told["more"] == 0
    assert [each.text for each in broker.take_all("one.dead", vhost)] == ["a", "b", "c"]


@pytest.mark.thorough
def test_list_is_limited_and_filtered(command: Command, bury: Bury) -> None:
    """The newest letters, newest last, and how many more there are; by queue and by reason."""
    bury("one", map(str, range(9)))
    bury("two", ["x"], error="KeyError")

    table = command("list", "--limit", "3", "--queue", "one")
    data = command("list", "--limit", "2", "--reason", "ValueError", "--format", "json")

    assert "6 more dead letters are older: --limit 9 shows all" in table.out
    assert "one-ValueError-5" not in table.out
    told = json.loads(data.out)
    assert [each["id"] for each in told["letters"]] == ["one-ValueError-7", "one-ValueError-8"]
    assert (told["more"], len(told["counts"])) == (7, 1)


def test_show_tells_all_of_a_letter(
    broker: Broker, vhost: str, command: Command, bury: Bury
) -> None:
    """Properties, headers and body; nothing of it can drive a terminal; bytes are in base64."""
    bury("one", ["text \x1b[2J", b"\xff\xfe"])

    text, raw = command("show", "one-ValueError-0"), command("show", "one-ValueError-1")
    data = command("show", "one-ValueError-1", "--format", "json")

    for part in ("app id: test", "theirs: kept", "reason: ValueError", "key-0"):
        assert part.replace("app id", "  app_id") in text.out
    assert "text \\x1b[2J" in text.out
    assert "\x1b" not in text.out
    assert base64.b64encode(b"\xff\xfe").decode() in raw.out
    [told] = json.loads(data.out)
    assert base64.b64decode(told["body"]) == b"\xff\xfe"
    assert told["properties"]["message_id"] == "one-ValueError-1"
    assert told["headers"]["x-attempts"] == 4
    assert broker.depth("one.dead", vhost) == 2


def test_show_of_nothing(command: Command, bury: Bury) -> None:
    """Exit code 1 and one line that names the id."""
    bury("one", ["a"])

    done = command("show", "other")

    assert done.wait() == 1
    [line] = done.log.splitlines()
    assert line.startswith("control: there is no such dead letter: other")


def test_replay_is_byte_for_byte(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """Same id, key, properties, body and headers of others; what the failure has added is gone."""
    bury("one", [b"\xff\x00", "text"])

    done = command("replay", "--all")

    assert done.wait() == 0, done.log
    assert done.out == "replayed 2 messages: 2 one\n"
    assert broker.depth("one.dead", vhost) == 0
    with broker.channel(vhost) as channel:
        method, properties, body = channel.basic_get("one")
    assert method is not None
    assert properties is not None
    assert body == b"\xff\x00"
    assert method.routing_key == "key-0"
    assert properties.headers == {"theirs": "kept"}
    kept = {name: value for name, value in vars(properties).items() if value is not None}
    del kept["headers"]
    assert kept == {
        "delivery_mode": 2,
        "message_id": "one-ValueError-0",
        "correlation_id": "c",
        "content_type": "text/plain",
        "app_id": "test",
    }


SELECTIONS = [
    (["--all"], {"one": 4, "two": 2}),
    (["--queue", "one"], {"one": 4}),
    (["--queue", "one.dead"], {"one": 4}),
    (["--reason", "KeyError"], {"one": 1, "two": 1}),
    (["--reason", "KeyError", "--queue", "two"], {"two": 1}),
    (["--id", "one-ValueError-1", "--id", "two-KeyError-0"], {"one": 1, "two": 1}),
]


@pytest.mark.parametrize(("options", "expected"), variations(SELECTIONS))
@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_what_is_selected(
    broker: Broker,
    vhost: str,
    command: Command,
    bury: Bury,
    verb: str,
    options: list[str],
    expected: dict[str, int],
) -> None:
    """The selection decides; the rest stays in its order; it is said how many, by queue."""
    bury("one", ["a", "b", "c"])
    bury("two", ["d"])
    for queue in ("one", "two"):
        bury(queue, ["e"], error="KeyError")

    done = command(verb, *options, *(["--yes"] if verb == "purge" else []))

    assert done.wait() == 0, done.log
    parts = ", ".join(f"{number} {queue}" for queue, number in expected.items())
    assert done.out.endswith(f": {parts}\n")
    for queue, depth in {"one": 4, "two": 2}.items():
        number = expected.get(queue, 0)
        assert broker.depth(queue, vhost) == (number if verb == "replay" else 0)
        left = [each.text for each in broker.take_all(f"{queue}.dead", vhost)]
        assert len(left) == depth - number
        assert left == sorted(left)


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_nothing_is_selected_by_default(
    broker: Broker, vhost: str, command: Command, bury: Bury, verb: str
) -> None:
    """Exit code 2 and one line that says what to give; nothing happens."""
    bury("one", ["a"])

    done = command(verb)

    assert done.wait() == 2
    [line] = done.log.splitlines()
    assert line.startswith(f"control: say what to {verb}: --id ID")
    assert broker.depth("one.dead", vhost) == 1


def test_purge_needs_a_yes(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """Without a terminal to ask at: exit code 2 and one line that names --yes."""
    bury("one", ["a"])

    done = command("purge", "--all")

    assert done.wait() == 2
    [line] = done.log.splitlines()
    assert "--yes" in line
    assert broker.depth("one.dead", vhost) == 1


@pytest.mark.parametrize(("answer", "left"), variations([(b"n\n", 2), (b"y\n", 0)]))
def test_purge_asks_at_a_terminal(
    broker: Broker, vhost: str, bury: Bury, answer: bytes, left: int
) -> None:
    """With the number of letters in the question; only a yes deletes them."""
    bury("one", ["a", "b"])
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.control", "dead-letters", "purge", "--all"],
        cwd=ROOT,
        env={**broker.environment, "PYTHONPATH": f"{ROOT / 'shared'}", "RABBITMQ_VHOST": vhost},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.write(terminal, answer)
    said, _ = process.communicate(timeout=60)
    os.close(theirs)
    os.close(terminal)

    assert b"Delete 2 dead letters for good?" in said
    assert process.returncode == (1 if left else 0)
    assert broker.depth("one.dead", vhost) == left


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--queue", "nowhere"], 2, "'nowhere' has no dead-letter queue; those that have: one"),
        (["--id", "nobody"], 1, "there is no such dead letter: nobody"),
    ],
)
def test_what_is_not_there_is_said(
    command: Command, bury: Bury, options: list[str], code: int, told: str
) -> None:
    """A queue or an id that does not exist: one line, and an exit code that is not 0."""
    bury("one", ["a"])

    done = command("replay", *options)

    assert done.wait() == code
    assert told in done.log


@pytest.mark.thorough
def test_replay_to_a_full_queue(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """What is refused stays a dead letter; it is said how many, and why; exit code 1."""
    bury("one", map(str, range(500)))
    with broker.limited("one", 100, vhost):
        done = command("replay", "--all")

    assert done.wait() == 1
    left, taken = broker.depth("one.dead", vhost), broker.depth("one", vhost)
    assert left > 0
    assert left + taken == 500
    assert f"replayed {taken} messages: {taken} one\n" == done.out
    assert f"{left} dead letters stay in one.dead: 'one.back' refuses messages" in done.log


@pytest.mark.parametrize("lost", variations(["queue", "exchange"]))
def test_replay_without_a_way_back(
    broker: Broker, vhost: str, command: Command, bury: Bury, lost: str
) -> None:
    """The queue is gone: all letters stay, one line says how many and why; exit code 1."""
    bury("one", ["a", "b"])
    bury("two", ["c"])
    with broker.channel(vhost) as channel:
        if lost == "queue":
            channel.queue_delete("one")
        else:
            channel.exchange_delete("one.back")

    done = command("replay", "--all")

    assert done.wait() == 1
    assert done.out == "replayed 1 message: 1 two\n"
    assert "2 dead letters stay in one.dead: there is no way back" in done.log
    assert broker.depth("one.dead", vhost) == 2


@pytest.mark.thorough
def test_ten_thousand_letters(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """Listed and replayed; a list keeps their order, a replay of some that of the rest."""
    bury("one", map(str, range(MANY)))

    listed = command("list", "--limit", "1", "--format", "json")
    some = command("replay", *(f"--id=one-ValueError-{number}" for number in range(0, MANY, 2)))

    assert json.loads(listed.out)["counts"][0]["count"] == MANY
    assert some.out == "replayed 5000 messages: 5000 one\n"
    moved = set(range(0, MANY, 2))
    rest = [int(each.text) for each in broker.take_all("one.dead", vhost)]
    assert rest == [number for number in range(MANY) if number not in moved]
    assert {int(each.text) for each in broker.take_all("one", vhost)} == moved


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_replay_killed_in_the_middle(
    broker: Broker,
    vhost: str,
    start: Start,
    command: Command,
    bury: Bury,
    number: signal.Signals,
) -> None:
    """Nothing is lost; what comes twice has the same id, and is no more than one window."""
    bury("one", map(str, range(MANY)))

    killed = begin(start, vhost, "replay", "--all")
    wait_until(lambda: broker.depth("one", vhost) > MANY // 20, 30, "some are replayed")
    killed.send(number)
    assert killed.wait() != 0
    assert broker.depth("one", vhost) < MANY
    wait_until(lambda: broker.consumers("one.dead", vhost) == 0, 30, "the broker has noticed")
    again = command("replay", "--all")

    assert again.wait() == 0, again.log
    assert broker.depth("one.dead", vhost) == 0
    ids = [each.id for each in broker.take_all("one", vhost)]
    assert set(ids) == {f"one-ValueError-{number}" for number in range(MANY)}
    assert len(ids) - MANY <= WINDOW


@pytest.mark.thorough
def test_replay_cut_off_in_the_middle(
    broker: Broker, vhost: str, start: Start, command: Command, bury: Bury
) -> None:
    """A lost connection ends it: one line says so, exit code 1, nothing is lost."""
    bury("one", map(str, range(FEWER)))

    with Proxy(broker.port) as proxy:
        proxy.cut_after = 200 * FEWER  # each is about so large, and passes twice
        cut = begin(start, vhost, "replay", "--all", RABBITMQ_PORT=proxy.port)
        assert cut.wait() == 1

    told = re.search(r"(\d+) messages replayed to 'one', then: the connection was lost", cut.log)
    assert told
    assert int(told[1]) <= broker.depth("one", vhost) <= int(told[1]) + WINDOW
    assert "may be in both queues, with the same id" in cut.log
    assert "Traceback" not in cut.log
    assert command("replay", "--all").wait() == 0
    ids = [each.id for each in broker.take_all("one", vhost)]
    assert set(ids) == {f"one-ValueError-{number}" for number in range(FEWER)}
    assert len(ids) - FEWER <= WINDOW


@pytest.mark.thorough
def test_purge_cut_off_in_the_middle(
    broker: Broker, vhost: str, start: Start, command: Command, bury: Bury
) -> None:
    """It says how many it has deleted, of the queues before too; the next one does the rest."""
    bury("a", ["x"])
    bury("one", map(str, range(FEWER)))

    with Proxy(broker.port) as proxy:
        proxy.cut_after = 100 * FEWER
        cut = begin(start, vhost, "purge", "--all", "--yes", RABBITMQ_PORT=proxy.port)
        assert cut.wait() == 1

    told = re.search(r"up to (\d+) dead letters of 'one' deleted, then: the connection", cut.log)
    assert told
    assert cut.out == "deleted 1 dead letter: 1 a\n"
    wait_until(lambda: broker.consumers("one.dead", vhost) == 0, 30, "the broker has noticed")
    left = broker.depth("one.dead", vhost)
    assert FEWER - int(told[1]) <= left <= FEWER - int(told[1]) + WINDOW
    assert command("purge", "--all", "--yes").out == f"deleted {left} dead letters: {left} one\n"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("export",), ""),
        (("replay", "--all"), f"replayed {FEWER} messages: {FEWER} one"),
        (("purge", "--all", "--yes"), f"deleted {FEWER} dead letters: {FEWER} one"),
    ],
)
def test_a_broker_that_stalls_is_waited_for(
    broker: Broker, vhost: str, start: Start, bury: Bury, arguments: tuple[str, ...], told: str
) -> None:
    """Seconds in which nothing comes are no end of the queue: all of it is gone through."""
    bury("one", map(str, range(FEWER)))

    with Proxy(broker.port) as proxy:
        process = stalled(start, vhost, proxy, *arguments)
        frozen = monotonic()
        stall_seconds = 2 * IDLE_SECONDS + 2  # a loop that has nothing to do turns every 5 s
        wait_until(lambda: monotonic() - frozen > stall_seconds, 30, "the broker stalls for long")
        proxy.thaw()
        assert process.wait(60) == 0, process.log

    assert told in process.out
    gone = told != ""
    assert len(process.lines) == (1 if gone else FEWER)
    assert broker.depth("one.dead", vhost) == (0 if gone else FEWER)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments", [("export",), ("replay", "--all"), ("purge", "--all", "--yes")]
)
def test_a_broker_that_stalls_for_good_is_told(
    broker: Broker, vhost: str, start: Start, bury: Bury, arguments: tuple[str, ...]
) -> None:
    """After HALT_TIMEOUT: how many were not seen, of how many, and exit code 1."""
    bury("one", map(str, range(FEWER)))

    with Proxy(broker.port) as proxy:
        process = stalled(start, vhost, proxy, *arguments, HALT_TIMEOUT=6)
        assert process.wait(60) == 1

    told = re.search(rf"(\d+) of {FEWER} messages of 'one.dead' were not seen", process.log)
    assert told, process.log
    assert 0 < int(told[1]) < FEWER


def stalled(start: Start, vhost: str, proxy: Proxy, *arguments: str, **environment: Any) -> Process:
    """Start a command whose broker has stalled in the middle of it."""
    proxy.freeze_after = 100 * FEWER  # of some 300 bytes each
    process = begin(start, vhost, *arguments, RABBITMQ_PORT=proxy.port, **environment)
    wait_until(lambda: proxy.is_frozen, 30, lambda: f"it is in the middle: {process.log}")
    return process


def test_at_most_once_per_call(broker: Broker, vhost: str, start: Start, command: Command) -> None:
    """What fails again at once is a dead letter again, once, and is not replayed again."""
    edge: dict[str, Any] = {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "RETRY_DELAYS": ""}
    start("-m", "tests.integration.stages.fallible", RABBITMQ_VHOST=vhost, **edge)
    texts = [f"fail {number}" for number in range(1000, 1300)]
    broker.put("one", texts, vhost)
    wait_until(lambda: broker.depth("one.dead", vhost) == 300, 60, "all fail")

    done = command("replay", "--all")

    assert done.out == "replayed 300 messages: 300 one\n"
    wait_until(lambda: broker.depth("one.dead", vhost) == 300, 60, "all fail again")
    assert sorted(each.text for each in broker.take_all("one.dead", vhost)) == sorted(texts)


@pytest.mark.parametrize("message_id", variations([None, "same", b"\xff"]))
def test_what_the_broker_returns_stays(
    broker: Broker, vhost: str, command: Command, message_id: str | bytes | None
) -> None:
    """Without an id, or with the same one: nothing is taken for replayed that was returned."""
    broker.declare("one", vhost)
    with broker.channel(vhost) as channel:
        for number in range(20):
            broker.send(channel, "one.dead", "", str(number), message_id=message_id)
        channel.queue_unbind("one", "one.back", routing_key="")
        channel.exchange_declare("nowhere", "fanout", durable=True)
        channel.exchange_bind("nowhere", "one.back")

        lost = command("replay", "--all")
        channel.queue_bind("one", "one.back", routing_key="")
        replayed = command("replay", "--all")

    assert lost.wait() == 1
    assert lost.out == "replayed 0 messages\n"
    assert "20 dead letters stay in one.dead: 'one.back' has no queue" in lost.log
    assert replayed.out == "replayed 20 messages: 20 one\n"
    assert sorted(int(each.text) for each in broker.take("one", 20, vhost=vhost)) == [*range(20)]


def test_letters_of_the_broker(broker: Broker, vhost: str, command: Command) -> None:
    """What the broker gave up has its reason and time; a replay takes away what it has added."""
    broker.declare("one", vhost)
    with broker.channel(vhost) as channel:
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": 1,
            "x-dead-letter-exchange": "one.dead",
        }
        channel.queue_declare("short", durable=True, arguments=arguments)
        broker.send(channel, "", "short", "a", message_id="m")
    wait_until(lambda: broker.depth("one.dead", vhost) == 1, 20, "it is dead-lettered")

    listed = command("list", "--format", "json")
    command("replay", "--reason", "expired")

    [letter] = json.loads(listed.out)["letters"]
    assert (letter["reason"], letter["attempts"]) == ("expired", None)
    assert letter["failed_at"].startswith("20")
    [message] = broker.take("one", 1, vhost=vhost)
    assert dict(message.headers) == {}


def test_no_more_than_asked_for(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """`--limit`: over all queues, the oldest first; `--dry-run` says the same and does nothing."""
    bury("one", ["a", "b", "c"])
    bury("two", ["d", "e", "f"])

    dry = command("replay", "--all", "--limit", "4", "--dry-run")
    done = command("replay", "--all", "--limit", "4")
    purge = command("purge", "--reason", "ValueError", "--dry-run")

    assert dry.out == "would have replayed 4 messages: 3 one, 1 two\n", dry.log
    assert done.out == "replayed 4 messages: 3 one, 1 two\n", done.log
    assert [each.text for each in broker.take_all("two", vhost)] == ["d"]
    assert [each.text for each in broker.take_all("two.dead", vhost)] == ["e", "f"]
    assert purge.out == "would have deleted 2 dead letters: 2 two\n"
    assert dry.wait() == done.wait() == purge.wait() == 0


@pytest.mark.thorough
def test_no_faster_than_asked_for(broker: Broker, vhost: str, start: Start, bury: Bury) -> None:
    """`--rate`: one a second, in order; what is not its turn yet is a dead letter still."""
    bury("one", map(str, range(4)))

    slow = begin(start, vhost, "replay", "--all", "--rate", "60/m")
    wait_until(lambda: broker.depth("one", vhost) == 1, 30, "the first is replayed")
    began = time.monotonic()
    assert slow.wait() == 0, slow.log

    assert time.monotonic() - began > 2
    assert slow.out == "replayed 4 messages: 4 one\n"
    assert [each.text for each in broker.take("one", 4, vhost=vhost)] == ["0", "1", "2", "3"]


@pytest.mark.thorough
def test_copies_to_another_queue(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """`--to`: the other queue has them as they were before they failed; the letters stay."""
    bury("one", ["a", "b"])
    broker.declare("other", vhost)

    done = command("replay", "--all", "--to", "other")
    nowhere = command("replay", "--all", "--to", "nowhere")

    assert done.wait() == 0, done.log
    assert done.out == "copied 2 messages: 2 one\n"
    assert "control: copies go to other: the letters stay among the dead letters" in done.log
    [first, _] = broker.take("other", 2, vhost=vhost)
    assert (first.text, first.id, first.key) == ("a", "one-ValueError-0", "key-0")
    assert dict(first.headers) == {"theirs": "kept"}
    assert [broker.depth(each, vhost) for each in ("one", "one.dead")] == [0, 2]
    assert nowhere.wait() == 2
    assert "--to: no stage reads a queue 'nowhere'; stages read one, other" in nowhere.log


@pytest.mark.thorough
def test_the_old_ones_only(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """`--older-than`: by the time of the failure; one that tells none is not meant."""
    bury("one", ["old"], failed_at="2020-01-01T00:00:00+00:00")
    bury("one", ["new"], failed_at=datetime.now(UTC).isoformat())
    bury("one", ["unknown"], failed_at="some day")

    done = command("replay", "--older-than", "1d")
    wrong = command("replay", "--older-than", "yesterday")

    assert done.out == "replayed 1 message: 1 one\n", done.log
    assert [each.text for each in broker.take_all("one", vhost)] == ["old"]
    assert wrong.wait() == 2
    assert wrong.log == "control: --older-than: 'yesterday' is not such as 90s, 30m, 2h or 7d\n"


#: A value of each type that a header can have in RabbitMQ, as it stands in a table.
VALUES = {
    b"t": b"\x01",
    b"b": b"\xff",
    b"B": b"\xff",
    b"s": b"\xff\xfe",
    b"u": b"\xff\xfe",
    b"I": b"\xff\xff\xff\xfe",
    b"i": b"\xff\xff\xff\xfe",
    b"l": b"\x80\0\0\0\0\0\0\x01",
    b"f": struct.pack(">f", 0.1),
    b"d": struct.pack(">d", 0.1),
    b"D": b"\x02\0\0\x01\0",
    b"S": b"\0\0\0\x02\xc3\xa9",
    b"T": b"\0\0\0\0\x5f\0\0\0",
    b"V": b"",
    b"x": b"\0\0\0\x02\xff\0",
    b"A": b"\0\0\0\x05t\0u\0\x07",
    b"F": b"\0\0\0\x04\x01at\0",
}


def import_(broker: Broker, vhost: str, lines: str) -> subprocess.CompletedProcess[str]:
    """Run `control dead-letters import` on these lines."""
    return subprocess.run(
        [sys.executable, "-m", "services.control", "dead-letters", "import"],
        cwd=ROOT,
        env={**broker.environment, "PYTHONPATH": f"{ROOT / 'shared'}", "RABBITMQ_VHOST": vhost},
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.thorough
def test_export_and_import_byte_for_byte(
    broker: Broker, vhost: str, command: Command, bury: Bury
) -> None:
    """What was exported, deleted and imported is as it was: headers of each type, any body."""
    bury("one", ["text\n\x1b", b"\xff\x00", ""])
    # In the order of their names, in which the broker delivers what it adds a count to.
    table = b"".join(b"\x01" + kind + kind + value for kind, value in sorted(VALUES.items()))
    properties = b"\x20\0" + len(table).to_bytes(4, "big") + table
    every = Message(b"\x80", properties, redelivered=False, routing_key="\udcff")
    began = import_(broker, vhost, to_line(DeadLetter.of("one", every), every))

    first = command("export", "--queue", "one")
    command("purge", "--all", "--yes")
    again = import_(broker, vhost, first.out)
    second = command("export")

    assert began.stdout == "imported 1 dead letter: 1 one\n", began.stderr
    assert again.stdout == "imported 4 dead letters: 4 one\n", again.stderr
    assert first.out == second.out
    told = [json.loads(line) for line in first.out.splitlines()]
    assert [each["body"] for each in told] == ["text\n\x1b", "/wA=", "", "gA=="]
    assert told[3]["raw_properties"] == base64.b64encode(properties).decode()
    assert told[3]["routing_key"] == "\udcff"


@pytest.mark.thorough
def test_what_cannot_be_imported(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """The line is named, and how many came before it; exit code 2 for what a person did wrong."""
    bury("one", ["a"])
    line = command("export").out

    torn = import_(broker, vhost, f"{line}{line[:40]}\n")
    elsewhere = import_(broker, vhost, line.replace('"one"', '"two"'))
    with broker.limited("one.dead", 1, vhost):
        wait_until(lambda: import_(broker, vhost, line).returncode, 20, "the dead letters are full")
        full = import_(broker, vhost, line)

    assert torn.returncode == elsewhere.returncode == 2
    assert "control: 1 dead letter imported, then: line 2: it is no line that" in torn.stderr
    assert "then: line 1: there is no 'two.dead' here: start a stage" in elsewhere.stderr
    assert full.returncode == 1
    assert "not imported: 1 dead letter of one: 'one.dead' refuses messages" in full.stderr


@pytest.mark.thorough
def test_an_export_that_is_not_whole(
    broker: Broker, vhost: str, command: Command, bury: Bury
) -> None:
    """What somebody else holds is missing in it: exit code 1, so that no purge follows."""
    bury("one", ["a", "b"])
    with broker.channel(vhost) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("one.dead", lambda *_: None)
        wait_until(lambda: broker.depth("one.dead", vhost) == 1, 20, "one is held")
        export = command("export")

    assert export.wait() == 1
    assert len(export.out.splitlines()) == 1
    assert "not all dead letters of one are exported, as somebody else reads" in export.log


def test_programs_are_told_too(broker: Broker, vhost: str, command: Command, bury: Bury) -> None:
    """`--format json`: what was done, what stays and why, and which ids there are not."""
    bury("q", ["a", "b"])
    with broker.channel(vhost) as channel:
        channel.queue_unbind("q", "q.back", routing_key="")

    stays = command("replay", "--all", "--format", "json")
    purged = command("purge", "--id", "q-ValueError-1", "--id", "no", "--yes", "--format", "json")

    assert stays.wait() == 1
    [why] = json.loads(stays.out)["stays"]
    assert (why["queue"], why["count"], json.loads(stays.out)["replayed"]) == ("q", 2, {})
    assert "no way back" in why["reason"]
    assert purged.wait() == 1
    assert json.loads(purged.out) == {"deleted": {"q": 1}, "stays": [], "not_found": ["no"]}
