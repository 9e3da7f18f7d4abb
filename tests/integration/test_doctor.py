"""The doctor: a broker that is as declared, and one that is not. services.control as a process."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start
from tests.process import ROOT
from tests.variations import variations
from tests.waiting import wait_until

Doctor = Callable[..., subprocess.CompletedProcess[str]]

STAGES: dict[str, dict[str, Any]] = {
    "source": {"OUTPUT_QUEUE": "one"},
    "relay": {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "RETRY_DELAYS": "1,0.5"},
    "recorder": {"INPUT_QUEUE": "two", "PREFETCH": None},
}


@pytest.fixture
def doctor(broker: Broker, vhost: str) -> Doctor:
    """Give a function that runs the doctor on a pipeline of services with these variables."""

    def run(
        stages: Mapping[str, Mapping[str, Any]] | str, *options: str
    ) -> subprocess.CompletedProcess[str]:
        services: dict[str, Any] = {"rabbitmq": {"image": "rabbitmq"}, "control": {}}
        if not isinstance(stages, str):
            services |= {
                name: {"environment": variables, "build": {"args": {"STAGE": name}}}
                for name, variables in stages.items()
            }
        return subprocess.run(
            [sys.executable, "-m", "services.control", "doctor", *options],
            cwd=ROOT,
            env={**broker.environment, "PYTHONPATH": f"{ROOT / 'shared'}", "RABBITMQ_VHOST": vhost},
            input=stages if isinstance(stages, str) else json.dumps({"services": services}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def running(start: Start, vhost: str) -> None:
    """Have the stages run that read something."""
    for name in ("relay", "recorder"):
        start("-m", f"tests.integration.stages.{name}", RABBITMQ_VHOST=vhost, **STAGES[name])


def findings(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str, str]]:
    """Return what the doctor found: problem, what and name."""
    assert done.returncode == 1, done.stdout + done.stderr
    return [(each["problem"], each["what"], each["name"]) for each in json.loads(done.stdout)]


@pytest.mark.usefixtures("running")
def test_what_is_as_declared(doctor: Doctor) -> None:
    """Exit code 0 and one line."""
    done = doctor(STAGES)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "no difference: 3 stages, all as declared\n"
    assert doctor(STAGES, "--format", "json").stdout == "[]\n"


def test_an_empty_broker(doctor: Doctor) -> None:
    """Everything is missing, retry queues and dead letters too; exit code 1."""
    found = findings(doctor(STAGES, "--format", "json"))

    assert {problem for problem, _, _ in found} == {"missing"}
    names = {name for _, what, name in found if what == "queue"}
    tiers = {f"{queue}.retry.{delay}" for queue in ("two",) for delay in ("1s", "5s", "30s")}
    tiers |= {"one.retry.1s", "one.retry.500ms"}
    assert names == {"one", "two", "one.dead", "two.dead"} | tiers
    assert ("missing", "exchange", "one.back") in found
    assert ("missing", "exchange", "control") in found


@pytest.mark.usefixtures("running")
def test_what_is_missing(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """A binding, a retry queue and an exchange that somebody has removed."""
    with broker.channel(vhost) as channel:
        channel.queue_unbind("one", "one.back", routing_key="")
        channel.queue_delete("one.retry.500ms")
        channel.exchange_delete("two.dead")

    assert set(findings(doctor(STAGES, "--format", "json"))) == {
        ("missing", "binding", "one.back → one"),
        ("missing", "queue", "one.retry.500ms"),
        ("missing", "exchange", "two.dead"),
    }


def test_what_differs(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """The arguments, type included, one by one; the type of an exchange."""
    with broker.channel(vhost) as channel:
        arguments = {"x-queue-type": "classic", "x-max-length": 7}
        channel.queue_declare("one", durable=True, arguments=arguments)
        channel.exchange_declare("two", "topic", durable=True)

    done = doctor(STAGES, "--format", "json")

    differs = {
        (each["name"], each["detail"])
        for each in json.loads(done.stdout)
        if each["problem"] == "differs"
    }
    assert ("two", "declared direct, there is topic") in differs
    assert ("one", "x-queue-type: declared 'quorum', there is 'classic'") in differs
    assert ("one", "x-max-length: declared none, there is 7") in differs
    assert ("one", "x-dead-letter-exchange: declared 'one.dead', there is none") in differs


@pytest.mark.thorough
@pytest.mark.usefixtures("running")
def test_a_policy_that_loses_what_is_kept(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """Both kinds of policies, by name; what they come to is the broker's word, and it is so."""
    for kind, key in (("policies", "delivery-limit"), ("operator-policies", "message-ttl")):
        rule = {"pattern": r"two\.dead$", "apply-to": "queues", "definition": {key: 1}}
        broker.api("PUT", f"{kind}/{vhost}/{key}", rule)

    done = doctor(STAGES, "--format", "json")

    found = [each for each in json.loads(done.stdout) if each["problem"] == "loses"]
    name = "policy delivery-limit and operator policy message-ttl"
    assert {(each["what"], each["name"], each["stages"][0]) for each in found} == {
        ("policy", name, "relay")
    }
    assert [each["detail"].partition(";")[0] for each in found] == [
        "message-ttl on two.dead: what is older than 1 ms is dropped",
        "delivery-limit on two.dead: what comes back more than 1 times is dropped",
    ]
    with broker.channel(vhost) as channel:
        broker.send(channel, "two.dead", "", "kept")
    wait_until(lambda: broker.depth("two.dead", vhost) == 0, 20, "as the doctor says")


