"""Edges of kind ordered: the messages of each key are handled one after the other, in order."""

from itertools import pairwise
from typing import Any

import pytest

from rabbit import MessageQueue
from rabbit.errors import RefusedError
from rabbit.messaging.held import DEPTH, HOPELESS
from tests.broker import Broker
from tests.conftest import Start, Unique
from tests.integration.letters import letters
from tests.order import again, disorder, handled, handlings
from tests.process import Process
from tests.waiting import wait_until

RELAY = ("-m", "tests.integration.stages.relay")
SOURCE = ("-m", "tests.integration.stages.keyed_source")
KEYED = ("-m", "tests.integration.stages.keyed")
PARTITIONS = 4
KEYS = [f"customer-{number}" for number in range(12)]


def publish(broker: Broker, edge: str, numbers: range, *, bad: tuple[int, ...] = ()) -> None:
    """Publish these numbers for each key, in order; what is bad fails whenever it is handled."""
    with MessageQueue(edge, "ordered", partitions=PARTITIONS, **broker.settings) as queue:
        for number in numbers:
            for key in KEYS:
                queue.publish(f"{number} !" if number in bad else f"{number}", key=key)


def deliver_in_vain(broker: Broker, queue: str, count: int, times: int) -> None:
    """Have so many messages be delivered to consumers that end with their channel, each time."""
    with broker.channel() as first:
        connection: Any = first.connection
        for _ in range(times):
            channel = connection.channel()
            taken: list[Any] = []
            channel.basic_qos(prefetch_count=DEPTH)
            channel.basic_consume(queue, lambda *given, taken=taken: taken.append(given))
            while len(taken) < count:
                connection.process_data_events(0.01)
            raw = channel._impl  # noqa: SLF001
            raw._consumers.clear()  # noqa: SLF001 - pika would cancel these
            raw.close()
            while not raw.is_closed:
                connection.process_data_events(0.01)


def write(start: Start, unique: Unique, count: int) -> Process:
    """Have a source write so many numbers for each key."""
    edge = {"OUTPUT_QUEUE": unique("edge"), "OUTPUT_KIND": "ordered", "PARTITIONS": PARTITIONS}
    return start(*SOURCE, **edge, KEYS=",".join(KEYS), COUNT=count, ready=False)


def wait_handled(processes: list[Process], count: int, seconds: float = 60) -> None:
    """Wait until the first `count` of each key are handled."""

    def is_handled() -> bool:
        numbers = handled(handlings(processes))
        return all(numbers[key].issuperset(range(count)) for key in KEYS)

    wait_until(is_handled, seconds, lambda: f"{handled(handlings(processes))}")


def environment(unique: Unique, **more: object) -> dict[str, Any]:
    """Return how a stage reads the edge."""
    edge = {"INPUT_QUEUE": unique("edge"), "INPUT_KIND": "ordered", "PARTITIONS": PARTITIONS}
    return {"STAGE": "keyed", **edge, **more}


@pytest.mark.parametrize("module", ["keyed", "keyed_async"])
def test_one_replica(broker: Broker, unique: Unique, start: Start, module: str) -> None:
    """Each key in order, keys side by side: in four threads, or as four coroutines."""
    publish(broker, unique("edge"), range(10))

    stage = "-m", f"tests.integration.stages.{module}"
    reader = start(*stage, **environment(unique, CONCURRENCY=4, DELAY=0.02))
    wait_handled([reader], 10)
    found = handlings([reader])

    assert disorder(found) == []
    assert again(found) == []
    assert any(one.key != other.key and other.began < one.ended for one, other in pairwise(found))
    assert reader.halt() == 0


