"""`make secure` on a pipeline that was there before; then everything is as it was, but secured."""

import json
import os
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from pika.exceptions import AMQPError

from rabbit.topology import Binding, Edge, Exchange, Queue
from tests.secured.secured import STAGES, Secured
from tests.support.pipeline import PATIENCE_SECONDS, ROOT
from tests.waiting import wait_until


@pytest.mark.runs("make secure")
def test_it_goes_on_with_what_was_there(secured: Secured) -> None:
    """The message from before has come, see the fixture; the console is told, and no password."""
    assert "The brokers' certificate ends on 20" in secured.said
    assert "user administrator, password in secrets/passwords/administrator" in secured.said
    assert "default one" not in secured.said
    assert [name for name, text in secured.secrets().items() if text in secured.said] == []


def test_what_overrides_compose_s_file_stays(secured: Secured) -> None:
    """Compose takes that file where COMPOSE_FILE is not set, which it is from then on."""
    printer = json.loads(secured.pipeline.compose("config", "--format", "json"))["services"][
        "printer"
    ]

    assert printer["labels"]["mine"] == "kept"


def test_who_was_not_made_here_is_told(secured: Secured) -> None:
    """The default user may have had another name."""
    broker = secured.broker()
    broker.request("PUT", "users/ada", {"password": "a-long-password", "tags": ""})
    told = secured.pipeline.make("secure").stdout
    broker.request("DELETE", "users/ada")

    assert "The broker also knows ada, who was not made here." in told
    assert told.count("who was not made here") == 1


def test_there_is_no_default_user(secured: Secured) -> None:
    """Those of the definitions only, and one administrator among them."""
    users = {user["name"]: user["tags"] for user in secured.broker().request("GET", "users")}

    assert sorted(users) == secured.users()
    tagged = {name: tags for name, (*tags,) in users.items() if tags}
    assert tagged.pop("administrator") == ["administrator"]
    assert tagged == {name: ["monitoring"] for name in ("board", "control", "prometheus")}
    for stranger in ("pipeline", "guest", "administrator", "to_upper"):
        with pytest.raises(AMQPError):
            secured.connect(stranger, password="pipeline")  # noqa: S106 - the default one


def test_every_command_is_as_before(secured: Secured) -> None:
    """Publish, status, doctor, dead letters; halt has its proof, and `up` goes on."""
    pipeline = secured.pipeline
    pipeline.mark()
    pipeline.make("publish", "MSG=as before")
    pipeline.wait_printed(["AS BEFORE"])

    assert "my_queue → upper" in pipeline.make("status").stdout
    assert "no difference: 3 stages" in pipeline.make("doctor").stdout
    assert "no dead letters" in pipeline.make("dead-letters").stdout
    assert "halted 2/2" in pipeline.make("halt").stdout
    pipeline.compose("up", "--detach", "--wait", "to_upper", "printer")


def test_the_doctor_mends_as_the_administrator(secured: Secured) -> None:
    """What stages use, control's own user may not make; nobody has to say who may."""
    connection = secured.connect("administrator")
    connection.channel().queue_delete("upper.retry.1s")
    connection.close()

    done = secured.pipeline.make("doctor", "ARGS=--fix --yes").stdout

    assert done.startswith("created queue upper.retry.1s\n")
    assert done.endswith("no difference: 3 stages, all as declared\n")


def test_partitions_are_removed_as_the_administrator(secured: Secured) -> None:
    """Likewise: control's own user may delete nothing of an edge."""
    items = [*Edge("accounts", "ordered", partitions=2).for_publishing()]
    connection = secured.connect("administrator")
    channel = connection.channel()
    for item in items:
        match item:
            case Exchange(name, type_):
                channel.exchange_declare(name, type_, durable=True)
            case Queue(name, arguments):
                channel.queue_declare(name, durable=True, arguments=dict(arguments))
            case Binding(exchange, queue, key):
                channel.queue_bind(queue, exchange, key)

    try:
        done = secured.pipeline.make("repartition", "ARGS=accounts").stdout

        note = "echo accounts >>secrets/repartitioned"
        assert done == (
            f"accounts: 2 partitions removed; set PARTITIONS, {note}, make secure, make up\n"
        )
    finally:
        for item in items:
            if isinstance(item, Queue):
                channel.queue_delete(item.name)
            elif isinstance(item, Exchange):
                channel.exchange_delete(item.name)
        connection.close()


def test_from_a_stage_only_tls_answers(secured: Secured) -> None:
    """Ports of the broker that can be connected to, seen from a stage's container."""
    scan = (
        "import socket, json\n"
        "def opens(port):\n"
        "    with socket.socket() as tried:\n"
        "        return tried.connect_ex(('rabbitmq', port)) == 0\n"
        "print(json.dumps([port for port in range(1, 65536) if opens(port)]))"
    )
    command = ("exec", "--no-TTY", "printer", "python", "-c", scan)
    secured.pipeline.compose("up", "--detach", "--wait", "printer")

    assert json.loads(secured.pipeline.compose(*command)) == [5671, 15671, 15691]


