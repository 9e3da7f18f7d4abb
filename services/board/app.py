"""The board as an application: what it is made of, and which part answers what."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from rabbit.logs import Logger

from .actions import Actions
from .answers import Threads, refused
from .collector import Collector
from .feed import Feed
from .jobs import Jobs
from .letter_routes import LetterRoutes
from .letters import Letters
from .metrics import CONTENT_TYPE, exposition
from .middleware import KnownHosts, SafeHeaders
from .people import People
from .pipeline_routes import PipelineRoutes
from .settings import BoardSettings

DATA = Path(__file__).parent / "data"

#: So many may be asked about at the broker at once.
MOST_ASKED = 8

#: Who is there, or what a health check reads, is seen to so often, in seconds.
BEAT_SECONDS = 2.0


class Board:
    """The service: one collector and one feed, for however many people.

    Attributes:
        feed: what browsers are shown.
    """

    def __init__(self, settings: BoardSettings, log: Logger) -> None:
        """Put it together; nothing is connected yet."""
        self.feed = Feed()
        self._settings = settings
        self._collector = Collector(settings, log, self._show_picture)
        self._scrapes = Threads(1)
        jobs = Jobs(log, self._show_jobs)
        people = People(settings, log, Threads(MOST_ASKED))
        self._pipeline = PipelineRoutes(
            people, self.feed, self._collector, jobs, Actions(settings, log)
        )
        self._letters = LetterRoutes(people, self.feed, jobs, Letters(settings, log), log)
        self._people = people

    def app(self) -> Starlette:
        """Return what a server serves."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Mount("/static", StaticFiles(directory=DATA)),
                *self._people.routes(),
                *self._pipeline.routes(),
                *self._letters.routes(),
                Route("/metrics", self._metrics),
            ],
            middleware=[
                Middleware(SafeHeaders),
                Middleware(KnownHosts, hosts=self._settings.hosts),
            ],
            exception_handlers={HTTPException: refused},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.feed.start()
        self.feed.publish("jobs", [])
        self._letters.show_summary()
        self._collector.start()
        beat = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            self.feed.end()
            await anyio.to_thread.run_sync(self._collector.stop)

    async def _beat(self) -> None:
        """Keep the collector looking while somebody watches; say that this is alive."""
        while True:
            if self.feed.watching:
                self._collector.be_watched()
            for path in (self._settings.ready_file, self._settings.alive_file):
                if path and self._collector.is_alive:
                    with suppress(OSError):
                        path.touch()
            await asyncio.sleep(BEAT_SECONDS)

    def _show_picture(self, picture: dict[str, Any]) -> None:
        self.feed.publish("picture", picture)
        self._letters.look_if_new(picture)

    def _show_jobs(self, jobs: list[dict[str, Any]]) -> None:
        """Show what people do, and what the pipeline makes of it."""
        self.feed.publish("jobs", jobs)
        self._collector.be_watched()

    async def _index(self, _request: Request) -> Response:
        return FileResponse(DATA / "index.html")

    async def _metrics(self, _request: Request) -> Response:
        """Answer a scrape; it needs no login, and tells no message."""
        told = await self._scrapes.run(lambda: exposition(self._collector.scraped()))
        return Response(told, media_type=CONTENT_TYPE)
