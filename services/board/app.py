"""What the board answers to a browser."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rabbit.errors import BrokerUnavailableError, RabbitError
from rabbit.logs import Logger
from rabbit.terminal import counted

from .access import LONGEST_LOGIN, Attempts, RefusedError, Session, Sessions
from .actions import Actions
from .collector import Collector
from .feed import MOST_WATCHING, Feed
from .jobs import BusyError, Jobs, Tell, Work
from .letters import FEW, Letters
from .metrics import CONTENT_TYPE, exposition
from .settings import BoardSettings

DATA = Path(__file__).parent / "data"
COOKIE = "board"

#: What a request may hold, in bytes, and how many ids it may name.
MOST_BYTES = 256 * 1024
MOST_IDS = 1000

#: So many requests may wait for a broker at once.
MOST_WAITING = 8

#: Who is there, or what a health check reads, is seen to so often, in seconds.
BEAT_SECONDS = 2.0

#: New dead letters are looked at without being asked for, this often at most, in seconds.
LOOK_SECONDS = 10.0

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Answer: TypeAlias = Callable[[Request, Session], Awaitable[Response]]


class SafeHeaders:
    """Says on each answer what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *(
                        (name, value)
                        for name, value in message["headers"]
                        if name.decode() not in _HEADERS
                    ),
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Board:
    """The service: one collector, one feed, and what people ask for."""

    def __init__(self, settings: BoardSettings, log: Logger) -> None:
        """Put it together; nothing is connected yet."""
        self.feed = Feed()
        self._settings = settings
        self._log = log
        self._sessions = Sessions(settings)
        self._attempts = Attempts()
        self._jobs = Jobs(log, lambda jobs: self.feed.publish("jobs", jobs))
        self._actions = Actions(settings, log)
        self._letters = Letters(settings, log)
        self._collector = Collector(settings, log, self._take)
        self._threads = anyio.CapacityLimiter(MOST_WAITING)
        self._scrapes = anyio.CapacityLimiter(1)
        self._dead = -1
        self._looked_at = 0.0

    def app(self) -> Starlette:
        """Return what a server serves."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/api/session", self._session),
                Route("/api/login", self._log_in, methods=["POST"]),
                Route("/api/logout", self._log_out, methods=["POST"]),
                Route("/api/events", self._open(self._events)),
                Route("/api/letters", self._open(self._page)),
                Route("/api/letter", self._open(self._letter)),
                Route("/api/look", self._changing(self._look), methods=["POST"]),
                Route("/api/act", self._acting(self._act), methods=["POST"]),
                Route("/api/cancel", self._acting(self._cancel), methods=["POST"]),
                Route("/api/letters/act", self._acting(self._act_on_letters), methods=["POST"]),
                Route("/metrics", self._metrics),
                Mount("/static", StaticFiles(directory=DATA)),
            ],
            middleware=[Middleware(SafeHeaders)],
            exception_handlers={HTTPException: _as_json},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.feed.start()
        self.feed.publish("jobs", [])
        self.feed.publish("letters", self._letters.summary())
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

    def _take(self, picture: dict[str, Any]) -> None:
        """Show a picture; a few new dead letters are looked at right away, to say why."""
        self.feed.publish("picture", picture)
        dead = sum(row.get("dead", 0) for row in picture["rows"])
        is_new = dead != self._dead and dead <= FEW and not picture["broker"]["why"]
        if not (is_new and self.feed.watching) or picture["now"] - self._looked_at < LOOK_SECONDS:
            return
        if self._jobs.under_way("letters"):
            return
        self._dead, self._looked_at = dead, picture["now"]
        try:
            self._letters.look(lambda _line: None)
        except RabbitError as error:
            self._log.warning("dead letters cannot be looked at", reason=str(error))
        self.feed.publish("letters", self._letters.summary())

    # Who is there

    async def _index(self, _request: Request) -> Response:
        return FileResponse(DATA / "index.html")

    async def _session(self, request: Request) -> Response:
        session = await self._find(request)
        return JSONResponse(_told(session) if session else None)

    async def _log_in(self, request: Request) -> Response:
        given = await _json(request)
        user, password = _text(given, "user"), _text(given, "password")
        if not user or ":" in user or max(len(user), len(password)) > LONGEST_LOGIN:
            _refuse(403, "no such user")
        if not self._attempts.allows(user):
            self._log.warning("too many attempts to log in", user=user)
            _refuse(429, "too many attempts to log in: wait a minute")
        try:
            key, session = await self._in_thread(lambda: self._sessions.log_in(user, password))
        except RefusedError as error:
            self._log.warning("login refused", user=user)
            _refuse(403, str(error))
        self._attempts.forgive(user)
        self._log.info("logged in", user=user, may_act=session.may_act)
        response = JSONResponse(_told(session))
        is_secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=is_secure)
        return response

    async def _log_out(self, request: Request) -> Response:
        session = await self._find(request)
        if session:
            _check_token(request, session)
            self._sessions.end(request.cookies.get(COOKIE))
            self._log.info("logged out", user=session.user)
        response = JSONResponse(None)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    async def _find(self, request: Request, *, anew: bool = False) -> Session | None:
        """Return the session of a request; now and then the broker is asked whether it holds."""
        key = request.cookies.get(COOKIE)
        session = self._sessions.find(key)
        if session and key and (anew or self._sessions.is_due(session)):
            try:
                await self._in_thread(lambda: self._sessions.check(key, session))
            except RefusedError:
                return None
            except HTTPException:
                if anew:
                    raise  # the broker is away: looking goes on, so that it can be said
        return session

    def _open(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Answer to those only who are logged in."""

        async def answered(request: Request) -> Response:
            session = await self._find(request)
            if session is None:
                _refuse(401, "log in first")
            return await answer(request, session)

        return answered

    def _changing(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Likewise, and only from our own page."""

        async def checked(request: Request, session: Session) -> Response:
            _check_token(request, session)
            return await answer(request, session)

        return self._open(checked)

    def _acting(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Likewise, and only to those who may act, by what the broker says now."""

        async def checked(request: Request, session: Session) -> Response:
            current = await self._find(request, anew=True)
            if current is None or not current.may_act:
                self._log.warning("refused to act", user=session.user, path=request.url.path)
                _refuse(403, "you may look: to act takes the tag policymaker or administrator")
            return await answer(request, current)

        return self._changing(checked)

    # What they see

    async def _events(self, request: Request, _session: Session) -> Response:
        if self.feed.watching >= MOST_WATCHING:
            _refuse(503, "too many browsers watch already")
        self._collector.be_watched()

        async def events() -> AsyncIterator[bytes]:
            async for event in self.feed.events():
                if await self._find(request) is None:
                    return  # logged out, or not allowed any more
                yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _metrics(self, _request: Request) -> Response:
        """Answer a scrape; it needs no login, and tells no message."""
        text = await self._in_thread(lambda: exposition(self._collector.scraped()), self._scrapes)
        return Response(text, media_type=CONTENT_TYPE)

    async def _page(self, request: Request, _session: Session) -> Response:
        query = request.query_params
        number = query.get("page", "0")
        if not number.isdecimal() or len(number) > 6:  # noqa: PLR2004
            _refuse(400, "page: a number")
        page = await self._in_thread(
            lambda: self._letters.page(query.get("queue", ""), query.get("reason", ""), int(number))
        )
        return JSONResponse(page)

    async def _letter(self, request: Request, _session: Session) -> Response:
        query = request.query_params
        found = await self._in_thread(
            lambda: self._letters.show(query.get("queue", ""), query.get("id", ""))
        )
        if found is None:
            _refuse(404, "it is not there any more: somebody has replayed or purged it")
        return JSONResponse(found)

    async def _look(self, _request: Request, session: Session) -> Response:
        return self._begin("letters", "look at the dead letters", session, self._letters.look)

    # What they do

    async def _act(self, request: Request, session: Session) -> Response:
        given = await _json(request)
        verb, target = _text(given, "verb"), _text(given, "target")
        try:
            work = self._actions.work(verb, target or None)
        except ValueError:
            _refuse(400, "no such verb")
        what = f"{verb} {target or 'all stages'}"
        return self._begin("pipeline", what, session, work, can_cancel=verb == "drain")

    async def _cancel(self, request: Request, session: Session) -> Response:
        number = (await _json(request)).get("number")
        if isinstance(number, int):
            self._jobs.cancel(number, session.user)
        return JSONResponse(None)

    async def _act_on_letters(self, request: Request, session: Session) -> Response:
        given = await _json(request)
        verb, queue = _text(given, "verb"), _text(given, "queue")
        reason, ids = _text(given, "reason"), given.get("ids") or []
        is_list = isinstance(ids, list) and len(ids) <= MOST_IDS
        if not is_list or not all(isinstance(each, str) and each for each in ids):
            _refuse(400, f"ids: a list of up to {MOST_IDS} texts")  # none at all would mean all
        chosen = frozenset(ids)
        try:
            work = self._letters.work(verb, queue, reason, chosen)
        except ValueError:
            _refuse(400, "no such verb")
        which = counted(len(chosen), "dead letter") if chosen else "all dead letters"
        of = f" with {reason}" if reason and not chosen else ""
        return self._begin("letters", f"{verb} {which}{of} of {queue}", session, work)

    def _begin(
        self,
        lane: str,
        what: str,
        session: Session,
        work: Work,
        *,
        can_cancel: bool = False,
    ) -> Response:
        def and_show(tell: Tell) -> tuple[str, bool]:
            try:
                return work(tell)
            finally:
                if lane == "letters":
                    self.feed.publish("letters", self._letters.summary())
                self._collector.be_watched()

        try:
            job = self._jobs.begin(lane, what, session.user, and_show, can_cancel=can_cancel)
        except BusyError as error:
            _refuse(409, str(error))
        return JSONResponse({"number": job.number})

    async def _in_thread(
        self,
        work: Callable[[], Any],
        threads: anyio.CapacityLimiter | None = None,
    ) -> Any:  # noqa: ANN401
        """Wait for what blocks, not for ever, and not with too many at once."""
        threads = threads or self._threads
        if threads.statistics().tasks_waiting > MOST_WAITING:
            _refuse(503, "too many wait for the broker already: try again")
        try:
            return await anyio.to_thread.run_sync(work, limiter=threads)
        except BrokerUnavailableError as error:
            _refuse(503, str(error))
        except RabbitError as error:
            _refuse(502, str(error))


def _told(session: Session) -> dict[str, Any]:
    return {"user": session.user, "may_act": session.may_act, "csrf": session.csrf}


def _refuse(code: int, why: str) -> NoReturn:
    raise HTTPException(code, why) from None


async def _as_json(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code)


async def _json(request: Request) -> dict[str, Any]:
    """Return what a request of our own page holds; another site's cannot have this type."""
    if request.headers.get("content-type") != "application/json":
        _refuse(415, "application/json is expected")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        _refuse(403, "not from this page")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            _refuse(413, "too large")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        _refuse(400, "a JSON object is expected")
    return given


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name) or ""
    if not isinstance(value, str):
        _refuse(400, f"{name}: a text")
    return value


def _check_token(request: Request, session: Session) -> None:
    token = request.headers.get("x-csrf-token", "")
    if not secrets.compare_digest(token.encode(), session.csrf.encode()):
        _refuse(403, "not from this page: load it again")
