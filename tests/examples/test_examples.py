"""The four stages that stand as examples, each with the real parts that it needs."""

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.letters import letters
from tests.ports import free_port
from tests.support.postgres import Postgres
from tests.waiting import wait_until

FOLDER = Path(__file__).parent
EXAMPLES = ("orders", "http_source", "enrich", "dispatch")

TABLE = """
    CREATE TABLE orders (
        message_id text PRIMARY KEY,
        number bigint GENERATED ALWAYS AS IDENTITY,
        item text NOT NULL,
        pieces int NOT NULL
    )
"""


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_short(name: str) -> None:
    """An example has forty lines at most, and is named where examples are listed."""
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 40
    listed = (FOLDER.parents[1] / "shared/README.md").read_text()
    assert f"(../tests/examples/{name}.py)" in listed


# Orders into PostgreSQL


def store(
    postgres: Postgres, broker: Broker, unique: Unique, start: Start, orders: int, kills: int
) -> int:
    """Kill the stage again and again while it stores orders; return how often one was inserted."""
    url, queue = postgres.create(unique("orders")), unique("orders")
    postgres.rows(TABLE, url)
    broker.put(queue, (json.dumps({"item": "tea", "pieces": each + 1}) for each in range(orders)))

    def stored() -> int:
        return int(postgres.rows("SELECT count(*) FROM orders", url)[0][0])

    for kill in range(1, kills + 1):
        process = start("-m", "tests.examples.orders", INPUT_QUEUE=queue, DATABASE_URL=url)
        wait_until(lambda: stored() >= kill * orders / (kills + 2), 60, "orders are stored")  # noqa: B023 - called at once
        process.kill()
    process = start("-m", "tests.examples.orders", INPUT_QUEUE=queue, DATABASE_URL=url)
    wait_until(lambda: stored() == orders, 60, lambda: f"all are stored, not {stored()}")
    wait_until(lambda: broker.queues()[queue].get("messages") == 0, 30, "all are acked")
    assert process.halt() == 0

    left = ["", ".dead", ".retry.1s", ".retry.5s", ".retry.30s"]
    assert [broker.depth(f"{queue}{each}") for each in left] == 5 * [0]
    rows = postgres.rows("SELECT message_id, pieces FROM orders", url)
    assert sorted(rows) == sorted((f"{queue}-{each}", each + 1) for each in range(orders))
    return int(postgres.rows("SELECT max(number) FROM orders", url)[0][0])


@pytest.mark.thorough
def test_orders_are_stored_once(
    postgres: Postgres, broker: Broker, unique: Unique, start: Start
) -> None:
    """A row for each order, though the stage is killed twice."""
    store(postgres, broker, unique, start, orders=600, kills=2)


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_orders_are_stored_once_whatever_happens(
    postgres: Postgres, broker: Broker, unique: Unique, start: Start
) -> None:
    """5,000 orders, 20 kills, 5,000 rows; and what came twice was indeed inserted twice."""
    assert store(postgres, broker, unique, start, orders=5000, kills=20) > 5000


# An HTTP source


