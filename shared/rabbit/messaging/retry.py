"""What becomes of a message whose handler failed: another attempt after a delay, or a dead letter.

Pure: a message and an error in, an output and what to log of it out.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from rabbit.amqp.properties import set_aside, with_headers, with_message_id
from rabbit.errors import (
    ConfigurationError,
    HandlerTimeoutError,
    Reject,
    Retry,
    TooLargeError,
    UndecodableError,
)
from rabbit.message import ATTEMPTS_HEADER, Message, is_added
from rabbit.output import Output
from rabbit.topology import Edge

#: How much of what an error says is kept, in characters.
LONGEST_ERROR = 500

#: Errors that another attempt does not cure; a handler need not even have been called.
_HOPELESS = (Reject, TooLargeError, UndecodableError)


class Disposition(NamedTuple):
    """What becomes of one message.

    Attributes:
        output: the message itself, on its way to where it waits or is kept.
        attempt: which attempt has failed, from 1.
        delay: seconds until the next attempt; None: there is none, it is a dead letter.
        trace: whether where the error was raised is of interest: it came out of `work` by itself.
    """

    output: Output
    attempt: int
    delay: float | None
    trace: bool


class RetryPolicy:
    """Decides what becomes of the messages of one edge that a stage fails to handle.

    Attributes:
        who: the replica that decides, as `stage/replica`.
    """

    def __init__(
        self,
        edge: Edge,
        stage: str,
        replica: str,
        give_up_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        """Send them to the queues of `edge`; a dead letter says which replica has given it up.

        Args:
            edge: where they have come from.
            stage: the stage's name.
            replica: the replica's name.
            give_up_on: errors of these classes are given no further attempt.
        """
        self.who = f"{stage}/{replica}"
        self._edge = edge
        self._give_up_on = give_up_on
        self._origin = {"x-failed-stage": stage, "x-failed-replica": replica}

    def decide(
        self, message: Message, error: BaseException, most_property_bytes: int
    ) -> Disposition:
        """Decide: after each failure comes the next delay, after the last of them the dead letter.

        `Retry` chooses among the delays, and has no more attempts than there are of them. What no
        attempt can cure is a dead letter at once, and so is what has no room for the count of its
        attempts. A dead letter without room for what is told of it goes without. A message that
        came without an id keeps the one that it was given here.

        Args:
            message: what could not be handled.
            error: why.
            most_property_bytes: how long the broker lets its properties be: they stand in a frame.
        """
        failures = _failures(message) + 1
        is_hopeless = isinstance(error, _HOPELESS) or _is_no_text(message, error)
        trace = not (is_hopeless or isinstance(error, HandlerTimeoutError) or _is_plain(error))
        if isinstance(error, self._give_up_on) and not isinstance(error, Retry):
            is_hopeless = True
        properties, aside = _at_rest(message.properties)
        named = _with_id(message, properties)
        attempts: dict[str, str | int] = {ATTEMPTS_HEADER: failures, **aside}
        if not is_hopeless and failures <= len(self._edge.delays):
            delay = self._delay(failures, error)
            changed = _fitting(named, [attempts], most_property_bytes)
            if changed is not None:
                output = _output(message, changed, self._edge.retry_queue(delay))
                return Disposition(output, failures, delay, trace)
        told = {**attempts, **self._origin, "x-failed-at": datetime.now(UTC).isoformat()}
        said = {"x-error-type": type(error).__name__, "x-error-message": describe(error)}
        kept = _fitting(named, [{**told, **said}, told, {}], most_property_bytes)
        output = _output(message, kept or properties, self._edge.dead)
        return Disposition(output, failures, None, trace)

    def _delay(self, failures: int, error: BaseException) -> float:
        delays = self._edge.delays
        if not isinstance(error, Retry):
            return delays[failures - 1]
        enough = [delay for delay in delays if delay >= error.after]
        return min(enough) if enough else max(delays)


def check_give_up_on(given: object, owner: str) -> tuple[type[BaseException], ...]:
    """Return what a class says no attempt can cure.

    Raises:
        ConfigurationError: it is no tuple of error classes.
    """
    if isinstance(given, tuple):
        classes = [each for each in given if isinstance(each, type)]
        if len(classes) == len(given) and all(issubclass(each, BaseException) for each in classes):
            return given
    raise ConfigurationError(
        f"{owner}: give_up_on is no tuple of error classes: write give_up_on = (ValueError,)"
    )


def _is_plain(error: BaseException) -> bool:
    """Tell whether it is an order that says all by itself, not raised from another error."""
    return isinstance(error, Retry) and error.__cause__ is None


def describe(error: BaseException) -> str:
    """Return what an error says, as text that can be sent, and not too long."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - of a class that we do not know
        text = "(an error that cannot be shown)"
    return text[:LONGEST_ERROR].encode(errors="backslashreplace").decode()


def _failures(message: Message) -> int:
    try:
        return message.failures
    except UndecodableError:
        return 0


def _is_no_text(message: Message, error: BaseException) -> bool:
    """Tell whether it is the body that could not be decoded, not something of the handler's."""
    return isinstance(error, UnicodeDecodeError) and error.object == message.body


def _at_rest(properties: bytes) -> tuple[bytes, dict[str, str]]:
    try:
        return set_aside(properties)
    except ValueError:
        return properties, {}


def _with_id(message: Message, properties: bytes) -> bytes:
    try:
        return with_message_id(properties, message.id)
    except ValueError:
        return properties


def _output(message: Message, properties: bytes, exchange: str) -> Output:
    return Output(message.body, properties, message.routing_key, exchange)


def _fitting(
    properties: bytes, choices: list[Mapping[str, str | int]], most_bytes: int
) -> bytes | None:
    """Return the properties with the first of these sets of headers that they can take."""
    for changed in _changed(properties, choices):
        if len(changed) <= most_bytes:
            return changed
    return None


def _changed(properties: bytes, choices: list[Mapping[str, str | int]]) -> Iterator[bytes]:
    for headers in choices:
        try:
            yield with_headers(properties, headers, is_added)
        except ValueError:
            return  # a header of a type that nobody knows: it is left as it is
