"""A real RabbitMQ in a container, and what tests do to it behind the library's back."""

import base64
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pika
import pika.frame
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError
from testcontainers.core.container import DockerContainer

from rabbit.amqp.channel import declare
from rabbit.topology import CONTROL_EXCHANGE, Edge, QueueType
from tests.ports import free_ports
from tests.support.images import broker_image
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf"

#: Nothing that would turn up in a log by chance: tests look for it there.
USERNAME = "tester"
PASSWORD = "pa55-0f-the-te5ts"  # noqa: S105 - of a broker that lives for one test run

#: How long a broker may take to boot, also on a machine that is busy.
BOOT_SECONDS = 120.0

#: What a frame has beside its payload.
_FRAME_OVERHEAD_BYTES = 8

#: RabbitMQ takes no more than 10,000 publishes before a commit.
_TRANSACTION_MOST = 5_000

_REQUEST_SECONDS = 10.0
_NOT_FOUND = 404


class Taken(NamedTuple):
    """One message that was taken off a queue."""

    text: str
    id: str | None
    correlation_id: str | None
    headers: Mapping[str, Any]
    key: str
    persistent: bool


class Outgoing:
    """One message that a test publishes.

    Attributes:
        body: its bytes.
        properties: as pika takes them.
    """

    def __init__(self, exchange: str, key: str, text: str | bytes, **properties: Any) -> None:
        """Address a message.

        Args:
            exchange: where it goes.
            key: its routing key.
            text: what it says.
            properties: such as correlation_id.
        """
        self._exchange, self._key = exchange, key
        self.body = text.encode() if isinstance(text, str) else text
        self.properties = pika.BasicProperties(**properties)  # type: ignore[no-untyped-call]

    def frames(self, channel: int, frame_max: int) -> Iterator[bytes]:
        """Return it as it is sent over this channel, in frames of at most so many bytes."""
        method = pika.spec.Basic.Publish(  # type: ignore[no-untyped-call]
            exchange=self._exchange, routing_key=self._key
        )
        yield pika.frame.Method(channel, method).marshal()
        yield pika.frame.Header(channel, len(self.body), self.properties).marshal()
        size = frame_max - _FRAME_OVERHEAD_BYTES
        for start in range(0, len(self.body), size):
            yield pika.frame.Body(channel, self.body[start : start + size]).marshal()


