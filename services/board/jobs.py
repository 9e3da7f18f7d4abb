"""What people do from the board: one thing at a time, who did it, and what came of it."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeAlias

from rabbit.errors import RabbitError
from rabbit.logs import Logger

#: So many of those that are over are shown.
MOST_SHOWN = 30

#: Given a line of progress.
Tell: TypeAlias = Callable[[str], None]

#: Does it; returns what came of it, and whether that is all that was asked for.
Work: TypeAlias = Callable[[Tell], tuple[str, bool]]


class CancelledError(Exception):
    """Cancelled: what is not done yet stays as it is."""


class BusyError(Exception):
    """Something else is under way."""


@dataclass
class Job:
    """One thing that somebody asked for.

    Attributes:
        number: names it.
        lane: of two jobs in the same lane, only one is under way.
        what: in words, such as `drain to_upper`.
        who: the RabbitMQ user.
        began, ended: in ISO 8601; ended is "" while it is under way.
        said: how far it is, or what came of it.
        ok: whether all of it was done; None while it is under way.
        can_cancel: whether it can be ended early.
    """

    number: int
    lane: str
    what: str
    who: str
    began: str
    ended: str = ""
    said: str = ""
    ok: bool | None = None
    can_cancel: bool = False
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, said: str) -> None:
        """Note how far it is. Raises CancelledError once somebody has cancelled it."""
        self.said = said
        if self._cancelled.is_set():
            raise CancelledError

    def cancel(self) -> None:
        """End it at its next word."""
        self._cancelled.set()

    def as_json(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        return {name: getattr(self, name) for name in _SHOWN}


_SHOWN = ("number", "what", "who", "began", "ended", "said", "ok", "can_cancel")


class Jobs:
    """Those under way, and the last of those that are over."""

    def __init__(self, log: Logger, publish: Callable[[list[dict[str, Any]]], None]) -> None:
        """Begin with none.

        Args:
            log: told who did what.
            publish: given all that is to be shown, whenever it changes.
        """
        self._log = log
        self._publish = publish
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._under_way: dict[str, Job] = {}
        self._over: deque[Job] = deque(maxlen=MOST_SHOWN)

    def under_way(self, lane: str) -> Job | None:
        """Return what is under way in a lane."""
        return self._under_way.get(lane)

    def begin(self, lane: str, what: str, who: str, work: Work, *, can_cancel: bool = False) -> Job:
        """Have a thread do it.

        Raises:
            BusyError: something in this lane is under way.
        """
        with self._lock:
            other = self.under_way(lane)
            if other:
                raise BusyError(f"{other.who} is at it: {other.what}; wait until that is over")
            began = datetime.now(UTC).isoformat(timespec="seconds")
            job = Job(next(self._numbers), lane, what, who, began, can_cancel=can_cancel)
            self._under_way[lane] = job
        self._log.info("asked for", what=what, user=who)
        threading.Thread(target=self._run, args=(job, work), name=what, daemon=True).start()
        return job

    def cancel(self, number: int, who: str) -> None:
        """Cancel a job, if it can be and is still under way."""
        for job in list(self._under_way.values()):
            if job.number == number and job.can_cancel:
                self._log.info("cancelled", what=job.what, user=who)
                job.cancel()

    def _run(self, job: Job, work: Work) -> None:
        self._show()
        try:
            said, ok = work(lambda line: self._tell(job, line))
        except RabbitError as error:
            said, ok = str(error), False
        except CancelledError:
            said, ok = f"cancelled after: {job.said}", False
        except Exception as error:  # noqa: BLE001 - who asked hears of it
            self._log.exception("failed", what=job.what, user=job.who)
            said, ok = f"a defect of the board, see its log: {type(error).__name__}", False
        job.said, job.ended = said, datetime.now(UTC).isoformat(timespec="seconds")
        job.ok = ok
        with self._lock:
            del self._under_way[job.lane]
            self._over.appendleft(job)
        say = self._log.info if ok else self._log.warning
        say("done" if ok else "not done", what=job.what, user=job.who, result=said)
        self._show()

    def _tell(self, job: Job, line: str) -> None:
        job.tell(line)
        self._show()

    def _show(self) -> None:
        with self._lock:
            shown = [*self._under_way.values(), *self._over]
            self._publish([job.as_json() for job in shown])  # in the order in which they change
