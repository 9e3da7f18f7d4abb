"""Who may look and who may act: what the broker says of a person who logs in at it."""

import secrets
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network
from time import monotonic
from urllib.parse import quote

from rabbit.errors import BrokerUnavailableError, ConfigurationError
from rabbit.operations.management import QUICK_REQUEST_SECONDS, Api, ControlSettings, apis

#: The tags of RabbitMQ users (rabbitmq.com/docs/management#permissions) that open the board.
LOOKS = {"monitoring", "policymaker", "administrator"}
ACTS = {"policymaker", "administrator"}

#: A session ends after so many seconds, and sooner when nothing is asked in it.
SESSION_SECONDS = 12 * 3600.0
IDLE_SECONDS = 2 * 3600.0
MOST_SESSIONS = 1000

#: The broker is asked again whether a person still may, after so many seconds.
RECHECK_SECONDS = 60.0

#: So many attempts to log in within so many seconds: from one address, with one name and with any,
#: and from all, as the broker is not asked without end. One address alone locks out nobody who
#: comes from elsewhere; fifteen together can, for as long as they go on.
ATTEMPTS_WITH_NAME = 5
ATTEMPTS = 20
ATTEMPTS_OF_ALL = 300
ATTEMPTS_SECONDS = 60.0

_NETWORK_BITS = 64

LONGEST_LOGIN = 200

#: How long a broker may take to say who somebody is.
_SECONDS = 3 * QUICK_REQUEST_SECONDS


class RefusedError(Exception):
    """This user may not do that."""


@dataclass
class Session:
    """One person who is logged in.

    Attributes:
        user: the name.
        login: `user:password`, to ask the broker again with.
        may_act: whether more than looking is allowed.
        csrf: what a request that changes something has to know.
        began, used, checked: when, by a clock that does not go back.
    """

    user: str
    login: str = field(repr=False)
    may_act: bool
    began: float
    used: float
    checked: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def is_over(self, now: float) -> bool:
        """Whether it has been open, or unused, for too long."""
        return now - self.began > SESSION_SECONDS or now - self.used > IDLE_SECONDS


class Attempts:
    """Counts attempts to log in, by name and by the address that they come from."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Begin with none."""
        self._clock = clock
        self._made: deque[tuple[float, str, str]] = deque()

    def allows(self, user: str, address: str) -> bool:
        """Note an attempt, if it is allowed.

        Args:
            user: the name that is tried.
            address: where from; of IPv6, whoever has one has all that begin alike.
        """
        now, source = self._clock(), _network(address)
        while self._made and now - self._made[0][0] > ATTEMPTS_SECONDS:
            self._made.popleft()
        names = [name for _, name, where in self._made if where == source]
        if len(self._made) >= ATTEMPTS_OF_ALL or len(names) >= ATTEMPTS:
            return False
        if names.count(user) >= ATTEMPTS_WITH_NAME:
            return False
        self._made.append((now, user, source))
        return True

    def forgive(self, user: str, address: str) -> None:
        """Forget the attempts of somebody who has logged in."""
        meant = user, _network(address)
        self._made = deque(each for each in self._made if each[1:] != meant)


def _network(address: str) -> str:
    """Return what somebody has who has this address: of IPv6, a network of 64 bits."""
    with suppress(ValueError):
        return str(IPv6Network((address, _NETWORK_BITS), strict=False))
    return address


class Sessions:
    """Everybody who is logged in; in memory, so a restart ends all sessions."""

    def __init__(self, settings: ControlSettings, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nobody.

        Args:
            settings: which brokers there are.
            clock: tells the time, in seconds.
        """
        self._settings = settings
        self._clock = clock
        self._open: dict[str, Session] = {}

    def log_in(self, user: str, password: str) -> tuple[str, Session]:
        """Return the secret of a new session, and the session; it asks the broker, and waits.

        Raises:
            RefusedError: the broker does not know this user, or the user may not look, or has no
                permissions in the pipeline's virtual host.
            BrokerUnavailableError: no broker answers.
        """
        login = f"{user}:{password}"
        may_act = self._may_act(login)
        now = self._clock()
        self._open = {key: each for key, each in self._open.items() if not each.is_over(now)}
        if len(self._open) >= MOST_SESSIONS:
            del self._open[next(iter(self._open))]  # the oldest
        key = secrets.token_urlsafe(32)
        self._open[key] = Session(user, login, may_act, now, now, now)
        return key, self._open[key]

    def find(self, key: str | None) -> Session | None:
        """Return the session with this secret."""
        session = self._open.get(key or "")
        now = self._clock()
        if session is None or session.is_over(now):
            return None
        session.used = now
        return session

    def end(self, key: str | None) -> None:
        """Log out."""
        self._open.pop(key or "", None)

    def is_due(self, session: Session) -> bool:
        """Whether the broker should be asked again."""
        return self._clock() - session.checked > RECHECK_SECONDS

    def check(self, key: str, session: Session) -> None:
        """Ask the broker again, which may have another password, tags or permissions by now.

        Raises:
            RefusedError: the user may not even look any more; the session is over.
            BrokerUnavailableError: no broker answers.
        """
        session.checked = self._clock()  # of a broker that is away, not at once again
        try:
            session.may_act = self._may_act(session.login)
        except RefusedError:
            self.end(key)
            raise

    def _may_act(self, login: str) -> bool:
        tags = _tags(self._ask(login, "whoami"))
        if not tags & LOOKS:
            raise RefusedError(
                f"this user has none of the tags {', '.join(sorted(LOOKS))}: give it one with "
                "rabbitmqctl set_user_tags"
            )
        vhost = self._settings.endpoints[0].vhost
        # Each has this exchange; who may do nothing in the virtual host is told that it has none.
        if self._ask(login, f"exchanges/{quote(vhost, safe='')}/amq.direct") is None:
            raise RefusedError(
                f"this user has no permissions in the virtual host {vhost}: give it some with "
                f"rabbitmqctl set_permissions --vhost {vhost}; to read it takes '^$' '^$' '.*'"
            )
        return bool(tags & ACTS)

    def _ask(self, login: str, path: str) -> object:
        try:
            present = apis(self._settings.renewed())  # its CA may be another one by now
        except ValueError as error:
            raise BrokerUnavailableError(str(error)) from error
        tried = []
        for api in present:
            try:
                return _own(api, login).ask(path, None, _SECONDS)
            except BrokerUnavailableError as error:
                tried.append(str(error))
            except ConfigurationError:
                raise RefusedError(
                    "RabbitMQ refuses this login: the name or the password is wrong, or the user "
                    "has no tag that lets it look"
                ) from None
        raise BrokerUnavailableError(f"no broker answers: {', '.join(tried)}")


def _own(api: Api, login: str) -> Api:
    return replace(api, login=login)


def _tags(whoami: object) -> set[str]:
    """Return the tags: a list since RabbitMQ 3.9, a text with commas before."""
    given = whoami.get("tags", ()) if isinstance(whoami, dict) else ()
    return set(given.split(",") if isinstance(given, str) else given)
