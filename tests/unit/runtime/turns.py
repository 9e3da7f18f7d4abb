"""Turns of a dispatcher whose loop and broker are the test's."""

from rabbit.runtime.dispatcher import Dispatcher
from tests.unit.scripted import ScriptedLoop

PATIENCE_SECONDS = 30


class Turns:
    """What a test does with a dispatcher, of any kind of edge.

    Attributes:
        dispatcher: the one under test.
        loop: its loop.
    """

    dispatcher: Dispatcher
    loop: ScriptedLoop

    def turn(self) -> None:
        """Take a turn, let time pass, and take another, in which acks are due."""
        self.dispatcher.turn()
        self.loop.pass_time()
        self.dispatcher.turn()

    def settle_work(self) -> None:
        """Take turns until no handler is at work."""
        self.turn()
        while self.dispatcher._handlers.busy:  # noqa: SLF001 - what a halt waits for
            assert self.loop.woken.acquire(timeout=PATIENCE_SECONDS)
            self.turn()