def test_what_fails_is_tried_again_in_its_place(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It holds its key and no other; then it is a dead letter, and its key goes on."""
    publish(broker, unique("edge"), range(3), bad=(1,))

    reader = start(*KEYED, **environment(unique, RETRY_DELAYS="0.5,0.5"))
    wait_until(lambda: len(reader.lines) >= 5 * len(KEYS), 30, lambda: f"{reader.lines}")
    found = handlings([reader])

    kept = letters(broker, f"{unique('edge')}.dead", len(KEYS))
    for key in KEYS:
        attempts = [(each.number, each.attempt) for each in found if each.key == key]
        assert attempts == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
    first_rounds = [each.began for each in found if (each.number, each.attempt) == (1, 1)]
    second_rounds = [each.began for each in found if (each.number, each.attempt) == (1, 2)]
    assert max(first_rounds) < min(second_rounds), "others go on while one waits"
    assert sorted(letter.key for letter in kept) == sorted(KEYS)
    assert {letter.headers["x-attempts"] for letter in kept} == {3}
    assert reader.halt() == 0


def test_replicas_share_the_partitions_and_keep_the_order(unique: Unique, start: Start) -> None:
    """One more comes, takes its share, and gives it back when it goes."""
    given = environment(unique, DELAY=0.01)  # there is a backlog
    first = start(*KEYED, **given)
    writer = write(start, unique, 150)
    wait_handled([first], 5)

    second = start(*KEYED, **given)
    wait_until(lambda: len(second.lines) > 20, 30, lambda: f"the second works\n{first.log}")
    assert second.halt() == 0
    wait_handled([first, second], 150)

    found = handlings([first, second])
    assert disorder(found) == []
    assert again(found) == []
    assert {each.replica for each in found} == {first.pid, second.pid}
    assert [writer.wait(), first.halt()] == [0, 0]


@pytest.mark.thorough
def test_a_replica_that_is_killed_or_cut_off(broker: Broker, unique: Unique, start: Start) -> None:
    """What it held comes again in order, before what is behind it."""
    given = environment(unique, DELAY=0.01, FAILING=0.01, RETRY_DELAYS="0.1,0.1,0.1", CONCURRENCY=2)
    first = start(*KEYED, **given)
    second = start(*KEYED, **given, REPLICA="cut-off")
    writer = write(start, unique, 300)
    wait_handled([first, second], 5)

    cut = "keyed/cut-off consumes"
    wait_until(lambda: broker.close_connections(cut), 20, "its connection is listed, and cut")
    wait_handled([first, second], 15)
    first.kill()
    wait_handled([first, second], 20)
    third = start(*KEYED, **given)
    wait_handled([first, second, third], 300)

    found = handlings([first, second, third])
    assert disorder(found) == []
    # What the two held: how much of that was handled and not acked is the machine's affair.
    assert len(again(found)) <= 2 * PARTITIONS * DEPTH
    assert writer.wait() == 0


def test_another_number_of_partitions_is_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """It would mix up the order: a stage ends in one line that says what to do."""
    publish(broker, unique("edge"), range(1))

    given = environment(unique, PARTITIONS=8)
    reader = start(*KEYED, **given, ready=False)

    assert reader.wait() == 2
    assert f"'{unique('edge')}' has 4 partitions, and PARTITIONS=8 is declared" in reader.log
    assert f"{unique('edge')}.7" not in broker.queues()


def test_a_worker_keeps_the_order_of_what_it_reads(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """From one ordered edge to the next; an output without a key fails its message."""
    ordered: dict[str, Any] = {"INPUT_KIND": "ordered", "OUTPUT_KIND": "ordered"}
    edges = {"INPUT_QUEUE": unique("edge"), "OUTPUT_QUEUE": unique("next"), **ordered}
    relays = [
        start(*RELAY, **edges, PARTITIONS=PARTITIONS, SAME_KEY=1, RETRY_DELAYS="") for _ in range(2)
    ]
    publish(broker, unique("edge"), range(20))
    reader = start(*KEYED, **environment(unique, INPUT_QUEUE=unique("next")))

    wait_handled([reader], 20)

    assert disorder(handlings([reader])) == []
    assert all(relay.halt() == 0 for relay in relays)

    unkeyed = start(*RELAY, **edges, PARTITIONS=PARTITIONS, RETRY_DELAYS="")
    publish(broker, unique("edge"), range(1))
    kept = letters(broker, f"{unique('edge')}.dead", len(KEYS))
    assert "keeps the order of each key" in kept[0].headers["x-error-message"]
    assert unkeyed.halt() == 0


def test_a_halt_keeps_the_order_though_an_output_was_refused(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """There is room again while the next of its key is handled: that comes again, behind it."""
    ordered: dict[str, Any] = {"INPUT_KIND": "ordered", "OUTPUT_KIND": "ordered", "PARTITIONS": 1}
    edges = {"INPUT_QUEUE": unique("edge"), "OUTPUT_QUEUE": unique("next"), **ordered}

    def publish_one(edge: str, key: str, text: str) -> None:
        with MessageQueue(edge, "ordered", partitions=1, **broker.settings) as queue:
            queue.publish(text, key=key)

    def is_full() -> bool:
        try:
            publish_one(unique("next"), "filler", "0")
        except RefusedError:
            return True
        return False

    with broker.limited(f"{unique('next')}.0", 1, "%2F"):
        wait_until(is_full, 20, "the output queue refuses messages")
        first = start(*RELAY, **edges, SAME_KEY=1, DELAY=3)
        for text in ("0", "1"):
            publish_one(unique("edge"), KEYS[0], text)
        first.wait_log("output refused, trying again")
        first.terminate()
        first.wait_log("halting")
    assert first.wait() == 0

    second = start(*RELAY, **edges, SAME_KEY=1)
    reader = start(*KEYED, **environment(unique, INPUT_QUEUE=unique("next"), PARTITIONS=1))
    wait_until(lambda: handled(handlings([reader]))[KEYS[0]] == {0, 1}, 30, "both are handled")

    assert [each.number for each in handlings([reader]) if each.key == KEYS[0]] == [0, 1]
    assert second.halt() == 0


def test_a_partition_that_is_deleted_is_told_of_and_made_again(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """What had waited there is gone; what is written from then on is handled."""
    publish(broker, unique("edge"), range(1))
    reader = start(*KEYED, **environment(unique))
    wait_handled([reader], 1)

    for number in range(PARTITIONS):
        broker.delete_queue(f"{unique('edge')}.{number}")
    reader.wait_log(f"'{unique('edge')}.0' is consumed no more")
    publish(broker, unique("edge"), range(1, 2))

    wait_handled([reader], 2)
    assert disorder(handlings([reader])) == []
    assert reader.halt() == 0


@pytest.mark.thorough
def test_large_messages(broker: Broker, unique: Unique, start: Start) -> None:
    """What there is no room for comes again, in order; none of it was handled before."""
    size = 2**20
    with MessageQueue(unique("edge"), "ordered", partitions=PARTITIONS, **broker.settings) as queue:
        for number in range(6):
            for key in KEYS:
                queue.publish(f"{number} ".ljust(size, "x"), key=key)

    reader = start(*KEYED, **environment(unique))
    wait_handled([reader], 6)

    assert disorder(handlings([reader])) == []
    assert again(handlings([reader])) == []
    assert reader.halt() == 0


@pytest.mark.thorough
def test_what_kills_each_process_is_given_up_and_its_key_goes_on(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """So do the other keys: nothing else becomes a dead letter, and that one says why.

    It has killed so many by now that all others had their turn before it; not those behind it.
    """
    edge, texts = unique("edge"), ["0", "1", "2"]
    with MessageQueue(edge, "ordered", partitions=1, **broker.settings) as queue:
        for text in ("1 #", "2"):
            queue.publish(text, key=KEYS[0])
        deliver_in_vain(broker, f"{edge}.0", 2, HOPELESS - 1)
        for text in texts:
            for key in KEYS[1:]:
                queue.publish(text, key=key)
    replicas: list[Process] = []

    def are_handled() -> bool:
        if not (replicas and replicas[-1].is_running):
            replicas.append(start(*KEYED, **environment(unique, PARTITIONS=1), ready=False))
        return len(handled(handlings(replicas))[KEYS[0]]) == 1 and all(
            len(handled(handlings(replicas))[key]) == len(texts) for key in KEYS[1:]
        )

    wait_until(are_handled, 60, lambda: f"all others are handled\n{replicas[-1].log}")

    [letter] = letters(broker, f"{edge}.dead", 1)
    found = handlings(replicas)
    assert letter.body == b"1 #"
    assert "each time the process ended" in letter.headers["x-error-message"]
    assert [each.number for each in found if each.key == KEYS[0]] == [2]
    assert disorder(each for each in found if each.key != KEYS[0]) == []
    assert len(replicas) == 2
    assert replicas[-1].halt() == 0
