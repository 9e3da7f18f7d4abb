"""What the board answers, to whom, and that nothing piles up behind it. No browser yet."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.board.conftest import ACTS, LOOKS, PASSWORD, PROXY, URL_WITH_TLS, Page, RunningBoard
from tests.board.crowd import Crowd
from tests.broker import Broker, Outgoing
from tests.conftest import Start
from tests.integration.proxy import Proxy
from tests.ports import free_port
from tests.support.containers import frozen
from tests.waiting import wait_until

pytestmark = pytest.mark.board

Visit = Callable[..., Page]

#: More than are kept, and few enough to be published soon; `LETTERS=100000` for a long run.
MANY = int(os.environ.get("LETTERS", "12000"))


@pytest.fixture
def visit(shared_board: RunningBoard) -> Iterator[Visit]:
    """Open a board as a program would; without a name: without a login."""
    opened: list[Page] = []

    def visited(user: str | None = None, board: RunningBoard = shared_board) -> Page:
        page = Page(board.url)
        opened.append(page)
        if user:
            page.log_in(user)
        return page

    yield visited
    for page in opened:
        page.close()


@pytest.mark.parametrize(
    ("user", "password", "code", "may_act"),
    [
        (LOOKS, PASSWORD, 200, False),
        (ACTS, PASSWORD, 200, True),
        ("eve", PASSWORD, 403, None),  # no tag
        (ACTS, "wrong", 403, None),
        ("nobody", PASSWORD, 403, None),
    ],
)
def test_the_broker_says_who_may_look_and_who_may_act(
    visit: Visit, *, user: str, password: str, code: int, may_act: bool | None
) -> None:
    """By the tags of its users; a refusal says why in words."""
    answer = visit().post("/api/login", {"user": user, "password": password})

    assert answer.status_code == code
    assert answer.json().get("may_act") == may_act
    if code == 200:
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
    else:
        assert "RabbitMQ refuses this login" in answer.json()["error"]


def test_another_name_leads_nowhere(visit: Visit) -> None:
    """Another site's, that is: neither a page, nor a login, nor numbers."""
    page = visit()
    page.client.headers["host"] = "evil.example.com"

    assert [page.get(path).status_code for path in ("/", "/api/session", "/metrics")] == [421] * 3
    refused = page.post("/api/login", {"user": ACTS, "password": PASSWORD})
    assert refused.status_code == 421
    assert "BOARD_URLS=http://evil.example.com" in refused.text


def test_behind_tls_the_cookie_is_for_tls_only(visit: Visit) -> None:
    """By the name that the proxy is known by; on this machine there is none."""
    page = visit()
    login = {"user": LOOKS, "password": PASSWORD}

    assert "; secure" not in page.post("/api/login", login).headers["set-cookie"].lower()
    page.client.headers["host"] = URL_WITH_TLS.removeprefix("https://")
    assert "; secure" in page.post("/api/login", login).headers["set-cookie"].lower()


def test_three_hundred_who_say_nothing(visit: Visit, shared_board: RunningBoard) -> None:
    """They do not take it away from others."""
    with ExitStack() as stack:
        for number in range(300):
            idle = socket.create_connection(("127.0.0.1", shared_board.port), timeout=10)
            stack.enter_context(idle)
            if number >= 100:
                assert b"too many connections" in idle.recv(1000)
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere, base_url=shared_board.url) as other:
            assert other.get("/").status_code == 200

        wait_until(lambda: _is_served(visit()), 30, "they are let go")


def _is_served(page: Page) -> bool:
    try:
        return page.get("/").status_code == HTTPStatus.OK
    except httpx.TransportError:
        return False


def test_every_answer_has_a_policy_without_exceptions(visit: Visit) -> None:
    """Pages, files, answers and refusals alike."""
    page = visit()

    for path in ("/", "/static/board.js", "/api/session", "/api/events", "/nothing"):
        policy = page.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "*" not in policy


