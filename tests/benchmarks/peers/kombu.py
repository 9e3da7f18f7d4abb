"""Kombu on py-amqp: https://docs.celeryq.dev/projects/kombu, ConsumerProducerMixin, pyamqp."""

from collections import deque
from typing import Any

from kombu import Connection, Consumer, Message, Producer, Queue
from kombu.mixins import ConsumerProducerMixin

from . import INPUT, OUTPUT, URL

#: As in the documentation's example.
_DOCUMENTED_PREFETCH = 10
_PREFETCH = 500

_PROPERTIES = {
    "exchange": OUTPUT,
    "routing_key": OUTPUT,
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "delivery_mode": 2,
    "mandatory": True,
}


def documented() -> None:
    """At least once: confirm_publish, so each publish waits for its confirm; then the ack."""
    with Connection(URL, transport_options={"confirm_publish": True}) as connection:
        _Worker(connection).run()


class _Worker(ConsumerProducerMixin):
    """Relays as the documentation of ConsumerProducerMixin shows it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_consumers(self, consumer: Any, _channel: Any) -> list[Any]:
        """Consume the input queue."""
        queue = Queue(INPUT, no_declare=True)
        return [
            consumer(
                queues=queue,
                on_message=self.relay,
                accept=["text/plain"],
                prefetch_count=_DOCUMENTED_PREFETCH,
            )
        ]

    def relay(self, message: Message) -> None:
        """Publish, wait for the confirm, ack."""
        self.producer.publish(
            _upper(message), correlation_id=message.properties["correlation_id"], **_PROPERTIES
        )
        message.ack()


def tuned() -> None:
    """At least once: asynchronous confirms (py-amqp's basic_ack event), one ack for many inputs."""
    with Connection(URL) as connection:
        _Pipeline(connection).run()


class _Pipeline:
    """Publishes without waiting, and acks the inputs up to the first that is not confirmed.

    One connection for both ways: py-amqp waits for one connection at a time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        channel = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirmed)
        channel.events["basic_nack"].add(self._refused)
        channel.events["basic_return"].add(self._refused)
        self._producer = Producer(channel)
        self._arrived: deque[Message] = deque()
        self._waiting: deque[Message] = deque()
        self._sent = self._up_to = 0
        self._beyond: set[int] = set()

    def run(self) -> None:
        """Relay for ever."""
        queue = Queue(INPUT, no_declare=True)
        with Consumer(
            self._connection.channel(),
            queues=[queue],
            on_message=self._arrived.append,
            accept=["text/plain"],
            prefetch_count=_PREFETCH,
        ):
            while True:
                self._connection.drain_events()
                # Not in on_message: py-amqp looks for events in each publish, so they would nest.
                while self._arrived:
                    self._relay(self._arrived.popleft())

    def _relay(self, message: Message) -> None:
        self._producer.publish(
            _upper(message), correlation_id=message.properties["correlation_id"], **_PROPERTIES
        )
        self._sent += 1
        self._waiting.append(message)

    def _confirmed(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp's call
        if multiple:
            self._beyond.update(range(self._up_to + 1, tag + 1))
        else:
            self._beyond.add(tag)
        last: Message | None = None
        while self._up_to + 1 in self._beyond:
            self._up_to += 1
            self._beyond.remove(self._up_to)
            last = self._waiting.popleft()
        if last:
            last.ack(multiple=True)

    def _refused(self, *reason: object) -> None:
        raise RuntimeError(f"a message was refused or could not be routed: {reason}")


def _upper(message: Message) -> str:
    body = message.body
    return (body if isinstance(body, str) else bytes(body).decode()).upper()
