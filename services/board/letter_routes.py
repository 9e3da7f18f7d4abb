"""What is asked about dead letters: why there are some, one by one, and bringing them back."""

from collections import Counter
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rabbit.errors import RabbitError
from rabbit.logs import Logger
from rabbit.terminal import counted, visible

from .access import Session
from .answers import Threads, json_body, refuse, text
from .feed import Feed
from .jobs import BusyError, Jobs, Tell, Work
from .letters import FEW, Letters, Meant
from .people import People
from .pipeline_routes import begun

#: Of looks, replays and purges only one is under way.
LANE = "letters"

#: How many letters a request may name, and how many of them are shown beside what was done.
MOST_CHOSEN = 1000
MOST_NAMED = 3

#: New dead letters are looked at without being asked for, this often at most, in seconds.
LOOK_SECONDS = 10.0

#: So many letters are looked for at once; each may take as long as `Letters.show` does.
MOST_SHOWING = 2


class LetterRoutes:
    """Shows dead letters, and has them looked at, replayed and purged."""

    def __init__(
        self,
        people: People,
        feed: Feed,
        jobs: Jobs,
        letters: Letters,
        log: Logger,
    ) -> None:
        """Answer from these."""
        self._people = people
        self._feed = feed
        self._jobs = jobs
        self._letters = letters
        self._log = log
        self._pages, self._showing = Threads(MOST_SHOWING), Threads(MOST_SHOWING)
        self._dead = -1
        self._looked_at = -LOOK_SECONDS

    def routes(self) -> list[Route]:
        """Return what is asked for, and how it is answered."""
        people = self._people
        return [
            Route("/api/letters", people.looking(self._page)),
            Route("/api/letter", people.looking(self._letter)),
            Route("/api/look", people.changing(self._look), methods=["POST"]),
            Route("/api/letters/act", people.acting(self._act), methods=["POST"]),
        ]

    def show_summary(self) -> None:
        """Show what the last look has found."""
        self._feed.publish("letters", self._letters.summary())

    def look_if_new(self, picture: dict[str, Any]) -> None:
        """Look at a few new dead letters right away, to say why; waits for the broker only."""
        dead = sum(row.get("dead", 0) for row in picture["rows"])
        is_new = dead != self._dead and dead <= FEW and not picture["broker"]["why"]
        now = monotonic()
        if not (is_new and self._feed.watching) or now - self._looked_at < LOOK_SECONDS:
            return
        if self._jobs.under_way(LANE) or self._letters.are_gone_through:
            return
        self._dead, self._looked_at = dead, now
        try:
            self._letters.look(lambda _line: None)
        except RabbitError as error:
            self._log.warning("dead letters cannot be looked at", reason=str(error))
        self.show_summary()

    async def _page(self, request: Request, _session: Session) -> Response:
        query = request.query_params
        number = query.get("page", "0")
        if not number.isdecimal() or len(number) > 6:  # noqa: PLR2004
            refuse(400, "page: a number")
        page = await self._pages.run(
            lambda: self._letters.page(query.get("queue", ""), query.get("reason", ""), int(number))
        )
        return JSONResponse(page)

    async def _letter(self, request: Request, session: Session) -> Response:
        query = request.query_params
        found = await self._showing.run(
            lambda: self._letters.show(query.get("queue", ""), query.get("id", ""), session.login)
        )
        if found is None:
            refuse(404, "it is not there any more: somebody has replayed or purged it")
        return JSONResponse(found)

    async def _look(self, _request: Request, session: Session) -> Response:
        return self._begin("look at the dead letters", session, self._letters.look)

    async def _act(self, request: Request, session: Session) -> Response:
        given = await json_body(request)
        verb, queue = text(given, "verb"), text(given, "queue")
        meant = _chosen(queue, given["chosen"]) if "chosen" in given else _all(queue, given)
        which = f"{counted(meant.count, 'dead letter')} of {queue}"
        ids = [visible(each) for each, _ in meant.chosen]
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        of = f": {', '.join(ids[:MOST_NAMED])}{more}" if ids else f" with {meant.reason}"
        try:
            work = self._letters.work(verb, meant)
        except ValueError:
            refuse(400, "no such verb")
        if more:
            self._log.info("chosen", what=f"{verb} {which}", user=session.user, ids=" ".join(ids))
        return self._begin(f"{verb} {which}{of}", session, work)

    def _begin(self, what: str, session: Session, work: Work) -> Response:
        def and_show(tell: Tell) -> tuple[str, bool]:
            try:
                return work(tell)
            finally:
                self.show_summary()

        try:
            job = self._jobs.begin(LANE, what, session.user, and_show)
        except BusyError as error:
            refuse(409, str(error))
        return begun(job)


def _chosen(queue: str, pairs: object) -> Meant:
    """Return letters that were chosen one by one: a list of pairs, an id and a time."""
    given = pairs if isinstance(pairs, list) and len(pairs) <= MOST_CHOSEN else []
    if not given or not all(_is_pair(each) for each in given):
        refuse(400, f"chosen: a list of 1 to {MOST_CHOSEN} pairs, an id and a time")
    return Meant(queue, chosen=Counter((letter, moment) for letter, moment in given))


def _is_pair(given: object) -> bool:
    match given:
        case [str() as letter, str()]:
            return bool(letter)
    return False


def _all(queue: str, given: dict[str, Any]) -> Meant:
    """Return all with a reason that somebody has seen: how many, and until when."""
    count, until = given.get("count"), given.get("until")
    if not isinstance(count, int) or not isinstance(until, int | float):
        refuse(400, "count and until: how many there were, and when the newest was given up")
    return Meant(queue, text(given, "reason"), count, float(until))