@pytest.mark.thorough
@pytest.mark.usefixtures("running")
def test_what_nobody_declares_any_more(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """Queues of a stage that was removed are named, with what they hold; others' queues are not."""
    broker.put("old", ["left"], vhost)
    with broker.channel(vhost) as channel:
        channel.queue_declare("of somebody else", durable=True)
        channel.queue_delete("one.retry.1s")

    done = doctor({**STAGES, "relay": {**STAGES["relay"], "RETRY_DELAYS": ""}})

    assert done.returncode == 1
    assert "somebody" not in done.stdout
    for name in ("old ", "old.dead", "one.retry.500ms"):
        assert name in done.stdout
    assert "messages in it: 1" in done.stdout or broker.depth("old", vhost) == 1


@pytest.mark.thorough
def test_who_does_not_read(doctor: Doctor, start: Start, vhost: str) -> None:
    """A queue without a consumer, and an edge that is written and that no stage reads."""
    start("-m", "tests.integration.stages.relay", RABBITMQ_VHOST=vhost, **STAGES["relay"])
    stages = {"relay": STAGES["relay"], "recorder": {"INPUT_QUEUE": "one"}, "other": {}}

    found = findings(doctor({**stages, "waits": {"INPUT_QUEUE": "three"}}, "--format", "json"))
    assert ("unread", "edge", "two") in found
    start("-m", "tests.integration.stages.recorder", RABBITMQ_VHOST=vhost, INPUT_QUEUE="two").halt()
    assert ("unconsumed", "queue", "two") in findings(doctor(STAGES, "--format", "json"))


@pytest.mark.thorough
def test_other_kinds_of_edges(doctor: Doctor, start: Start, vhost: str) -> None:
    """Queues of groups and of replicas are known, whatever the replica's name is."""
    stages: dict[str, dict[str, Any]] = {
        "source": {"OUTPUT_QUEUE": "news", "OUTPUT_KIND": "broadcast"},
        "recorder": {"INPUT_QUEUE": "news", "INPUT_KIND": "broadcast", "RETRY_DELAYS": "2"},
        "relay": {
            "INPUT_QUEUE": "log",
            "INPUT_KIND": "topic",
            "INPUT_KEYS": "a.*,b",
            "OUTPUT_QUEUE": "log",
            "OUTPUT_KIND": "topic",
        },
    }
    for name in ("recorder", "relay"):
        module = f"tests.integration.stages.{name}"
        start("-m", module, RABBITMQ_VHOST=vhost, REPLICA="r.1", **stages[name])

    assert doctor(stages).stdout == "no difference: 3 stages, all as declared\n"

    stages["relay"]["INPUT_KEYS"] = "a.*,b,c"
    assert findings(doctor(stages, "--format", "json")) == [
        ("missing", "binding", "log → log.relay")
    ]


def test_stages_that_contradict_each_other(doctor: Doctor) -> None:
    """The second one that starts would be refused: both are named, with what they declare."""
    stages = {
        "writer": {"OUTPUT_QUEUE": "one", "OUTPUT_KIND": "topic"},
        "reader": {"INPUT_QUEUE": "one"},
    }

    found = json.loads(doctor(stages, "--format", "json").stdout)

    [each] = [each for each in found if each["problem"] == "contradiction"]
    assert each["stages"] == ["writer", "reader"]
    assert each["detail"] == "topic by writer, direct by reader"


def test_wrong_settings(doctor: Doctor) -> None:
    """Exit code 2, and a line for each service that has one."""
    stages = {"a": {"INPUT_QUEUE": ""}, "b": {"INPUT_QUEUE": "x", "PREFETCH": "many"}}

    done = doctor(stages)

    assert done.returncode == 2
    assert [line.split(" is not")[0] for line in done.stderr.splitlines()] == [
        "control: a: INPUT_QUEUE: ''",
        "control: b: PREFETCH: 'many'",
    ]


@pytest.mark.parametrize("text", variations(["", "[]", "{}", "no JSON"]))
def test_something_else_on_standard_input(doctor: Doctor, text: str) -> None:
    """Exit code 2 and one line that says what to pipe in."""
    done = doctor(text)

    assert done.returncode == 2
    assert "docker compose config --format json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
