"""Children that a handler forks: they have the parent's memory, and none of its threads."""

import os
import signal
import threading
import traceback
from typing import NoReturn, Protocol
from weakref import WeakSet

from rabbit import terminal
from rabbit.runtime.watchdog import leave_at_once


class Parental(Protocol):
    """What is the parent's only."""

    def disown(self) -> None:
        """Forget, in a child that was just forked, what is the parent's."""


#: Kept back while a child is forked: until its handlers are restored, they would tell its parent.
_STOPPING = (signal.SIGTERM, signal.SIGINT)

_parental: "WeakSet[Parental]" = WeakSet()


class _Mask(threading.local):
    """The signals that were kept back in this thread before it forks."""

    before: set[int] | None = None


def keep_from_children(thing: Parental) -> None:
    """Have `thing` disowned in each child that is forked while it exists."""
    _parental.add(thing)


def forget(thing: Parental) -> None:
    """Take that back."""
    _parental.discard(thing)


_mask = _Mask()


def _keep_back() -> None:
    if _parental:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)


def _let_through() -> None:
    if _mask.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)
        _mask.before = None


def _disown() -> None:
    for thing in list(_parental):
        thing.disown()
    _parental.clear()
    _let_through()


def end_child(error: BaseException | None) -> NoReturn:
    """End a child that was forked in a handler, as it would end had it been forked in `main`.

    Args:
        error: what the handler has raised in the child; SystemExit tells the exit code.
    """
    match error:
        case None | SystemExit(code=None):
            leave_at_once(0)
        case SystemExit(code=int(code)):
            leave_at_once(code)
        case SystemExit():
            terminal.say(str(error))
        case _:
            terminal.say("".join(traceback.format_exception(error)).rstrip())
    leave_at_once(1)


os.register_at_fork(before=_keep_back, after_in_parent=_let_through, after_in_child=_disown)
