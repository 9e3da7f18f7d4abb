"""A TCP proxy that is a slow line: `slow_line.py TARGET LATENCY_SECONDS BYTES_PER_SECOND`.

It listens at the target's port. Each direction has the latency and the rate.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

_PORT = 5672
#: What a line holds at most that has not arrived yet, in pieces.
_PIECES = 64
_PIECE_BYTES = 4096


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, latency: float, rate: float
) -> None:
    """Deliver each piece so late, and no faster than that."""
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_PIECES)
    clock = asyncio.get_running_loop().time

    async def deliver() -> None:
        while True:
            due, data = await line.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    delivery = asyncio.create_task(deliver())
    free = clock()
    with suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            free = max(free, clock()) + len(data) / rate
            await line.put((free + latency, data))
    await line.put((clock() + latency, b""))
    with suppress(OSError):
        await delivery


def line(
    target: str, latency: float, rate: float
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return what is done with each connection."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(target, _PORT)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            pass_on(reader, far_writer, latency, rate), pass_on(far_reader, writer, latency, rate)
        )

    return connect


async def main(target: str, latency: str, rate: str) -> None:
    """Listen."""
    server = await asyncio.start_server(line(target, float(latency), float(rate)), port=_PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
