"""Stages that may declare nothing, each as a user with the least rights; and what these refuse."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError

import pika
import pytest
from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker

from rabbit.control.messages import Report, State
from rabbit.topology import (
    CONTROL_EXCHANGE,
    PAUSED_EXCHANGE,
    REPLIES_EXCHANGE,
    Queue,
    control_subscription,
    pause_mark,
)
from tests.broker import Broker
from tests.conftest import Start
from tests.order import handlings
from tests.process import ROOT, Process
from tests.waiting import wait_until

STAGES: dict[str, dict[str, Any]] = {
    "producer": {"OUTPUT_QUEUE": "one"},
    "fallible": {"INPUT_QUEUE": "one", "OUTPUT_QUEUE": "two", "RETRY_DELAYS": "0.2"},
    "recorder": {"INPUT_QUEUE": "two", "RETRY_DELAYS": ""},
}
#: The same, with an edge of another kind between the first two.
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    kind: {
        "producer": {**STAGES["producer"], "OUTPUT_KIND": kind, **key},
        "fallible": {**STAGES["fallible"], "INPUT_KIND": kind, **keys},
        "recorder": STAGES["recorder"],
    }
    for kind, key, keys in (
        ("work", {}, {}),
        ("broadcast", {}, {}),
        ("direct", {"KEY": "k"}, {"INPUT_KEYS": "k"}),
        ("topic", {"KEY": "k.1"}, {"INPUT_KEYS": "k.*"}),
    )
}
ORDERED: dict[str, dict[str, Any]] = {
    "writer": {"OUTPUT_QUEUE": "accounts", "OUTPUT_KIND": "ordered", "PARTITIONS": 2},
    "keyed": {"INPUT_QUEUE": "accounts", "INPUT_KIND": "ordered", "PARTITIONS": 2},
}
OPERATORS = ("control", "board")
REFUSED = 403


class Given:
    """A virtual host with the topology, and a user with a password for each stage."""

    def __init__(
        self, broker: Broker, vhost: str, start: Start, stages: dict[str, dict[str, Any]]
    ) -> None:
        """Import what `services.control definitions` prints; only then there are passwords."""
        self._broker, self._vhost, self._start, self._stages = broker, vhost, start, stages
        self._passwords = {name: secrets.token_hex() for name in (*stages, *OPERATORS)}
        services = {
            name: {"environment": {**variables, "STAGE": name, "RABBITMQ_VHOST": vhost}}
            for name, variables in stages.items()
        }
        self.config = json.dumps({"services": services})
        printed = self.control("definitions")
        assert printed.returncode == 0, printed.stderr
        broker.api("POST", "definitions", json.loads(printed.stdout))
        topology = json.loads(self.control("definitions", "--no-users").stdout)
        assert topology == {**json.loads(printed.stdout), "users": []}
        with pytest.raises(AMQPError), self.connection(next(iter(stages)), password=""):
            pass  # nobody can log in yet
        for name, password in self._passwords.items():
            tags = "monitoring" if name in OPERATORS else ""
            broker.api("PUT", f"users/{name}", {"password": password, "tags": tags})

    def login(self, user: str) -> dict[str, str]:
        """Return the settings with which a process is this user."""
        login = {"RABBITMQ_USERNAME": user, "RABBITMQ_PASSWORD": self._passwords[user]}
        return {**login, "RABBITMQ_VHOST": self._vhost}

    def run(self, stage: str, module: str, *, ready: bool = True, **more: str) -> Process:
        """Start a stage."""
        variables = {**self._stages[stage], **self.login(stage), **more}
        return self._start("-m", module, ready=ready, STAGE=stage, TOPOLOGY="given", **variables)

    def control(
        self, *arguments: str, user: str = "control", lines: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run control as this user, to its end; it reads these lines, or else which stages are."""
        return subprocess.run(
            [sys.executable, "-m", "services.control", *arguments],
            cwd=ROOT,
            env={
                "PYTHONPATH": f"{ROOT / 'shared'}",
                **self._broker.environment,
                **self.login(user),
                "TOPOLOGY": "given",
            },
            input=self.config if lines is None else lines,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def does(self, *arguments: str, user: str = "control", lines: str | None = None) -> str:
        """Return what control prints; it ends with 0."""
        done = self.control(*arguments, user=user, lines=lines)
        assert done.returncode == 0, f"{arguments} as {user}\n{done.stdout}{done.stderr}"
        return done.stdout

    def letters(self) -> list[Any]:
        """Return the dead letters, as control sees them."""
        return list(json.loads(self.does("dead-letters", "list", "--format", "json"))["letters"])

    def basic(self, user: str) -> str:
        """Return the login for the management API."""
        return f"{user}:{self._passwords[user]}"

    @contextmanager
    def connection(self, user: str, password: str | None = None) -> Iterator[BlockingConnection]:
        """Be this user, with any client."""
        password = self._passwords[user] if password is None else password
        login = pika.PlainCredentials(user, password)
        at = pika.ConnectionParameters("127.0.0.1", self._broker.port, self._vhost, login)
        connection = BlockingConnection(at)
        try:
            yield connection
        finally:
            connection.close()


@pytest.fixture
def given(
    broker: Broker, vhost: str, start: Start, request: pytest.FixtureRequest
) -> Iterator[Given]:
    """Prepare the broker for these stages; take the users away again."""
    stages = getattr(request, "param", STAGES)
    yield Given(broker, vhost, start, stages)
    for name in (*stages, *OPERATORS):
        broker.api("DELETE", f"users/{name}")


@pytest.mark.thorough
def test_an_alarm_is_no_silence(broker: Broker, vhost: str, given: Given) -> None:
    """Who cannot answer for it is blocked, by the broker's own word; who is killed is not."""
    broker.put("one", ["hang 0.1"] * 300, vhost)
    worker = given.run("fallible", "tests.integration.stages.fallible", REPLICA="w")
    given.run("recorder", "tests.integration.stages.recorder", REPLICA="r")

    def states() -> dict[str, str]:
        told = json.loads(given.control("status", "--format", "json").stdout)["replicas"]
        return {each["stage"]: each["state"] for each in told}

    with broker.memory_alarm():
        worker.wait_log("blocked")
        wait_until(lambda: set(states().values()) == {"blocked"}, 60, lambda: f"{states()}")
        said = given.control("status").stdout
        drain = given.control("drain")
        worker.kill()
        wait_until(lambda: states()["fallible"].startswith("cut off or killed"), 60, "it is gone")
        assert states()["recorder"] == "blocked"
    wait_until(lambda: states()["recorder"] == "running", 60, "it answers again")

    assert "the broker is low on memory and takes no messages" in said
    assert "not answering" not in said
    assert "fallible/w (cannot answer: the broker is low on memory" in drain.stderr


def refused(connection: BlockingConnection, method: str, *arguments: object) -> bool:
    """Tell whether the broker refuses a method of pika's channel."""
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        getattr(channel, method)(*arguments)
    except ChannelClosedByBroker as error:
        return bool(error.reply_code == REFUSED)
    channel.close()
    return False


def relay_and_recorder(given: Given) -> tuple[Process, Process]:
    """Start the two stages that read."""
    stages = "tests.integration.stages"
    relay = given.run("fallible", f"{stages}.fallible")
    return relay, given.run("recorder", f"{stages}.recorder", REPLICA="r1")


#: The others are variations of the first one.
_EACH_KIND = [
    pytest.param(kind, id=name, marks=[pytest.mark.thorough] if name != "work" else [])
    for name, kind in KINDS.items()
]


@pytest.mark.runs(
    "docker compose config --format json | "
    "docker compose run --rm -T control definitions >definitions.json"
)
@pytest.mark.parametrize("given", _EACH_KIND, indirect=True)
def test_everything_works_with_the_least_rights(given: Given) -> None:
    """Messages, attempts, dead letters; all that control does, as control, and as the board."""
    relay, recorder = relay_and_recorder(given)
    words = "tests.integration.stages.words"
    source = given.run("producer", words, ready=False, MESSAGES="hello fail reject")
    assert source.wait() == 0, source.log
    wait_until(lambda: "hello" in recorder.out, 30, lambda: f"hello arrives\n{relay.log}")
    wait_until(lambda: len(given.letters()) == 2, 30, lambda: f"two are given up\n{relay.log}")

    given.does("doctor")
    given.does("status", user="board")
    assert given.does("pause").startswith("paused 2/2")
    assert given.does("resume", user="board").startswith("resumed 2/2")
    lines = given.does("dead-letters", "export")
    assert given.does("dead-letters", "purge", "--all", "--yes").startswith("deleted 2 ")
    assert given.does("dead-letters", "import", lines=lines).startswith("imported 2 ")
    given.does("dead-letters", "replay", "--all", "--to", "two")
    assert given.does("drain") == "drained 2 stages: fallible → recorder\n"
    assert [relay.wait(), recorder.wait()] == [0, 0]
    assert len(given.letters()) == 2

    relay, recorder = relay_and_recorder(given)
    recorder.kill()
    given.does("forget", "recorder/r1")
    assert given.does("halt", user="board").startswith("halted 1/1")
    assert relay.wait() == 0, relay.log


@pytest.mark.thorough
@pytest.mark.parametrize("given", [ORDERED], indirect=True)
def test_an_ordered_edge_needs_no_more_than_its_rights(given: Given) -> None:
    """Two replicas share the partitions; attempts, dead letters; nobody else reads or writes it."""
    keys = ",".join("abcdefgh")
    readers = [
        given.run("keyed", "tests.integration.stages.keyed", RETRY_DELAYS="", FAILING="0.05")
        for _ in range(2)
    ]
    writer = given.run("writer", "tests.integration.stages.keyed_source", KEYS=keys, COUNT="40")
    assert writer.wait() == 0, writer.log
    wait_until(lambda: len(handlings(readers)) == 40 * 8, 30, lambda: f"all is handled\n{readers}")

    failed = [each for each in handlings(readers) if each.failed]
    wait_until(lambda: len(given.letters()) == len(failed) > 0, 30, "what has failed is kept")
    for command in ("doctor", "status"):
        done = given.control(command)
        assert done.returncode == 0, done.stdout + done.stderr
    with given.connection("writer") as connection:
        assert all(refused(connection, "basic_get", f"accounts.{number}") for number in range(2))
        assert refused(connection, "queue_delete", "accounts.0")
        assert not refused(connection, "basic_publish", "accounts", "a", b"99")
    with given.connection("keyed") as connection:
        assert refused(connection, "basic_publish", "accounts", "a", b"x")
        assert refused(connection, "queue_delete", "accounts.0")
        assert refused(connection, "queue_unbind", "accounts.0", "accounts", "0")
    assert [each.halt() for each in readers] == [0, 0]


#: What a user tries: a method of pika's channel, and its arguments.
Attempt = tuple[Any, ...]

READ, WRITTEN = {"fallible": "one", "recorder": "two"}, {"producer": "one", "fallible": "two"}
#: A stage without attempts has no retry queue.
QUEUES = ("one", "two", "one.dead", "two.dead", "one.retry.200ms")
EXCHANGES = (
    *(*QUEUES, "one.back", "two.back"),
    *(CONTROL_EXCHANGE, REPLIES_EXCHANGE, PAUSED_EXCHANGE),
)
MARKS = tuple(pause_mark(stage) for stage in STAGES)
OTHERS = ("control.other.r", "control/other/r", "control.replies.0a", "a queue of its own")


def attempts() -> Iterator[Attempt]:
    """Yield what can be done with each name there is, and with some that there are not."""
    for queue in (*QUEUES, *MARKS, *OTHERS):
        yield from (("basic_get", queue), ("queue_purge", queue), ("queue_delete", queue))
        yield "basic_publish", "", queue, b"x"
        for exchange in ("one", "two", CONTROL_EXCHANGE):
            yield from ((each, queue, exchange, "k") for each in ("queue_bind", "queue_unbind"))
    for exchange in EXCHANGES:
        yield "basic_publish", exchange, "k", b"x"
        yield "exchange_delete", exchange
        for source in ("one", "two", CONTROL_EXCHANGE):
            yield "exchange_bind", exchange, source, "k"
            yield "exchange_unbind", exchange, source, "k"
    for name in OTHERS:
        yield from (("exchange_declare", name), ("queue_declare", name))


def own(user: str) -> set[Attempt]:
    """Return what a stage may do all the same: what it does with its input and its output.

    A queue has the name of its exchange, so who may publish there may bind it, to what he may read:
    to his input, and to `control`, which every stage hears. So may who writes dead letters.
    """
    read = {READ[user]} if user in READ else set()
    seen = {*read, pause_mark(user)}  # who may look at its mark may take it away
    parts = {f"{name}.{part}" for name in read for part in ("dead", "retry.200ms")}
    targets = (parts | {WRITTEN.get(user)}) & {*QUEUES}
    published = targets | {REPLIES_EXCHANGE}
    kinds = {"queue": targets, "exchange": published}
    return {
        *(("basic_publish", name, "k", b"x") for name in published),
        *((method, name) for name in seen for method in ("basic_get", "queue_purge")),
        *(
            (f"{kind}_{method}", target, source, "k")
            for kind in kinds
            for method in ("bind", "unbind")
            for target in kinds[kind]
            for source in read | {CONTROL_EXCHANGE}
        ),
    }


def passing_on(connection: BlockingConnection, user: str) -> dict[str, set[str]]:
    """Return where a stage may have its own queue, and its own exchange, pass messages on to."""
    queue, exchange = "x-dead-letter-exchange", "alternate-exchange"
    allowed: dict[str, set[str]] = {queue: set(), exchange: set()}
    for number, to in enumerate((*EXCHANGES, "")):  # the last one is the default exchange
        name = f"control.{user}.{number}"
        if not refused(connection, "queue_declare", name, False, False, True, False, {queue: to}):
            allowed[queue].add(to)
        ways = ("fanout", False, False, False, False, {exchange: to})
        if not refused(connection, "exchange_declare", name, *ways):
            allowed[exchange].add(to)
    return allowed


@pytest.mark.thorough
def test_a_stage_that_was_broken_into_is_refused_all_else(given: Given, broker: Broker) -> None:
    """It publishes no command, touches no other's edge, and deletes nothing of the topology.

    Nor does the broker do so for it, by what its own queues and exchanges are declared with.
    """
    for user in STAGES:
        with given.connection(user) as connection:
            allowed = {each for each in attempts() if not refused(connection, *each)}
            passed_on = passing_on(connection, user)
        assert (user, allowed) == (user, own(user))
        published = {name for method, name, *_ in own(user) if method == "basic_publish"}
        assert list(passed_on.values()) == [published, published]
        with pytest.raises(HTTPError, match="401"):
            broker.api("GET", "queues", login=given.basic(user))


@pytest.mark.thorough
def test_operators_and_strangers_are_refused_what_they_do_not_need(
    given: Given, broker: Broker
) -> None:
    """Control and the board publish nothing to an edge but a replay, delete nothing, make no user.

    Of dead letters they may write some: those that were exported come back so.

    Nobody is let in without a login, with a wrong password, with another user's, or unknown.
    """
    closed = [each for each in QUEUES if not each.endswith(".dead")]
    refusals: set[Attempt] = {
        *((f"{kind}_delete", each) for each in ("one", "two") for kind in ("queue", "exchange")),
        *(("queue_delete", f"{each}.dead") for each in ("one", "two")),
        *(("basic_publish", each, "k", b"x") for each in (*closed, REPLIES_EXCHANGE)),
        *(("queue_bind", each, "control", "k") for each in closed),
        ("queue_declare", "a queue of its own"),
        ("exchange_declare", "a queue of its own"),
    }
    for user in OPERATORS:
        with given.connection(user) as connection:
            assert {each for each in refusals if not refused(connection, *each)} == set()
        with pytest.raises(HTTPError, match="401"):
            broker.api("PUT", "users/more", {"password": "x"}, login=given.basic(user))

    logins = [("", ""), ("nobody", "x"), ("guest", "guest"), ("pipeline", "pipeline")]
    users = (*STAGES, *OPERATORS)
    logins += [(user, password) for user in users for password in ("", "wrong", user)]
    logins.append(("recorder", given.login("producer")["RABBITMQ_PASSWORD"]))

    for user, password in logins:
        with pytest.raises(AMQPError), given.connection(user, password):
            pytest.fail(f"{user!r} is let in with {password!r}")


def sent_by(user: str | None) -> pika.BasicProperties:
    """Return the properties of a message that says it is from this user."""
    return pika.BasicProperties(user_id=user)  # type: ignore[no-untyped-call]


def next_command(channel: BlockingChannel) -> tuple[str, str]:
    """Hear commands as a replica of the recorder's; return the id and the reply_to of the first."""
    queue = list(control_subscription("recorder", "rogue"))[-2]
    assert isinstance(queue, Queue)
    channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
    channel.queue_bind(queue.name, CONTROL_EXCHANGE)
    for _, properties, body in channel.consume(queue.name, inactivity_timeout=30):
        if body and properties and properties.reply_to:
            return str(json.loads(body)["id"]), str(properties.reply_to)
        break
    pytest.fail("no command has come")


def report(command: str, stage: str, replica: str) -> bytes:
    """Return what a replica says that is running."""
    numbers = {"in_flight": 0, "handled": 0, "failed": 0, "since": datetime.now(UTC)}
    names = {"stage": stage, "replica": replica, "consumes": "one", "exchange": "one"}
    said = {"command_id": command, "state": State.RUNNING, "produces": "two", **names, **numbers}
    return Report.model_validate(said).model_dump_json().encode()


@pytest.mark.thorough
def test_no_stage_reports_as_another(given: Given, start: Start) -> None:
    """Without its user's name, or with it: control does not believe it, and says who it was."""
    victim = given.run("fallible", "tests.integration.stages.fallible", REPLICA="r1")
    victim.kill()
    asking = ("-m", "services.control", "status", "--format", "json")
    status = start(*asking, ready=False, TOPOLOGY="given", **given.login("control"))

    with given.connection("recorder") as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        command, reply_to = next_command(channel)
        forged = report(command, "fallible", "r1")
        for user in (None, "recorder"):
            channel.basic_publish(REPLIES_EXCHANGE, reply_to, forged, sent_by(user))
        with pytest.raises(ChannelClosedByBroker, match="user_id"):
            channel.basic_publish(REPLIES_EXCHANGE, reply_to, forged, sent_by("fallible"))

    assert status.wait(60) == 0, status.log
    states = {each["replica"]: each["state"] for each in json.loads(status.out)["replicas"]}
    assert "running" not in states.values()
    assert "nobody who says so reports as fallible/r1: with TOPOLOGY=given only" in status.log
    assert "the user 'recorder' reports as fallible/r1: with TOPOLOGY=given only" in status.log


def test_what_is_not_given_is_told(given: Given, broker: Broker, vhost: str) -> None:
    """A queue that is missing is not made: the log says which one."""
    broker.delete_queue("two", vhost)

    recorder = given.run("recorder", "tests.integration.stages.recorder", ready=False)

    recorder.wait_log("no queue 'two' in vhost")
    assert recorder.is_running
    assert "two" not in broker.queues(vhost)
