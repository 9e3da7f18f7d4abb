"""Halt with proof, roll call and drain: services.control as a real process."""

import json
import os
import platform
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from rabbit import __version__
from rabbit.topology import control_queue, name_lock
from tests.broker import ROOT, Broker
from tests.conftest import Start, Unique
from tests.integration.conftest import Control
from tests.integration.forged import flood
from tests.integration.proxy import Proxy
from tests.process import Process
from tests.variations import variations
from tests.waiting import wait_until

PACED = ("-m", "tests.integration.stages.paced")
RELAY = ("-m", "tests.integration.stages.relay")
FALLIBLE = ("-m", "tests.integration.stages.fallible")
RECORDER = ("-m", "tests.integration.stages.recorder")


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
    left = [name for name in broker.queues(vhost) if name.startswith("control.")]
    assert left == ["control.paused/recorder", "control.paused/relay"]  # for who comes later
    assert broker.consumers("two", vhost) == 0


DYING = """
import os, signal
from rabbit import Consumer
from rabbit.control.listener import ControlListener
class Dying(Consumer):
    def work(self, message):
        pass
ControlListener.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Dying.main()
"""


def test_the_queue_of_one_that_dies_after_its_last_word_is_deleted(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """It has said that it is halted, which is proof; nobody else is left to clear up after it."""
    names: dict[str, Any] = {"INPUT_QUEUE": "one", "RABBITMQ_VHOST": vhost}
    dying = start("-c", DYING, **names, STAGE="dying", REPLICA="d")

    halt = control("halt")

    assert [halt.wait(), dying.wait()] == [0, -signal.SIGKILL]
    assert halt.out == "halted 1/1 dying/d\n"
    assert control_queue("dying", "d") not in broker.queues(vhost)


def test_halt_of_nobody_is_no_success(control: Control) -> None:
    """Without a single replica: exit code 1, and a line that says so; a drain likewise."""
    halt, drain = control("halt"), control("drain")

    assert [halt.wait(), drain.wait()] == [1, 1]
    assert "nobody to halt: no replica is at the broker" in halt.log
    assert "nobody to drain: no replica is at the broker" in drain.log


def test_halt_of_nobody_of_that_name_is_no_success(pipeline: Pipeline, control: Control) -> None:
    """A typo: exit code 1, the name, and those there are; all go on running."""
    workers, sinks = pipeline()

    halt = control("halt", "recoder")

    assert halt.wait() == 1
    assert "nobody to halt of the name recoder: there are recorder/s1, recorder/s2," in halt.log
    assert all(each.is_running for each in (*workers, *sinks))


@pytest.mark.parametrize(
    ("target", "count"),
    variations([("recorder", "halted 2/2"), ("recorder/s1", "halted 1/1")]),
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
    # Fifteen seconds of work: a halt that starts late, on a busy machine, still finds some left.
    texts = [str(number) for number in range(3000)]
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
    _, sinks = pipeline()
    broker.put("three", ["waits"], vhost)
    broker.put("one", ["a", "b", "c", "d"], vhost)
    wait_until(lambda: sum(len(sink.lines) for sink in sinks) >= 4, 20, "messages flow")

    folded, table, data = (control("status", *more) for more in ((), ("--replicas",), ("--json",)))

    assert [each.wait() for each in (folded, table, data)] == [0, 0, 0]
    assert re.search(
        r"relay +│ 2 running │ one → two .*\n│ recorder +│ 2 running │ two →", folded.out
    )
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
    slow, fast = ([each for each in status["replicas"] if each["replica"][0] == n] for n in "sw")
    assert sum(sum(each["handler_buckets"][2:]) for each in slow) >= 2
    assert sum(each["confirms_timed"] for each in fast) >= 1
    assert all(each["prefetch"] >= 1 for each in status["replicas"])
    assert {(each["library"], each["python"]) for each in status["replicas"]} == {
        (__version__, platform.python_version())
    }


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
    assert again.wait() == 1
    assert "no replica is at the broker" in again.log


def test_a_killed_replica_is_named_as_cut_off(pipeline: Pipeline, control: Control) -> None:
    """Its control queue is still there, so that a halt cannot be proved: exit code 1."""
    workers, _ = pipeline()
    workers[0].kill()

    halt = control("halt", "--timeout", "3")

    assert halt.wait() == 1
    assert "not proved halted: relay/w1: cut off or killed" in halt.out
    assert "make forget ARGS=relay/w1" in halt.out


@pytest.mark.runs("make forget ARGS=printer/1b0ad5cf6fa4")
def test_a_killed_replica_can_be_forgotten(pipeline: Pipeline, control: Control) -> None:
    """Nobody waits for it any more: the next halt is proved. One that is connected is refused."""
    workers, sinks = pipeline()
    workers[0].kill()

    forget, refused, unknown = (control("forget", f"relay/{each}") for each in ("w1", "w2", "w3"))

    assert [forget.wait(), refused.wait(), unknown.wait()] == [0, 1, 1]
    assert forget.out == "forgotten: relay/w1\n"
    assert "relay/w2 is connected" in refused.log
    assert "no replica 'relay/w3' is known to the broker; there are: recorder/s1" in unknown.log
    halt = control("halt")
    assert [each.wait() for each in (halt, workers[1], *sinks)] == [0] * 4
    assert halt.out.startswith("halted 3/3")


def _told(folder: Path, name: str, state: str, code: int) -> str:
    file = folder / "containers"
    told = {"service": "relay", "name": name, "state": state, "exit_code": code}
    file.write_text(json.dumps(told))
    return str(file)


def test_a_replica_whose_container_has_ended_is_forgotten(
    pipeline: Pipeline, control: Control, tmp_path: Path
) -> None:
    """Compose knows that it does not run: it is told, and the halt is proved without it."""
    workers, sinks = pipeline()
    workers[0].kill()

    halt = control("halt", "--containers", _told(tmp_path, "relay/w1", "exited", 137))

    assert [each.wait() for each in (halt, workers[1], *sinks)] == [0] * 4, halt.out + halt.log
    forgotten, halted = halt.out.splitlines()
    assert forgotten == "forgotten: relay/w1: its container has ended: exited (137)"
    assert halted.startswith("halted 3/3")


@pytest.mark.thorough
def test_a_replica_whose_container_runs_is_waited_for(
    pipeline: Pipeline, control: Control, tmp_path: Path
) -> None:
    """Compose says that it runs: it may be cut off, and will come back."""
    workers, _ = pipeline()
    workers[0].kill()
    told = _told(tmp_path, "relay/w1", "running", 0)

    halt = control("halt", "--timeout", "3", "--containers", told)

    assert halt.wait() == 1
    assert "not proved halted: relay/w1: cut off or killed" in halt.out
    assert "its container, of relay, is running" in halt.out


@pytest.mark.thorough
def test_who_starts_again_what_has_halted_is_told(
    pipeline: Pipeline, control: Control, start: Start, vhost: str
) -> None:
    """Kubernetes does: which stages are to be scaled to 0, or that a halt does not last."""
    workers, sinks = pipeline()

    refused, halt = control("halt", "--scaled", "relay/w1"), control("halt", "--scaled", "relay")
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "RABBITMQ_VHOST": vhost}
    by_hand = start("-m", "services.control", "halt", ready=False, **inside)

    assert [refused.wait(), halt.wait(), by_hand.wait()] == [2, 0, 0]
    assert "halt the stage relay, or scale it" in refused.log
    assert halt.out.startswith("scale relay\nhalted 2/2")
    assert "make halt TARGET=kubernetes" in by_hand.log
    assert "not last" not in halt.log
    assert [each.wait() for each in (*workers, *sinks)] == [0] * 4


@pytest.mark.thorough
def test_a_replica_that_gives_up_is_named(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """Exit code 1, who, and what is left; it ends with 0, so that no policy starts it again."""
    broker.put("one", ["a"], vhost)
    sink = start(
        *RECORDER, RABBITMQ_VHOST=vhost, INPUT_QUEUE="one", REPLICA="s", DELAY=60, DRAIN_TIMEOUT=1
    )
    wait_until(lambda: sink.lines, 20, "it handles the message")

    halt = control("halt")

    assert [halt.wait(), sink.wait()] == [1, 0], sink.log
    assert halt.out.startswith("halted 0/1")
    said = "not proved halted: recorder/s: gave up after DRAIN_TIMEOUT with 1 messages in flight"
    assert said in halt.out
    assert "gave up after DRAIN_TIMEOUT=1 s" in sink.log
    assert "[error" in sink.log
    assert "control.recorder.s" not in broker.queues(vhost)


@pytest.mark.thorough
def test_a_replica_that_gives_up_during_an_alarm_is_named(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """What it cannot publish it says by its control queue, which is gone afterwards."""
    # The first one's output is what the broker does not take; the second lasts.
    broker.put("one", ["1", "2 60"], vhost)
    edges: dict[str, Any] = {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "REPLICA": "w"}
    slow: dict[str, Any] = {"STAGE": "relay", "PREFETCH": 2, "DRAIN_TIMEOUT": 1}
    with broker.memory_alarm():
        worker = start(*PACED, RABBITMQ_VHOST=vhost, **slow, **edges)
        worker.wait_log("blocked")

        halt = control("halt")

        assert [halt.wait(), worker.wait()] == [1, 0], worker.log
    assert "not proved halted: relay/w: gave up after DRAIN_TIMEOUT" in halt.out
    assert "control.relay.w" not in broker.queues(vhost)


@pytest.mark.parametrize(
    ("command", "told"),
    variations([("halt", "halted 4/4"), ("drain", "drained 2 stages: relay → recorder")]),
)
def test_replicas_whose_exchange_was_deleted_are_reached(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control, command: str, told: str
) -> None:
    """The control queues are still there: they are bound again, and the halt is proved."""
    workers, sinks = pipeline()
    with broker.channel(vhost) as channel:
        channel.exchange_delete("control")

    done = control(command)

    assert [each.wait() for each in (done, *workers, *sinks)] == [0] * 5, done.out + done.log
    assert done.out.startswith(told)


@pytest.mark.thorough
def test_status_of_replicas_whose_exchange_was_deleted(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """They are bound again, and answer."""
    pipeline()
    with broker.channel(vhost) as channel:
        channel.exchange_delete("control")

    status = control("status", "--format", "json")

    states = [each["state"] for each in json.loads(status.out)["replicas"]]
    assert states == ["running"] * 4


@pytest.mark.thorough
def test_who_is_drained_and_not_proved_halted_is_told(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """Somebody else consumes its queue: exit code 1, and why it is no proof."""
    sink = start(*RECORDER, RABBITMQ_VHOST=vhost, INPUT_QUEUE="one", REPLICA="s")
    with broker.channel(vhost) as other:
        other.basic_consume("one", lambda *_: None)

        drain = control("drain", "--timeout", "3")

    assert drain.wait() == 1
    why = "one still has consumers, by the broker's count: 1"
    assert f"recorder is drained, but not proved halted: {why}" in drain.log
    assert sink.wait() == 0


@pytest.mark.thorough
def test_a_replica_that_is_restarted_meanwhile_is_named(
    vhost: str, start: Start, broker: Broker
) -> None:
    """The first process never said halted: exit code 1, although its successor did."""
    broker.put("one", ["a"], vhost)
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "s"}
    first = start(*RECORDER, DELAY=60, DRAIN_TIMEOUT=60, **edge)
    wait_until(lambda: first.lines, 20, "it handles the message")
    halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost)
    first.wait_log("halting")
    wait_until(lambda: broker.depth("control.recorder.s", vhost) == 0, 20, "it has answered")
    first.kill()

    second = start(*RECORDER, ready=False, **edge)

    assert [halt.wait(60), second.wait()] == [1, 0], halt.out + halt.log
    assert "recorder/s: was restarted before it had said halted" in halt.out


def test_what_may_not_be_counted_is_not_proved(
    broker: Broker, vhost: str, pipeline: Pipeline, start: Start
) -> None:
    """A user who may not look at the queues: exit code 1, and the broker's words."""
    workers, sinks = pipeline()
    broker.add_user("blind", "blind", tags="monitoring")
    rights = {"configure": "^control.*", "write": "^control.*", "read": "^control.*"}
    broker.api("PUT", f"permissions/{vhost}/blind", rights)
    login: dict[str, Any] = {"RABBITMQ_USERNAME": "blind", "RABBITMQ_PASSWORD": "blind"}

    halt = start("-m", "services.control", "halt", ready=False, RABBITMQ_VHOST=vhost, **login)

    assert halt.wait() == 1
    assert "cannot look at 'one': 403 ACCESS_REFUSED" in halt.log
    assert [each.wait() for each in (*workers, *sinks)] == [0] * 4


def test_a_second_process_of_one_name_is_refused(
    broker: Broker, vhost: str, start: Start, control: Control
) -> None:
    """Exit code 2 and one line; the first one goes on, and a halt proves that nobody is left."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "twin"}
    first = start(*RECORDER, **edge)

    second = start(*RECORDER, ready=False, **edge)

    assert second.wait() == 2
    assert "another process runs as recorder/twin: give each replica a name" in second.log
    assert "Traceback" not in second.log
    assert "ready" not in second.log
    broker.put("one", ["a", "b"], vhost)
    wait_until(lambda: len(first.lines) == 2, 20, "the first one has all")
    halt = control("halt")
    assert [halt.wait(), first.wait()] == [0, 0]
    assert halt.out.startswith("halted 1/1")


@pytest.mark.thorough
def test_a_second_process_is_refused_by_several_brokers_too(
    broker: Broker, vhost: str, start: Start
) -> None:
    """One that has failed may keep a lock; but who lives consumes its control queue."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "twin"}
    edge["RABBITMQ_HOST"] = f"127.0.0.1:{broker.port},127.0.0.1:{broker.port}"
    first = start(*RECORDER, **edge)

    second = start(*RECORDER, ready=False, **edge)

    assert second.wait() == 2
    assert "another process runs as recorder/twin: give each replica a name" in second.log
    broker.put("one", ["a"], vhost)
    wait_until(lambda: first.lines, 20, "the first one goes on")


@pytest.mark.parametrize("was_there", variations([True, False]))
def test_a_lock_that_a_broker_has_kept_holds_up_nobody(
    broker: Broker, vhost: str, start: Start, *, was_there: bool
) -> None:
    """With several brokers: it is told, and the process goes on, if nobody lives by its name."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "same"}
    if was_there:
        start(*RECORDER, **edge).kill()
        queue = control_queue("recorder", "same")
        wait_until(lambda: broker.consumers(queue, vhost) == 0, 20, "it is gone")
    with broker.channel(vhost) as channel:
        channel.queue_declare(name_lock("recorder", "same"), exclusive=True)
        edge["RABBITMQ_HOST"] = f"127.0.0.1:{broker.port},127.0.0.1:{broker.port}"
        second = start(*RECORDER, **edge)

    assert "name not taken, going on" in second.log


@pytest.mark.parametrize("how", ["kill", "halt"])
def test_a_name_is_free_as_soon_as_its_process_has_ended(
    vhost: str, start: Start, how: str
) -> None:
    """In order or killed: the next process of the name is ready at once."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "same"}
    first = start(*RECORDER, **edge)
    getattr(first, how)()

    assert start(*RECORDER, **edge).is_ready


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
    broker.command(vhost, *IGNORED, b'{"command": "halt", "target": "other"}')

    sink.wait_log(f"ignored={len(IGNORED)}")
    broker.put(unique("in"), ["a"], vhost)
    wait_until(lambda: sink.lines, 20, "it goes on")
    assert "ignored=1 " in sink.log
    assert sink.log.count("control message ignored") < len(IGNORED)
    assert sink.is_running


@pytest.mark.thorough
def test_a_flood_of_malformed_commands_is_told_in_a_few_lines(
    broker: Broker, unique: Unique, start: Start, vhost: str
) -> None:
    """The count in the log goes up to all of them, and the replica works on."""
    sink = start(*RECORDER, INPUT_QUEUE=unique("in"), RABBITMQ_VHOST=vhost)
    count = 3000
    broker.command(vhost, *[b"HALT"] * count)
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
    broker.command(vhost, b'{"command": "halt"}')
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


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_a_twin_on_a_broadcast_edge_is_refused(broker: Broker, vhost: str, start: Start) -> None:
    """It would share the first one's queue: each message would reach one of them only."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "news", "REPLICA": "twin"}
    first = start(*RECORDER, INPUT_KIND="broadcast", **edge)

    second = start(*RECORDER, ready=False, INPUT_KIND="broadcast", **edge)

    assert second.wait() == 2
    assert "another process runs as recorder/twin" in second.log
    assert broker.consumers("news.recorder.twin", vhost) == 1
    assert first.is_running


@pytest.mark.thorough
def test_a_source_of_a_taken_name_does_not_begin(broker: Broker, vhost: str, start: Start) -> None:
    """Exit code 2, and it has published nothing."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "REPLICA": "twin", "STAGE": "same"}
    first = start(*RECORDER, INPUT_QUEUE="other", **edge)

    source = start(
        "-m", "services.producer", ready=False, OUTPUT_QUEUE="out", MESSAGES="a b", **edge
    )

    assert source.wait() == 2, source.log
    assert broker.depth("out", vhost) == 0
    assert first.is_running


@pytest.mark.thorough
def test_a_replica_that_comes_back_does_not_wait_for_its_lock(
    broker: Broker, vhost: str, start: Start
) -> None:
    """It consumes at once; who has the lock for longer than a half-open connection is a twin: 2."""
    with Proxy(broker.port) as proxy, broker.channel(vhost) as other:
        edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "one", "REPLICA": "r"}
        sink = start(*RECORDER, RABBITMQ_HEARTBEAT=1, RABBITMQ_PORT=proxy.port, **edge)
        proxy.is_away = True
        proxy.cut()
        wait_until(lambda: _is_taken(other, "control/recorder/r"), 20, "its name is free")
        broker.put("one", ["a"], vhost)

        proxy.is_away = False

        wait_until(lambda: sink.lines, 20, "it handles a message")
        assert sink.wait(60) == 2
        assert "another process runs as recorder/r" in sink.log


def _is_taken(channel: BlockingChannel, lock: str) -> bool:
    """Take a replica's name for the connection of this channel, if it is free."""
    with suppress(ChannelClosedByBroker):
        arguments = {"x-queue-type": "classic"}
        again = channel.connection.channel()
        again.queue_declare(lock, exclusive=True, arguments=arguments)
        return True
    return False


@pytest.mark.parametrize("command", variations(["halt", "drain", "status"]))
def test_one_grammar_of_targets(pipeline: Pipeline, control: Control, command: str) -> None:
    """Several stages; a name that is not there is an error that names what there is."""
    workers, sinks = pipeline()

    typo = control(command, "relay", "recordr")
    done = control(command, "relay", "recorder", "--format", "json")

    assert typo.wait() == 1
    assert "of the name recordr: there are recorder/s1, recorder/s2, relay/w1" in typo.log
    assert done.wait() == 0, done.log
    told = json.loads(done.out)
    if command == "status":
        assert {each["stage"] for each in told["replicas"]} == {"relay", "recorder"}
        assert set(told["queues"]) == {"one", "two"}
        assert all(each.is_running for each in (*workers, *sinks))
        return
    assert [each.wait() for each in (*workers, *sinks)] == [0] * 4
    if command == "halt":
        names = ["recorder/s1", "recorder/s2", "relay/w1", "relay/w2"]
        assert told == {"proved": True, "halted": names, "missing": [], "forgotten": []}
    else:
        assert told == {"drained": ["relay", "recorder"]}


def test_a_stage_is_drained_by_itself(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """Its queue is empty, the others go on; a replica shares its queue, and is not drained."""
    workers, sinks = pipeline()
    broker.put("one", [str(number) for number in range(50)], vhost)

    replica, drain = control("drain", "relay/w1"), control("drain", "relay")

    assert replica.wait() == 2
    assert "so halt it, or drain the stage relay" in replica.log
    assert [each.wait() for each in (drain, *workers)] == [0] * 3, drain.log
    assert drain.out.splitlines()[-1] == "drained 1 stage: relay"
    assert broker.depth("one", vhost) == 0
    assert all(each.is_running for each in sinks)


@pytest.mark.thorough
def test_forged_reports_stretch_nothing(
    broker: Broker, vhost: str, pipeline: Pipeline, control: Control
) -> None:
    """Of replicas that have no control queue; they are counted and told, whatever they say."""
    pipeline()
    with flood(broker, vhost) as is_flooded:
        status = control("status")
        halt = control("halt", "--timeout", "20")

    assert is_flooded.is_set()
    assert status.wait() == 0, status.log
    assert len(status.out) < 20_000
    assert "reports of replicas without a control queue: not listed" in status.out
    assert "relay" in status.out
    assert "forged" not in status.out
    assert halt.out.startswith("halted 4/4")
    assert halt.wait() == 0, halt.out + halt.log


@pytest.mark.thorough
def test_status_is_watched_until_it_is_interrupted(
    broker: Broker, vhost: str, pipeline: Pipeline
) -> None:
    """Every second anew, with rates; Ctrl-C leaves the terminal as it was, with exit code 0."""
    pipeline()
    broker.put("one", [str(number) for number in range(3000)], vhost)
    environment = {**os.environ, **broker.environment, "PYTHONPATH": "shared:.", "TERM": "xterm"}
    environment |= {"RABBITMQ_VHOST": vhost, "COLUMNS": "160", "LINES": "40"}
    terminal, end = pty.openpty()
    before = termios.tcgetattr(end)
    command = [sys.executable, "-m", "services.control", "status", "--watch"]
    watching = subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env=environment, cwd=ROOT
    )
    shown: list[str] = []

    def read() -> None:
        with suppress(OSError):  # the terminal is closed
            while data := os.read(terminal, 65536):
                shown.append(data.decode(errors="replace"))

    reader = threading.Thread(target=read)
    reader.start()
    rates = re.compile(r"one → two .* \d+ │ +[1-9][\d,]* │")
    try:
        wait_until(lambda: rates.search("".join(shown)), 30, "a rate above nothing")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
        assert termios.tcgetattr(end) == before
    finally:
        watching.kill()
        watching.wait()
        os.close(end)
        reader.join()
        os.close(terminal)
    said = "".join(shown)
    assert said.count("\x1b[?1049h") == said.count("\x1b[?1049l") == 1
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_nobody_can_watch_without_a_terminal(control: Control) -> None:
    """One line, and exit code 2."""
    watch = control("status", "--watch")

    assert watch.wait() == 2
    assert watch.log.splitlines()[-1].startswith("control: --watch needs a terminal")