def test_nothing_is_told_without_a_login(visit: Visit) -> None:
    """Nor done."""
    page = visit()

    assert page.get("/api/session").json() is None
    for path in ("/api/events", "/api/letters", "/api/letter?queue=q&id=1"):
        assert page.get(path).status_code == 401
    for path in ("/api/act", "/api/look", "/api/letters/act", "/api/cancel"):
        assert page.post(path, {}).status_code == 401


def test_another_site_cannot_act_with_somebody_s_cookie(visit: Visit) -> None:
    """It does not know the token, nor may it send JSON."""
    page = visit(ACTS)
    token, page.csrf = page.csrf, "guessed"

    assert page.post("/api/act", {"verb": "halt"}).status_code == 403
    page.csrf = token
    form = page.client.post("/api/act", data={"verb": "halt"}, headers={"x-csrf-token": token})
    assert form.status_code == 415
    assert page.client.post("/api/login", data={"user": ACTS}).status_code == 415
    elsewhere = {"sec-fetch-site": "cross-site", "x-csrf-token": token}
    assert page.client.post("/api/act", json={}, headers=elsewhere).status_code == 403


def test_who_may_look_cannot_act(visit: Visit, shared_board: RunningBoard) -> None:
    """It is refused by the service, whatever the page shows, and logged."""
    page = visit(LOOKS)

    for path in ("/api/act", "/api/letters/act", "/api/cancel"):
        refused = page.post(path, {"verb": "halt", "queue": "q"})
        assert refused.status_code == 403
        assert "policymaker or administrator" in refused.json()["error"]
    assert f"user={LOOKS}" in shared_board.process.log


def test_who_loses_the_tag_cannot_act_any_more(visit: Visit, broker: Broker) -> None:
    """The broker is asked again for each deed."""
    broker.add_user("olaf", PASSWORD, tags="administrator")
    page = visit("olaf")

    broker.add_user("olaf", PASSWORD, tags="monitoring")

    assert page.post("/api/act", {"verb": "halt"}).status_code == 403
    broker.add_user("olaf", "changed", tags="administrator")
    assert page.post("/api/act", {"verb": "halt"}).status_code == 403
    assert page.get("/api/letters").status_code == 401


def test_the_virtual_host_is_for_those_who_have_permissions_in_it(
    visit: Visit, board: RunningBoard, broker: Broker, vhost: str
) -> None:
    """Whoever has none is refused; bodies are for those who may read them."""
    broker.declare("my_queue", vhost)
    with broker.channel(vhost) as channel:
        broker.send(channel, "my_queue.dead", "", "secret", message_id="1", delivery_mode=2)
    broker.add_user("otto", PASSWORD, tags="policymaker")  # of another virtual host
    login = {"user": "otto", "password": PASSWORD}

    refused = visit(None, board).post("/api/login", login)

    assert refused.status_code == 403
    assert f"no permissions in the virtual host {vhost}" in refused.json()["error"]
    broker.permit("otto", vhost, read="^$")
    page = visit("otto", board)
    asked = "/api/letter?queue=my_queue&id=1"
    refused = page.get(asked)
    assert refused.status_code == 502
    assert "access to queue 'my_queue.dead' in vhost" in refused.json()["error"]
    broker.permit("otto", vhost, read=".*")
    assert page.get(asked).json()["text"] == "secret"
    broker.api("DELETE", f"permissions/{vhost}/otto")
    purge = {"verb": "purge", "queue": "my_queue", "reason": "unknown", "count": 1, "until": 0}
    assert page.post("/api/letters/act", purge).status_code == 403
    assert broker.depth("my_queue.dead", vhost) == 1


def test_two_boards_on_one_machine(
    visit: Visit, shared_board: RunningBoard, board: RunningBoard
) -> None:
    """A browser that is logged in at both is logged out at neither."""
    page, other = visit(LOOKS), visit(None, board)
    other.client.cookies = page.client.cookies  # one browser: a cookie is of a host, not of a port
    other.log_in(ACTS)

    assert page.get("/api/session").json()["user"] == LOOKS
    assert other.get("/api/session").json()["user"] == ACTS
    assert shared_board.port != board.port


