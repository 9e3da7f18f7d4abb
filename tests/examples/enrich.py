"""Orders with a price, which an HTTP service knows: many at a time, on one event loop.

With CONCURRENCY=100. A service that is away, or answers 500, is asked again after each of the
RETRY_DELAYS; what it does not know is no order of ours.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from pydantic import Field

from rabbit import Reject, Settings, Worker
from tests.examples.orders import Order


class EnrichSettings(Settings):
    prices_url: str = Field(description="http://host:port of the service")


class Enrich(Worker):
    Settings = EnrichSettings
    settings: EnrichSettings

    @asynccontextmanager
    async def resources(self) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self.settings.prices_url, timeout=5) as self.client:
            yield

    async def work(self, order: Order) -> None:
        answer = await self.client.get(f"/prices/{order.item}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise Reject(f"no price for {order.item!r}")
        price = answer.raise_for_status().json()["cents"]
        self.write({**order.model_dump(), "cents": price * order.pieces})


if __name__ == "__main__":
    Enrich.main()
