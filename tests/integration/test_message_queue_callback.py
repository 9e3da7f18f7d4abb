"""What the callback of a MessageQueue gets, and what it can do with a message."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from rabbit import ConfigurationError, MessageQueue, UnroutableError
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import InBackground, Running
from tests.integration.letters import letters
from tests.integration.test_failures import Raw
from tests.integration.test_kinds import collecting, wait_consuming
from tests.variations import variations
from tests.waiting import wait_until

NO_TEXT = b"\xff\xfe no text"


@pytest.fixture
def queue(broker: Broker, unique: Unique) -> MessageQueue:
    """Give a queue of this test's own, with room for one message."""
    return MessageQueue(unique("queue"), prefetch=1, **broker.settings)


def acting(queue: MessageQueue, act: Callable[[Any, int], None], count: int) -> list[bool]:
    """Run `act` on the first of `count` messages; tell which of them were redelivered."""
    redelivered: list[bool] = []

    def callback(channel: Any, method: Any, *_: object) -> None:
        redelivered.append(method.redelivered)
        if len(redelivered) == 1:
            act(channel, method.delivery_tag)
        else:
            channel.basic_ack(method.delivery_tag)

    queue.register(callback)
    with queue, Running(queue):
        queue.publish("a", timeout=20)
        wait_until(lambda: len(redelivered) == count, 20, "it is called so often")
    return redelivered


@pytest.mark.parametrize("method", variations(["basic_nack", "basic_reject"]))
def test_giving_back(broker: Broker, queue: MessageQueue, method: str) -> None:
    """As with pika, the message comes again, to whoever is there."""
    seen = acting(queue, lambda channel, tag: getattr(channel, method)(delivery_tag=tag), 2)

    assert seen == [False, True]
    assert broker.depth(queue.name) == 0


@pytest.mark.parametrize("method", variations(["basic_nack", "basic_reject"]))
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_giving_up(broker: Broker, unique: Unique, method: str, queue_type: Any) -> None:
    """With requeue=False it is a dead letter, and makes room for the next one."""
    queue = MessageQueue(unique("queue"), prefetch=1, queue_type=queue_type, **broker.settings)
    acting(queue, lambda channel, tag: getattr(channel, method)(tag, requeue=False), 1)

    [letter] = letters(broker, f"{queue.name}.dead", 1)
    assert letter.body == b"a"
    assert letter.headers["x-first-death-reason"] == "rejected"
    assert broker.depth(queue.name) == 0


def test_a_reject_counts_as_a_failure(broker: Broker, queue: MessageQueue) -> None:
    """At the broker's delivery limit (20) it is a dead letter: no loop for ever."""
    seen = 0

    def callback(channel: Any, method: Any, *_: object) -> None:
        nonlocal seen
        seen += 1
        channel.basic_reject(method.delivery_tag)

    queue.register(callback)
    with queue, Running(queue):
        queue.publish("a", timeout=20)
        [letter] = letters(broker, f"{queue.name}.dead", 1)

    assert letter.headers["x-first-death-reason"] == "delivery_limit"
    assert seen == 21


def test_what_is_said_twice(broker: Broker, queue: MessageQueue) -> None:
    """The same twice is harmless; the contrary, another tag and `multiple` are errors."""

    def act(channel: Any, tag: int) -> None:
        with pytest.raises(ValueError, match="multiple"):
            channel.basic_ack(tag, multiple=True)
        with pytest.raises(ValueError, match="multiple"):
            channel.basic_nack(tag, multiple=True)
        with pytest.raises(ValueError, match="delivery tag"):
            channel.basic_reject(tag + 1)
        channel.basic_ack(tag)
        channel.basic_ack(tag)
        with pytest.raises(ValueError, match="acked already"):
            channel.basic_nack(tag)

    acting(queue, act, 1)
    assert broker.depth(queue.name) == 0

    with pytest.raises(ValueError, match="not what a callback"):
        queue.ack(object())  # type: ignore[arg-type]


# What cannot be read


def test_what_is_no_text_is_a_dead_letter(broker: Broker, queue: MessageQueue) -> None:
    """At once, byte for byte, with its reason, as in a stage; what is behind it comes."""
    broker.put(queue.name, [NO_TEXT, NO_TEXT, "a"], content_type="application/x")
    texts = collecting(queue)
    with queue, Running(queue):
        wait_until(lambda: texts == ["a"], 20, "what is behind it comes")
        first, _ = letters(broker, f"{queue.name}.dead", 2)

    assert first.body == NO_TEXT
    assert first.properties["content_type"] == "application/x"
    assert first.headers["x-error-type"] == "UnicodeDecodeError"
    assert broker.depth(queue.name) == 0


