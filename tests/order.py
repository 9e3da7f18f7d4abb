"""Order by key, as replicas tell of it who print when they handled what."""

from collections import defaultdict
from collections.abc import Iterable
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
    """Return what these have printed; the texts of messages begin with their number."""
    found = [
        Handling(
            each["key"],
            int(each["text"].split()[0]),
            each["began"],
            each["ended"],
            each["failed"],
            each["attempt"],
            process.pid,
        )
        for process in processes
        for each in process.objects
    ]
    return sorted(found, key=lambda each: each.began)


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
    wrong: list[str] = []
    first_end: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for each in sorted(found, key=lambda each: each.ended):
        if not each.failed:
            first_end[each.key].setdefault(each.number, each.ended)
    seen: defaultdict[str, set[int]] = defaultdict(set)
    for each in sorted(found, key=lambda each: each.began):
        if each.number in seen[each.key]:
            continue
        seen[each.key].add(each.number)
        missing = [
            number
            for number in range(each.number)
            if first_end[each.key].get(number, float("inf")) > each.began
        ]
        wrong += [f"{each.key}: {each.number} began before {missing[:5]}"] if missing else []
    return wrong


def twice(found: Iterable[Handling]) -> int:
    """Count what was handled again although it had been handled."""
    times: defaultdict[tuple[str, int], int] = defaultdict(int)
    for each in found:
        times[each.key, each.number] += not each.failed
    return sum(count - 1 for count in times.values() if count > 1)


def interleaved(keys: Iterable[str], count: int) -> list[tuple[str, Any]]:
    """Return `count` numbered messages of each key, one of each key after the other."""
    return [(key, f"{number}") for number in range(count) for key in keys]
