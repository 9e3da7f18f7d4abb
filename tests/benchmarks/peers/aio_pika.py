"""aio-pika: https://docs.aio-pika.com, quick start and patterns."""

import asyncio

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage, AbstractRobustConnection

from . import INPUT, OUTPUT, URL

#: As in the documentation's example of asynchronous message processing.
_DOCUMENTED_PREFETCH = 100
_PREFETCH = 1000
_PUBLISH_CHANNELS = 8


def documented() -> None:
    """At least once: publisher confirms (the default), ack when the handler has ended."""
    asyncio.run(_documented())


async def _documented() -> None:
    connection = await aio_pika.connect_robust(URL)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=_DOCUMENTED_PREFETCH)
    exchange = await channel.get_exchange(OUTPUT)
    queue = await channel.get_queue(INPUT)

    async def process(message: AbstractIncomingMessage) -> None:
        async with message.process():
            await exchange.publish(_upper(message), OUTPUT)

    await queue.consume(process)
    await asyncio.Future()


def tuned() -> None:
    """At least once, as documented: uvloop, 1000 in flight, 8 channels of another connection."""
    uvloop.run(_tuned())


async def _tuned() -> None:
    consuming, publishing = [await aio_pika.connect_robust(URL) for _ in range(2)]
    exchanges = [await _exchange(publishing) for _ in range(_PUBLISH_CHANNELS)]
    channel = await consuming.channel()
    await channel.set_qos(prefetch_count=_PREFETCH)
    queue = await channel.get_queue(INPUT)

    async def process(message: AbstractIncomingMessage) -> None:
        exchange = exchanges[(message.delivery_tag or 0) % _PUBLISH_CHANNELS]
        await exchange.publish(_upper(message), OUTPUT)
        await message.ack()

    await queue.consume(process)
    await asyncio.Future()


async def _exchange(connection: AbstractRobustConnection) -> AbstractExchange:
    return await (await connection.channel()).get_exchange(OUTPUT)


def _upper(message: AbstractIncomingMessage) -> aio_pika.Message:
    return aio_pika.Message(
        message.body.decode().upper().encode(),
        content_type="text/plain",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=message.correlation_id,
    )