def test_after_a_few_attempts_one_has_to_wait(visit: Visit, broker: Broker) -> None:
    """Also with the right password then."""
    broker.add_user("zoe", PASSWORD, tags="monitoring")
    page = visit()
    codes = [
        page.post("/api/login", {"user": "zoe", "password": password}).status_code
        for password in (*"12345", PASSWORD)
    ]

    assert codes == [403] * 5 + [429]


def test_attempts_are_counted_by_the_address_that_a_proxy_tells(
    visit: Visit, shared_board: RunningBoard, broker: Broker
) -> None:
    """And nobody else: who makes up one gains nothing, and locks out nobody who comes that way."""
    broker.add_user("yve", PASSWORD, tags="monitoring")
    liar, right = visit(), {"user": "yve", "password": PASSWORD}
    codes = []
    for number in range(6):
        liar.client.headers["x-forwarded-for"] = f"192.0.2.{number}"
        codes.append(liar.post("/api/login", {"user": "yve", "password": "guessed"}).status_code)

    assert codes == [403] * 5 + [429]
    by_proxy = httpx.HTTPTransport(local_address=PROXY)
    with httpx.Client(transport=by_proxy, base_url=shared_board.url) as proxy:
        told = {"x-forwarded-for": "127.0.0.1"}  # the liar's
        assert proxy.post("/api/login", json=right, headers=told).status_code == 429
        told = {"x-forwarded-for": "192.0.2.1"}
        assert proxy.post("/api/login", json=right, headers=told).status_code == 200


def test_logging_out_ends_the_session(visit: Visit) -> None:
    """The cookie opens nothing any more."""
    page = visit(LOOKS)
    name, cookie = next(iter(page.client.cookies.items()))

    assert page.post("/api/logout", {}).status_code == 200

    page.client.cookies.set(name, cookie)
    assert page.get("/api/letters").status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/act", b"[]", 400),
        ("/api/act", b'{"verb": "explode"}', 400),
        ("/api/act", b'{"verb": ["halt"]}', 400),
        ("/api/act", b"[" * 200_000, 400),
        ("/api/act", b" " * 300_000, 413),
        ("/api/letters/act", b'{"verb": "replay", "queue": "q", "chosen": 7}', 400),
        ("/api/letters/act", b'{"verb": "replay", "queue": "q", "chosen": []}', 400),
        ("/api/letters/act", b'{"verb": "purge", "queue": "q", "reason": "E"}', 400),
        ("/api/letters/act", json.dumps({"chosen": [["x", ""]] * 1001}).encode(), 400),
    ],
)
def test_what_is_no_request_is_refused(visit: Visit, path: str, body: bytes, code: int) -> None:
    """In a sentence, and the service goes on."""
    page = visit(ACTS)
    headers = {"content-type": "application/json", "x-csrf-token": page.csrf}

    answer = page.client.post(path, content=body, headers=headers)

    assert answer.status_code == code
    assert answer.json()["error"]
    assert page.get("/api/session").json()["user"] == ACTS


def test_two_hundred_replicas_and_two_who_watch(
    visit: Visit, board: RunningBoard, broker: Broker, vhost: str
) -> None:
    """All of them are seen, and who watches beside costs no further question to the replicas."""
    with Crowd(broker, vhost, 200) as crowd, _watching(visit(LOOKS, board)) as one:
        picture = one("picture", lambda told: _count(told) == 200)
        assert [row.get("states") for row in picture["rows"]] == [{"running": 200}]
        with _watching(visit(ACTS, board)) as two:
            asked = crowd.commands
            for _ in range(3):
                assert _count(one("picture")) == _count(two("picture")) == 200
        assert crowd.commands - asked <= 4


def _count(picture: dict[str, Any]) -> int:
    return sum(row["count"] for row in picture["rows"] if row["kind"] == "stage")


