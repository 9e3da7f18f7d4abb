"""Pause and resume with proof: services.control and stages as real processes."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import pytest

from rabbit import MessageQueue
from rabbit.control.client import ControlClient
from rabbit.logs import logger
from rabbit.operations.management import ControlSettings, Management
from rabbit.operations.pause import Pause
from rabbit.operations.replicas import Replicas
from rabbit.topology import pause_mark
from tests.broker import Broker
from tests.conftest import Start
from tests.integration.conftest import Control
from tests.integration.proxy import Proxy
from tests.order import disorder, handlings
from tests.process import Process
from tests.waiting import wait_until

RECORDER = ("-m", "tests.integration.stages.recorder")

#: How often to pause under load; `PAUSES=50` for a long run.
TIMES = int(os.environ.get("PAUSES", "5"))


@pytest.fixture
def sink(start: Start, vhost: str) -> Callable[..., Process]:
    """Give a function that starts a recorder that reads `two`."""

    def run(replica: str, **given: Any) -> Process:
        return start(
            *RECORDER, REPLICA=replica, RABBITMQ_VHOST=vhost, INPUT_QUEUE="two", **given
        )  # fmt: skip

    return run


def test_a_paused_stage_takes_nothing_and_so_do_replicas_that_come_later(
    broker: Broker, vhost: str, sink: Callable[..., Process], control: Control
) -> None:
    """`paused 2/2`, ready, a halt halts it; whoever starts is paused too, until it is resumed."""
    sinks = [sink("s1"), sink("s2")]

    paused = control("pause", "recorder")

    assert paused.wait() == 0, paused.log
    assert paused.out.split() == ["paused", "2/2", "recorder/s1,", "recorder/s2"]
    broker.put("two", ["a", "b", "c"], vhost)
    sinks.append(sink("s3"))  # it says that it is ready
    status = json.loads(control("status", "--format", "json").out)
    assert {each["replica"]: each["state"] for each in status["replicas"]} == dict.fromkeys(
        ("s1", "s2", "s3"), "paused"
    )
    drain = control("drain")
    assert drain.wait() == 1
    assert "resume recorder first, or halt instead. Nothing was stopped" in drain.log
    assert broker.depth("two", vhost) == 3
    assert control("halt", "recorder/s1").out.startswith("halted 1/1")
    assert not any(each.lines for each in sinks)

    resumed = control("resume")

    assert resumed.out.split() == ["resumed", "2/2", "recorder/s2,", "recorder/s3"]
    wait_until(lambda: sum(len(each.lines) for each in sinks) == 3, 20, "messages flow")


@contextmanager
def operator(broker: Broker, vhost: str) -> Iterator[Callable[..., Pause]]:
    """Give a function that pauses or resumes, proved within 30 seconds; in this process."""
    settings = ControlSettings.load(
        **broker.settings, rabbitmq_vhost=vhost, rabbitmq_management_url=broker.management_url
    )
    with ControlClient(settings, logger(settings)) as client:
        management = Management(settings)

        def run(command: Literal["pause", "resume"], *targets: str) -> Pause:
            attempt = Pause(client, management, Replicas(client, management), command, targets)
            assert attempt.run(30, lambda _: None), attempt.missing
            return attempt

        yield run


@pytest.mark.thorough
@pytest.mark.parametrize("prefetch", ["auto", 50])
def test_nothing_is_lost_or_fails_by_pausing_under_load(
    broker: Broker, vhost: str, sink: Callable[..., Process], prefetch: object
) -> None:
    """Again and again: each message comes once, at its first attempt.

    In order, too; but not where the handler was so slow, for a moment, that an automatic prefetch
    had given messages back by itself just before.
    """
    texts: list[str] = []

    def put_more() -> None:
        more = [str(number) for number in range(len(texts), len(texts) + 2000)]
        broker.put("two", more, vhost)
        texts.extend(more)

    put_more()
    recorder = sink("s1", DELAY=0.0002, PREFETCH=prefetch)

    def has_printed(enough: int) -> bool:
        return len(recorder.lines) >= enough

    left = []
    with operator(broker, vhost) as steer:
        for _ in range(TIMES):
            wait_until(partial(has_printed, len(recorder.lines) + 50), 20, "it goes on")
            steer("pause", "recorder")
            left.append(len(texts) - len(recorder.lines))
            assert broker.depth("two", vhost) == left[-1]
            put_more()  # a pause takes as long as it takes: the next one meets messages, too
            steer("resume")
    wait_until(partial(has_printed, len(texts)), 60, "all are handled")

    assert any(left), "all was handled before it had paused"
    printed = [each["text"] for each in recorder.objects]
    assert sorted(printed) == sorted(texts)
    assert prefetch == "auto" or printed == texts
    assert {each["attempt"] for each in recorder.objects} == {1}


@pytest.mark.thorough
def test_a_replica_that_is_paused_alone_stays_so_when_it_is_started_again(
    broker: Broker, vhost: str, sink: Callable[..., Process], control: Control
) -> None:
    """Its process may be killed; the others go on. Where its stage is paused, it cannot go on."""
    alone, _ = sink("s1"), sink("s2")
    with operator(broker, vhost) as steer:
        assert [each.name for each in steer("pause", "recorder/s1").done] == ["recorder/s1"]
        alone.kill()
        successor = sink("s1")
        broker.put("two", ["a", "b", "c", "d"], vhost)
        wait_until(lambda: broker.depth("two", vhost) == 0, 20, "the other one takes all")
        assert [*alone.lines, *successor.lines] == []
        assert "paused" in successor.log

        steer("pause", "recorder")
        refused = control("resume", "recorder/s1")
        assert refused.wait() == 1
        assert "recorder/s1 is paused with its stage: resume recorder" in refused.log
        assert len(steer("resume", "recorder").done) == 2

        steer("pause", "recorder/s2")
        broker.put("two", ["e"], vhost)
        wait_until(lambda: successor.lines, 20, "it takes messages")


@pytest.mark.thorough
def test_a_pause_outlasts_the_broker_and_finds_who_was_cut_off(
    broker: Broker, vhost: str, sink: Callable[..., Process], control: Control
) -> None:
    """Who is away is named, with exit code 1, and is paused when it is back; so after a restart."""
    with Proxy(broker.port) as proxy:
        lost = sink("s1", RABBITMQ_PORT=proxy.port, RABBITMQ_HEARTBEAT=1)
        proxy.is_away = True
        proxy.cut()
        wait_until(lambda: broker.consumers("two", vhost) == 0, 30, "the broker has noticed")

        paused = control("pause", "recorder")

        assert paused.wait() == 1
        assert paused.out.startswith("paused 0/1")
        assert "not proved paused: recorder/s1: cut off or killed" in paused.out
        broker.put("two", ["a"], vhost)
        proxy.is_away = False
        wait_until(lambda: "paused until it is resumed" in lost.log, 30, "it is paused")
        broker.restart()
        lost.wait_log("broker available again", 60)
        again = control("pause", "recorder")
        assert again.out.split() == ["paused", "1/1", "recorder/s1"], again.log
        assert not lost.lines

        assert control("resume", "recorder").wait() == 0
        wait_until(lambda: lost.lines, 20, "it goes on")


@pytest.mark.thorough
def test_a_replica_that_saw_no_mark_looks_again(
    broker: Broker, vhost: str, sink: Callable[..., Process]
) -> None:
    """Somebody may have it in hand, or the broker be too slow to count it: only for a moment."""
    sink("s1")
    with operator(broker, vhost) as steer, broker.channel(vhost) as channel:
        steer("pause", "recorder")
        method, _, _ = channel.basic_get(pause_mark("recorder"))
        assert method
        misled = sink("s2")
        assert "paused" not in misled.log
        channel.basic_nack(method.delivery_tag)

        wait_until(lambda: "paused until it is resumed" in misled.log, 20, "it has looked again")


def test_a_source_writes_nothing_while_it_is_paused(
    broker: Broker, vhost: str, start: Start
) -> None:
    """What it has written is confirmed; then `write` waits, and a new one does not begin."""
    counter = ("-m", "tests.integration.stages.counter")
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "OUTPUT_QUEUE": "two"}
    source = start(*counter, REPLICA="c1", DELAY=0.001, **edge)
    with operator(broker, vhost) as steer:
        wait_until(lambda: broker.depth("two", vhost) > 100, 20, "numbers come")
        steer("pause")
        written = broker.depth("two", vhost)
        late = start(*counter, REPLICA="c2", COUNT=3, **edge)
        control_at_work = steer("pause", "counter")  # takes a while, in which nothing comes
        names = [each.name for each in control_at_work.done]
        assert names == ["counter/c1", "counter/c2"], late.log
        assert source.is_running
        assert broker.depth("two", vhost) == written
        steer("resume")
        assert late.wait() == 0, late.log
        wait_until(lambda: broker.depth("two", vhost) > written + 100, 20, "it goes on")
        steer("pause")
    assert source.halt() == 0


@pytest.mark.thorough
def test_a_paused_stage_keeps_the_order_of_each_key(
    broker: Broker, vhost: str, start: Start
) -> None:
    """On an ordered edge a replica keeps what it holds, unstarted, however often it is paused."""
    edge: dict[str, Any] = {"INPUT_QUEUE": "orders", "INPUT_KIND": "ordered", "PARTITIONS": 4}
    given = {"RABBITMQ_VHOST": vhost, "RETRY_DELAYS": "", "DELAY": 0.01, "STAGE": "keyed", **edge}
    keyed = ("-m", "tests.integration.stages.keyed")
    replicas = [start(*keyed, REPLICA=replica, **given) for replica in ("r1", "r2")]
    texts, keys = [str(number) for number in range(100)], [f"key-{number}" for number in range(8)]
    settings = {**broker.settings, "rabbitmq_vhost": vhost}

    def has_handled(enough: int) -> bool:
        return len(handlings(replicas)) >= enough

    with operator(broker, vhost) as steer:
        steer("pause", "keyed")
        with MessageQueue("orders", "ordered", partitions=4, **settings) as queue:
            for key in keys:
                queue.publish_many(texts, key=key)
        assert not has_handled(1)
        for _ in range(3):
            steer("resume")
            wait_until(partial(has_handled, len(handlings(replicas)) + 10), 20, "it goes on")
            steer("pause", "keyed")
            handled = len(handlings(replicas))
            steer("pause")  # takes a while, in which nothing is handled
            assert len(handlings(replicas)) == handled < len(texts) * len(keys)
        steer("resume")
    wait_until(partial(has_handled, len(texts) * len(keys)), 60, "all are handled")

    assert len(handlings(replicas)) == len(texts) * len(keys)
    assert disorder(handlings(replicas)) == []
    assert {each.attempt for each in handlings(replicas)} <= {1, 2}  # a partition was passed on
