"""What is green without a broker is green with one: the same cases, by `harness` and live."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from rabbit import BatchConsumer, Consumer, Message, Producer, Reject, Retry, Worker
from rabbit.message import derived_id
from rabbit.testing import harness
from rabbit.topology import Edge
from tests.broker import Broker
from tests.conftest import Unique
from tests.integration.background import Running
from tests.integration.letters import DeadLetter, letters
from tests.waiting import wait_until

#: Two attempts more; the first delay is long enough for a test to find the message there.
DELAYS = (300.0, 301.0)

#: What the broker adds, or what is another one each time.
VARYING = {"x-acquired-count", "x-delivery-count", "x-failed-at", "x-failed-replica"}


class Tell(Worker):
    """Writes what it knows of each message."""

    def work(self, message: str) -> None:
        """Write it as JSON."""
        known = self.message
        told = {
            "text": message,
            "id": known.id,
            "correlation_id": known.correlation_id,
            "headers": _own(known.headers),
            "attempt": known.attempt,
            "redelivered": known.redelivered,
            "key": known.routing_key,
        }
        self.write(json.dumps(told, sort_keys=True))


class Obey(Worker):
    """Does what each message says, after it has written it."""

    def work(self, message: str) -> Any:
        """Fail in some way; `write`: once more for each word."""
        command, *words = message.split()
        self.write(message)
        match command:
            case "fail":
                raise ValueError(message)
            case "reject":
                raise Reject(message)
            case "return":
                return message
            case "write":
                for word in words:
                    self.write(word)
            case "key":
                self.write(message, key="red")
            case "number":
                self.write(1)
        return None


class Route(Worker):
    """Writes each word to where its key leads."""

    def work(self, message: str) -> None:
        """Write them, the last one without a key if it is `none`."""
        for word in message.split():
            self.write(word, key=None if word == "none" else word)


class Order(BaseModel):
    """A payload."""

    id: int
    tags: list[str] = []


class Price(Worker):
    """Takes a model, and writes one, a dict and bytes."""

    def work(self, order: Order) -> None:
        """Write them."""
        self.write(Order(id=order.id + 1, tags=["priced"]))
        self.write({"of": order.id}, headers={"n": None, "currency": "EUR"})
        self.write(b"\x00", message_id="chosen", priority=3, expiration=600)


class Raw(Worker):
    """Takes bytes."""

    def work(self, body: bytes) -> None:
        """Write how many, and in which way they came."""
        self.write(f"{len(body)} {self.message.content_type}")


class Later(Worker):
    """An `async def` that writes from tasks of its own, and says when to try again."""

    give_up_on = (ZeroDivisionError,)

    async def work(self, message: str) -> None:
        """Write each word; a number is for how many seconds the message is to wait."""
        await asyncio.gather(*(self._write(word) for word in message.split()))

    async def _write(self, word: str) -> None:
        if word.isdecimal():
            raise Retry(after=1 / (1 / int(word)))
        self.write(word)


class Store(BatchConsumer):
    """Handles many at a time."""

    def work(self, messages: list[Order]) -> None:
        """Refuse an order that is not to be stored, and all that came with it."""
        for order in messages:
            if order.id < 0:
                raise LookupError(order.id)


class Keep(Consumer):
    """Keeps nothing."""

    def work(self, message: str) -> None:
        """Refuse a word."""
        if message == "bad":
            raise LookupError(message)


@dataclass(frozen=True)
class Case:
    """One message, and what is to come of it.

    Attributes:
        stage: what handles it.
        body: of the message.
        settled: how it is settled.
        outputs: of each output the text, the routing key, and what else differs from a plain text
            with the headers of its input.
        error: the class's name of what was raised, or is wrong.
        attempt: which attempt it is.
        redelivered: whether it was delivered before.
        headers: its own.
        correlation_id: None: its message id.
        delay: how long it waits for another attempt; 0: as long as this attempt says.
    """

    stage: type[Consumer]
    body: str | bytes
    settled: str = "acked"
    outputs: tuple[tuple[Any, ...], ...] = ()
    error: str = ""
    attempt: int = 1
    redelivered: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None
    delay: float = 0


class Written(NamedTuple):
    """One output."""

    text: str
    key: str
    id: str
    correlation_id: str
    headers: Mapping[str, Any]
    content_type: str
    priority: int | None
    expiration: float | None


@dataclass(frozen=True)
class Outcome:
    """What has come of one message: each output; what is kept of what failed."""

    settled: str
    outputs: list["Written"]
    kept: tuple[bytes, Mapping[str, Any]] | None


def _told(text: str, **known: Any) -> tuple[tuple[str, str], ...]:
    """Return the one output of `Tell`; `ID` and `KEY` stand for what each case has of its own."""
    default = {"text": text, "id": "ID", "correlation_id": "ID", "headers": {}}
    rest = {"attempt": 1, "redelivered": False, "key": "KEY"}
    return ((json.dumps({**default, **rest, **known}, sort_keys=True), ""),)


LARGE = 3000 * "x"
TRACE = {"traceparent": "00-1-2-01", "n": 1, "deep": {"list": [1, "a"]}}

CASES = {
    "plain": Case(Tell, "naïve", outputs=_told("naïve")),
    "empty": Case(Tell, "", outputs=_told("")),
    "correlated": Case(Tell, "a", correlation_id="c-1", outputs=_told("a", correlation_id="c-1")),
    "headers": Case(Tell, "a", headers=TRACE, outputs=_told("a", headers=TRACE)),
    "redelivered": Case(Tell, "a", redelivered=True, outputs=_told("a", redelivered=True)),
    "third attempt": Case(
        Tell, "a", attempt=3, outputs=_told("a", attempt=3, headers={"x-attempts": 2})
    ),
    "several": Case(Obey, "write a b", outputs=(("write a b", ""), ("a", ""), ("b", ""))),
    "fails": Case(Obey, "fail", "retried", error="ValueError"),
    "fails again": Case(Obey, "fail", "retried", error="ValueError", attempt=2, headers={"a": "b"}),
    "fails last": Case(
        Obey, "fail", "dead-lettered", error="ValueError", attempt=3, headers={"a": "b"}
    ),
    "a count of its sender's": Case(
        Obey, "fail", "retried", error="ValueError", headers={"x-attempts": 9}
    ),
    "rejects": Case(Obey, "reject it", "dead-lettered", error="Reject"),
    "returns": Case(Obey, "return", "retried", error="TypeError"),
    "no key": Case(Obey, "key", "retried", error="ValueError"),
    "no text": Case(Obey, "number", "retried", error="TypeError"),
    "no UTF-8": Case(Obey, b"\xff", "dead-lettered", error="UnicodeDecodeError"),
    "too large": Case(Obey, LARGE, "dead-lettered", error="TooLargeError"),
    "by key": Case(Route, "a.b c", outputs=(("a.b", "a.b"), ("c", "c"))),
    "a key is missing": Case(Route, "a.b none", "retried", error="ValueError"),
    "model": Case(
        Price,
        '{"id": 1}',
        headers={"n": 1, "tenant": "a"},
        outputs=(
            ('{"id":2,"tags":["priced"]}', "", {"content_type": "application/json"}),
            (
                '{"of":1}',
                "",
                {
                    "content_type": "application/json",
                    "headers": {"tenant": "a", "currency": "EUR"},
                },
            ),
            (
                "\x00",
                "",
                {
                    "content_type": "application/octet-stream",
                    "id": "chosen",
                    "priority": 3,
                    "expiration": 600.0,
                },
            ),
        ),
    ),
    "no model": Case(Price, '{"id": "a secret"}', "dead-lettered", error="InvalidPayloadError"),
    "no JSON": Case(Price, "a", "dead-lettered", error="InvalidPayloadError"),
    "bytes": Case(Raw, b"\xff\x00", outputs=(("2 application/octet-stream", ""),)),
    "text as bytes": Case(Raw, "ü", outputs=(("2 text/plain", ""),)),
    "async": Case(Later, "a b", outputs=(("a", ""), ("b", ""))),
    "again later": Case(Later, "a 301", "retried", error="Retry", delay=301),
    "again after the longest delay": Case(Later, "900", "retried", error="Retry", delay=301),
    "given up on": Case(Later, "0", "dead-lettered", error="ZeroDivisionError"),
    "of a batch": Case(Store, '{"id": 1}'),
    "bad in a batch": Case(Store, '{"id": -1}', "retried", error="LookupError"),
    "no order in a batch": Case(Store, "{}", "dead-lettered", error="InvalidPayloadError"),
    "last of a batch": Case(Store, '{"id": 2}'),
    "sink": Case(Keep, "good"),
    "sink fails": Case(Keep, "bad", "retried", error="LookupError"),
}

SETTINGS: dict[type[Consumer], dict[str, Any]] = {
    Obey: {"max_message_bytes": 1000},
    Route: {"output_kind": "topic"},
}


def _own(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name not in VARYING}


def _id(name: str) -> str:
    return f"id of {name}"


def _expected(name: str, source: str, target: str) -> Outcome:
    """Return what is to come of a case.

    Args:
        name: the case.
        source: the queue that its stage reads.
        target: what it writes to.
    """
    case, id_ = CASES[name], _id(name)
    stage = case.stage.__name__.lower()
    handed_on = {name: value for name, value in case.headers.items() if name != "x-attempts"}
    outputs = [
        Written(
            text.replace('"ID"', f'"{id_}"').replace('"KEY"', f'"{source}"'),
            key or target,
            derived_id(id_, stage, index),
            case.correlation_id or id_,
            handed_on,
            "text/plain",
            None,
            None,
        )._replace(**dict(*other))
        for index, (text, key, *other) in enumerate(case.outputs)
    ]
    if case.settled == "acked":
        return Outcome("acked", outputs, None)
    body = case.body.encode() if isinstance(case.body, str) else case.body
    headers = {**case.headers, "x-attempts": case.attempt}
    if case.settled == "dead-lettered":
        headers |= {"x-error-type": case.error, "x-failed-stage": stage}
    return Outcome(case.settled, [], (body, headers))


def _kept(body: bytes, headers: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return what is kept of a message; of what an error says, that it says something."""
    own = _own(headers)
    if "x-error-type" in own:
        assert own.pop("x-error-message")
    return body, own


