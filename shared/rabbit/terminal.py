"""What reaches a terminal: standard error that nobody may read, and text that must not drive it."""

import atexit
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TextIO

#: At most so many characters wait to be written; what is too much is dropped, and counted.
MOST_WAITING = 1024 * 1024

#: How long the end of the process waits for what was said last.
LAST_LINES_SECONDS = 1.0


class _Line(NamedTuple):
    """A line and where it goes.

    Attributes:
        stream: standard error, as it was when the logger was made.
        text: with its line break.
        tell: makes the line that tells how many were dropped before this one.
    """

    stream: TextIO
    text: str
    tell: Callable[[int], str] | None


class Writer:
    """Writes lines in order, in a thread that begins with the first of them."""

    def __init__(self) -> None:
        """Start with nothing to write."""
        self._waiting: deque[_Line] = deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._has_begun = False

    def write(
        self, stream: TextIO | None, text: str, tell: Callable[[int], str] | None = None
    ) -> None:
        """Have a line written, soon; never waits, and raises nothing.

        Args:
            stream: where; None, which standard error is if it was closed at start: nowhere. What is
                no file, a test's or a notebook's, is written to at once.
            text: with its line break.
            tell: given the number of lines that were dropped, makes the line that says so.
        """
        if stream is None:
            return
        if not _is_file(stream):
            with suppress(Exception):  # theirs; a log that cannot be written ends nothing
                stream.write(text)
                stream.flush()
            return
        with self._changed:
            if self._size + len(text) > MOST_WAITING or not self._begin():
                self._dropped += 1
                return
            self._waiting.append(_Line(stream, text, tell))
            self._size += len(text)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, or could not be; return whether that was within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _begin(self) -> bool:
        """Return whether there is a thread."""
        if not self._has_begun:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            with suppress(RuntimeError):  # no thread is left; the next line tries again
                thread.start()
                self._has_begun = True
        return self._has_begun

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting[0]
                dropped = self._dropped
            told = line.tell is not None and dropped > 0 and _put(line.stream, line.tell(dropped))
            written = _put(line.stream, line.text)
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line.text)
                self._dropped += (not written) - (dropped if told else 0)
                self._changed.notify_all()


def _is_file(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except Exception:  # noqa: BLE001 - theirs: not all say it as Python's own streams do
        return False


def _put(stream: TextIO, text: str) -> bool:
    """Write to the stream's file, however long it takes; return whether it could be."""
    try:
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while data:
            descriptor = stream.fileno()  # it may be redirected at any time
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # somebody has made it so
                poll = select.poll()
                poll.register(descriptor, select.POLLOUT)
                poll.poll()
    except Exception:  # noqa: BLE001 - closed, no reader, a full disk; or one of theirs
        return False
    return True


_writer = Writer()
write = _writer.write
flush = _writer.flush


def say(text: str) -> None:
    """Have a line said on standard error, in order with what is logged there.

    Args:
        text: without its line break; of strangers' texts, made `visible`.
    """
    write(sys.stderr, f"{text}\n")


# In a child that was forked there is no thread, and the lock may have been held.
os.register_at_fork(after_in_child=_writer.__init__)  # type: ignore[misc]
# What is registered first is called last: others may have something to say at the end.
atexit.register(flush, LAST_LINES_SECONDS)


def escape(text: str) -> str:
    """Return `text` with everything that is not printable as a backslash escape.

    A backslash itself is doubled, so that the original can be told from what is shown.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return visible(text.replace("\\", "\\\\"))


def shortened(text: str, most: int) -> str:
    """Return `text`; of one that is longer than `most` characters, both ends."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... ({len(text) - 2 * half} characters left out) ... {text[-half:]}"


def visible(text: str) -> str:
    """Return `text` with everything that is not printable as a backslash escape.

    A backslash stays as it is: for sentences of ours that quote what somebody else has said.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things: `1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
