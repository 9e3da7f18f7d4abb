"""What a stage that was broken into can take of a secured broker: so much, and no more."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pika
import pytest
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError

from rabbit.topology import REPLIES_EXCHANGE, Edge, Queue
from tests.secured.secured import Secured
from tests.support.pipeline import PATIENCE_SECONDS
from tests.waiting import wait_until

pytestmark = pytest.mark.thorough

STAGE = "to_upper"
MORE_THAN_ANY_QUEUE_MAY_HOLD = 6000


@pytest.fixture
def intruder(secured: Secured) -> Iterator[pika.BlockingConnection]:
    """Log in as the stage."""
    secured.pipeline.start()
    connection = secured.connect(STAGE)
    yield connection
    if connection.is_open:
        connection.close()


def test_connections(secured: Secured) -> None:
    """Four hundred, as many as a hundred replicas need; then it is refused, and others are not."""
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:

        def connect(_: int) -> str:
            try:
                stack.enter_context(closing(secured.connect(STAGE)))
            except AMQPError as error:
                return str(error) or repr(error)
            return ""

        said = list(pool.map(connect, range(420)))
        refused = [each for each in said if each]

        # Its replica has two; of those that come at once, the broker may take one too many.
        assert 20 - 8 <= len(refused) <= 30
        assert all("user connection limit (400) is reached" in each for each in refused)
        secured.connect("printer").close()


def test_channels(secured: Secured) -> None:
    """Two thousand, over all its connections; then it loses this one."""
    intruder = secured.connect(STAGE)

    def open_channels() -> None:
        for _ in range(2040):
            intruder.channel()

    with pytest.raises(AMQPError, match="maximum allowed user limit of 2000"):
        open_channels()

    secured.connect(STAGE).close()


def test_queues(secured: Secured, intruder: pika.BlockingConnection) -> None:
    """As many as all stages need with a hundred replicas each; who comes then waits for one."""
    channel, pipeline = intruder.channel(), secured.pipeline

    def declare() -> None:
        for number in range(800):
            channel.queue_declare(f"control.{STAGE}.{number}", exclusive=True)

    with pytest.raises(ChannelClosedByBroker, match=r"queue limit in vhost '/' .* is reached"):
        declare()

    pipeline.compose("up", "--detach", "--no-deps", "--scale=printer=2", "printer")
    (_, late) = pipeline.containers("printer")
    wait_until(
        lambda: "queue limit in vhost" in pipeline.logged(late),
        PATIENCE_SECONDS,
        lambda: pipeline.logged(late),
    )
    assert pipeline.exit_code(late) is None
    intruder.close()
    pipeline.start(printers=2)
    pipeline.start()


def test_what_its_queues_hold(secured: Secured, intruder: pika.BlockingConnection) -> None:
    """Five thousand messages, in one that was declared to stay for ever: it goes as any other."""
    name, broker = f"control.{STAGE}.full", secured.broker()
    channel = intruder.channel()
    channel.queue_declare(name, durable=True)
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(name, name)
    channel.confirm_delivery()
    for number in range(MORE_THAN_ANY_QUEUE_MAY_HOLD):
        channel.basic_publish(name, "", b"%d" % number)

    try:
        (_, first, body) = channel.basic_get(name)
        assert first is not None
        assert body == b"1000"
        wait_until(
            lambda: broker.messages(name) == MORE_THAN_ANY_QUEUE_MAY_HOLD - 1000,
            PATIENCE_SECONDS,
            lambda: f"there are {broker.messages(name)}",
        )
        bound = broker.request("GET", f"queues/%2F/{name}")["effective_policy_definition"]
        assert bound == {"expires": 600_000, "max-length": 5000, "max-length-bytes": 1024**2}
    finally:
        channel.queue_delete(name)
        channel.exchange_delete(name)


def test_what_waits_for_who_has_asked(secured: Secured, intruder: pika.BlockingConnection) -> None:
    """Sixteen megabytes of what is no report; then the oldest goes, and nobody is held up."""
    name, broker = f"{REPLIES_EXCHANGE}.0a", secured.broker()
    (queue,) = (
        each
        for each in Edge(REPLIES_EXCHANGE, "direct", ("0a",), "0a", private=True).for_consuming()
        if isinstance(each, Queue)
    )
    with closing(secured.connect("control")) as connection:
        asking = connection.channel()
        asking.queue_declare(name, durable=True, arguments=dict(queue.arguments))
        try:
            asking.queue_bind(name, REPLIES_EXCHANGE, "0a")
            channel = intruder.channel()
            channel.confirm_delivery()
            for _ in range(40):
                channel.basic_publish(REPLIES_EXCHANGE, "0a", bytes(1024**2))

            wait_until(
                lambda: broker.messages(name) == 15,  # each is somewhat larger than its body
                PATIENCE_SECONDS,
                lambda: f"there are {broker.messages(name)}",
            )
            bound = broker.request("GET", f"queues/%2F/{name}")["effective_policy_definition"]
            assert bound == {"max-length": 20_000, "max-length-bytes": 16 * 1024**2}
        finally:
            asking.queue_delete(name)


def test_what_is_exclusive_is_not_bounded(
    secured: Secured, intruder: pika.BlockingConnection
) -> None:
    """RabbitMQ applies no policy to it: that is what is left, as deploy/README.md says."""
    name = f"control.{STAGE}.exclusive"
    channel = intruder.channel()
    channel.queue_declare(name, exclusive=True)

    queue = secured.broker().request("GET", f"queues/%2F/{name}")
    assert not queue.get("effective_policy_definition")


def test_what_has_failed(secured: Secured, intruder: pika.BlockingConnection) -> None:
    """A gigabyte of it, in each queue: a tenth of a megabyte here."""
    broker = secured.broker()
    (policy,) = (
        each
        for each in broker.request("GET", "operator-policies/%2F")
        if each["name"] == "pipeline-failed-messages"
    )
    assert policy["definition"] == {"max-length-bytes": 1024**3}
    path = f"operator-policies/%2F/{policy['name']}"
    broker.request("PUT", path, {**policy, "definition": {"max-length-bytes": 100_000}})
    channel = intruder.channel()
    channel.confirm_delivery()

    def fill() -> None:
        for _ in range(100):
            channel.basic_publish("my_queue.dead", "", bytes(10_000))

    try:
        with pytest.raises(NackError):
            fill()
        assert broker.messages("my_queue.dead") < 20
        assert secured.pipeline.make("doctor").stdout.startswith("no difference")
    finally:
        broker.request("PUT", path, policy)
        broker.purge("my_queue.dead")