def test_for_how_long_the_oldest_message_has_waited(
    visit: Visit, board: RunningBoard, broker: Broker, start: Start, vhost: str
) -> None:
    """True to a few seconds, beside what the test knows: when each was published, and printed."""
    edge: dict[str, Any] = {"RABBITMQ_VHOST": vhost, "INPUT_QUEUE": "upper", "PREFETCH": 1}
    printer = start("-m", "services.printer", STAGE="printer", PRINTER_DELAY=0.05, **edge)
    published: list[float] = []
    found: list[tuple[float, float]] = []

    def publish() -> None:
        broker.put("upper", map(str, range(150)), vhost)
        published.extend([monotonic()] * 150)

    def compare(picture: dict[str, Any]) -> bool:
        (row,) = (each for each in picture["rows"] if each["name"] == "upper")
        waiting = published[len(printer.lines) + 1 :]
        if row["oldest_seconds"] is not None and waiting:
            found.append((row["oldest_seconds"], monotonic() - waiting[0]))
            assert row["oldest_is_exact"]
        return bool(published) and not waiting

    with _watching(visit(LOOKS, board)) as watch:
        watch("picture", lambda told: _count(told) == 1)
        publish()
        watch("picture", lambda told: compare(told) or len(found) > 1)
        publish()
        watch("picture", compare)

    assert len(found) > 4
    assert max(truth for _, truth in found) > 6
    assert [each for each in found if abs(each[0] - each[1]) > 4] == []


def test_a_broker_that_stands_still(
    visit: Visit, board: RunningBoard, broker: Broker, start: Start, vhost: str
) -> None:
    """It is said, what was seen stays in the picture, and it goes on by itself."""
    start("-m", "services.printer", STAGE="printer", INPUT_QUEUE="upper", RABBITMQ_VHOST=vhost)
    page = visit(LOOKS, board)
    with _watching(page) as watch:
        watch("picture", lambda told: _count(told) == 1)
        with frozen(broker.container):
            away = watch("picture", lambda told: bool(told["broker"]["why"]))
            assert _count(away) == 1
            assert page.get("/api/session").json()["user"] == LOOKS
            late = page.post("/api/login", {"user": ACTS, "password": PASSWORD})
            assert late.status_code == 503
            assert "no broker answers" in late.json()["error"]
        watch("picture", lambda told: not told["broker"]["why"])


def test_a_broker_that_is_slow(visit: Visit, broker: Broker, start: Start, vhost: str) -> None:
    """Half a second each way: it is seen after all, and a stage is paused with proof."""
    api = urlsplit(broker.management_url).port
    assert api
    start("-m", "services.printer", STAGE="printer", INPUT_QUEUE="upper", RABBITMQ_VHOST=vhost)
    port = free_port()
    with Proxy(broker.port) as slow, Proxy(api) as slow_api:
        slow.delay_seconds = slow_api.delay_seconds = 0.5
        given: dict[str, Any] = {
            "RABBITMQ_PORT": slow.port,
            "RABBITMQ_VHOST": vhost,
            "LISTEN_PORT": port,
        }
        given["RABBITMQ_MANAGEMENT_URL"] = f"http://127.0.0.1:{slow_api.port}"
        process = start("-m", "services.board", STAGE="board", HALT_TIMEOUT=30, **given)
        page = visit(ACTS, RunningBoard(port, process))
        with _watching(page) as watch:
            watch("picture", lambda told: _count(told) == 1)
            assert page.post("/api/act", {"verb": "pause", "target": "printer"}).status_code == 200
            jobs = watch("jobs", lambda told: told and told[0]["ok"] is not None)
        assert jobs[0]["said"].startswith("paused 1/1")


