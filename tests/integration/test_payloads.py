"""Payloads, headers and properties as a live broker brings them."""

import gzip
import json
import threading
from typing import Any

from rabbit import MessageQueue
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.stages.pricing import Order, Priced
from tests.waiting import wait_until

PRICING = ("-m", "tests.integration.stages.pricing")


def test_typed_messages_with_the_headers_of_their_sender(
    broker: Broker, unique: Unique, start: Start, edges: dict[str, Any]
) -> None:
    """Packed or not, tried again or not; what is no order is a dead letter that says so."""
    body = b'{"id": 1, "pieces": 2}'
    headers = {"traceparent": "00-a-b-01", "tenant": 7, "nested": {"a": [1, None]}}
    with MessageQueue(unique("in"), **broker.settings) as queue:
        queue.publish(Order(id=0, pieces=1), headers=headers)
    broker.put(unique("in"), [gzip.compress(body)], content_encoding="gzip", headers=headers)
    broker.put(unique("in"), ['{"id": "secret"}', "secret"])
    stage = start(*PRICING, **edges)

    taken = sorted(broker.take(unique("out"), 2), key=lambda output: output.text)

    assert [Priced.model_validate_json(each.text) for each in taken] == [
        Priced(id=0, total=7, attempt=2),
        Priced(id=1, total=14, attempt=1),
    ]
    assert [dict(each.headers) for each in taken] == 2 * [headers | {"currency": "EUR"}]
    dead = broker.take_all(f"{unique('in')}.dead")
    assert [each.headers["x-error-type"] for each in dead] == 2 * ["InvalidPayloadError"]
    assert "id: int_parsing; pieces: missing" in dead[0].headers["x-error-message"]
    assert "secret" not in stage.log
    assert stage.halt() == 0


def test_a_callback_takes_a_type(broker: Broker, unique: Unique) -> None:
    """As a stage does; what is something else never reaches it."""
    seen: list[Any] = []
    with MessageQueue(unique("in"), **broker.settings) as queue:

        def take(_: object, method: Any, properties: Any, order: Order) -> None:
            seen.append((order, properties.priority, properties.expiration))
            queue.ack(method)

        queue.register(take, type=Order)
        queue.publish(json.dumps({"id": "one"}))
        queue.publish({"id": 1, "pieces": 2}, priority=3, expiration=60)
        thread = threading.Thread(target=queue.start)
        thread.start()
        assert len(broker.take(f"{unique('in')}.dead", 1)) == 1
        wait_until(lambda: seen, 20, "the order arrives")
        queue.stop()
        thread.join(20)

    assert seen == [(Order(id=1, pieces=2), 3, "60000")]
