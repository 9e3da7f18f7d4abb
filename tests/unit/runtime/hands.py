"""A dispatcher's handlers, and what it publishes to: both move when a test says so."""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from rabbit.messaging.delivery import Delivery
from rabbit.runtime.handler import Call, Handler
from rabbit.runtime.handler_times import HandlerTimes
from tests.unit.scripted import Published, ScriptedChannel

#: No message may be larger, in bytes.
LIMIT = 50


class Hands:
    """Handlers that the test moves: the first few of what is handed over run, in its own thread."""

    is_leaving = False

    def __init__(self, handle: Callable[[Delivery], Call[Delivery]], concurrency: int) -> None:
        """Run `concurrency` of them at a time."""
        self._handle = handle
        self._concurrency = concurrency
        self._waiting: deque[Delivery] = deque()
        self.running: list[Delivery] = []
        self._results: list[Call[Delivery]] = []

    @property
    def busy(self) -> int:
        """Count the jobs whose result has not been taken."""
        return len(self._waiting) + len(self.running) + len(self._results)

    def submit(self, jobs: Iterable[Delivery]) -> None:
        """Queue jobs; start as many as may run."""
        self._waiting.extend(jobs)
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self.running) < self._concurrency:
            self.running.append(self._waiting.popleft())

    def finish(self, number: int) -> None:
        """Have one of those that run return."""
        self._results.append(self._handle(self.running.pop(number)))
        self._start()

    def take_results(self) -> tuple[list[Call[Delivery]], float]:
        """Return what has returned; a hundredth of a second it took, each."""
        results, self._results = self._results, []
        return results, len(results) / 100

    def take_unstarted(self) -> list[Delivery]:
        """Take back what does not run."""
        unstarted = list(self._waiting)
        self._waiting.clear()
        return unstarted

    def times(self) -> HandlerTimes:
        """Nobody asks."""
        raise NotImplementedError

    def longest_running(self) -> float:
        """All are quick."""
        return 0.0

    def take_long(self) -> list[Delivery]:
        """All are quick."""
        return []

    overdue = take_long

    def stop(self) -> None:
        """There is no thread to end."""


class ByHand(Handler):
    """A handler whose calls end when the test says so."""

    hands: Hands

    def start(self, *, concurrency: int, **_given: Any) -> Any:
        """Start no thread."""
        self.hands = Hands(self.run, concurrency)
        return self.hands


class Publishing:
    """The broker's end of a channel that is published on: what it has been sent, and has told."""

    def __init__(self, channel: ScriptedChannel, store: Callable[[Published], None]) -> None:
        """Have `store` put messages where they belong."""
        self.channel = channel
        self.told: list[Published] = []  # confirmed, and not returned
        self.unconfirmed: dict[int, Published] = {}
        self._store = store
        self._raw = channel._raw  # noqa: SLF001 - which channel it is
        self._known = self._sequence = 0

    def look(self, dice: random.Random) -> None:
        """Take what was sent since; close the channel for what is too large."""
        self._notice_another()
        for message in self.channel.published[self._known :]:
            self._known += 1
            self._sequence += 1
            if len(message.body) > LIMIT:
                self._known = len(self.channel.published)  # what is behind it is not read
                size = f"message size {len(message.body)} is larger than configured max size"
                self._end(dice)
                self.channel.close_by_broker(406, f"PRECONDITION_FAILED - {size} {LIMIT}")
                self._notice_another()
                break
            self.unconfirmed[self._sequence] = message

    def _notice_another(self) -> None:
        if self.channel._raw is not self._raw:  # noqa: SLF001
            self._raw, self._sequence = self.channel._raw, 0  # noqa: SLF001
            self.unconfirmed.clear()

    def _end(self, dice: random.Random) -> None:
        """Forget what is not confirmed; some of it a queue has, which nobody is told any more."""
        for message in self.unconfirmed.values():
            if dice.random() < 0.5:
                self._store(message)
        self.unconfirmed.clear()

    def lose(self, dice: random.Random) -> None:
        """Lose the channel."""
        self._end(dice)
        self.channel.lose()
        self._notice_another()

    def tell(self, how: str, dice: random.Random) -> None:
        """Confirm, nack or return anything that is not confirmed, and sometimes all before it."""
        if not self.unconfirmed:
            return
        last = dice.choice(list(self.unconfirmed))
        multiple = how != "return" and dice.random() < 0.3
        numbers = [each for each in self.unconfirmed if each == last or (multiple and each < last)]
        messages = [self.unconfirmed.pop(each) for each in numbers]
        listener = self.channel.listener
        if how == "nack":
            listener.nacked(last, multiple=multiple)
        elif how == "return":
            self.channel.returns(messages[0])
            listener.acked(last, multiple=False)
        else:
            for message in messages:
                self._store(message)
            self.told += messages
            listener.acked(last, multiple=multiple)
