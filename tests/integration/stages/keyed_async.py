"""The same as `keyed`, by an `async def work`."""

import asyncio
import time

from tests.integration.stages.keyed import Telling


class KeyedAsync(Telling):
    """Takes its time on the event loop."""

    async def work(self, message: str) -> None:
        """Say that it begins, take the time, say how it ends."""
        begun = time.monotonic()
        await asyncio.sleep(self.settings.delay)
        self.tell(message, begun)


if __name__ == "__main__":
    KeyedAsync.main()
