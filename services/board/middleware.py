"""What is so of each answer, whoever asks for what."""

from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rabbit.terminal import visible

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

#: How much of a name that is not ours is told.
_LONGEST_HOST = 100


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


class KnownHosts:
    """Answers to its own names only, and to IP addresses.

    Another site may have its own name lead to this machine (DNS rebinding). To a browser the board
    would be a page of that site then; what tells them apart is the name that it asks for.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """Wrap an application that is reached by these names, which are lower case."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say how to make the name known."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = host_of(Request(scope))
        if host in self._hosts or _is_address(host):
            await self._app(scope, receive, send)
            return
        said = visible(host[:_LONGEST_HOST])
        answer = PlainTextResponse(
            f"The board is not known by the name {said}. If people are to reach it by that, "
            f"start it with BOARD_URLS=http://{said}, or https:// behind a proxy with TLS.\n",
            421,  # HTTP's "misdirected request"
        )
        await answer(scope, receive, send)


def host_of(request: Request) -> str:
    """Return by which name the board was asked, in lower case and without the port; "": none.

    Not `request.url`, which has the server's own address where it does not understand the header.
    """
    with suppress(ValueError):
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
