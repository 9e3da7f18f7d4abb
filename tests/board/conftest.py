"""A broker with people who may look and act, a pipeline on it, its board, and a browser."""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.conftest import Start
from tests.ports import free_port
from tests.process import ROOT, Process

if TYPE_CHECKING:
    from tests.board.browser import Browser, Window
    from tests.broker import Broker

PASSWORD = "s3cret-0f-a-pers0n"  # noqa: S105 - of users who live for one test run
LOOKS, ACTS = "wilma", "ada"

URL_IN_BROWSER = "http://host.docker.internal:{}"

#: One more, of a proxy with TLS in front of it.
URL_WITH_TLS = "https://board.example.com"

#: An address of this machine that passes for that proxy's.
PROXY = "127.0.0.3"


@pytest.fixture(scope="session")
def people(broker: "Broker") -> None:
    """Have a user who may look, one who may act, and one who may do neither."""
    broker.add_user(LOOKS, PASSWORD, tags="monitoring")
    broker.add_user(ACTS, PASSWORD, tags="policymaker")
    broker.add_user("eve", PASSWORD)


class RunningBoard:
    """The service as a process.

    Attributes:
        port: where it listens.
        process: the process.
    """

    def __init__(self, port: int, process: Process) -> None:
        """Know where it is."""
        self.port = port
        self.process = process

    @property
    def url(self) -> str:
        """Its address for programs on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url_in_browser(self) -> str:
        """Its address for the browser, which is in a container."""
        return URL_IN_BROWSER.format(self.port)


class Page:
    """The board as a program sees it.

    Attributes:
        client: with the cookies of one browser.
        csrf: the token of its session; "" before there is one.
    """

    def __init__(self, url: str) -> None:
        """Know where it is."""
        self.client = httpx.Client(base_url=url, timeout=60)
        self.csrf = ""

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def log_in(self, user: str, password: str = PASSWORD) -> None:
        """Begin a session."""
        told = self.post("/api/login", {"user": user, "password": password})
        assert told.status_code == HTTPStatus.OK, told.text
        self.csrf = told.json()["csrf"]

    def get(self, path: str) -> httpx.Response:
        """Ask."""
        return self.client.get(path)

    def post(self, path: str, body: object) -> httpx.Response:
        """Send what our own page would."""
        return self.client.post(path, json=body, headers={"x-csrf-token": self.csrf})


@pytest.fixture(scope="session")
def shared_board(
    broker: "Broker",
    people: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningBoard]:
    """Start a board of the default virtual host, for tests that change nothing there."""
    port = free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
        "PYTHONUNBUFFERED": "1",
        "LISTEN_PORT": str(port),
        "BOARD_URLS": f"{URL_IN_BROWSER.format(port)},{URL_WITH_TLS}",
        "BOARD_PROXIES": PROXY,
        **broker.environment,
    }
    process = Process(("-m", "services.board"), variables, tmp_path_factory.mktemp("board"))
    process.wait_ready()
    yield RunningBoard(port, process)
    assert process.halt() == 0
    assert PASSWORD not in process.log
    assert broker.password not in process.log


@pytest.fixture
def board(start: Start, vhost: str) -> RunningBoard:
    """Start the board of a virtual host of the test's own."""
    port = free_port()
    process = start(
        "-m",
        "services.board",
        LISTEN_PORT=port,
        BOARD_URLS=URL_IN_BROWSER.format(port),
        RABBITMQ_VHOST=vhost,
        STAGE="board",
        HALT_TIMEOUT=30,
    )
    return RunningBoard(port, process)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Run a real browser."""
    from tests.board.browser import Browser  # noqa: PLC0415 - selenium takes long to load

    with Browser() as running:
        yield running


@pytest.fixture
def window(browser: "Browser") -> Iterator[Callable[..., "Window"]]:
    """Open windows; they are closed after the test."""
    with ExitStack() as stack:

        def opened(**options: object) -> "Window":
            window = browser.window(**options)  # type: ignore[arg-type]
            stack.callback(window.close)
            return window

        yield opened


@pytest.fixture
def vhost(broker: "Broker", people: None) -> Iterator[str]:  # noqa: ARG001
    """Give a virtual host of the test's own, that both people may read."""
    name = f"board-{uuid.uuid4().hex[:8]}"
    broker.add_vhost(name)
    for user in (LOOKS, ACTS):
        broker.permit(user, name, read=".*")
    yield name
    broker.delete_vhost(name)
