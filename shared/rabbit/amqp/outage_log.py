"""The news of whether the broker can be reached, and takes what is asked of it."""

from rabbit.logs import Logger
from rabbit.settings import Endpoint

#: How much of what the broker says is kept, in characters.
LONGEST_REASON = 500


class OutageLog:
    """Says what is wrong with the broker: once for each reason, not for each attempt.

    An outage begins with the first connection that is lost or cannot be made, and ends when all
    have lasted for a while. Until then no reason is told twice, not even one that comes back in
    turn with another, as with several hosts.
    """

    def __init__(self, log: Logger) -> None:
        """Say it to `log`."""
        self._log = log
        self._away: dict[object, str] = {}
        self._refused: dict[object, dict[str, str]] = {}  # purposes by reason, the last one last
        self._told: set[str] = set()

    @property
    def reason(self) -> str | None:
        """What is wrong now, as far as is known; None: nothing."""
        refused = [next(reversed(known)) for known in self._refused.values()]
        reasons = [*self._away.values(), *refused]
        return reasons[-1] if reasons else None

    def trouble(self, who: object, reason: str, kind: str) -> None:
        """Note why there is no connection.

        Args:
            who: the connection.
            reason: in one line.
            kind: the same for all hosts: one of a kind is told in an outage.
        """
        self._away.pop(who, None)  # the last one comes last
        self._away[who] = reason[:LONGEST_REASON]
        if kind not in self._told:
            self._told.add(kind)
            self._log.warning("broker unavailable, trying again", reason=reason)

    def restored(self, who: object, endpoint: Endpoint) -> None:
        """Note that a connection has lasted."""
        if self._away.pop(who, None) is not None and not self._away:
            self._told.clear()
            self._log.info("broker available again", broker=str(endpoint))

    def refused(self, who: object, purpose: str, reason: str) -> None:
        """Note why the broker has closed a channel that is opened again.

        Args:
            who: the channel.
            purpose: what it is for, as in "cannot ...".
            reason: in the broker's words.
        """
        self._note(who, "broker refuses a channel, trying again", purpose, reason)

    def replaced(self, who: object, purpose: str, reason: str) -> None:
        """Note why we have closed a channel ourselves, which is opened again; see `refused`."""
        self._note(who, "channel is set up again", purpose, reason)

    def closed(self, purpose: str, reason: str) -> None:
        """Tell why the broker has closed a channel that is not opened again, in its words."""
        self._log.warning("broker has closed a channel", channel=purpose, reason=reason)

    def _note(self, who: object, event: str, purpose: str, reason: str) -> None:
        known = self._refused.pop(who, {})  # the last one comes last
        if known.pop(reason[:LONGEST_REASON], None) is None:
            self._log.warning(event, channel=purpose, reason=reason)
        self._refused[who] = {**known, reason[:LONGEST_REASON]: purpose}

    def accepted(self, who: object) -> None:
        """Note that a channel has lasted."""
        if known := self._refused.pop(who, None):
            self._log.info("broker takes the channel again", channel=next(iter(known.values())))

    def forget(self, *gone: object) -> None:
        """Let go of what was noted of connections and users that are no more."""
        for who in gone:
            self._away.pop(who, None)
            self._refused.pop(who, None)
        if not self._away:
            self._told.clear()