def test_letters_that_are_looked_for_do_not_keep_others_out(
    visit: Visit, board: RunningBoard, broker: Broker, vhost: str
) -> None:
    """Of a broker that stands still, many letters are asked for; a login hears what is wrong."""
    broker.declare("few", vhost)
    page, other = visit(LOOKS, board), visit(None, board)
    asked = "/api/letter?queue=few&id=none"
    with ThreadPoolExecutor(30) as threads:
        with frozen(broker.container):
            looking = [threads.submit(page.get, asked) for _ in range(30)]
            wait_until(lambda: sum(each.done() for each in looking) > 15, 30, "most are refused")
            late = other.post("/api/login", {"user": ACTS, "password": PASSWORD})
        answers = {each.result().status_code for each in looking}
    assert "no broker answers" in late.json()["error"]
    assert answers <= {404, 503}
    assert page.get(asked).status_code == 404


def test_many_dead_letters(visit: Visit, board: RunningBoard, broker: Broker, vhost: str) -> None:
    """They are counted and leafed through, and one of them is found and replayed."""
    broker.declare("many", vhost)

    def letter(number: int) -> Outgoing:
        headers = {"x-error-type": f"Error{number % 3}", "x-failed-at": f"2026-11-26T{number}"}
        given = {"headers": headers, "message_id": f"id-{number}", "delivery_mode": 2}
        return Outgoing("many.dead", "", "letter", **given)

    with broker.channel(vhost) as channel:
        broker.send_all(channel, map(letter, range(MANY)))
    page = visit(ACTS, board)
    with _watching(page) as watch:
        assert page.post("/api/look", {}).status_code == 200
        summary = watch("letters", lambda told: told["total"] > 0)
        assert summary["total"] == MANY
        assert sum(row["count"] for row in summary["rows"]) == MANY
        found = page.get("/api/letters?queue=many&page=3").json()
        assert len(found["letters"]) == 50
        assert found["kept"] == 10_000
        message_id, moment = (found["letters"][0][name] for name in ("id", "failed_at"))
        asked = f"/api/letter?queue=many&id={message_id}"
        with ThreadPoolExecutor(2) as two:  # neither hides it from the other
            shown = list(two.map(page.get, [asked, asked]))
        assert [each.json().get("text") for each in shown] == ["letter", "letter"]
        deed = {"verb": "replay", "queue": "many", "chosen": [[message_id, moment]]}
        assert page.post("/api/letters/act", deed).status_code == 200
        jobs = watch("jobs", lambda told: told[0]["ok"] is not None and "replay" in told[0]["what"])
        assert jobs[0]["said"] == "replayed 1 message to many"
    assert broker.depth("many", vhost) == 1
    # On a busy machine what was looked at may come back after whoever has looked is gone.
    wait_until(lambda: broker.depth("many.dead", vhost) == MANY - 1, 30, "all others are there")


@contextmanager
def _watching(page: Page) -> Iterator[Callable[..., Any]]:
    """Watch as a browser does; give a function that waits for a part of which something is true."""
    with page.client.stream("GET", "/api/events", timeout=60) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()

        def wait(part: str, is_it: Callable[[Any], bool] = lambda _told: True) -> Any:
            for line in lines:
                if line == f"event: {part}":
                    told = json.loads(next(lines).removeprefix("data: "))
                    if is_it(told):
                        return told
            raise AssertionError(f"the stream ended without {part}")

        yield wait


def test_a_second_board_listens_elsewhere(
    shared_board: RunningBoard, start: Start, vhost: str
) -> None:
    """A port that is taken, or a setting that is wrong, ends in one line."""
    wrong = start("-m", "services.board", ready=False, LISTEN_PORT="many", RABBITMQ_VHOST=vhost)
    assert wrong.wait() == 2
    assert wrong.log.startswith("board: LISTEN_PORT")
    assert len(wrong.log.splitlines()) == 1

    taken = start(
        "-m", "services.board", ready=False, LISTEN_PORT=shared_board.port, RABBITMQ_VHOST=vhost
    )
    wait_until(lambda: not taken.is_running, 30, "it ends")
    assert "in use" in taken.log
    assert "Traceback" not in taken.log
    assert httpx.get(f"{shared_board.url}/api/session").json() is None