def _written(message: Message) -> Written:
    return Written(
        message.text,
        message.routing_key,
        message.id,
        message.correlation_id,
        _own(message.headers),
        message.content_type or "",
        message.priority,
        message.expiration,
    )


@pytest.mark.parametrize("name", CASES)
def test_without_a_broker(name: str) -> None:
    """Each case has its outcome in the harness."""
    case = CASES[name]
    fed = harness(case.stage, retry_delays=DELAYS, **SETTINGS.get(case.stage, {}))

    sent = fed.send(
        case.body,
        message_id=_id(name),
        correlation_id=case.correlation_id,
        headers=dict(case.headers),
        redelivered=case.redelivered,
        attempt=None if case.attempt == 1 else case.attempt,
    )

    kept = _kept(sent.kept.body, sent.kept.headers) if sent.kept else None
    outcome = Outcome(sent.settled, [_written(each) for each in sent.messages], kept)
    assert outcome == _expected(name, "input", "output")
    assert type(sent.error).__name__ == (case.error or "NoneType")
    if case.settled == "retried":
        assert sent.delay == (case.delay or DELAYS[case.attempt - 1])


def test_a_batch_without_a_broker() -> None:
    """Together, the cases of a batch have the outcome that each has alone."""
    names = [name for name, case in CASES.items() if case.stage is Store]
    fed = harness(Store, retry_delays=DELAYS)

    sent = fed.send_batch(CASES[name].body for name in names)

    assert [each.settled for each in sent] == [CASES[name].settled for name in names]