def test_bytes_are_for_who_asks(broker: Broker, queue: MessageQueue) -> None:
    """`type=bytes`: the callback gets all of them."""
    broker.put(queue.name, [NO_TEXT, "a"])
    bodies: list[bytes] = []

    def callback(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        bodies.append(body)
        channel.basic_ack(method.delivery_tag)

    queue.register(callback, type=bytes)
    with queue, Running(queue):
        wait_until(lambda: bodies == [NO_TEXT, b"a"], 20, "both come")


def test_headers_that_cannot_be_decoded(broker: Broker, queue: MessageQueue) -> None:
    """Likewise a dead letter; they hold up nothing."""
    texts = collecting(queue)
    with queue, Running(queue):
        wait_consuming(queue)
        with broker.channel() as channel:
            channel.basic_publish(queue.name, queue.name, b"a", Raw())
        queue.publish("b", timeout=20)
        wait_until(lambda: texts == ["b"], 20, "what is behind it comes")
        [letter] = letters(broker, f"{queue.name}.dead", 1)

    assert letter.body == b"a"
    assert letter.headers["x-error-type"] == "UndecodableError"


def test_a_queue_without_dead_letters_drops_it(
    broker: Broker, unique: Unique, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broadcast without a group is for one process only; it is told of it."""
    queue = MessageQueue(unique("news"), "broadcast", prefetch=1, **broker.settings)
    texts = collecting(queue)
    with queue, Running(queue):
        wait_consuming(queue)
        with broker.channel() as channel:
            broker.send(channel, queue.name, "", NO_TEXT)
        queue.publish("a", timeout=20)
        wait_until(lambda: texts == ["a"], 20, "what is behind it comes")

    assert "dropped" in capsys.readouterr().err


# What is not meant so


def test_a_callback_that_never_acks_is_told_of_once(
    broker: Broker, unique: Unique, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `prefetch` messages nothing more comes: the log says why, once."""
    queue = MessageQueue(unique("queue"), prefetch=2, **broker.settings)
    said = ""
    methods: list[Any] = []

    def is_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "no message comes until one is acked" in said

    queue.register(lambda _channel, method, *_: methods.append(method))
    with queue, Running(queue):
        queue.publish_many(["a", "b", "c", "d"])
        wait_until(is_said, 20, "it is told")
        assert len(methods) == 2
        queue.ack(methods[0])
        wait_until(lambda: len(methods) == 3, 20, "another one comes")

    assert (said + capsys.readouterr().err).count("no message comes") == 1
    assert broker.depth(queue.name) == 3


class Asynchronous:
    """An object that is called asynchronously."""

    async def __call__(self, *_: object) -> None:
        """Do nothing."""


def test_an_asynchronous_callback_is_refused(queue: MessageQueue) -> None:
    """At once, with a line that says what to do: it would be acked with nothing done."""

    async def callback(*_: object) -> None:
        pass

    def generator(*_: object) -> Any:
        yield

    for each in (
        callback,
        generator,
        Asynchronous(),
        partial(callback, 1),
        Asynchronous().__call__,
    ):
        with pytest.raises(TypeError, match="register a plain function"):
            queue.register(each)
    with pytest.raises(TypeError, match="cannot be called"):
        queue.register("callback")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no message can be read into"):
        queue.register(print, type=object())


async def coroutine() -> None:
    """Do nothing."""


async def asynchronous_generator() -> AsyncIterator[None]:
    """Do nothing."""
    yield


def generator() -> Iterator[None]:
    """Do nothing."""
    yield


@pytest.mark.parametrize("make", [coroutine, asynchronous_generator, generator])
def test_what_is_returned_and_not_run_is_an_error(
    broker: Broker, queue: MessageQueue, make: Callable[[], object]
) -> None:
    """What `register` cannot see, `start` does: it raises, and the message goes back."""
    queue.register(lambda *_: make())
    with queue:
        queue.publish("a")
        call = InBackground(queue.start)
        wait_until(lambda: not call.is_running, 20, "start has ended")
        with pytest.raises(TypeError, match="asynchronous"):
            call.join()

    assert broker.depth(queue.name) == 1


def test_a_message_id_of_ones_own(broker: Broker, queue: MessageQueue) -> None:
    """A second try has the id of the first one, so that one of them can be dropped."""
    with queue:
        queue.publish("a", message_id="häßlich")
        queue.publish("a", message_id="häßlich")
        broker.unbind(queue.name, queue.name, queue.name)
        with pytest.raises(UnroutableError):
            queue.publish("a", message_id="häßlich")

    assert [each.id for each in broker.take_all(queue.name)] == ["häßlich"] * 2


README_LETTERS = """
import asyncio, json, re, sys, types
from pathlib import Path

readme = Path("shared/README.md").read_text()
[code] = [each for each in re.findall(r"```python\\n(.*?)```", readme, re.S) if "lifespan" in each]
here = {}
exec(code, here)

class Request:
    app = types.SimpleNamespace(state=types.SimpleNamespace())

    async def body(self):
        return "Liebe Grüße".encode()

async def serve():
    async with here["lifespan"](Request.app):
        await asyncio.gather(*(here["post_letter"](Request()) for _ in range(20)))

asyncio.run(serve())
"""


def test_the_readme_s_web_application(broker: Broker, vhost: str, start: Start) -> None:
    """Its code, with what an ASGI framework gives it: every request has published when it ends."""
    process = start("-c", README_LETTERS, ready=False, RABBITMQ_VHOST=vhost)

    assert process.wait() == 0, process.log
    assert process.log == ""
    texts = [message.text for message in broker.take_all("letters", vhost)]
    assert texts == ["Liebe Grüße"] * 20
