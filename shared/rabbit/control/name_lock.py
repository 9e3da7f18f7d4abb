"""One process for each replica's name: a lock that lives and dies with its connection."""

from collections.abc import Callable
from math import inf
from time import monotonic

from rabbit.amqp.channel import Count
from rabbit.amqp.channel_listener import ChannelListener
from rabbit.amqp.connection import Connection
from rabbit.errors import ConfigurationError, RabbitError, TopologyError
from rabbit.logs import Logger
from rabbit.settings import Settings
from rabbit.topology import control_queue, name_lock

_RESOURCE_LOCKED = 405
_NOT_FOUND = 404

#: How long a new process tries, in seconds: its killed predecessor may still have to be noticed.
START_SECONDS = 5.0

#: A connection that is half-open keeps the lock until the broker notices, after two or three
#: heartbeats: our own, when we are back on another. So long after that it is somebody else's.
MARGIN_SECONDS = 5.0

PAUSE_SECONDS = 0.25
LONG_PAUSE_SECONDS = 2.0


class NameLock(ChannelListener):
    """An exclusive queue of the replica's name (queue.declare): no other connection can have it.

    A quorum queue takes several consumers even where one of them is exclusive; and a lock on the
    queue that is consumed would hold up our own return. This one holds up a new process only.

    Of several brokers, one that has failed keeps the locks of all who were connected to it. So
    there the refusal alone proves nothing: a process that lives consumes its control queue, and of
    a quorum queue RabbitMQ does not count the consumers whose node is down.

    Attributes:
        channel: of the connection, while the lock is taken.
    """

    def __init__(
        self,
        connection: Connection,
        stage: str,
        replica: str,
        settings: Settings,
        log: Logger,
        *,
        on_first: Callable[[], None],
        on_failed: Callable[[RabbitError], None],
    ) -> None:
        """Live on `connection`.

        Args:
            connection: the lock goes with it.
            stage: the replica's stage.
            replica: its name.
            settings: of the connection.
            log: told when it cannot be taken, and another broker than ours may be why.
            on_first: called when it is taken for the first time.
            on_failed: called when another process has it, or the broker refuses it to this user.
        """
        self._connection = connection
        self._name = name_lock(stage, replica)
        self._control_queue = control_queue(stage, replica)
        self._replica = f"{stage}/{replica}"
        self._return_seconds = 3 * settings.rabbitmq_heartbeat + MARGIN_SECONDS
        # Of several brokers, one that has failed keeps our own lock until it is back.
        self._may_be_ours = len(settings.endpoints) > 1
        self._has_warned = False
        self._log = log
        self._on_first = on_first
        self._on_failed = on_failed
        self._is_first = True
        self._refused_at: float | None = None
        self._looks = False  # at who consumes the control queue, before the next try
        self._is_consumed = False  # at the last look
        self._consumed_at = -inf  # when it was seen to be, the last time
        self.channel = connection.channel(self, "take its name")

    def opened(self) -> None:
        """Try to take it."""
        if self._looks:
            self._looks = False
            self.channel.count(self._control_queue, self._counted)
        else:
            self.channel.declare_lock(self._name, self._taken)

    def _counted(self, count: Count) -> None:
        self._is_consumed = count.consumers > 0
        if self._is_consumed:
            self._consumed_at = monotonic()
        self.channel.declare_lock(self._name, self._taken)

    def lost(self) -> None:
        """It is lost with the connection, at the latest when the broker notices: take it again."""
        self.channel.is_wanted = True

    def _taken(self) -> None:
        self._refused_at, self._has_warned = None, False
        self.channel.close()  # it is the connection that holds the lock
        self._let_in()

    def failed(self, error: TopologyError) -> None:
        """Tell that the broker refuses it to this user."""
        self._on_failed(error)

    def closed_by_broker(self, code: int, text: str) -> bool:
        """Try again when another connection has it; for a while."""
        del text
        if code == _NOT_FOUND:  # the control queue: nobody lives by this name
            self._is_consumed = False
        elif code != _RESOURCE_LOCKED:
            return False
        elif self._gives_up():
            msg = (
                f"another process runs as {self._replica}: give each replica a name of its own "
                "(REPLICA, or its host name)"
            )
            self._on_failed(ConfigurationError(msg))
            return True
        else:
            self._looks = self._may_be_ours and self._is_first
        pause = PAUSE_SECONDS if self._is_first else LONG_PAUSE_SECONDS
        self._connection.call_later_if_open(pause, self.channel.open)
        return True

    def _gives_up(self) -> bool:
        """Tell whether it is somebody else's for certain; go on without it if it may be ours."""
        now = monotonic()
        self._refused_at = self._refused_at or now
        seconds = START_SECONDS if self._is_first else self._return_seconds
        if now - self._refused_at <= seconds:
            return False
        if not self._may_be_ours:
            return True
        if self._is_first and now - self._consumed_at <= START_SECONDS:
            return self._is_consumed  # else wait: a count of none is not believed at once
        if not self._has_warned:
            self._has_warned = True
            why = "a broker that has failed keeps the lock, or another process has this name"
            self._log.warning("name not taken, going on", name=self._replica, reason=why)
        self._let_in()
        return False

    def _let_in(self) -> None:
        if self._is_first:
            self._is_first = False
            self._on_first()
