"""What browsers get, and what is not kept for them."""

import asyncio

from services.board.feed import Feed


def test_a_slow_browser_gets_the_latest_only() -> None:
    """A thousand pictures while it does not read are one when it does."""

    async def watch() -> list[bytes]:
        feed = Feed()
        feed.start()
        feed.publish("picture", 0)
        events = feed.events()
        got = [await anext(events)]
        for number in range(1000):
            feed.publish("picture", number)
        got.append(await anext(events))
        await events.aclose()
        assert feed.watching == 0
        return got

    assert asyncio.run(watch()) == [
        b"event: picture\ndata: 0\n\n",
        b"event: picture\ndata: 999\n\n",
    ]


def test_all_are_let_go_at_the_end() -> None:
    """A server that ends waits for nobody who only watches."""

    async def watch() -> list[bytes]:
        feed = Feed()
        feed.start()
        feed.publish("jobs", [])

        async def all_events() -> list[bytes]:
            return [event async for event in feed.events()]

        watching = asyncio.create_task(all_events())
        await asyncio.sleep(0)
        assert feed.watching == 1
        feed.end()
        return await asyncio.wait_for(watching, 5)

    assert len(asyncio.run(watch())) <= 1
