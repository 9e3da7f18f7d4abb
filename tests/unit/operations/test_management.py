"""Which broker's management API is asked, and what comes of one that does not answer."""

import socket
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from rabbit import BrokerUnavailableError, ConfigurationError
from rabbit.operations.management import ControlSettings, Management, apis

CONSUMERS = b'[{"queue": {"name": "q"}}]'


class Api(ThreadingHTTPServer):
    """A management API that answers everything alike.

    Attributes:
        url: where it is.
        asked: the path and the login of each request.
    """

    def __init__(self, statuses: Sequence[int], body: bytes) -> None:
        """Listen at a port of this machine.

        Args:
            statuses: of the first requests; all that come after them get the last one.
            body: of each answer; it may be less than is announced.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self._statuses = [*statuses]
        self.body = body
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str | None]] = []

    def next_status(self) -> int:
        """Return what this request gets."""
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.server.next_status())
        self.send_header("Content-Length", str(len(CONSUMERS)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Brokers:
    """Management APIs for one test."""

    def __init__(self, stack: ExitStack) -> None:
        """End them with `stack`."""
        self._stack = stack

    def api(self, *statuses: int, body: bytes = CONSUMERS) -> Api:
        """Start one."""
        return self._stack.enter_context(_serving(Api(statuses or [200], body)))

    def silent(self, *, listens: bool = False) -> str:
        """Return the address of one that refuses connections, or takes them and says nothing."""
        bound = self._stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        if listens:
            bound.listen()
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def _serving(api: Api) -> Iterator[Api]:
    thread = Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        thread.join()
        api.server_close()


@pytest.fixture
def brokers() -> Iterator[Brokers]:
    """End what a test starts."""
    with ExitStack() as stack:
        yield Brokers(stack)


def management(*urls: str) -> Management:
    """Return a client of these APIs that does not wait for one to come up."""
    settings = ControlSettings.load(rabbitmq_management_url=",".join(urls))
    return Management(settings, patience_seconds=0)


def test_with_tls_the_api_is_asked_over_https() -> None:
    """The password does not travel in clear; an IPv6 address has its brackets."""
    found = apis(ControlSettings.load(rabbitmq_url="amqps://a:1@one,amqps://a:1@[::1]:5673"))

    assert [each.url for each in found] == ["https://one:15671", "https://[::1]:15671"]


def test_each_broker_has_an_api() -> None:
    """At port 15672 of its host, each host once, with its own login."""
    url = "amqp://a:1@one, amqp://b:2@two:5673/shop, amqp://a:1@one:5673"

    found = apis(ControlSettings.load(rabbitmq_url=url))

    assert [(each.url, each.login) for each in found] == [
        ("http://one:15672", "a:1"),
        ("http://two:15672", "b:2"),
    ]


def test_a_url_wins_over_the_brokers() -> None:
    """It may be several, with commas between; the login is that of the first broker."""
    urls = "http://one:1/ , https://two"
    settings = ControlSettings.load(rabbitmq_management_url=urls, rabbitmq_host="broker,other")

    found = [(each.url, each.login) for each in apis(settings)]

    assert found == [("http://one:1", "guest:guest"), ("https://two", "guest:guest")]


@pytest.mark.parametrize("urls", ["", "one:15672", "http://one,", "http://one,two", "http://a/b"])
def test_a_wrong_url_is_told(urls: str) -> None:
    """And what is allowed."""
    with pytest.raises(ConfigurationError, match=r"^RABBITMQ_MANAGEMENT_URL: .* commas$"):
        ControlSettings.load(rabbitmq_management_url=urls)


def test_no_password_is_shown() -> None:
    """Neither in a log nor in a traceback."""
    shown = repr(apis(ControlSettings.load(rabbitmq_password="hunter2")))  # noqa: S106 - nobody's

    assert "hunter2" not in shown


def test_the_first_one_is_asked(brokers: Brokers) -> None:
    """With the login, about the virtual host; the others are left alone."""
    first, second = brokers.api(), brokers.api()

    assert management(first.url, second.url).consumers() == {"q": 1}

    login = b64encode(b"guest:guest").decode()
    assert first.asked == [("/api/consumers/%2F", f"Basic {login}")]
    assert second.asked == []


def test_one_that_is_down_is_passed_over(brokers: Brokers) -> None:
    """Its neighbour answers in its place."""
    second = brokers.api()

    assert management(brokers.silent(), second.url).consumers() == {"q": 1}


def test_one_that_hangs_is_passed_over(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection, and never says a word."""
    monkeypatch.setattr("rabbit.operations.management.REQUEST_SECONDS", 0.1)
    second = brokers.api()

    assert management(brokers.silent(listens=True), second.url).consumers() == {"q": 1}


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b""), (200, CONSUMERS[:-9]), (200, CONSUMERS.replace(b"[", b"<"))],
    ids=["not ready", "dies while it answers", "something else"],
)
def test_one_that_fails_is_passed_over(brokers: Brokers, status: int, body: bytes) -> None:
    """Whatever it says instead of an answer."""
    first, second = brokers.api(status, body=body), brokers.api()

    assert management(first.url, second.url).consumers() == {"q": 1}
    assert len(first.asked) == len(second.asked) == 1


def test_the_one_that_answered_is_asked_again(brokers: Brokers) -> None:
    """So that one that is down costs its time once, and not with each question."""
    first, second, third = brokers.api(503), brokers.api(200, 200, 503), brokers.api()
    asking = management(first.url, second.url, third.url)

    for _ in range(3):
        asking.consumers()

    assert [len(each.asked) for each in (first, second, third)] == [1, 3, 1]


def test_what_one_does_not_know_no_other_knows(brokers: Brokers) -> None:
    """Not found is an answer."""
    first, second = brokers.api(404), brokers.api()

    assert management(first.url, second.url).consumers() == {}
    assert second.asked == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_login_is_refused_once(brokers: Brokers, status: int) -> None:
    """All brokers have the same users: asking the next one would only count as an attack."""
    first, second = brokers.api(status), brokers.api()

    with pytest.raises(ConfigurationError, match=f"{first.url} refuses this user"):
        management(first.url, second.url).consumers()
    assert second.asked == []


def test_all_that_were_tried_are_named(brokers: Brokers) -> None:
    """Each with what became of it."""
    down, starting = brokers.silent(), brokers.api(503).url

    with pytest.raises(BrokerUnavailableError) as caught:
        management(down, starting).consumers()

    told = str(caught.value)
    assert told.startswith("no management API answers: ")
    assert f"{down} ([Errno" in told
    assert f"{starting} (503 Service Unavailable)" in told


def test_it_waits_for_one_to_come_up(brokers: Brokers) -> None:
    """While none answers, all are asked again for a while."""
    urls = f"{brokers.silent()},{brokers.api(503, 200).url}"
    settings = ControlSettings.load(rabbitmq_management_url=urls)

    assert Management(settings, patience_seconds=60).consumers() == {"q": 1}
