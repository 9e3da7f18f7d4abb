"""What can go wrong, as one small tree.

    RabbitError
    ├── ConfigurationError     a setting is missing or wrong            exit code 2
    ├── TopologyError          the broker refuses what we declare       exit code 2
    ├── BrokerUnavailableError no connection within the time allowed
    ├── ClosedError            the queue was closed while somebody waited
    ├── PublishError
    │   ├── RefusedError       the broker said no (basic.nack)
    │   ├── TooLargeError      the message is larger than allowed
    │   └── UnroutableError    no queue is bound for it (basic.return)
    ├── IncompleteError        a source was halted half-way
    ├── ResourcesError         a stage could not open, or close, its own
    ├── HandlerTimeoutError    a handler ran longer than HANDLER_TIMEOUT
    └── DrainTimeoutError      gave up waiting while halting            exit code 1

Five stand apart. A handler raises `Reject` to give a message up and `Retry` to say when it is to
come again, and `UndecodableError` is what the dead letter of a message says whose properties or
body are beyond us; `InvalidPayloadError` is one of these: the body is not what `work` takes.
`Halted` is no error but the way a source leaves its work when it is stopped. `ProtocolError` ends
a connection, and nothing else.
"""

import sys
from typing import ClassVar


class RabbitError(Exception):
    """Something went wrong between this process and RabbitMQ."""

    #: What a process that ends with this error returns to its parent.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        """Use `message`, or else the first line of the class's docstring."""
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])


class ConfigurationError(RabbitError):
    """A setting is missing or wrong."""

    exit_code = 2


class TopologyError(RabbitError):
    """The broker refuses an exchange, a queue or a binding that this stage declares."""

    exit_code = 2


class BrokerUnavailableError(RabbitError):
    """RabbitMQ could not be reached in time."""


class ProtocolError(ValueError):
    """What was received is not AMQP 0-9-1, or more than was agreed upon: the connection ends.

    Attributes:
        data: how it begins.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        """Say what is wrong with it."""
        super().__init__(message)
        self.data = data


class ClosedError(RabbitError):
    """The queue was closed meanwhile; what was not confirmed may have been published."""


class PublishError(RabbitError):
    """A message was published and no queue has taken it."""


class RefusedError(PublishError):
    """The broker refused the message (basic.nack): its queue is full or not available."""


class TooLargeError(PublishError):
    """The message is larger than the broker or MAX_MESSAGE_BYTES allows."""


class UnroutableError(PublishError):
    """The broker returned the message (basic.return): no queue is bound for it."""


class IncompleteError(RabbitError):
    """A source was halted before its work had returned: the rest is not published.

    Attributes:
        by_broadcast: the halt was broadcast.
    """

    by_broadcast = False


class ResourcesError(RabbitError):
    """What a stage opens in resources() or thread_resources() has failed."""


class HandlerTimeoutError(RabbitError):
    """A handler ran longer than HANDLER_TIMEOUT."""


class DrainTimeoutError(RabbitError):
    """DRAIN_TIMEOUT passed before everything in flight was settled."""


class Reject(Exception):  # noqa: N818 - an order, not a mishap
    """Raised in `work`: give this message up at once, for the reason that is told.

    It becomes a dead letter without any further attempt.
    """


class Retry(Exception):  # noqa: N818 - likewise
    """Raised in `work`: handle this message again, after a time.

    It counts as an attempt that has failed, as any other. The message waits for the shortest of the
    RETRY_DELAYS that is long enough, or for the longest, if none is. After as many failures as
    there are delays it is a dead letter all the same.

    Attributes:
        after: seconds.
    """

    def __init__(self, reason: str = "", *, after: float) -> None:
        """Ask for another attempt.

        Args:
            reason: for the log, and for the dead letter that it may become.
            after: seconds, 0 or more.

        Raises:
            TypeError: `after` is no number.
            ValueError: it is negative, or no finite number.
        """
        if isinstance(after, bool) or not isinstance(after, int | float):
            msg = f"Retry(after=...) takes a number of seconds, not a {type(after).__name__}"
            raise TypeError(msg)
        if not 0 <= after <= sys.float_info.max:
            msg = f"Retry(after=...) takes seconds, 0 or more and finite, not {after}"
            raise ValueError(msg)
        super().__init__(f"{reason or 'to be handled again'} (after {after:g} s)")
        self.after = after


class UndecodableError(ValueError):
    """The properties or the body of a message cannot be decoded."""


class InvalidPayloadError(UndecodableError):
    """The body of a message is not what `work` is annotated to take."""


class Halted(BaseException):
    """Raised by `write` and `wait` in a source that is being stopped.

    It derives from BaseException so that `except Exception` in a stage does not swallow it. Let it
    pass, through `finally`: a `work` that returns has done all that it had to.
    """
