"""The status, again and again, until Ctrl-C."""

import signal
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic, sleep
from types import FrameType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rabbit import ConfigurationError, RabbitError
from rabbit.operations.ages import Ages
from rabbit.operations.looks import Look
from rabbit.terminal import visible

from .status import Status

#: How often it looks, and over how long rates are taken: a second of a slow stage is a lottery.
INTERVAL_SECONDS = 1.0
RATES_SECONDS = 10.0


def watch(look: Callable[[], Look], console: Console, *, each_replica: bool) -> None:
    """Show the status until Ctrl-C, or SIGTERM, and leave the terminal as it was.

    A broker that does not answer is said, and waited for.

    Args:
        look: looks.
        console: a terminal.
        each_replica: as for `Status`.

    Raises:
        ConfigurationError: it is no terminal.
    """
    if not (console.is_terminal and sys.stdout.isatty()):
        msg = "--watch needs a terminal; without one, call status again and again"
        raise ConfigurationError(msg)
    signal.signal(signal.SIGTERM, _interrupt)
    looks: deque[Look] = deque()
    ages = Ages()
    shown: RenderableType = Text("looking")
    try:
        with Live(shown, console=console, screen=True, auto_refresh=False) as live:
            while True:
                began = monotonic()
                try:
                    looks.append(look())
                    while looks[-1].moment - looks[0].moment > RATES_SECONDS:
                        looks.popleft()
                    now, before, old = looks[-1], looks[0], ages.take(looks[-1])
                    shown = Status(now, before, ages=old, each_replica=each_replica).tables()
                    live.update(shown, refresh=True)
                except RabbitError as error:
                    live.update(Group(Text(visible(str(error)), style="red"), shown), refresh=True)
                sleep(max(0.0, began + INTERVAL_SECONDS - monotonic()))
    except KeyboardInterrupt:
        return  # the connection is closed in order


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