class Operator:
    """What an operator sees and does from this machine, at a broker that somebody has started.

    Attributes:
        host: where it listens.
        port: its AMQP port.
        management_url: where its management API is.
        environment: the settings with which a stage finds it.
    """

    def __init__(self, port: int, management_port: int) -> None:
        """Use these ports of this machine; the login is USERNAME and PASSWORD."""
        # Each attempt while the broker boots is ten lines in the report of a test that fails.
        logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
        self.host = "127.0.0.1"
        self.port = port
        self.management_url = f"http://{self.host}:{management_port}"
        self._counting: dict[str, BlockingConnection] = {}  # by virtual host: see `_count`
        self.environment = {
            "RABBITMQ_HOST": self.host,
            "RABBITMQ_PORT": str(self.port),
            "RABBITMQ_USERNAME": USERNAME,
            "RABBITMQ_PASSWORD": PASSWORD,
            "RABBITMQ_MANAGEMENT_URL": self.management_url,
        }

    @property
    def password(self) -> str:
        """What no log may show."""
        return PASSWORD

    @property
    def settings(self) -> dict[str, Any]:
        """The same as arguments of a stage in this process, which has no management URL."""
        given = {name.lower(): value for name, value in self.environment.items()}
        return {name: value for name, value in given.items() if "management" not in name}

    def wait_until_up(self) -> None:
        """Wait until it takes connections and its management API answers."""
        wait_until(self._is_up, BOOT_SECONDS, f"{broker_image()} takes connections")

    def _is_up(self) -> bool:
        with suppress(AMQPError, OSError, URLError), self.channel():
            return bool(self.api("GET", "overview"))
        return False

    def api(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        login: str = f"{USERNAME}:{PASSWORD}",
    ) -> Any:
        """Send a request to the management API; None when it knows no such thing."""
        login = base64.b64encode(login.encode()).decode()
        request = Request(  # noqa: S310 - http
            f"{self.management_url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=_REQUEST_SECONDS) as response:  # noqa: S310
                return json.loads(response.read() or "{}")
        except HTTPError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    def add_vhost(self, vhost: str) -> None:
        """Make a virtual host that the tests' user may use."""
        self.api("PUT", f"vhosts/{vhost}", {"default_queue_type": "quorum"})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api("PUT", f"permissions/{vhost}/{USERNAME}", everything)

    def limit_vhost(self, vhost: str, name: str, value: int | None) -> None:
        """Limit a virtual host, in `max-queues` or `max-connections`; None: no more."""
        self._limit(f"vhost-limits/{vhost}/{name}", value)

    def limit_user(self, user: str, name: str, value: int | None) -> None:
        """Limit a user, in `max-channels` or `max-connections`; None: no more."""
        self._limit(f"user-limits/{user}/{name}", value)

    def _limit(self, path: str, value: int | None) -> None:
        if value is None:
            self.api("DELETE", path)
        else:
            self.api("PUT", path, {"value": value})

    def delete_vhost(self, vhost: str) -> None:
        """Remove a virtual host with all that is in it."""
        self._counting.pop(vhost, None)
        self.api("DELETE", f"vhosts/{vhost}")

    def add_user(self, name: str, password: str, *, write: str = ".*", tags: str = "") -> None:
        """Make a user of the default virtual host, or give it another password.

        Args:
            name: the user's name.
            password: it may change.
            write: a pattern of the exchanges the user may publish to.
            tags: what else the user may do, such as `monitoring`.
        """
        self.api("PUT", f"users/{name}", {"password": password, "tags": tags})
        rights = {"configure": ".*", "write": write, "read": ".*"}
        self.api("PUT", f"permissions/%2F/{name}", rights)

    def permit(self, name: str, vhost: str, *, read: str) -> None:
        """Let a user into a virtual host, and read what is called by this pattern."""
        rights = {"configure": "^$", "write": "^$", "read": read}
        self.api("PUT", f"permissions/{vhost}/{name}", rights)

    def fill(self, queue: str) -> int:
        """Bound a queue with a policy of its name, fill it until it refuses; say how deep it is."""
        policy = {
            "pattern": f"^{re.escape(queue)}$",
            "apply-to": "queues",
            "definition": {"max-length": 1},
        }
        self.api("PUT", f"policies/%2F/{queue}", policy)
        with self.channel() as channel:
            channel.confirm_delivery()

            def is_full() -> bool:
                try:
                    channel.basic_publish(queue, queue, b"filler")
                except NackError:
                    return True
                return False

            wait_until(is_full, 20, f"{queue} refuses messages")
        return self.depth(queue)

    @contextmanager
    def limited(self, queue: str, length: int, vhost: str) -> Iterator[None]:
        """Have a queue refuse more than about `length` messages, for the time of a `with`."""
        path = f"policies/{vhost}/{queue}"
        limit = {"max-length": length, "overflow": "reject-publish"}
        pattern = f"^{re.escape(queue)}$"
        body = {"pattern": pattern, "apply-to": "queues", "definition": limit}
        self.api("PUT", path, body)
        try:
            yield
        finally:
            self.api("DELETE", path)

    def clear_policy(self, queue: str) -> None:
        """Remove the policy of the queue's name."""
        self.api("DELETE", f"policies/%2F/{queue}")

    def unbind(self, exchange: str, queue: str, key: str) -> None:
        """Remove a binding."""
        with self.channel() as channel:
            channel.queue_unbind(queue, exchange, routing_key=key)

    def bind(self, exchange: str, queue: str, key: str) -> None:
        """Add a binding."""
        with self.channel() as channel:
            channel.queue_bind(queue, exchange, routing_key=key)

    def queues(self, vhost: str = "/") -> dict[str, dict[str, Any]]:
        """Return what the management API knows of each queue; figures lag a little.

        Those that belong to one connection are left out: nobody else can do anything with them.
        """
        listed = self.api("GET", f"queues/{quote(vhost, safe='')}")
        return {queue["name"]: queue for queue in listed if not queue.get("exclusive")}

    def connections(self, name: str) -> list[str]:
        """Return the broker's names of the connections whose own name contains `name`."""
        return [
            connection["name"]
            for connection in self.api("GET", "connections")
            if name in connection.get("user_provided_name", "")
        ]

    def close_connections(self, name: str) -> int:
        """Close those connections by force; return how many there were."""
        names = self.connections(name)
        for each in names:
            self.api("DELETE", f"connections/{quote(each, safe='')}")
        return len(names)

    # What is in the queues, by the broker's own exact count

    def depth(self, queue: str, vhost: str = "/") -> int:
        """Count the messages that wait for a consumer; 0 for a queue that does not exist."""
        return self._count(queue, vhost)[0]

    def consumers(self, queue: str, vhost: str = "/") -> int:
        """Count the consumers; 0 for a queue that does not exist."""
        return self._count(queue, vhost)[1]

    def _count(self, queue: str, vhost: str) -> tuple[int, int]:
        """Count on a connection that is kept: tests ask again and again, until they see it."""
        kept = self._counting.pop(vhost, None)  # out of reach of other threads
        if kept is not None:
            with suppress(AMQPError, OSError):  # it may have ended since
                return self._counted(kept, queue, vhost)
        return self._counted(self._connect(vhost), queue, vhost)

    def _counted(self, connection: BlockingConnection, queue: str, vhost: str) -> tuple[int, int]:
        counted = 0, 0
        with suppress(ChannelClosedByBroker):  # there is no such queue
            channel = connection.channel()
            method = channel.queue_declare(queue, passive=True).method
            counted = int(method.message_count), int(method.consumer_count)
            channel.close()
        self._counting[vhost] = connection
        return counted

    def declare(self, queue: str, vhost: str = "/", queue_type: QueueType = "quorum") -> str:
        """Make the edge of a work queue, as a stage does; return its name."""
        self.declare_edge(Edge(queue, type=queue_type), vhost)
        return queue

    def declare_edge(self, edge: Edge, vhost: str = "/") -> None:
        """Make an edge, as a stage that consumes it does."""
        with self.channel(vhost) as channel:
            self._declare_edge(channel, edge)

    @staticmethod
    def _declare_edge(channel: BlockingChannel, edge: Edge) -> None:
        declare(cast("pika.channel.Channel", channel), edge.for_consuming())

    def declare_direct(self, name: str, key: str) -> None:
        """Make a direct exchange and a queue of the same name, bound with one key."""
        with self.channel() as channel:
            channel.exchange_declare(name, "direct", durable=True)
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        self.bind(name, name, key)

    def purge(self, queue: str) -> None:
        """Remove the messages that wait for a consumer."""
        with self.channel() as channel:
            channel.queue_purge(queue)

    def delete_queue(self, queue: str, vhost: str = "/") -> None:
        """Delete a queue with all that is in it."""
        with self.channel(vhost) as channel:
            channel.queue_delete(queue)

    def delete_queues(self, part: str) -> None:
        """Delete all queues with this in their names."""
        if names := [queue for queue in self.queues() if part in queue]:
            with self.channel() as channel:
                for name in names:
                    channel.queue_delete(name)

    def put(
        self,
        queue: str,
        texts: Iterable[str | bytes],
        vhost: str = "/",
        *,
        queue_type: QueueType = "quorum",
        **given: Any,
    ) -> None:
        """Publish to a work queue, which is declared if it is missing.

        Args:
            queue: its name.
            texts: a message each; the message ids are `QUEUE-0`, `QUEUE-1` and so on.
            vhost: where it is.
            queue_type: what it is.
            given: properties of all messages, such as correlation_id.
        """
        with self.channel(vhost) as channel:
            self._declare_edge(channel, Edge(queue, type=queue_type))
            persistent = {"delivery_mode": 2, **given}
            self.send_all(
                channel,
                (
                    Outgoing(queue, queue, text, message_id=f"{queue}-{index}", **persistent)
                    for index, text in enumerate(texts)
                ),
            )

    @classmethod
    def send(
        cls, channel: BlockingChannel, exchange: str, key: str, text: str | bytes, **properties: Any
    ) -> None:
        """Publish one message with these properties on a channel of the test's own."""
        cls.send_all(channel, [Outgoing(exchange, key, text, **properties)])

    @staticmethod
    def send_all(channel: BlockingChannel, messages: Iterable[Outgoing]) -> None:
        """Publish these, and wait until the broker has all of them: from now on it counts them.

        In large pieces, a transaction each: with basic_publish and confirms, most of the time of a
        test with thousands of messages would go into these.
        """
        channel.tx_select()
        number, connection = channel.channel_number, channel.connection._impl  # noqa: SLF001
        size = connection.params.frame_max  # as agreed with this broker
        left = iter(messages)
        while piece := list(islice(left, _TRANSACTION_MOST)):
            frames = b"".join(frame for each in piece for frame in each.frames(number, size))
            connection._output_marshaled_frames([frames])  # noqa: SLF001
            channel.tx_commit()

    def command(self, vhost: str, *bodies: str | bytes) -> None:
        """Publish to the control exchange, which a replica has declared, perhaps just now.

        Other connections see it a moment later than the one that has declared it.
        """
        path = f"exchanges/{quote(vhost, safe='')}/{CONTROL_EXCHANGE}"
        wait_until(lambda: self.api("GET", path), 20, "there is a control exchange")
        with self.channel(vhost) as channel:
            self.send_all(channel, (Outgoing(CONTROL_EXCHANGE, "", body) for body in bodies))

    def take(self, queue: str, count: int, seconds: float = 30.0, vhost: str = "/") -> list[Taken]:
        """Take exactly `count` messages off a queue, in order; fail when they do not come."""
        taken: list[Taken] = []
        with self.channel(vhost) as first:
            channels = [first]

            def keep(channel: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
                if len(taken) < count:
                    taken.append(
                        Taken(
                            body.decode(),
                            properties.message_id,
                            properties.correlation_id,
                            properties.headers or {},
                            method.routing_key,
                            properties.delivery_mode == 2,
                        )
                    )
                    channel.basic_ack(method.delivery_tag)

            def is_consuming() -> bool:
                """What one connection has just declared, another may not see yet."""
                try:
                    channels[-1].basic_qos(prefetch_count=min(count, 500))
                    channels[-1].basic_consume(queue, keep)
                except ChannelClosedByBroker:
                    channels.append(first.connection.channel())
                    return False
                return True

            def all_there() -> bool:
                first.connection.process_data_events(0.05)
                return len(taken) == count

            wait_until(is_consuming, seconds, f"there is a queue {queue}")

            what = f"{count} messages in {queue}"
            wait_until(lambda: all_there() or None, seconds, what)
        return taken

    def take_all(self, queue: str, vhost: str = "/") -> list[Taken]:
        """Take all messages that wait for a consumer now."""
        count = self.depth(queue, vhost)
        return self.take(queue, count, vhost=vhost) if count else []

    @contextmanager
    def channel(self, vhost: str = "/") -> Iterator[BlockingChannel]:
        """Open a channel on a connection of its own: pika's blocking one, not the library's."""
        connection = self._connect(vhost)
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def _connect(self, vhost: str) -> BlockingConnection:
        parameters = pika.ConnectionParameters(
            self.host,
            self.port,
            vhost,
            pika.PlainCredentials(USERNAME, PASSWORD),
            socket_timeout=5,
            stack_timeout=5,
            blocked_connection_timeout=60,
        )
        return BlockingConnection(parameters)


class Broker(Operator):
    """One broker for one test run; gone when the context is left, however that happens."""

    def __init__(self, network: str | None = None) -> None:
        """Prepare the container; it is started by `with`.

        Args:
            network: a Docker network that containers find it on, under `name`; None: none.
        """
        ports = free_ports(2)
        super().__init__(*ports)
        given = {} if network is None else {"network": network}
        self._container = DockerContainer(broker_image()).with_kwargs(hostname="rabbitmq", **given)
        if network is not None:  # not each name that Docker makes up is one that resolvers take
            self._container.with_name(f"{network}-broker")
        self._container.with_env("RABBITMQ_DEFAULT_USER", USERNAME)
        self._container.with_env("RABBITMQ_DEFAULT_PASS", PASSWORD)
        if CONFIGURATION.exists():
            self._container.with_volume_mapping(str(CONFIGURATION), "/etc/rabbitmq/rabbitmq.conf")
        # Tests wait for what the management API shows; by default that lags by five seconds.
        # They make users and policies; the pipeline's own default user is no administrator.
        self._container.with_copy_into_container(
            b"collect_statistics_interval = 500\ndefault_user_tags.administrator = true\n",
            "/etc/rabbitmq/conf.d/90-tests.conf",
        )
        # A port that Docker chooses would be another one after a restart.
        for inside, outside in zip((5672, 15672), ports, strict=True):
            self._container.ports[str(inside)] = cast("int", (self.host, outside))

    def __enter__(self) -> Self:
        """Start it; wait until it takes connections."""
        self._container.__enter__()
        try:
            self.wait_until_up()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the container and its data."""
        self._container.stop()

    @property
    def container(self) -> Any:
        """The container, as docker-py knows it."""
        return self._container.get_wrapped_container()

    @property
    def name(self) -> str:
        """What it is called on its network."""
        return str(self.container.name)

    @property
    def inside(self) -> dict[str, str]:
        """The settings with which a stage on its network finds it."""
        return {
            "RABBITMQ_HOST": self.name,
            "RABBITMQ_USERNAME": USERNAME,
            "RABBITMQ_PASSWORD": PASSWORD,
        }

    # What an operator does

    def kill(self) -> None:
        """End it without a warning."""
        self.container.kill()

    def start(self) -> None:
        """Start it after `kill`; return when it takes connections again."""
        self.container.start()
        self.wait_until_up()

    def restart(self) -> None:
        """Restart the container; return when it takes connections again."""
        self.container.restart()
        self.wait_until_up()

    def logged(self, text: str) -> int:
        """Count the lines with `text` in its log of the last minute."""
        lines = self.container.logs(since=int(time.time()) - 60).splitlines()
        return sum(text.encode() in line for line in lines)

    def last_logged(self, count: int) -> str:
        """Return the last lines of its log."""
        return cast("bytes", self.container.logs(tail=count)).decode(errors="replace")

    def control(self, *command: str) -> str:
        """Run rabbitmqctl in the container; return what it prints."""
        code, output = self._container.exec(["rabbitmqctl", "--quiet", *command])
        assert code == 0, f"rabbitmqctl {' '.join(command)}: {output!r}"
        return cast("bytes", output).decode()

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Have the broker block all connections that publish, for the time of a `with`.

        It blocks who publishes after it has come, which takes rabbitmqctl a second, or three on a
        busy machine: who is to be blocked starts within, or has work for long.
        """
        self.control("set_vm_memory_high_watermark", "0.0000001")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "0.6")
