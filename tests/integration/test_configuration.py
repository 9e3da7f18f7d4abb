"""Wrong settings end in one line and exit code 2; what may yet become right is tried again."""

from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.proxy import Proxy
from tests.ports import free_port
from tests.variations import variations

TO_UPPER = ("-m", "services.to_upper")
EDGES: dict[str, Any] = {"INPUT_QUEUE": "in", "OUTPUT_QUEUE": "out"}
WRONG_PASSWORD = "n0t-the-pa55w0rd"  # noqa: S105 - a wrong one

WRONG = [
    ("RABBITMQ_URL", "http://localhost"),
    ("RABBITMQ_HOST", ""),
    ("RABBITMQ_HOST", "localhost:many"),
    ("RABBITMQ_PORT", "0"),
    ("RABBITMQ_PORT", "amqp"),
    ("RABBITMQ_VHOST", ""),
    ("RABBITMQ_USERNAME", ""),
    ("RABBITMQ_HEARTBEAT", "0"),
    ("RABBITMQ_CA_FILE", "/nonexistent.pem"),
    ("RABBITMQ_CERTIFICATE_FILE", "/nonexistent.pem"),
    ("RABBITMQ_KEY_FILE", "/nonexistent.pem"),
    ("STAGE", "to upper"),
    ("REPLICA", "to/upper"),
    ("INPUT_QUEUE", ""),
    ("INPUT_QUEUE", None),
    ("INPUT_QUEUE", "x" * 201),
    ("INPUT_KIND", "fanout"),
    ("QUEUE_TYPE", "stream"),
    ("OUTPUT_QUEUE", ""),
    ("OUTPUT_QUEUE", None),
    ("OUTPUT_KIND", "fanout"),
    ("PREFETCH", "0"),
    ("PREFETCH", "many"),
    ("CONCURRENCY", "0"),
    ("POISON_PILL", ""),
    ("DRAIN_TIMEOUT", "0"),
    ("DRAIN_TIMEOUT", "nan"),
    ("PUBLISH_TIMEOUT", "-1"),
    ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "xml"),
    ("TO_UPPER_DELAY", "-1"),
]


@pytest.mark.parametrize(
    ("name", "value"), variations(WRONG, first=3), ids=[f"{name}={value}" for name, value in WRONG]
)
def test_a_wrong_setting_ends_in_one_line(start: Start, name: str, value: str | None) -> None:
    """Exit code 2, and the one line on stderr names the variable and what was given."""
    stage = start(*TO_UPPER, ready=False, **EDGES | {name: value})

    assert stage.wait() == 2
    [line] = stage.log.splitlines()
    assert line.startswith(f"to_upper: {name}")
    shown = {None: "is not set", "http://localhost": "not shown"}  # a URL may hold a password
    assert shown.get(value, repr(value)) in line
    assert stage.out == ""


@pytest.mark.parametrize("setting", [{"INPUT_KIND": "topic"}, {"INPUT_KEYS": "a,b"}])
def test_routing_keys_go_with_a_kind_that_routes(start: Start, setting: dict[str, Any]) -> None:
    """Either without the other: exit code 2 and one line that names both."""
    stage = start(*TO_UPPER, ready=False, **EDGES | setting)

    assert stage.wait() == 2
    [line] = stage.log.splitlines()
    assert "INPUT_KEYS" in line
    assert "INPUT_KIND" in line


