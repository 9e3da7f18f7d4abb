"""`doctor --fix`: a broker that is not as declared is made so, and no message is lost."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start
from tests.process import ROOT
from tests.waiting import wait_until

STAGES: dict[str, dict[str, Any]] = {
    "relay": {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "RETRY_DELAYS": "1"},
    "recorder": {"INPUT_QUEUE": "two", "RETRY_DELAYS": "1"},
}
CLASSIC: dict[str, Any] = {"QUEUE_TYPE": "classic"}


class Doctor:
    """Runs services.control, or another program, on a pipeline of these services."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        """Know the broker."""
        self._environment = {
            **broker.environment,
            "PYTHONPATH": f"{ROOT / 'shared'}",
            "RABBITMQ_VHOST": vhost,
        }

    def __call__(
        self,
        stages: Mapping[str, Mapping[str, Any]],
        *options: str,
        program: tuple[str, ...] = ("services.control", "doctor"),
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        services = {
            name: {"environment": variables, "build": {"args": {"STAGE": name}}}
            for name, variables in stages.items()
        }
        return subprocess.run(
            [sys.executable, "-m", *program, *options],
            cwd=ROOT,
            env={**self._environment, **environment},
            input=json.dumps({"services": services}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            start_new_session=True,  # without a terminal to ask at
        )


@pytest.fixture
def doctor(broker: Broker, vhost: str) -> Doctor:
    """Give the doctor of a virtual host."""
    return Doctor(broker, vhost)


def ids(broker: Broker, queue: str, vhost: str) -> list[str | None]:
    """Take all messages of a queue; return their ids, each where it came first."""
    return list(dict.fromkeys(each.id for each in broker.take_all(queue, vhost)))


def test_what_is_missing_is_made(broker: Broker, vhost: str, doctor: Doctor, start: Start) -> None:
    """Exchanges, queues and bindings, without a question, while all goes on."""
    for name, variables in STAGES.items():
        start("-m", f"tests.integration.stages.{name}", RABBITMQ_VHOST=vhost, **variables)
    with broker.channel(vhost) as channel:
        channel.queue_unbind("one", "one.back", routing_key="")
        channel.queue_delete("one.retry.1s")
        channel.exchange_delete("two.dead")

    planned = doctor(STAGES, "--fix", "--dry-run")
    fixed = doctor(STAGES, "--fix")

    assert planned.stdout.splitlines() == [
        "create exchange two.dead",
        "create queue one.retry.1s",
        "create binding one.back → one",
        "create binding one.retry.1s → one.retry.1s",
        "create binding two.dead → two.dead",
    ], planned.stderr
    assert planned.returncode == 1
    assert fixed.returncode == 0, fixed.stderr + fixed.stdout
    assert fixed.stdout.splitlines()[:2] == [
        "created exchange two.dead",
        "created queue one.retry.1s",
    ]
    assert fixed.stdout.endswith("no difference: 2 stages, all as declared\n")


@pytest.mark.thorough
def test_empty_orphans_go(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """And what holds a message stays, with the place for its dead letters; it asks."""
    for queue in ("empty", "full"):
        broker.declare(queue, vhost)
    broker.put("full", ["left"], vhost)

    asked = doctor(STAGES, "--fix")
    fixed = doctor(STAGES, "--fix", "--yes", "--format", "json")

    assert asked.returncode == 2
    assert "there is no terminal to ask at: add --yes" in asked.stderr
    told = json.loads(fixed.stdout)
    assert {"deleted queue empty", "deleted queue empty.dead"} <= set(told["done"])
    queues = broker.queues(vhost)
    assert {"full", "full.dead", "one", "two"} <= set(queues)
    assert not {"empty", "empty.dead"} & set(queues)
    assert broker.depth("full", vhost) == 1
    exchanges = {each["name"] for each in broker.api("GET", f"exchanges/{vhost}")}
    assert not {"empty", "empty.dead", "empty.back"} & exchanges
    assert fixed.returncode == 1
    assert {each["name"] for each in told["left"]} >= {"full", "full.dead"}


@pytest.mark.thorough
def test_a_queue_that_differs_is_moved(
    broker: Broker, vhost: str, doctor: Doctor, start: Start
) -> None:
    """Its stages are halted, with proof; order, ids and attempts are as they were."""
    module = "tests.integration.stages"
    start("-m", f"{module}.recorder", RABBITMQ_VHOST=vhost, **STAGES["recorder"], **CLASSIC).halt()
    start("-m", f"{module}.relay", RABBITMQ_VHOST=vhost, **STAGES["relay"], **CLASSIC)
    # What one connection has just declared, another may not see yet.
    exchange = f"exchanges/{vhost}/two.back"
    wait_until(lambda: broker.api("GET", exchange), 30, "there is an exchange two.back")
    with broker.channel(vhost) as channel:
        broker.send(channel, "two.back", "key", "again", message_id="m", headers={"x-attempts": 2})
        broker.send(channel, "two", "two", "late", message_id="n", user_id="tester")
    texts = [str(number) for number in range(300)]
    broker.put("one", texts, vhost, queue_type="classic")
    wait_until(lambda: broker.depth("two", vhost) == 302, 30, "all of it is in two")

    fixed = doctor(STAGES, "--fix", "--yes")

    assert fixed.returncode == 0, fixed.stderr + fixed.stdout
    assert "halted 1/1 relay/" in fixed.stdout
    assert "moved queue two: 302 messages" in fixed.stdout
    with broker.channel(vhost) as channel:
        method, properties, _ = channel.basic_get("two", auto_ack=True)
        assert method is not None
        assert properties is not None
        assert (method.exchange, method.routing_key, properties.headers) == (
            "two.back",
            "key",
            {"x-attempts": 2},
        )
    left = broker.take("two", 301, vhost=vhost)
    assert [each.text for each in left] == ["late", *(text.upper() for text in texts)]
    assert left[0].headers == {"x-original-user-id": "tester"}
    assert not [name for name in broker.queues(vhost) if "moving" in name]
    exchanges = broker.api("GET", f"exchanges/{vhost}")
    assert not [each["name"] for each in exchanges if "moving" in each["name"]]


@pytest.mark.thorough
def test_a_queue_whose_leader_is_silent_is_not_empty(
    broker: Broker, vhost: str, doctor: Doctor
) -> None:
    """The broker counts nothing in it then, and nothing is deleted by that: two is as it was."""
    stages = {"recorder": STAGES["recorder"]}
    doctor(stages, "--fix", "--yes")
    with broker.channel(vhost) as channel:
        channel.queue_delete("two")
        quorum = {"x-queue-type": "quorum", "x-max-length": 1000}
        channel.queue_declare("two", durable=True, arguments=quorum)
        for text in "abc":
            broker.send(channel, "", "two", text, message_id=text)
    wait_until(lambda: broker.depth("two", vhost) == 3, 20, "they are in two")

    broker.control("eval", f"sys:suspend('{vhost}_two').")
    refused = doctor(stages, "--fix", "--yes", HALT_TIMEOUT="5")
    broker.control("eval", f"sys:resume('{vhost}_two').")
    left = broker.depth("two", vhost)
    fixed = doctor(stages, "--fix", "--yes")

    assert refused.returncode == 1, refused.stdout
    assert left == 3
    assert fixed.returncode == 0, fixed.stderr + fixed.stdout
    assert broker.depth("two", vhost) == 3


#: Each step of a move of q; what is told there is said right after it was done.
POINTS = (
    "made q.moving\n",
    "moving out of q:",
    "bound q.moving\n",
    "unbound q\n",
    "deleted q\n",
    "declared q\n",
    "bound q\n",
    "unbound q.moving\n",
    "moving out of q.moving:",
    "emptied q.moving\n",
)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_a_move_that_is_killed_goes_on(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """Wherever that was: run again, it loses nothing, and keeps the order of what comes first."""
    stages = {f"s{number}": {"INPUT_QUEUE": f"q{number}"} for number in range(len(POINTS))}
    for number in range(len(POINTS)):
        broker.put(f"q{number}", map(str, range(200)), vhost, queue_type="classic")

    def kill(number: int) -> subprocess.CompletedProcess[str]:
        point = POINTS[number].replace(" q", f" q{number}")
        one = {f"s{number}": stages[f"s{number}"]}
        return doctor(one, point, program=("tests.integration.killed_repair",))

    with ThreadPoolExecutor(4) as pool:
        for point, killed in zip(POINTS, pool.map(kill, range(len(POINTS))), strict=True):
            assert killed.returncode == -signal.SIGKILL, f"{point}: {killed.stderr}"
    found = json.loads(doctor(stages, "--format", "json").stdout)

    fixed = doctor(stages, "--fix", "--yes")

    unfinished = {each["name"] for each in found if each["problem"] == "unfinished"}
    assert unfinished == {f"q{number}.moving" for number in range(len(POINTS))}
    assert fixed.returncode == 0, fixed.stderr + fixed.stdout
    assert fixed.stdout.endswith("all as declared\n")
    for number, point in enumerate(POINTS):
        expected = [f"q{number}-{index}" for index in range(200)]
        assert ids(broker, f"q{number}", vhost) == expected, point
    assert not [name for name in broker.queues(vhost) if "moving" in name]


def test_who_may_not(broker: Broker, vhost: str, doctor: Doctor) -> None:
    """A user without the right to is told which one is needed, and nothing has changed."""
    broker.declare("one", vhost, "classic")
    broker.api("PUT", "users/looks", {"password": "looks", "tags": "monitoring"})
    rights = {"configure": "^control", "write": "^control", "read": ".*"}
    broker.api("PUT", f"permissions/{vhost}/looks", rights)
    login: dict[str, Any] = {"RABBITMQ_USERNAME": "looks", "RABBITMQ_PASSWORD": "looks"}

    refused = doctor({"relay": {"INPUT_QUEUE": "one"}}, "--fix", "--yes", **login)

    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert line.startswith("control: cannot create ")
    assert "this user has not the right to" in line
    assert broker.queues(vhost)["one"]["type"] == "classic"
