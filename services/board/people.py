"""Who is there: logging in and out, and what is answered to whom."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rabbit.logs import Logger

from .access import LONGEST_LOGIN, Attempts, RefusedError, Session, Sessions
from .answers import Threads, json_body, refuse, text
from .middleware import host_of
from .settings import BoardSettings

Answer: TypeAlias = Callable[[Request, Session], Awaitable[Response]]


class People:
    """Begins and ends sessions, and lets those in who have one."""

    def __init__(self, settings: BoardSettings, log: Logger, threads: Threads) -> None:
        """Begin with nobody.

        Args:
            settings: which brokers there are, and by which names the board is reached.
            log: told who comes, and who is refused.
            threads: in which the broker is asked.
        """
        self._sessions = Sessions(settings)
        self._attempts = Attempts()
        self._secure_hosts = settings.secure_hosts
        self._log = log
        self._threads = threads

    def routes(self) -> list[Route]:
        """Return what they ask for, and how it is answered."""
        return [
            Route("/api/session", self._session),
            Route("/api/login", self._log_in, methods=["POST"]),
            Route("/api/logout", self._log_out, methods=["POST"]),
        ]

    async def _session(self, request: Request) -> Response:
        session = await self.find(request)
        return JSONResponse(_told(session) if session else None)

    async def _log_in(self, request: Request) -> Response:
        given = await json_body(request)
        user, password = text(given, "user"), text(given, "password")
        if not user or ":" in user or max(len(user), len(password)) > LONGEST_LOGIN:
            refuse(403, "no such user")
        address = request.client.host if request.client else ""
        if not self._attempts.allows(user, address):
            self._log.warning("too many attempts to log in", user=user, address=address)
            refuse(429, "too many attempts to log in: wait a minute")
        try:
            key, session = await self._threads.run(lambda: self._sessions.log_in(user, password))
        except RefusedError as error:
            self._log.warning("login refused", user=user, address=address)
            refuse(403, str(error))
        self._attempts.forgive(user, address)
        self._log.info("logged in", user=user, may_act=session.may_act)
        response = JSONResponse(_told(session))
        is_secure = host_of(request) in self._secure_hosts
        response.set_cookie(
            _cookie(request), key, httponly=True, samesite="strict", secure=is_secure
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        session = await self.find(request)
        if session:
            _check_token(request, session)
            self._sessions.end(request.cookies.get(_cookie(request)))
            self._log.info("logged out", user=session.user)
        response = JSONResponse(None)
        response.delete_cookie(_cookie(request), httponly=True, samesite="strict")
        return response

    async def find(self, request: Request, *, anew: bool = False) -> Session | None:
        """Return the session of a request; None: it has none, or has it no more.

        Args:
            request: has the cookie.
            anew: whether the broker is asked now; else it is now and then.
        """
        key = request.cookies.get(_cookie(request))
        session = self._sessions.find(key)
        if session and key and (anew or self._sessions.is_due(session)):
            try:
                await self._threads.run(lambda: self._sessions.check(key, session))
            except RefusedError:
                return None
            except HTTPException:
                if anew:
                    raise  # the broker is away: looking goes on, so that it can be said
        return session

    def looking(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Answer to those only who are logged in."""

        async def answered(request: Request) -> Response:
            session = await self.find(request)
            if session is None:
                refuse(401, "log in first")
            return await answer(request, session)

        return answered

    def changing(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Likewise, and only from our own page."""

        async def checked(request: Request, session: Session) -> Response:
            _check_token(request, session)
            return await answer(request, session)

        return self.looking(checked)

    def acting(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Likewise, and only to those who may act, by what the broker says now."""

        async def checked(request: Request, session: Session) -> Response:
            current = await self.find(request, anew=True)
            if current is None or not current.may_act:
                self._log.warning("refused to act", user=session.user, path=request.url.path)
                refuse(403, "you may look: to act takes the tag policymaker or administrator")
            return await answer(request, current)

        return self.changing(checked)


def _cookie(request: Request) -> str:
    """Return the name of the cookie.

    Browsers give the cookies of a host to all its ports, so to each board on one machine.
    """
    port = request.headers["host"].rpartition(":")[2]
    return f"board-{port}" if port.isdecimal() else "board"


def _told(session: Session) -> dict[str, Any]:
    return {"user": session.user, "may_act": session.may_act, "csrf": session.csrf}


def _check_token(request: Request, session: Session) -> None:
    token = request.headers.get("x-csrf-token", "")
    if not secrets.compare_digest(token.encode(), session.csrf.encode()):
        refuse(403, "not from this page: load it again")
