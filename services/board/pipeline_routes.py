"""What is asked about the pipeline: the live picture, and a hand on the stages."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .access import Session
from .actions import Actions
from .answers import json_body, refuse, text
from .collector import Collector
from .feed import MOST_WATCHING, Feed
from .jobs import BusyError, Job, Jobs
from .people import People

#: Of pauses, halts and the like only one is under way.
LANE = "pipeline"


class PipelineRoutes:
    """Shows the pipeline, and has it paused, resumed, halted and drained."""

    def __init__(
        self, people: People, feed: Feed, collector: Collector, jobs: Jobs, actions: Actions
    ) -> None:
        """Answer from these."""
        self._people = people
        self._feed = feed
        self._collector = collector
        self._jobs = jobs
        self._actions = actions

    def routes(self) -> list[Route]:
        """Return what is asked for, and how it is answered."""
        people = self._people
        return [
            Route("/api/events", people.looking(self._events)),
            Route("/api/act", people.acting(self._act), methods=["POST"]),
            Route("/api/cancel", people.acting(self._cancel), methods=["POST"]),
        ]

    async def _events(self, request: Request, _session: Session) -> Response:
        if self._feed.watching >= MOST_WATCHING:
            refuse(503, "too many browsers watch already")
        self._collector.be_watched()

        async def events() -> AsyncIterator[bytes]:
            async for event in self._feed.events():
                if await self._people.find(request) is None:
                    return  # logged out, or not allowed any more
                yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _act(self, request: Request, session: Session) -> Response:
        given = await json_body(request)
        verb, target = text(given, "verb"), text(given, "target")
        try:
            work = self._actions.work(verb, target or None)
        except ValueError:
            refuse(400, "no such verb")
        what = f"{verb} {target or 'all stages'}"
        try:
            job = self._jobs.begin(LANE, what, session.user, work, can_cancel=verb == "drain")
        except BusyError as error:
            refuse(409, str(error))
        return begun(job)

    async def _cancel(self, request: Request, session: Session) -> Response:
        number = (await json_body(request)).get("number")
        if isinstance(number, int):
            self._jobs.cancel(number, session.user)
        return JSONResponse(None)


def begun(job: Job) -> Response:
    """Answer that something is under way: what comes of it is told to all who watch."""
    return JSONResponse({"number": job.number})