def post(url: str, body: bytes, **headers: str) -> int:
    """Send a request; return the status of the answer."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{url}/orders", body, given)  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.thorough
def test_a_request_is_answered_when_its_order_is_confirmed(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """With 202 then; what is no order is told so, and what no queue takes is not accepted."""
    queue, port = unique("orders"), free_port()
    url = f"http://127.0.0.1:{port}"
    program = ("-m", "uvicorn", "tests.examples.http_source:app", "--port", str(port))
    process = start(*program, ready=False, OUTPUT_QUEUE=queue)
    process.wait_log("Uvicorn running")

    assert post(url, b'{"item": "tea", "pieces": 2}') == 202
    assert broker.depth(queue) == 1
    assert [post(url, b'{"item": "tea", "pieces": 3}', Idempotency_Key="k") for _ in "ab"] == [
        202,
        202,
    ]
    assert post(url, b'{"item": "tea", "pieces": "many"}') == 422
    assert post(url, b'{"item": "tea", "pieces": 2}', Idempotency_Key=300 * "k") == 422
    first, *others = broker.take(queue, 3)
    assert json.loads(first.text) == {"item": "tea", "pieces": 2}
    assert [each.id for each in others] == ["k", "k"]

    depth = broker.fill(queue)
    assert post(url, b'{"item": "tea", "pieces": 4}') == 503
    assert broker.depth(queue) == depth
    broker.clear_policy(queue)
    assert process.halt() in (0, -15)  # uvicorn raises the signal again when it has closed


# An async stage that asks an HTTP service


@contextmanager
def prices(**cents: int) -> Iterator[tuple[str, Counter[str]]]:
    """Serve prices for the time of a `with`; the first request for each fails. Count requests."""
    asked: Counter[str] = Counter()

    class Prices(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            item = self.path.rpartition("/")[2]
            asked[item] += 1
            status = 404 if item not in cents else 500 if asked[item] == 1 else 200
            body = json.dumps({"cents": cents.get(item)}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Prices) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.thorough
def test_orders_get_their_price(broker: Broker, unique: Unique, start: Start) -> None:
    """From the service; a failure of it is tried again, and what it does not know is given up."""
    source, target = unique("orders"), unique("priced")
    orders = [(item, pieces) for pieces in range(1, 11) for item in ("tea", "milk")]
    told = [{"item": item, "pieces": pieces} for item, pieces in [*orders, ("gold", 1)]]
    broker.put(source, map(json.dumps, told))

    with prices(tea=5, milk=2) as (url, asked):
        process = start(
            *("-m", "tests.examples.enrich"),
            INPUT_QUEUE=source,
            OUTPUT_QUEUE=target,
            PRICES_URL=url,
            CONCURRENCY=100,
            RETRY_DELAYS="0.3",
        )
        priced = [json.loads(each.text) for each in broker.take(target, len(orders))]
        (unknown,) = letters(broker, f"{source}.dead", 1)
        assert process.halt() == 0

    cents = {"tea": 5, "milk": 2}
    expected = [
        {"item": item, "pieces": pieces, "cents": cents[item] * pieces} for item, pieces in orders
    ]
    assert sorted(priced, key=str) == sorted(expected, key=str)
    assert unknown.headers["x-error-message"] == "no price for 'gold'"
    assert asked == {"tea": 11, "milk": 11, "gold": 1}


# Routing by key


@pytest.mark.thorough
def test_orders_go_where_their_keys_lead(broker: Broker, unique: Unique, start: Start) -> None:
    """Each stage that reads the edge gets those that it has asked for, and these only."""
    source, edge = unique("orders"), unique("dispatched")
    readers = {"bulk": "order.*.bulk", "tea": "order.tea.#", "all": "#"}
    processes = {
        name: start(
            *("-m", "tests.integration.stages.recorder"),
            STAGE=name,
            INPUT_QUEUE=edge,
            INPUT_KIND="topic",
            INPUT_KEYS=keys,
        )
        for name, keys in readers.items()
    }
    orders = [("tea", 1), ("tea", 100), ("milk", 99), ("milk", 500)]
    broker.put(source, [json.dumps({"item": item, "pieces": pieces}) for item, pieces in orders])
    start(
        "-m", "tests.examples.dispatch", INPUT_QUEUE=source, OUTPUT_QUEUE=edge, OUTPUT_KIND="topic"
    )

    def read(name: str) -> list[tuple[str, int]]:
        told = [json.loads(each["text"]) for each in processes[name].objects]
        return [(each["item"], each["pieces"]) for each in told]

    wait_until(lambda: len(read("all")) == 4, 20, "all orders are read")
    assert read("all") == orders
    wait_until(lambda: read("bulk") == [("tea", 100), ("milk", 500)], 20, "the large ones")
    wait_until(lambda: read("tea") == [("tea", 1), ("tea", 100)], 20, "those of tea")