@pytest.mark.runs("make secure ROTATE=passwords", "make secure ROTATE=certificates")
def test_all_is_replaced_while_messages_flow(secured: Secured) -> None:
    """Nothing is lost and nothing restarted; the old password and the old CA are refused."""
    pipeline = secured.pipeline
    pipeline.mark()
    old, context = secured.secret("passwords/to_upper"), secured.context
    stages = [*pipeline.containers("to_upper"), *pipeline.containers("printer")]
    lines = [f"line {number}" for number in range(20_000)]
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(pipeline.publish, lines)
        pipeline.make("secure", ROTATE="passwords")
        pipeline.make("secure", ROTATE="certificates")
        close = ("rabbitmqctl", "close_all_connections", "replaced")
        pipeline.compose("exec", "--no-TTY", "rabbitmq", *close)
        publishing.result()

    expected = {line.upper() for line in lines}
    wait_until(
        lambda: set(pipeline.all_printed()) == expected,
        PATIENCE_SECONDS,
        lambda: f"{len({*pipeline.all_printed()})} of {len(lines)} have come",
    )
    assert [*pipeline.containers("to_upper"), *pipeline.containers("printer")] == stages
    assert [each for each in stages if pipeline.exit_code(each) is not None] == []
    secured.connect("to_upper").close()
    with pytest.raises(AMQPError):
        secured.connect("to_upper", old)
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(context, pipeline.amqp_port)
    assert "no difference" in pipeline.make("doctor").stdout


def _handshake(context: ssl.SSLContext, port: int) -> None:
    with (
        socket.create_connection(("localhost", port), 10) as near,
        context.wrap_socket(near, server_hostname="localhost"),
    ):
        pass


def test_no_secret_is_seen(secured: Secured) -> None:
    """Not by inspecting containers, not in what Compose knows, not in logs or process lists."""
    pipeline = secured.pipeline
    ids = pipeline.compose("ps", "--all", "--quiet").split()
    seen = {
        "inspect": pipeline.run("docker", "inspect", *ids).stdout,
        "config": pipeline.compose("--profile", "*", "config"),
        "logs": pipeline.compose("logs"),
        **{each: pipeline.run("docker", "top", each).stdout for each in running(ids)},
    }
    secrets = secured.needles()

    assert len(secrets) == 9
    assert "secured_password_printer" in seen["config"]  # where they are is to be seen
    assert [
        (where, name) for where in seen for name in secrets if secrets[name] in seen[where]
    ] == []


def test_no_image_has_a_secret(secured: Secured) -> None:
    """They were built with the folder beside them: all layers are searched, and what made them."""
    pipeline = secured.pipeline
    pipeline.compose("--profile", "*", "--progress", "quiet", "build")
    secrets = secured.needles().values()
    for image in (*STAGES, "control", "board"):
        saved = subprocess.run(
            ["docker", "save", f"{pipeline.name}-{image}"], capture_output=True, check=True
        ).stdout
        assert b"from rabbit import Worker" in saved  # layers are not packed: it would be found
        assert [each for each in secrets if each.encode() in saved] == []


def test_three_files_are_secured_as_two_are(secured: Secured) -> None:
    """No default login and no cookie is left over where there are three brokers."""
    files = "docker-compose.yml:deploy/cluster/docker-compose.cluster.yml:secrets/compose.yml"
    told = secured.pipeline.compose("config", "--format", "json", COMPOSE_FILE=files)
    services = json.loads(told)["services"]

    broker, stage = (services[name]["environment"] for name in ("rabbitmq", "to_upper"))
    gone = ("RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", "ERLANG_COOKIE")
    assert [broker.get(name) for name in gone] == [None, None, None]
    assert (stage["RABBITMQ_USERNAME"], stage.get("RABBITMQ_PASSWORD")) == ("to_upper", None)


def test_it_is_not_started_without(secured: Secured) -> None:
    """Whatever the shell says: it would have nobody who may log in, or everybody."""
    done = secured.pipeline.make("up", check=False, COMPOSE_FILE="docker-compose.yml")

    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert (done.returncode, len(said)) == (2, 1)
    assert said[0].startswith(
        "This pipeline is secured, and COMPOSE_FILE leaves secrets/compose.yml"
    )


def test_the_tutorial_s_programs_work(secured: Secured) -> None:
    """With a virtual host of their own, and a user who may make what they use."""
    broker = secured.broker()
    broker.request("PUT", "vhosts/tutorial", {"default_queue_type": "quorum"})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.request("PUT", "permissions/tutorial/administrator", everything)
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "shared"),
        "POISON_PILL": "HALT",
        "RABBITMQ_CA_FILE": str(secured.folder / "secrets/ca.pem"),
        "RABBITMQ_PORT": str(secured.pipeline.amqp_port),
        "RABBITMQ_USERNAME": "administrator",
        "RABBITMQ_PASSWORD": secured.secret("passwords/administrator"),
        "RABBITMQ_VHOST": "tutorial",
    }

    def run(program: str, *arguments: str) -> str:
        command = [sys.executable, str(ROOT / f"tests/tutorial/{program}.py"), *arguments]
        return subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    with ThreadPoolExecutor(1) as pool:
        workflow = pool.submit(run, "workflow")
        run("producer")
        wait_until(
            lambda: broker.request("GET", "queues/tutorial/my_queue").get("consumers"),
            PATIENCE_SECONDS,
            "the workflow consumes",
        )
        pill = {"properties": {}, "routing_key": "my_queue", "payload": "HALT"}
        pill |= {"payload_encoding": "string"}
        broker.request("POST", "exchanges/tutorial/my_queue/publish", pill)

        assert workflow.result().splitlines() == ["HELLO", "WORLD", "bye"]


def running(ids: list[str]) -> list[str]:
    """Return those of these containers that run."""
    format_ = "{{if .State.Running}}{{.Id}}{{end}}"
    listed = subprocess.run(
        ["docker", "inspect", "--format", format_, *ids], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()
