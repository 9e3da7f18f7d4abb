"""What all answers have in common: how a request is read, what is refused, who waits for what."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rabbit.errors import BrokerUnavailableError, RabbitError

#: What a request may hold, in bytes, and how long it may take to come, in seconds.
MOST_BYTES = 256 * 1024
BODY_SECONDS = 10.0

#: So many requests may wait for one of the threads, beside those that have one.
MOST_WAITING = 8

T = TypeVar("T")


def refuse(code: int, why: str) -> NoReturn:
    """Answer with a status of HTTP, and why in words for a person."""
    raise HTTPException(code, why) from None


async def refused(_request: Request, error: Exception) -> Response:
    """Return what `refuse` has said, as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code)


async def json_body(request: Request) -> dict[str, Any]:
    """Return what a request of our own page holds; another site's cannot have this type."""
    if request.headers.get("content-type") != "application/json":
        refuse(415, "application/json is expected")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        refuse(403, "not from this page")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request)
    except TimeoutError:
        refuse(408, "the request did not come to its end")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        refuse(400, "a JSON object is expected")
    return given


async def _read(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            refuse(413, "too large")
    return body


def text(given: dict[str, Any], name: str) -> str:
    """Return a text of a request; "" where there is none."""
    value = given.get(name) or ""
    if not isinstance(value, str):
        refuse(400, f"{name}: a text")
    return value


class Threads:
    """Some threads for what blocks: one kind of question cannot take those of another."""

    def __init__(self, number: int) -> None:
        """Have so many."""
        self._limiter = anyio.CapacityLimiter(number)

    async def run(self, work: Callable[[], T]) -> T:
        """Wait for what blocks: it has to end by itself. Refuses where too many wait already."""
        if self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            refuse(503, "too many wait for the broker already: try again")
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        except BrokerUnavailableError as error:
            refuse(503, str(error))
        except RabbitError as error:
            refuse(502, str(error))
