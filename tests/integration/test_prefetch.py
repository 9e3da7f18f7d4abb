"""PREFETCH=auto: fair for slow handlers, deep for fast ones, and it follows a change."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.broker import Broker
from tests.conftest import Start, Unique

PACED = ("-m", "tests.integration.stages.paced")
RELAY = ("-m", "tests.integration.stages.relay")

FAST = 3000
BEHIND = 1500

#: Calls that are slow, and that a replica which was fast before holds all of.
SLOW = 80

MEBIBYTE = 1024 * 1024
LARGE = 40


def handled(broker: Broker, queue: str, count: int) -> list[dict[str, Any]]:
    """Return what was written of each message, in the order of the numbers."""
    outputs = [json.loads(output.text) for output in broker.take(queue, count, 150)]
    return sorted(outputs, key=lambda output: int(output["number"]))


def test_slow_handlers_share(broker: Broker, unique: Unique, start: Start) -> None:
    """8 messages of 2 s wait when the second replica starts: it gets its share of them."""
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    broker.put(unique("in"), [f"{number} 2" for number in range(8)])
    first = start(*PACED, REPLICA="first", **edges)
    first.wait_printed("0")

    start(*PACED, REPLICA="second", **edges)

    outputs = handled(broker, unique("out"), 8)
    assert [output["number"] for output in outputs] == list(range(8))
    shares = Counter(output["replica"] for output in outputs)
    assert min(shares["first"], shares["second"]) >= 3
    assert {output["attempt"] for output in outputs} == {1}


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="fast at once"),
        pytest.param(["0.3"] * 6, id="slow before", marks=pytest.mark.thorough),
    ],
)
def test_fast_handlers_hold_many_until_they_turn_slow(
    broker: Broker, unique: Unique, start: Start, tmp_path: Path, before: list[str]
) -> None:
    """What waits behind a slow message goes back, at no cost, and another replica has it soon.

    That hundreds were held is seen by what the broker counts: they had been delivered before.
    """
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    gate = tmp_path / "gate"
    paces = [*before, *[""] * FAST, str(gate), *[""] * BEHIND]
    texts = [f"{number} {pace}".strip() for number, pace in enumerate(paces)]
    slow = len(before) + FAST
    broker.put(unique("in"), texts)
    first = start(*PACED, REPLICA="first", **edges)
    first.wait_printed(str(slow))

    start(*PACED, REPLICA="second", **edges)

    outputs = handled(broker, unique("out"), len(texts) - 1)
    assert [output["number"] for output in outputs] == [n for n in range(len(texts)) if n != slow]
    behind = outputs[slow:]
    assert {output["replica"] for output in behind} == {"second"}
    assert sum(output["delivered_before"] > 0 for output in behind) > 300
    assert {output["attempt"] for output in outputs} == {1}
    gate.touch()
    assert [output["number"] for output in handled(broker, unique("out"), 1)] == [slow]


@pytest.mark.thorough
def test_handlers_that_turn_slow_share_what_is_held(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """None takes a second, and all that is left is held by one replica: it gives that back."""
    edges: dict[str, Any] = {"INPUT_QUEUE": unique("in"), "OUTPUT_QUEUE": unique("out")}
    paces = [*[""] * FAST, *["0.2"] * SLOW]
    broker.put(unique("in"), [f"{number} {pace}".strip() for number, pace in enumerate(paces)])
    first = start(*PACED, REPLICA="first", **edges)
    first.wait_printed(str(FAST))

    start(*PACED, REPLICA="second", **edges)

    outputs = handled(broker, unique("out"), len(paces))
    assert [output["number"] for output in outputs] == list(range(len(paces)))
    assert {output["attempt"] for output in outputs} == {1}
    shares = Counter(output["replica"] for output in outputs[FAST:])
    assert min(shares["first"], shares["second"]) >= SLOW / 4


@pytest.mark.thorough
@pytest.mark.parametrize(
    "slow",
    [
        pytest.param(["3"], id="one that is slow"),
        # Seen as slow after two paces, of up to 1.5 s each: see AutoPrefetch.running.
        pytest.param(["0.2"] * 30, id="many that are slow together"),
    ],
)
def test_what_goes_back_keeps_its_place(
    broker: Broker, unique: Unique, start: Start, slow: list[str]
) -> None:
    """One replica whose handler turns slow, and fast again: in order, whatever went back."""
    paces = [*[""] * FAST, *slow, *[""] * FAST]
    broker.put(unique("in"), [f"{number} {pace}".strip() for number, pace in enumerate(paces)])
    start(*PACED, REPLICA="first", INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    outputs = [json.loads(output.text) for output in broker.take(unique("out"), len(paces), 150)]

    assert [output["number"] for output in outputs] == list(range(len(paces)))
    assert any(output["delivered_before"] for output in outputs)


@pytest.mark.thorough
def test_large_messages_behind_small_ones_are_held_in_bounded_memory(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """With credit for a thousand, what is beyond the bound goes back, and comes again, in order."""
    numbers = [f"{number:06}" for number in range(FAST)]
    large = [f"{FAST + number:06}" for number in range(LARGE)]
    broker.put(unique("in"), [*numbers, *(f"{each}{'.' * 4 * MEBIBYTE}" for each in large)])
    worker = start(
        *RELAY, RABBITMQ_HEARTBEAT=60, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out")
    )

    outputs = [output.text[:6] for output in broker.take(unique("out"), FAST + LARGE, 150)]

    assert outputs == [*numbers, *large]
    assert worker.peak_mebibytes < 80  # of which the interpreter takes 47


@pytest.mark.thorough
def test_messages_of_any_size_keep_their_place(
    broker: Broker, unique: Unique, start: Start
) -> None:
    """What went back comes again before anything else goes back: the broker puts that last."""
    sizes = [0] * FAST + [*[2 * MEBIBYTE] * 10, *[0] * 150, *[6 * MEBIBYTE] * 4] * 3 + [0] * FAST
    texts = [f"{number:06}{'.' * size}" for number, size in enumerate(sizes)]
    broker.put(unique("in"), texts)
    start(*RELAY, RABBITMQ_HEARTBEAT=60, INPUT_QUEUE=unique("in"), OUTPUT_QUEUE=unique("out"))

    outputs = [output.text[:6] for output in broker.take(unique("out"), len(texts), 150)]

    assert outputs == [text[:6] for text in texts]
