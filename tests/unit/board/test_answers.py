"""What a request may hold, and how long it may take to come."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.board.answers import MOST_BYTES, json_body, refused

Chunks = Callable[[], AsyncIterator[bytes]]


async def _echo(request: Request) -> Response:
    return JSONResponse({"names": list(await json_body(request))})


def _post(chunks: Chunks) -> httpx.Response:
    app = Starlette(
        routes=[Route("/", _echo, methods=["POST"])], exception_handlers={HTTPException: refused}
    )

    async def posted() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            headers = {"content-type": "application/json"}
            return await client.post("http://b.test/", content=chunks(), headers=headers)

    return asyncio.run(posted())


def _in_parts(*parts: bytes) -> Chunks:
    async def chunks() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return chunks


def test_as_much_as_a_request_may_hold() -> None:
    """And not a byte more, however it comes."""
    frame = b'{"a":""}'
    filling = b"x" * (MOST_BYTES - len(frame))

    assert _post(_in_parts(frame[:6], filling, frame[6:])).json() == {"names": ["a"]}
    too_large = _post(_in_parts(frame[:6], filling, b"x", frame[6:]))
    assert (too_large.status_code, too_large.json()) == (413, {"error": "too large"})


def test_what_is_too_large_is_not_read_to_its_end() -> None:
    """It is answered as soon as that is known: nothing of it piles up."""
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 1024

    assert _post(endless).status_code == 413
    assert len(sent) <= MOST_BYTES // 1024 + 2


def test_what_does_not_come_to_its_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After BODY_SECONDS it is refused; in the meantime others are served."""
    monkeypatch.setattr("services.board.answers.BODY_SECONDS", 0.05)

    async def stops() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    refusal = _post(stops)

    assert refusal.status_code == 408
    assert refusal.json() == {"error": "the request did not come to its end"}
