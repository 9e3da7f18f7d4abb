"""One call of a stage's work: the message it sees, the outputs it writes, how it ended."""

import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from rabbit.errors import TooLargeError
from rabbit.message import Message, Output, check_key, derived_id, text_output
from rabbit.properties import HEADERS_BIT


class Outcome(NamedTuple):
    """How one handler call ended.

    Attributes:
        outputs: what it has written; none when it failed.
        error: what it raised, or None.
    """

    outputs: list[Output]
    error: BaseException | None


class _Desk(threading.local):
    """What one handler thread is working on."""

    message: Message | None = None
    outputs: list[Output]


class Handler:
    """Runs a stage's `work`, in any thread, and keeps the threads apart."""

    def __init__(
        self, work: Callable[[str], None], stage: str, max_message_bytes: int | None = None
    ) -> None:
        """Run `work` for the stage named `stage`; no body may be larger than the last argument."""
        self._work = work
        self._most_bytes = sys.maxsize if max_message_bytes is None else max_message_bytes
        self._stage = stage
        self._desk = _Desk()

    @property
    def message(self) -> Message:
        """The message that this thread is handling. Raises RuntimeError outside of `work`."""
        if self._desk.message is None:
            msg = "there is a message only within work(), in the thread that work() was called in"
            raise RuntimeError(msg)
        return self._desk.message

    def write(self, text: str, key: str | None) -> None:
        """Add an output; it leaves when `work` has returned."""
        desk = self._desk
        input_id, correlation_id = (desk.message or self.message).ids
        outputs = desk.outputs
        output_id = derived_id(input_id, self._stage, len(outputs))
        checked = None if key is None else check_key(key)
        outputs.append(text_output(text.encode(), output_id, correlation_id, checked))

    def forward(self, message: Message) -> Output:
        """Return an output that is the same text."""
        output_id = derived_id(message.id, self._stage, 0)
        return text_output(message.body, output_id, message.correlation_id)

    def run(self, message: Message) -> Outcome:
        """Handle one message. All or nothing: a call that fails has no outputs.

        What is too large, is no UTF-8, or has headers that cannot be decoded, `work` never sees.
        """
        desk = self._desk
        outputs: list[Output] = []
        desk.message, desk.outputs = message, outputs
        try:
            if message.properties[0] & HEADERS_BIT or len(message.body) > self._most_bytes:
                self._check(message)
            self._work(message.text)
        except BaseException as error:  # noqa: BLE001 - sys.exit() must not end just this thread
            return Outcome([], error)
        else:
            return Outcome(outputs, None)
        finally:
            desk.message = None

    def _check(self, message: Message) -> None:
        """Raise TooLargeError or UndecodableError if `work` could do nothing with this message."""
        size = len(message.body)
        if size > self._most_bytes:
            msg = f"a message of {size} bytes: MAX_MESSAGE_BYTES allows {self._most_bytes}"
            raise TooLargeError(msg)
        _ = message.headers
