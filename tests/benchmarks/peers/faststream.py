"""FastStream: https://faststream.ag2.ai, RabbitMQ: acknowledgement, publishing, quorum queues."""

import asyncio

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitQueue

from . import INPUT, OUTPUT, URL

_PREFETCH = 500


def documented() -> None:
    """At least once: publisher confirms (the default), nack when the handler fails."""
    asyncio.run(_app(RabbitBroker(URL)).run())


def tuned() -> None:
    """At least once, as documented: uvloop, 500 messages prefetched, no log line a message."""
    broker = RabbitBroker(URL, default_channel=Channel(prefetch_count=_PREFETCH), logger=None)
    uvloop.run(_app(broker).run())


def _app(broker: RabbitBroker) -> FastStream:
    queue = RabbitQueue(INPUT, declare=False)
    exchange = RabbitExchange(OUTPUT, declare=False)

    @broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
    @broker.publisher(exchange=exchange, routing_key=OUTPUT, persist=True, mandatory=True)
    async def upper(message: str) -> str:
        return message.upper()

    return FastStream(broker)
