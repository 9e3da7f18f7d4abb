"""AMQPStorm: https://www.amqpstorm.io, examples of a robust consumer and of confirms."""

import threading

import amqpstorm

from . import HOST, INPUT, OUTPUT, PASSWORD, USERNAME

_CHANNELS = 64
_CONNECTIONS = 2
_PREFETCH = 20


def documented() -> None:
    """At least once: confirm_deliveries, so each publish waits for its confirm; then the ack."""
    # No limit, as in the example. It is slow by itself: between its two small writes a message, the
    # publish and the ack, the system waits for the broker to answer (Nagle), and it polls.
    _relay(_connect(), prefetch=0)


def tuned() -> None:
    """At least once, as documented: 64 channels with a thread each, 20 messages prefetched."""
    connections = [_connect() for _ in range(_CONNECTIONS)]
    threads = [
        threading.Thread(target=_relay, args=(connections[number % _CONNECTIONS], _PREFETCH))
        for number in range(_CHANNELS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _connect() -> amqpstorm.Connection:
    return amqpstorm.Connection(HOST, USERNAME, PASSWORD)


def _relay(connection: amqpstorm.Connection, prefetch: int) -> None:
    channel = connection.channel()
    channel.confirm_deliveries()
    channel.basic.qos(prefetch)
    channel.basic.consume(_process, INPUT)
    channel.start_consuming()


def _process(message: amqpstorm.Message) -> None:
    properties = {
        "content_type": "text/plain",
        "delivery_mode": 2,
        "correlation_id": message.correlation_id,
    }
    output = amqpstorm.Message.create(message.channel, message.body.upper(), properties)
    if not output.publish(OUTPUT, OUTPUT, mandatory=True):
        raise RuntimeError("a message was refused")
    message.ack()
