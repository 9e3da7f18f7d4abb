"""pika's BlockingConnection: https://pika.readthedocs.io, examples of confirms and of consuming."""

import os
import ssl
import sys
import threading
from pathlib import Path

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties

from . import CA_FILE, HOST, INPUT, OUTPUT, PASSWORD, USERNAME

_THREADS = 16
_PREFETCH = 100


def documented() -> None:
    """At least once: each publish waits for its confirm, then the input is acked."""
    _relay(prefetch=1)


def tuned() -> None:
    """At least once, as documented: 16 threads with a connection each, 100 messages prefetched."""
    sys.setswitchinterval(0.0005)
    threads = [threading.Thread(target=_relay, args=(_PREFETCH,)) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def publish() -> None:
    """Publish the lines of a file; each publish waits for its confirm."""
    channel = _open()
    with Path(os.environ["LINES"]).open("rb") as lines:
        for line in lines:
            _publish(channel, line.rstrip(b"\n"), None)


def _relay(prefetch: int) -> None:
    channel = _open()
    channel.basic_qos(prefetch_count=prefetch)
    channel.basic_consume(INPUT, _process)
    channel.start_consuming()


def _process(
    channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
) -> None:
    _publish(channel, body.decode().upper().encode(), properties.correlation_id)
    channel.basic_ack(method.delivery_tag)


def _open() -> BlockingChannel:
    login = pika.PlainCredentials(USERNAME, PASSWORD)
    tls = pika.SSLOptions(ssl.create_default_context(cafile=CA_FILE), HOST) if CA_FILE else None
    parameters = pika.ConnectionParameters(HOST, credentials=login, ssl_options=tls)
    channel = pika.BlockingConnection(parameters).channel()
    channel.confirm_delivery()
    return channel


def _publish(channel: BlockingChannel, body: bytes, correlation_id: str | None) -> None:
    """Publish persistent and mandatory; raises when it is refused or cannot be routed."""
    properties = BasicProperties(
        content_type="text/plain", delivery_mode=2, correlation_id=correlation_id
    )
    channel.basic_publish(OUTPUT, OUTPUT, body, properties, mandatory=True)