def test_live(broker: Broker, unique: Unique) -> None:
    """Each case has the same outcome with a real broker, one replica of each stage running."""
    stages = dict.fromkeys(case.stage for case in CASES.values())
    live = [_Live(broker, stage, unique(stage.__name__.lower())) for stage in stages]
    for each in live:
        each.publish()
    with Running(*(each.stage for each in live)):
        for each in live:
            each.wait()

    outcomes = {name: outcome for each in live for name, outcome in each.outcomes().items()}
    expected = {
        name: _expected(name, each.source, each.target) for each in live for name in each.cases
    }
    assert expected.keys() == CASES.keys()
    assert outcomes == expected


def _read(output: DeadLetter) -> Written:
    """Return an output as the management API shows it."""
    properties = output.properties
    expiration = properties.get("expiration")
    return Written(
        output.body.decode(),
        output.key,
        properties["message_id"],
        properties["correlation_id"],
        _own(output.headers),
        properties["content_type"],
        properties.get("priority"),
        int(expiration) / 1000 if expiration else None,
    )


class Source(Producer):
    """Writes one message of each kind."""

    def work(self) -> None:
        """Write them; the key is for an edge that has some."""
        key = "a.b" if self.settings.output_kind == "topic" else None
        self.write("naïve", key)
        self.write(Order(id=1), key, headers={"tenant": "a"}, priority=3, expiration=600)
        self.write(b"\x00", key, message_id="chosen")