OWN_SETTINGS = """
from pydantic import Field
from rabbit import Consumer, Settings

class Own(Settings):
    api_token: str
    hosts: list[str] = Field([], description="a list of names")

class Sink(Consumer):
    Settings = Own

    def work(self, message):
        pass

Sink.main()
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, "API_TOKEN is not set"),
        ({"API_TOKEN": "t", "HOSTS": "topsecret"}, "HOSTS: the value (not shown) is not JSON"),
    ],
)
def test_a_setting_of_a_stages_own_shows_no_secret(
    start: Start, setting: dict[str, Any], said: str
) -> None:
    """Neither the value nor what else stands in the environment: one line and exit code 2."""
    secret = {"RABBITMQ_PASSWORD": "topsecret", "RABBITMQ_URL": "amqp://u:topsecret@b"}
    stage = start("-c", OWN_SETTINGS, ready=False, **EDGES | secret | setting)

    assert stage.wait() == 2
    [line] = stage.log.splitlines()
    assert line.startswith(f"sink: {said}")
    assert "topsecret" not in line


@pytest.mark.parametrize("module", ["services.producer", "services.printer", "services.control"])
def test_every_service_says_what_is_wrong_in_one_line(start: Start, module: str) -> None:
    """Exit code 2 and one line on stderr, whichever service it is."""
    command = ["status"] if module == "services.control" else []
    stage = start("-m", module, *command, ready=False, RABBITMQ_PORT="amqp", **EDGES)

    assert stage.wait() == 2
    [line] = stage.log.splitlines()
    assert "RABBITMQ_PORT: 'amqp' is not allowed" in line


def test_a_wrong_password_is_told_once_and_tried_again(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """One line however many attempts; the stage gets ready when the password becomes right."""
    user = unique("user")
    broker.add_user(user, "another")
    stage = start(
        *TO_UPPER,
        ready=False,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        RABBITMQ_USERNAME=user,
        RABBITMQ_PASSWORD=WRONG_PASSWORD,
        LOG_LEVEL="debug",
    )
    stage.wait_log(f"refuses user '{user}' with this password: check RABBITMQ_USERNAME and")
    assert not stage.is_ready

    broker.add_user(user, WRONG_PASSWORD)

    stage.wait_ready()
    stage.wait_log("broker available again")
    assert stage.log.count("broker unavailable") == 1
    assert stage.log.count("broker available again") == 1
    assert WRONG_PASSWORD not in stage.log
    assert stage.halt() == 0


def test_a_password_in_a_url_is_never_shown(broker: Broker, unique: Unique, start: Start) -> None:
    """Neither when it is refused nor when the URL is wrong."""
    url = f"amqp://{unique('user')}:{WRONG_PASSWORD}@{broker.host}:{broker.port}"
    refused = start(*TO_UPPER, ready=False, RABBITMQ_URL=url, LOG_LEVEL="debug", **EDGES)
    malformed = start(*TO_UPPER, ready=False, RABBITMQ_URL=f"{url}x/", **EDGES)

    refused.wait_log("refuses user")
    assert refused.halt() == 0
    assert malformed.wait() == 2
    assert malformed.log.startswith("to_upper: RABBITMQ_URL")
    for process in (refused, malformed):
        assert WRONG_PASSWORD not in process.log


def test_a_broker_that_appears_later_is_found(broker: Broker, unique: Unique, start: Start) -> None:
    """One line that says that nothing listens; the stage gets ready when something does."""
    port = free_port()
    stage = start(
        *TO_UPPER,
        ready=False,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        RABBITMQ_PORT=port,
    )
    stage.wait_log(f"nothing listens at 127.0.0.1:{port}: is RabbitMQ up? check RABBITMQ_HOST")

    with Proxy(broker.port, port):
        stage.wait_ready()
        assert stage.log.count("broker unavailable") == 1
        assert stage.halt() == 0


def test_the_second_of_two_hosts_is_tried(broker: Broker, unique: Unique, start: Start) -> None:
    """With several hosts the stage gets ready with any of them."""
    stage = start(
        *TO_UPPER,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        RABBITMQ_HOST=f"127.0.0.1:{free_port()},127.0.0.1:{broker.port}",
    )

    assert stage.halt() == 0


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("RABBITMQ_HOST", "nowhere.invalid", "no such host 'nowhere.invalid': check RABBITMQ_HOST"),
        ("RABBITMQ_VHOST", "nowhere", "has no virtual host 'nowhere'"),
    ],
)
def test_a_wrong_address_is_told_once(start: Start, setting: str, value: str, told: str) -> None:
    """One line that says what to check; the stage goes on trying and obeys SIGTERM."""
    stage = start(*TO_UPPER, ready=False, **EDGES | {setting: value})
    stage.wait_log(told)

    assert stage.halt() == 0
    assert stage.log.count("broker unavailable") == 1
    assert "Traceback" not in stage.log


@pytest.mark.parametrize("which", ["in", "out"])
def test_a_queue_with_other_arguments_is_refused(
    broker: Broker, unique: Unique, start: Start, which: str
) -> None:
    """Exit code 2; one line says what differs and what to do; the queue and its messages stay."""
    queue = broker.declare(unique(which), queue_type="classic")
    with broker.channel() as channel:
        broker.send(channel, queue, queue, "kept")

    stage = start(*TO_UPPER, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    assert stage.wait() == 2
    last = stage.log.splitlines()[-1]
    assert last.startswith("to_upper: cannot ")
    assert (
        f"queue {queue!r} exists with another x-queue-type: 'quorum' is declared, "
        "'classic' is there. Nothing was changed: set QUEUE_TYPE as it is, or delete the queue"
    ) in last
    assert "make doctor" in last
    assert "Traceback" not in stage.log
    assert broker.depth(queue) == 1


@pytest.mark.thorough
def test_a_queue_without_an_argument_is_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """A queue that somebody made by hand: the line says that there is none of the argument."""
    with broker.channel() as channel:
        channel.queue_declare(unique("in"), durable=True, arguments={"x-queue-type": "quorum"})

    stage = start(*TO_UPPER, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    assert stage.wait() == 2
    last = stage.log.splitlines()[-1]
    assert f"another x-dead-letter-exchange: '{unique('in')}.dead' is declared, none is" in last


def test_an_exchange_of_another_type_is_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Exit code 2, and one line that names both types and the settings they come from."""
    with broker.channel() as channel:
        channel.exchange_declare(unique("out"), "topic", durable=True)

    stage = start(*TO_UPPER, ready=False, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    assert stage.wait() == 2
    last = stage.log.splitlines()[-1]
    assert (
        f"exchange {unique('out')!r} exists with another type: 'direct' is declared, 'topic' is "
        "there. Nothing was changed: give who writes and who reads the same kind"
    ) in last


def test_a_missing_permission_is_told(broker: Broker, unique: Unique, start: Start) -> None:
    """A user who may not do what the stage needs: exit code 2 and a line that says so."""
    broker.add_user(unique("user"), WRONG_PASSWORD, write="^$")

    stage = start(
        *TO_UPPER,
        ready=False,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("out"),
        RABBITMQ_USERNAME=unique("user"),
        RABBITMQ_PASSWORD=WRONG_PASSWORD,
    )

    assert stage.wait() == 2
    last = stage.log.splitlines()[-1]
    assert last.startswith("to_upper: ")
    assert "ACCESS_REFUSED" in last
    assert "Traceback" not in stage.log


def test_names_that_become_too_long_together(broker: Broker, vhost: str, start: Start) -> None:
    """Exit code 2 before anything is declared; the line says which to shorten."""
    long = 80 * "ä"

    stage = start(
        *("-m", "services.printer"),
        ready=False,
        RABBITMQ_VHOST=vhost,
        INPUT_QUEUE="x",
        INPUT_KIND="broadcast",
        STAGE=long,
        REPLICA=long,
    )

    assert stage.wait() == 2
    assert "255 allowed: shorten" in stage.log
    assert "Traceback" not in stage.log
    assert broker.queues(vhost) == {}
