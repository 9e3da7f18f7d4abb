"""HANDLER_TIMEOUT: which messages have been with a handler for too long."""

from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Stopwatch(Generic[Job, Result]):
    """Times each call of a handler, in whatever thread, and looks at those that do not end."""

    def __init__(self, handle: Callable[[Job], Result], limit: float) -> None:
        """Allow each call of `handle` so many seconds."""
        self._handle = handle
        self._limit = limit
        self._since: dict[Job, float] = {}

    def handle(self, job: Job) -> Result:
        """Call the handler."""
        self._since[job] = monotonic()
        try:
            return self._handle(job)
        finally:
            self._since.pop(job, None)

    def overdue(self) -> list[Job]:
        """Return the jobs whose time is up, each of them once."""
        latest = monotonic() - self._limit
        # A thread that ends meanwhile has removed its own: then its result counts.
        late = [job for job, since in list(self._since.items()) if since < latest]
        return [job for job in late if self._since.pop(job, None) is not None]
