"""The news of whether the broker can be reached."""

from rabbit.logs import Logger
from rabbit.settings import Endpoint


class Availability:
    """Says when the broker goes away and comes back: once per change, not per attempt."""

    def __init__(self, log: Logger) -> None:
        """Say it to `log`."""
        self._log = log
        self._trouble: str | None = None

    def trouble(self, reason: str) -> None:
        """Note why there is no connection; the same reason again is not said again."""
        if reason != self._trouble:
            self._trouble = reason
            self._log.warning("broker unavailable, trying again", reason=reason)

    def restored(self, endpoint: Endpoint) -> None:
        """Note that there is a connection."""
        if self._trouble is not None:
            self._trouble = None
            self._log.info("broker available again", broker=str(endpoint))
