"""By which names the board answers, and that each answer says what a browser may do with it."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.board.middleware import KnownHosts, SafeHeaders


async def _page(_request: Request) -> Response:
    return PlainTextResponse("the board")


def _ask(host: str) -> httpx.Response:
    app = Starlette(
        routes=[Route("/", _page)],
        middleware=[Middleware(SafeHeaders), Middleware(KnownHosts, hosts={"localhost", "b.test"})],
    )

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get("http://b.test/", headers={"host": host})

    return asyncio.run(asked())


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "b.test:443", "127.0.0.1:8080", "192.0.2.1", "[::1]:8080"],
)
def test_its_own_names(host: str) -> None:
    """And addresses: to another site's name a browser would not have put one of them."""
    assert _ask(host).text == "the board"


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "localhost.evil.test:8080",
        "e_vil.test",
        "a@evil.test",
        "",
        "[",
        "b.test.",
        "1.2",
    ],
)
def test_another_site_s_name(host: str) -> None:
    """A browser that was led here by it learns nothing; a person learns what to set."""
    answer = _ask(host)

    assert answer.status_code == 421
    assert "BOARD_URLS=" in answer.text
    assert "the board" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_what_is_told_of_a_name_is_harmless() -> None:
    """It is text, and short."""
    answer = _ask("<script>" + "x" * 5000)

    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.text) < 500