@pytest.mark.parametrize("kind", ["work", "topic"])
def test_a_source(kind: str, broker: Broker, unique: Unique) -> None:
    """What it writes is the same in the harness and live, but for the ids that are made up."""
    target = unique("out")
    edge = Edge(target, "topic" if kind == "topic" else "work", ("#",), "test")
    broker.declare_edge(edge)

    given = {"output": target, "output_kind": kind}
    # Sorted, for a broker may give a message of lower priority out behind others.
    written = sorted(_written(each) for each in harness(Source, **given).run().messages)
    Source(**given, **broker.settings).start()
    live = sorted(_read(each) for each in letters(broker, edge.queue, 3))

    assert written[0] == live[0], "its id was chosen"
    assert all(each.id == each.correlation_id for each in written + live)
    assert [each._replace(id="", correlation_id="") for each in written] == [
        each._replace(id="", correlation_id="") for each in live
    ]


class _Live:
    """One stage with a broker, all its cases, and the queues where they end.

    Attributes:
        stage: a replica, which the test runs.
        cases: those of this stage.
        source: the queue that it reads.
        target: what it writes to.
    """

    def __init__(self, broker: Broker, stage: type[Consumer], source: str) -> None:
        self.cases = {name: case for name, case in CASES.items() if case.stage is stage}
        self.source, self.target = source, f"{source}-out"
        self._broker = broker
        self.stage = stage(
            input=source,
            **({"output": self.target} if issubclass(stage, Worker) else {}),
            stage=stage.__name__.lower(),
            retry_delays=DELAYS,
            **SETTINGS.get(stage, {}),
            **broker.settings,
        )
        edge = Edge(source, delays=DELAYS)
        self._retries = [edge.retry_queue(delay) for delay in DELAYS]
        self._back, self._dead = edge.back, edge.dead
        kind = SETTINGS.get(stage, {}).get("output_kind", "work")
        out = Edge(self.target, kind, ("#",) if kind == "topic" else (), "test")
        self._out = out.queue
        self._edges = [edge, out]

    def publish(self) -> None:
        """Put all cases where they come from; first those that are to be delivered again."""
        for edge in self._edges:
            self._broker.declare_edge(edge)
        with self._broker.channel() as channel:
            for name in sorted(self.cases, key=lambda name: not self.cases[name].redelivered):
                case = self.cases[name]
                attempts = {} if case.attempt == 1 else {"x-attempts": case.attempt - 1}
                content = {} if isinstance(case.body, bytes) else {"content_encoding": "utf-8"}
                kind = "text/plain" if content else "application/octet-stream"
                self._broker.send(
                    channel,
                    self.source if case.attempt == 1 else self._back,
                    self.source,
                    case.body,
                    message_id=_id(name),
                    correlation_id=case.correlation_id,
                    headers={**case.headers, **attempts},
                    content_type=kind,
                    **content,
                )
        with self._broker.channel() as channel:
            again = sum(case.redelivered for case in self.cases.values())
            for _ in range(again):
                got, _properties, _body = channel.basic_get(self.source)
                assert got is not None
                channel.basic_nack(got.delivery_tag, requeue=True)

    def wait(self) -> None:
        """Wait until as many messages as are to be are where they are to be."""
        wanted = {self.source: 0, self._out: 0, self._dead: 0, **dict.fromkeys(self._retries, 0)}
        for case in self.cases.values():
            wanted[self._out] += len(case.outputs)
            if case.settled == "retried":
                wanted[self._edges[0].retry_queue(case.delay or DELAYS[case.attempt - 1])] += 1
            wanted[self._dead] += case.settled == "dead-lettered"

        def there() -> dict[str, int]:
            return {queue: self._broker.depth(queue) for queue in wanted}

        wait_until(lambda: there() == wanted, 20, lambda: f"{wanted}, but there are {there()}")

    def outcomes(self) -> dict[str, Outcome]:
        """Return what has come of each case."""
        outputs = self._taken(self._out)
        retried = [each for queue in self._retries for each in self._taken(queue)]
        kept = {"retried": retried, "dead-lettered": self._taken(self._dead)}
        return {name: self._outcome(name, outputs, kept) for name in self.cases}

    def _taken(self, queue: str) -> list[Any]:
        return letters(self._broker, queue, self._broker.depth(queue))

    def _outcome(self, name: str, outputs: list[Any], kept: Mapping[str, list[Any]]) -> Outcome:
        id_ = _id(name)
        correlation = self.cases[name].correlation_id or id_
        made = [_read(each) for each in outputs if each.properties["correlation_id"] == correlation]
        found = [
            (settled, _kept(each.body, each.headers))
            for settled, all_kept in kept.items()
            for each in all_kept
            if each.properties["message_id"] == id_
        ]
        if not found:
            return Outcome("acked", made, None)
        ((settled, at_rest),) = found
        return Outcome(settled, made, at_rest)
