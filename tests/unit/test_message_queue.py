"""What MessageQueue refuses at once: nothing is connected, declared or published for it."""

import threading
from typing import Any

import pytest

from rabbit import ConfigurationError, MessageQueue


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": ""}, "empty name"),
        ({"name": "n" * 256}, "256 bytes"),
        ({"name": "n" * 251}, "256 bytes"),  # with .dead
        ({"name": "ü" * 128}, "256 bytes"),
        ({"name": "two\nlines"}, r"two\\nlines.*line breaks"),
        ({"name": "amq.mine"}, "belongs to the broker"),
        ({"name": "half\ud800"}, "not allowed"),
        ({"name": b"bytes"}, "not a text"),
        ({"name": None}, "not a text"),
        ({"kind": "fanout"}, "work, broadcast, direct, topic"),
        ({"kind": ["work"]}, "work, broadcast, direct, topic"),
        ({"prefetch": 70000}, "1 to 65535"),
        ({"prefetch": 0}, "1 to 65535"),
        ({"prefetch": -1}, "1 to 65535"),
        ({"prefetch": 1.5}, "1 to 65535"),
        ({"prefetch": True}, "1 to 65535"),
        ({"prefetch": "10"}, "1 to 65535"),
        ({"keys": ["a"]}, "has no keys"),
        ({"keys": ["a"], "kind": "broadcast"}, "has no keys"),
        ({"keys": "order.*", "kind": "topic"}, "give a list"),
        ({"keys": ["k" * 256], "kind": "topic"}, "256 bytes"),
        ({"keys": [1], "kind": "topic"}, "not a text"),
        ({"keys": 1, "kind": "topic"}, "give a list"),
        ({"group": "club"}, "always share"),
        ({"group": "", "kind": "broadcast"}, "empty name"),
        ({"group": "g" * 250, "kind": "broadcast"}, "bytes"),
        ({"group": 7, "kind": "broadcast"}, "not a text"),
        ({"prefetched": 7}, "no setting"),
    ],
)
def test_a_wrong_argument(given: dict[str, Any], told: str) -> None:
    """Each is a ConfigurationError that names it and says what is allowed."""
    with pytest.raises(ConfigurationError, match=told):
        MessageQueue(**{"name": "letters", **given})


@pytest.mark.parametrize(
    ("kind", "given", "error", "told"),
    [
        ("work", {"text": None}, TypeError, "not NoneType"),
        ("work", {"text": {"a": object()}}, TypeError, "JSON"),
        ("work", {"text": "a", "headers": {"x-death": 1}}, ValueError, "another name"),
        ("work", {"text": "a", "priority": 256}, ValueError, "0 to 255"),
        ("work", {"text": "a", "expiration": -1}, ValueError, "0 to 4294967"),
        ("work", {"text": 7}, TypeError, "not int"),
        ("work", {"text": "half\ud800"}, ValueError, "surrogates"),
        ("work", {"text": "a", "key": "k"}, ValueError, "no keys"),
        ("topic", {"text": "a"}, ValueError, "no key"),
        ("topic", {"text": "a", "key": "k" * 256}, ValueError, "256 bytes"),
        ("topic", {"text": "a", "key": b"k"}, TypeError, "not bytes"),
        ("work", {"text": "a", "timeout": -1}, ValueError, "above 0"),
        ("work", {"text": "a", "timeout": 0}, ValueError, "above 0"),
        ("work", {"text": "a", "timeout": float("nan")}, ValueError, "above 0"),
        ("work", {"text": "a", "timeout": "1"}, TypeError, "number of seconds"),
        ("work", {"text": "a", "message_id": ""}, ValueError, "1 to 255"),
        ("work", {"text": "a", "message_id": "ü" * 128}, ValueError, "256 bytes"),
        ("work", {"text": "a", "message_id": 7}, TypeError, "not a text"),
    ],
)
def test_a_wrong_publish(
    kind: Any, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    """It raises at once, although nobody listens: it has not even begun to connect."""
    with pytest.raises(error, match=told):
        MessageQueue("letters", kind, rabbitmq_port=1).publish(**given)
    assert not [each for each in threading.enumerate() if each.name == "rabbit"]


def test_one_text_is_no_list_of_texts() -> None:
    """`publish_many("hello")` would publish five messages."""
    with pytest.raises(TypeError, match=r"publish\(\) one"):
        MessageQueue("letters").publish_many("hello")


def test_to_consume_by_key_takes_keys() -> None:
    """Without any, nothing would ever come."""
    queue = MessageQueue("letters", "topic")
    queue.register(print)

    with pytest.raises(ConfigurationError, match="keys"):
        queue.start()
