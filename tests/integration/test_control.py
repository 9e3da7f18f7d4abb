"""Halt with proof, roll call and drain: services.control as a real process."""

import json
import os
import signal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.process import Process
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
FALLIBLE = ("-m", "tests.integration.stages.fallible")
RECORDER = ("-m", "tests.integration.stages.recorder")


@pytest.fixture
def control(start: Start, vhost: str) -> Callable[..., Process]:
    """Give a function that runs `python -m services.control` to its end."""

    def run(*arguments: str) -> Process:
        process = start("-m", "services.control", *arguments, ready=False, RABBITMQ_VHOST=vhost)
        process.wait(90)
        return process

    return run


@pytest.fixture
def pipeline(start: Start, vhost: str) -> Callable[[], tuple[list[Process], list[Process]]]:
    """Give a function that starts two workers and two sinks, in a virtual host of their own."""

    def run() -> tuple[list[Process], list[Process]]:
        edges: dict[str, Any] = {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two"}
        workers = [
            start(*RELAY, ready=False, REPLICA=f"w{number}", RABBITMQ_VHOST=vhost, **edges)
            for number in (1, 2)
        ]
        sinks = [
            start(
                *RECORDER,
                ready=False,
                REPLICA=f"s{number}",
                RABBITMQ_VHOST=vhost,
                INPUT_QUEUE="two",
                DELAY=0.01,
            )
            for number in (1, 2)
        ]
        for each in (*workers, *sinks):
            each.wait_ready()
        return workers, sinks

    return run


Pipeline = Callable[[], tuple[list[Process], list[Process]]]
Control = Callable[..., Process]


def test_halt_ends_everybody_and_names_them(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """`halted 4/4` with the names; exit codes 0; no control queue and no consumer is left."""
    workers, sinks = pipeline()

    halt = control("halt")

    assert [each.wait() for each in (halt, *workers, *sinks)] == [0] * 5
    assert halt.out.split() == [
        "halted",
        "4/4",
        "recorder/s1,",
        "recorder/s2,",
        "relay/w1,",
        "relay/w2",
    ]
    assert not [name for name in broker.queues(vhost) if name.startswith("control.")]
    assert broker.consumers("two", vhost) == 0


def test_halt_of_nobody_is_proved_at_once(control: Control) -> None:
    """Without a single replica: `halted 0/0`, exit code 0."""
    halt = control("halt")

    assert halt.wait() == 0, halt.log
    assert halt.out.startswith("halted 0/0")


@pytest.mark.parametrize(
    ("target", "count"), [("recorder", "halted 2/2"), ("recorder/s1", "halted 1/1")]
)
def test_halt_may_be_for_a_stage_or_a_replica(
    pipeline: Pipeline, control: Control, target: str, count: str
) -> None:
    """Only the target halts; the others go on running."""
    workers, sinks = pipeline()

    halt = control("halt", target)

    assert halt.wait() == 0
    assert halt.out.startswith(count)
    meant = sinks if target == "recorder" else sinks[:1]
    assert [each.wait() for each in meant] == [0] * len(meant)
    others = [each for each in (*workers, *sinks) if each not in meant]
    assert all(each.is_running for each in others)


def test_queued_messages_stay_queued_through_a_halt(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """A halt under load loses and repeats nothing: the rest is there for the next replicas."""
    workers, sinks = pipeline()
    texts = [str(number) for number in range(500)]
    broker.put("one", texts, vhost)
    wait_until(lambda: any(sink.lines for sink in sinks), 20, "messages flow")

    halt = control("halt")

    assert [each.wait() for each in (halt, *workers, *sinks)] == [0] * 5
    left = [each.text for name in ("one", "two") for each in broker.take_all(name, vhost)]
    handled = [each["text"] for sink in sinks for each in sink.objects]
    assert sorted([*left, *handled]) == sorted(texts)
    assert left


def test_status_shows_replicas_and_queues(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """As a table and as JSON: who is there, what it consumes and produces, in which state."""
    pipeline()
    broker.put("three", ["waits"], vhost)

    table, data = control("status"), control("status", "--json")

    assert [table.wait(), data.wait()] == [0, 0]
    for text in ("relay", "w1", "w2", "recorder", "s1", "s2", "running", "one → two", "three"):
        assert text in table.out
    status = json.loads(data.out)
    names = {(each["stage"], each["replica"], each["state"]) for each in status["replicas"]}
    assert names == {
        ("relay", "w1", "running"),
        ("relay", "w2", "running"),
        ("recorder", "s1", "running"),
        ("recorder", "s2", "running"),
    }
    assert status["replicas"][-1].items() >= {"consumes": "one", "produces": "two"}.items()
    assert status["queues"].keys() >= {"one", "two", "three"}


def test_a_replica_that_does_not_answer_is_named(pipeline: Pipeline, control: Control) -> None:
    """Exit code 1 and its name; it halts by itself, with 0, as soon as it can."""
    workers, sinks = pipeline()
    os.kill(workers[0].pid, signal.SIGSTOP)

    halt = control("halt", "--timeout", "3")

    assert halt.wait() == 1
    assert halt.out.startswith("halted 3/4")
    assert "not proved halted: relay/w1" in halt.out
    assert [each.wait() for each in (workers[1], *sinks)] == [0] * 3

    os.kill(workers[0].pid, signal.SIGCONT)

    assert workers[0].wait() == 0
    again = control("halt")
    assert again.wait() == 0
    assert again.out.startswith("halted 0/0")


def test_a_killed_replica_is_named_as_cut_off(pipeline: Pipeline, control: Control) -> None:
    """Its control queue is still there, so that a halt cannot be proved: exit code 1."""
    workers, _ = pipeline()
    workers[0].kill()

    halt = control("halt", "--timeout", "3")

    assert halt.wait() == 1
    assert "not proved halted: relay/w1: cut off" in halt.out


IGNORED = [
    b"HALT",
    b"",
    b"\xff\xfe",
    b"null",
    b'["halt"]',
    b'{"command": "halt", "version": 2}',
    b'{"command": "explode"}',
    b'{"command": "halt", "target": 7}',
    b"[" * 5000,
    b"[" * 50_000,
]


def test_malformed_commands_are_ignored_and_logged(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """What is no command of this version changes nothing; the first is told, the others counted."""
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), RABBITMQ_VHOST=vhost)
    with broker.channel(vhost) as channel:
        for body in IGNORED:
            broker.send(channel, "control", "", body)
        broker.send(channel, "control", "", b'{"command": "halt", "target": "other"}')

    sink.wait_log(f"ignored={len(IGNORED)}")
    broker.put(unique("in"), ["a"], vhost)
    wait_until(lambda: sink.lines, 20, "it goes on")
    assert "ignored=1 " in sink.log
    assert sink.log.count("control message ignored") < len(IGNORED)
    assert sink.is_running


def test_a_flood_of_malformed_commands_is_told_in_a_few_lines(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """The count in the log goes up to all of them, and the replica works on."""
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), RABBITMQ_VHOST=vhost)
    count = 10_000
    with broker.channel(vhost) as channel:
        for _ in range(count):
            broker.send(channel, "control", "", b"HALT")
    broker.put(unique("in"), ["a"], vhost)
    wait_until(lambda: sink.lines, 60, "it goes on")

    sink.wait_log(f"ignored={count}", 60)
    assert sink.log.count("control message ignored") < 30
    assert sink.is_running


def test_commands_for_an_earlier_process_are_forgotten(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """A halt that waits for a killed process does not end its successor of the same name."""
    edge: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "REPLICA": "same"}
    start(*RECORDER, RABBITMQ_VHOST=vhost, **edge).kill()
    with broker.channel(vhost) as channel:
        broker.send(channel, "control", "", b'{"command": "halt"}')
    wait_until(lambda: broker.depth("control.recorder.same", vhost) == 1, 20, "a command waits")

    successor = start(*RECORDER, RABBITMQ_VHOST=vhost, **edge)

    broker.put(unique("in"), ["a"], vhost)
    wait_until(lambda: successor.lines, 20, "it handles messages")
    assert broker.depth("control.recorder.same", vhost) == 0
    assert successor.is_running
    assert "halt" not in successor.log


def test_drain_empties_the_queues_and_stops_in_flow_order(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """Each stage finishes its whole queue before it halts: nothing is left, all is handled."""
    texts = [str(number) for number in range(400)]
    broker.put("one", texts, vhost)
    workers, sinks = pipeline()

    drain = control("drain")

    assert [each.wait() for each in (drain, *workers, *sinks)] == [0] * 5, drain.log
    assert drain.out.splitlines()[-1] == "drained 2 stages: relay → recorder"
    assert broker.depth("one", vhost) == 0
    assert broker.depth("two", vhost) == 0
    handled = [each["text"] for sink in sinks for each in sink.objects]
    assert sorted(handled) == sorted(texts)


def test_drain_waits_for_what_is_tried_again(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """A queue is empty only when nothing waits for another attempt either."""
    broker.put("one", ["fail 2", "a"], vhost)
    edges: dict[str, Any] = {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two"}
    worker = start(*FALLIBLE, RABBITMQ_VHOST=vhost, RETRY_DELAYS="3,2.5", **edges)
    wait_until(lambda: broker.depth("one.retry.3s", vhost) == 1, 10, "it waits")

    drain = control("drain")

    assert [drain.wait(), worker.wait()] == [0, 0], drain.log
    assert {each.text for each in broker.take_all("two", vhost)} == {"fail 2", "a"}
    assert broker.depth("one.dead", vhost) == 0


def test_drain_stops_nobody_when_somebody_is_silent(pipeline: Pipeline, control: Control) -> None:
    """A replica that does not answer could still send: exit code 1, and all go on running."""
    workers, sinks = pipeline()
    os.kill(workers[0].pid, signal.SIGSTOP)

    drain = control("drain", "--timeout", "3")

    os.kill(workers[0].pid, signal.SIGCONT)
    assert drain.wait() == 1
    assert "no answer from relay/w1" in drain.log
    assert all(each.is_running for each in (*workers, *sinks))


def test_control_says_what_is_wrong_in_one_line(start: Start, unique: Unique) -> None:
    """A wrong password for the broker: exit code 1; the last line has the reason; no traceback."""
    halt = start(
        "-m",
        "services.control",
        "halt",
        ready=False,
        RABBITMQ_PASSWORD=f"wrong-{uuid.uuid4().hex}",
        REPLICA=unique("replica"),
        HALT_TIMEOUT=3,
    )

    assert halt.wait() == 1
    last = halt.log.splitlines()[-1]
    assert last.startswith("control: no connection to RabbitMQ within 3 s: ")
    assert last.endswith("check RABBITMQ_USERNAME and RABBITMQ_PASSWORD")
    assert "Traceback" not in halt.log
