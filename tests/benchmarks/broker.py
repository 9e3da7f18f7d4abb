"""The broker of a benchmark, and the queues in it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pika
import trustme
from pika.exceptions import AMQPError, ChannelClosedByBroker

from rabbit.topology import Binding, Edge, Exchange, Queue, QueueType
from tests.benchmarks.bodies import Tally, Template
from tests.support.containers import Container, Containers, Image
from tests.support.images import broker_image
from tests.support.wire import Wire
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
_USERNAME = "benchmark"
_PASSWORD = "benchmark"  # noqa: S105 - of a broker that lives for one benchmark
_HOST = "127.0.0.1"
_BOOT_SECONDS = 120.0
_SETTLE_SECONDS = 20.0


_CA_INSIDE = "/ca.pem"
_TLS = """
listeners.ssl.default = 5671
ssl_options.certfile = /etc/rabbitmq/server.pem
ssl_options.keyfile = /etc/rabbitmq/server.key
"""


def _tls_files(ca_file: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Make a CA and a broker's certificate; yield each file and where the broker looks for it.

    Args:
        ca_file: where the CA's certificate is written; the other files are beside it.
        name: the broker's.
    """
    ca_file.parent.chmod(0o755)  # the containers' users are other ones
    ca = trustme.CA()
    server = ca.issue_cert(name)
    files = {
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
        "conf.d/91-tls.conf": _TLS.encode(),
    }
    ca.cert_pem.write_to_path(ca_file)
    for inside, content in files.items():
        path = ca_file.with_name(Path(inside).name)
        path.write_bytes(content)
        yield path, f"/etc/rabbitmq/{inside}"


class Broker:
    """One broker with the pipeline's configuration, which speaks TLS too."""

    def __init__(self, containers: Containers) -> None:
        """Start it; return when it takes connections."""
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._name = f"{containers.name}-broker"
        self._folder = TemporaryDirectory()
        self._ca = Path(self._folder.name) / "ca.pem"
        mounts = (
            (ROOT / "deploy/rabbitmq/rabbitmq.conf", "/etc/rabbitmq/rabbitmq.conf"),
            *_tls_files(self._ca, self._name),
        )
        login = {"RABBITMQ_DEFAULT_USER": _USERNAME, "RABBITMQ_DEFAULT_PASS": _PASSWORD}
        self.container: Container = containers.run(
            Image(broker_image(), mounts=mounts),
            login,
            name=self._name,
            hostname="rabbitmq",  # its data is in a folder named after it
            ports={"5672": (_HOST, None), "15672": (_HOST, None)},
        )
        self._port = self.container.port(5672)
        wait_until(self._is_up, _BOOT_SECONDS, lambda: f"the broker is up\n{self.container.log()}")
        self._channel = self.connect().channel()

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings with which a container on the network finds it."""
        return {
            "RABBITMQ_HOST": self._name,
            "RABBITMQ_USERNAME": _USERNAME,
            "RABBITMQ_PASSWORD": _PASSWORD,
        }

    @property
    def environment_here(self) -> Mapping[str, str]:
        """The settings with which a process of this machine finds it, and its management API."""
        return {
            **self.environment,
            "RABBITMQ_HOST": _HOST,
            "RABBITMQ_PORT": str(self._port),
            "RABBITMQ_MANAGEMENT_URL": f"http://{_HOST}:{self.container.port(15672)}",
        }

    def with_tls(self, image: Image) -> tuple[Image, Mapping[str, str]]:
        """Return an image with the CA's certificate in it, and the settings that ask for TLS."""
        mounts = (*image.mounts, (self._ca, _CA_INSIDE))
        return image._replace(mounts=mounts), {"RABBITMQ_CA_FILE": _CA_INSIDE}

    def connect(self) -> pika.BlockingConnection:
        """Open a connection from this machine that is never given up for being silent."""
        login = pika.PlainCredentials(_USERNAME, _PASSWORD)
        parameters = pika.ConnectionParameters(_HOST, self._port, credentials=login, heartbeat=0)
        return pika.BlockingConnection(parameters)

    def _is_up(self) -> bool:
        with suppress(AMQPError, OSError):
            self.connect().close()
            return True
        return False

    @property
    def version(self) -> str:
        """The version of RabbitMQ, as it tells its clients."""
        with self._wire() as wire:
            return wire.server_version

    # Queues

    def declare(self, name: str, queue_type: QueueType = "quorum") -> None:
        """Make the edge of a work queue as a stage does: exchange, queue, dead letters."""
        self.declare_edge(Edge(name, type=queue_type))

    def declare_edge(self, edge: Edge) -> None:
        """Make an edge as a stage does."""
        for item in edge.for_consuming():
            match item:
                case Exchange(exchange, kind):
                    self._channel.exchange_declare(exchange, kind, durable=True)
                case Queue(queue, arguments):
                    self._channel.queue_declare(queue, durable=True, arguments=dict(arguments))
                case Binding(exchange, queue, key):
                    self._channel.queue_bind(queue, exchange, routing_key=key)

    def depth(self, queue: str) -> int:
        """Count the messages that wait for a consumer."""
        return self._count(queue)[0]

    def consumers(self, queue: str) -> int:
        """Count the consumers."""
        return self._count(queue)[1]

    def _count(self, queue: str) -> tuple[int, int]:
        try:
            counted = self._channel.queue_declare(queue, passive=True).method
        except ChannelClosedByBroker:
            self._channel = self.connect().channel()
            raise
        return int(counted.message_count), int(counted.consumer_count)

    def empty(self, *queues: str) -> None:
        """Remove the messages that wait for a consumer; of a queue that is not there, none."""
        for queue in queues:
            try:
                self._channel.queue_purge(queue)
            except ChannelClosedByBroker:
                self._channel = self.connect().channel()

    def take(self, queue: str) -> tuple[pika.BasicProperties, bytes]:
        """Take the one message that is in a queue."""
        _, properties, payload = self._channel.basic_get(queue, auto_ack=True)
        if properties is None or payload is None:
            raise LookupError(f"there is no message in {queue}")
        return properties, payload

    def fill(self, queue: str, template: Template, count: int, first: int = 0) -> None:
        """Put `count` messages into a queue, all confirmed; their numbers begin with `first`."""
        with self._wire() as wire:
            wire.publish("", queue, template.messages(count, first))

    def fill_edge(self, edge: Edge, keys: Sequence[str], template: Template, count: int) -> None:
        """Publish `count` messages to an edge, all confirmed, with one key after the other."""
        with self._wire() as wire:
            wire.publish(edge.name, keys, template.messages(count))

    def verify(self, queue: str, tally: Tally) -> list[str]:
        """Take everything off a queue; say what is wrong with it."""
        with self._wire() as wire:
            for payload in wire.consume(queue, self.depth(queue)):
                tally.add(payload)
        return tally.errors

    def left(self, queue: str) -> int:
        """Count what comes again after the last consumer has gone: what it has not acked."""
        wait_until(
            lambda: self.consumers(queue) == 0, _SETTLE_SECONDS, f"{queue} has no consumer left"
        )
        return self.depth(queue)

    def _wire(self) -> Wire:
        return Wire(_HOST, self._port, _USERNAME, _PASSWORD)
