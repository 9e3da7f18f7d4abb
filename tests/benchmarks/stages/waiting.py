"""A stage that waits 100 ms for each message: in a thread, or as an `async def`."""

import asyncio
import sys
import time

from rabbit import Worker

WAIT_SECONDS = 0.1


class InThreads(Worker):
    """Has a thread for each message that it is at."""

    def work(self, message: str) -> None:
        """Wait, then write in upper case."""
        time.sleep(WAIT_SECONDS)
        self.write(message.upper())


class OnEventLoop(Worker):
    """Has a task for each."""

    async def work(self, message: str) -> None:
        """Wait, then write in upper case."""
        await asyncio.sleep(WAIT_SECONDS)
        self.write(message.upper())


if __name__ == "__main__":
    {"threads": InThreads, "async": OnEventLoop}[sys.argv[1]].main()
