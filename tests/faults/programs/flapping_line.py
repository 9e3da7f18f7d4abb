"""A TCP proxy whose line is cut again and again: `flapping_line.py TARGET CUTS_PER_SECOND SECONDS`.

It listens at the target's port. The cuts begin when /tmp/flap is there; after so many seconds of
them the line lasts. It prints how many connections there have been meanwhile.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

_PORT = 5672
_TRIGGER = Path("/tmp/flap")  # noqa: S108 - in a container of its own
_PIECE_BYTES = 65536
_LOOK_SECONDS = 0.05


class Line:
    """All connections through it."""

    def __init__(self, target: str) -> None:
        """Pass on to `target`."""
        self.accepted = 0
        self._target = target
        self._ends: set[asyncio.StreamWriter] = set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on in both directions until the line is cut."""
        self.accepted += 1
        far_reader, far_writer = await asyncio.open_connection(self._target, _PORT)
        self._ends |= {writer, far_writer}
        await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        self._ends -= {writer, far_writer}

    def cut(self) -> None:
        """Cut all connections."""
        for each in self._ends:
            each.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(target: str, cuts_per_second: str, seconds: str) -> None:
    """Listen; cut when told to."""
    line = Line(target)
    server = await asyncio.start_server(line.connect, port=_PORT)
    async with server:
        while not _TRIGGER.exists():  # noqa: ASYNC110, ASYNC240 - nothing tells us
            await asyncio.sleep(_LOOK_SECONDS)
        before = line.accepted
        for _ in range(int(float(cuts_per_second) * float(seconds))):
            line.cut()
            await asyncio.sleep(1 / float(cuts_per_second))
        sys.stdout.write(f"{line.accepted - before} connects\n")
        sys.stdout.flush()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
