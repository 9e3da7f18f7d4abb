"""Order by key: any interleaving of what comes, is handled, fails and is put back."""

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from rabbit.messaging.lanes import Lanes


class Item(NamedTuple):
    """A numbered message."""

    routing_key: str
    number: int


STEPS = st.lists(st.tuples(st.sampled_from(["add", "take", "release", "put back"]), st.integers()))


@given(STEPS)
def test_of_each_key_one_is_out_and_in_order(steps: list[tuple[str, int]]) -> None:
    """What was put back comes next; in the end, everything has come once, in order."""
    lanes: Lanes[Item] = Lanes()
    added: dict[str, int] = defaultdict(int)
    out: list[Item] = []
    done: dict[str, list[int]] = defaultdict(list)

    def take() -> None:
        for item in lanes.take():
            assert item.routing_key not in {other.routing_key for other in out}
            assert item.number == len(done[item.routing_key])
            out.append(item)

    def release(choice: int) -> None:
        item = out.pop(choice % len(out))
        done[item.routing_key].append(item.number)
        lanes.release(item)

    for step, choice in steps:
        if step == "add":
            key = "abc"[choice % 3]
            lanes.add(Item(key, added[key]))
            added[key] += 1
        elif step == "take":
            take()
        elif out and step == "release":
            release(choice)
        elif out:
            lanes.put_back(out.pop(choice % len(out)))
    while lanes.is_ready or out:
        take()
        release(0)

    assert done == {key: list(range(count)) for key, count in added.items()}


def test_what_is_out_keeps_its_key_when_the_rest_is_forgotten() -> None:
    """It is with a handler: what comes again of its key waits for that."""
    lanes: Lanes[Item] = Lanes()
    first, again = Item("a", 0), Item("a", 0)
    for item in (first, Item("a", 1), Item("b", 0)):
        lanes.add(item)
    assert lanes.take() == [first, Item("b", 0)]

    lanes.clear()
    lanes.add(again)
    before = lanes.take()
    lanes.release(first)

    assert before == []
    assert lanes.take() == [again]
