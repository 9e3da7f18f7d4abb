"""The four kinds of exchange, each with several consumers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from rabbit import MessageQueue
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.background import Running
from tests.integration.letters import letters
from tests.process import Process
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
RECORDER = ("-m", "tests.integration.stages.recorder")


def collecting(queue: MessageQueue) -> list[str]:
    """Have a queue collect what it consumes; return where it will be."""
    texts: list[str] = []

    def collect(channel: Any, method: Any, _properties: Any, text: str) -> None:
        texts.append(text)
        channel.basic_ack(delivery_tag=method.delivery_tag)

    queue.register(collect)
    return texts


def wait_consuming(*queues: MessageQueue) -> None:
    """Wait until the broker has registered all of them."""
    wait_until(lambda: all(queue.is_consuming for queue in queues), 20, "all consume")


def test_a_work_queue_shares_messages_out(broker: Broker, unique: Unique) -> None:
    """Each message goes to one of two consumers, and both get some."""
    make: Callable[[], MessageQueue] = partial(
        MessageQueue, unique("work"), prefetch=1, **broker.settings
    )
    one, two, source = make(), make(), make()
    first, second = collecting(one), collecting(two)
    texts = [str(number) for number in range(100)]
    with one, two, source, Running(one, two):
        wait_consuming(one, two)
        source.publish_many(texts)
        wait_until(lambda: len(first) + len(second) >= 100, 20, "all messages arrive")

    assert sorted([*first, *second]) == sorted(texts)
    assert first
    assert second


def test_a_broadcast_reaches_everybody(broker: Broker, unique: Unique) -> None:
    """Each of two consumers without a group gets every message; so does a group, once."""
    make: Callable[..., MessageQueue] = partial(
        MessageQueue, unique("news"), "broadcast", **broker.settings
    )
    one, two = make(), make()
    member, another = make(group="club"), make(group="club")
    collected = [collecting(each) for each in (one, two, member, another)]
    with make() as source, one, two, member, another, Running(one, two, member, another):
        wait_consuming(one, two, member, another)
        source.publish_many(["a", "b", "c", "d"])
        wait_until(lambda: sum(map(len, collected)) >= 12, 20, "all messages arrive")

    assert collected[:2] == [["a", "b", "c", "d"], ["a", "b", "c", "d"]]
    assert sorted([*collected[2], *collected[3]]) == ["a", "b", "c", "d"]


def test_a_stage_gives_a_key_to_what_is_routed_by_key(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """Without one its message fails, as with a MessageQueue; a source ends, and says which edge."""
    edges: dict[str, Any] = {
        "OUTPUT_QUEUE": unique("news"),
        "OUTPUT_KIND": "direct",
        "RETRY_DELAYS": "",
    }
    broker.put(unique("in"), ["a"])
    start(*RELAY, INPUT_QUEUE=unique("in"), **edges)
    source = start("-m", "services.producer", ready=False, MESSAGE="a", **edges)

    [letter] = letters(broker, f"{unique('in')}.dead", 1)

    told = f"no key: '{unique('news')}' is of kind direct"
    assert letter.headers["x-error-type"] == "ValueError"
    assert letter.headers["x-error-message"].startswith(told)
    assert source.wait() == 1
    assert told in source.log


def test_a_direct_exchange_goes_by_the_key(broker: Broker, unique: Unique) -> None:
    """Each consumer gets the messages with one of its keys."""
    make: Callable[..., MessageQueue] = partial(
        MessageQueue, unique("level"), "direct", **broker.settings
    )
    errors, everything = make(["error"]), make(["error", "info"])
    few, all_of_them = collecting(errors), collecting(everything)
    with make() as source, errors, everything, Running(errors, everything):
        wait_consuming(errors, everything)
        for key in ("info", "error", "info"):
            source.publish(f"an {key}", key=key)
        wait_until(lambda: len(few) + len(all_of_them) >= 4, 20, "all messages arrive")

    assert few == ["an error"]
    assert all_of_them == ["an info", "an error", "an info"]


def test_a_topic_exchange_knows_wildcards(broker: Broker, unique: Unique) -> None:
    """A star stands for one word, a hash for any number of words."""
    make: Callable[..., MessageQueue] = partial(
        MessageQueue, unique("animals"), "topic", **broker.settings
    )
    star, hash_ = make(["*.orange.*"]), make(["lazy.#"])
    orange, lazy = collecting(star), collecting(hash_)
    with make() as source, star, hash_, Running(star, hash_):
        wait_consuming(star, hash_)
        for key in ("quick.orange.rabbit", "lazy.orange.elephant", "lazy", "lazy.a.b.c"):
            source.publish(key, key=key)
        wait_until(lambda: len(orange) + len(lazy) >= 5, 20, "all messages arrive")

    assert orange == ["quick.orange.rabbit", "lazy.orange.elephant"]
    assert lazy == ["lazy.orange.elephant", "lazy", "lazy.a.b.c"]


def texts_of(*processes: Process) -> list[str]:
    """Return what these recorders have seen, sorted."""
    return sorted(each["text"] for process in processes for each in process.objects)


def test_stages_broadcast_to_every_replica(broker: Broker, unique: Unique, start: Start) -> None:
    """With INPUT_KIND=broadcast each replica of a stage gets every message."""
    edge: dict[str, Any] = {"INPUT_QUEUE": unique("news"), "INPUT_KIND": "broadcast"}
    sinks = [start(*RECORDER, **edge) for _ in range(2)]
    broker.put(unique("in"), ["a", "b"])

    start(*RELAY, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("news"), OUTPUT_KIND="broadcast")

    wait_until(lambda: len(texts_of(*sinks)) == 4, 20, "all messages arrive")
    assert [texts_of(sink) for sink in sinks] == [["a", "b"], ["a", "b"]]


def test_stages_route_by_topic(broker: Broker, unique: Unique, start: Start) -> None:
    """Two stages get what their keys match; two replicas of one stage share it."""
    edge: dict[str, Any] = {"INPUT_QUEUE": unique("logs"), "INPUT_KIND": "topic"}
    errors = [start(*RECORDER, STAGE="errors", INPUT_KEYS="*.error", **edge) for _ in range(2)]
    disk = start(*RECORDER, STAGE="disk", INPUT_KEYS="disk.#, net.info", **edge)
    texts = ["disk.error", "disk.info", "net.error", "net.info", "disk"]
    broker.put(unique("in"), texts)

    start(
        *RELAY,
        KEYED=1,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("logs"),
        OUTPUT_KIND="topic",
    )

    wait_until(lambda: len(texts_of(*errors, disk)) >= 6, 20, "all messages arrive")
    assert texts_of(*errors) == ["disk.error", "net.error"]
    assert texts_of(disk) == ["disk", "disk.error", "disk.info", "net.info"]
    assert {each["key"] for each in disk.objects} == set(texts_of(disk))


def test_stages_route_directly(broker: Broker, unique: Unique, start: Start) -> None:
    """With INPUT_KIND=direct a stage gets the messages with one of its keys."""
    edge: dict[str, Any] = {"INPUT_QUEUE": unique("logs"), "INPUT_KIND": "direct"}
    one = start(*RECORDER, STAGE="one", INPUT_KEYS="a", **edge)
    two = start(*RECORDER, STAGE="two", INPUT_KEYS="a,b", **edge)
    broker.put(unique("in"), ["a", "b"])

    start(
        *RELAY,
        KEYED=1,
        INPUT_QUEUE=unique("in"),
        OUTPUT_QUEUE=unique("logs"),
        OUTPUT_KIND="direct",
    )

    wait_until(lambda: len(texts_of(one, two)) >= 3, 20, "all messages arrive")
    assert (texts_of(one), texts_of(two)) == (["a"], ["a", "b"])


def test_a_slow_replica_hoards_nothing(broker: Broker, unique: Unique, start: Start) -> None:
    """With PREFETCH=auto and a slow handler, a replica that comes later gets its share."""
    broker.put(unique("in"), [str(number) for number in range(16)])
    first = start(*RECORDER, INPUT_QUEUE=unique("in"), DELAY=0.25)
    wait_until(lambda: first.lines, 20, "the first one is at work")

    second = start(*RECORDER, INPUT_QUEUE=unique("in"), DELAY=0.25)

    wait_until(lambda: len(texts_of(first, second)) == 16, 20, "all messages are handled")
    assert len(second.lines) >= 3
