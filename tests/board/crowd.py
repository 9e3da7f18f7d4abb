"""Many replicas at the price of one: a program that answers for all of them."""

import json
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import pika

from rabbit.amqp.channel import declare
from rabbit.topology import (
    CONTROL_EXCHANGE,
    REPLIES_EXCHANGE,
    Binding,
    Exchange,
    control_queue,
    control_subscription,
)
from tests.broker import Broker


class Crowd:
    """Replicas of one stage, `crowd`, that say they run; each has a control queue, as a real one.

    Attributes:
        commands: how many have come.
    """

    def __init__(self, broker: Broker, vhost: str, number: int) -> None:
        """Declare what they have."""
        self.commands = 0
        self._names = [f"r{each}" for each in range(number)]
        self._context = broker.channel(vhost)
        self._channel = self._context.__enter__()
        for name in self._names:
            items = list(control_subscription("crowd", name))
            declare(cast("pika.channel.Channel", self._channel), items)
        own = self._channel.queue_declare("", exclusive=True).method.queue
        declare(
            cast("pika.channel.Channel", self._channel),
            [Exchange(CONTROL_EXCHANGE, "fanout"), Binding(CONTROL_EXCHANGE, own, "")],
        )
        self._channel.basic_consume(own, self._answer, auto_ack=True)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End."""
        self._is_over = True
        self._thread.join(10)
        for name in self._names:  # a virtual host with so many takes long to delete
            self._channel.queue_delete(control_queue("crowd", name))
        self._context.__exit__(kind, error, at)

    def _run(self) -> None:
        while not self._is_over:
            self._channel.connection.process_data_events(time_limit=0.2)

    def _answer(self, channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        self.commands += 1
        command = json.loads(body)
        for name in self._names:
            report = {
                "command_id": command["id"],
                "stage": "crowd",
                "replica": name,
                "consumes": "in",
                "exchange": "in",
                "produces": None,
                "state": "running",
                "in_flight": 1,
                "handled": 5,
                "failed": 0,
                "since": datetime.now(UTC).isoformat(),
                "process": name,
            }
            channel.basic_publish(
                REPLIES_EXCHANGE, properties.reply_to, json.dumps(report).encode()
            )
