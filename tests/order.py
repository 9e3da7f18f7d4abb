"""Order by key, as replicas tell of it who print when they handled what."""

from collections import defaultdict
from collections.abc import Iterable
from math import inf
from typing import Any, NamedTuple

from tests.process import Process


class Handling(NamedTuple):
    """One call of `work` that has returned, or raised.

    Attributes:
        key: the message's routing key.
        number: the message's place among those of its key, from 0.
        began: when, by the machine's clock, the same for all processes.
        ended: likewise.
        failed: whether it raised.
        attempt: which attempt it was, as `work` sees it.
        replica: which process it was in.
    """

    key: str
    number: int
    began: float
    ended: float
    failed: bool
    attempt: int
    replica: int


def handlings(processes: Iterable[Process]) -> list[Handling]:
    """Return what these have printed, by time; the texts of messages begin with their number."""
    found = [_handling(each, process) for process in processes for each in process.objects]
    return sorted(found, key=lambda each: each.began)


def more_handlings(processes: Iterable[Process]) -> list[Handling]:
    """Return what these have printed since this was called last."""
    return [_handling(each, process) for process in processes for each in process.more_objects()]


def _handling(told: dict[str, Any], process: Process) -> Handling:
    return Handling(
        told["key"],
        int(told["text"].split()[0]),
        told["began"],
        told["ended"],
        told["failed"],
        told["attempt"],
        process.pid,
    )


def handled(found: Iterable[Handling]) -> dict[str, set[int]]:
    """Return which numbers of each key have been handled without failing."""
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    for each in found:
        if not each.failed:
            numbers[each.key].add(each.number)
    return numbers


def disorder(found: Iterable[Handling]) -> list[str]:
    """Return what is out of order: nothing of a key begins before all before it has been handled.

    What comes twice may come at any time after that.
    """
    begins: defaultdict[str, dict[int, float]] = defaultdict(dict)
    ends: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for each in found:
        first = begins[each.key].get(each.number, inf)
        begins[each.key][each.number] = min(first, each.began)
        if not each.failed:
            first = ends[each.key].get(each.number, inf)
            ends[each.key][each.number] = min(first, each.ended)
    wrong = []
    for key, began in begins.items():
        before = -inf  # when all before it had been handled
        for number in range(max(began) + 1):
            if began.get(number, inf) < before:
                wrong.append(f"{key}: {number} began too early, by {before - began[number]:.6f} s")
            before = max(before, ends[key].get(number, inf))
    return wrong


def again(found: Iterable[Handling]) -> list[Handling]:
    """Return what was handled although it had been handled before."""
    done: set[tuple[str, int]] = set()
    twice = []
    for each in sorted(found, key=lambda each: each.ended):
        if (each.key, each.number) in done:
            twice.append(each)
        if not each.failed:
            done.add((each.key, each.number))
    return twice
