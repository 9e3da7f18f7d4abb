"""Lines for standard error: nobody waits for them."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import pytest

from rabbit.logs import logger
from rabbit.settings import Settings
from rabbit.terminal import MOST_WAITING, Writer

ROOT = Path(__file__).parents[2]

PATIENCE_SECONDS = 30.0

#: What a pipe holds by default on Linux.
PIPE_BYTES = 64 * 1024


class Pipe(NamedTuple):
    """A pipe that nobody reads before it is asked to."""

    stream: TextIO
    reader: TextIO

    def read_to_end(self, writer: Writer) -> list[str]:
        """Read it all, while it is written."""
        lines: list[str] = []
        thread = threading.Thread(target=lambda: lines.extend(self.reader), daemon=True)
        thread.start()
        assert writer.flush(PATIENCE_SECONDS)
        self.stream.close()
        thread.join(PATIENCE_SECONDS)
        return lines


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Give a pipe."""
    reader, stream = os.pipe()
    with os.fdopen(reader) as to_read, os.fdopen(stream, "w") as to_write:
        yield Pipe(to_write, to_read)


def told(dropped: int) -> str:
    """Tell how many lines were dropped."""
    return f"dropped {dropped}\n"


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """Whole, and in the encoding of the stream; what it cannot hold, as an escape."""
    writer = Writer()
    writer.write(pipe.stream, "one\n")
    writer.write(pipe.stream, "zwölf \udce9\n")

    assert pipe.read_to_end(writer) == ["one\n", "zwölf \\udce9\n"]


def test_a_pipe_that_nobody_reads_makes_nobody_wait(pipe: Pipe) -> None:
    """What is too much is dropped; how much that was is told when there is room again."""
    writer = Writer()
    line = "x" * 1023 + "\n"
    most = (PIPE_BYTES + MOST_WAITING) // len(line) + 1
    for _ in range(2 * most):
        writer.write(pipe.stream, line, told)
    assert not writer.flush(0.01)

    lines = pipe.read_to_end(writer)
    written = lines.count(line)
    assert MOST_WAITING // len(line) <= written <= most
    notices = [each.removeprefix("dropped ") for each in lines if each != line]
    assert sum(map(int, notices)) == 2 * most - written


def test_a_stream_that_cannot_be_written_is_no_failure(pipe: Pipe) -> None:
    """A pipe without a reader, a closed stream, none at all, one that raises."""
    writer = Writer()
    pipe.reader.close()
    writer.write(pipe.stream, "nobody hears it\n", told)
    assert writer.flush(PATIENCE_SECONDS)

    closed, memory = StringIO(), StringIO()
    closed.close()
    writer.write(closed, "x\n")
    writer.write(None, "x\n")
    writer.write(memory, "this one does\n")

    assert memory.getvalue() == "this one does\n"


class Odd:
    """A stream that is none of Python's own: of a library that captures output, say."""

    def __init__(self, descriptor: object, *, fails: bool = False) -> None:
        """Have this descriptor."""
        self.text = ""
        self._descriptor = descriptor
        self._fails = fails

    def fileno(self) -> object:
        """Return it."""
        return self._descriptor

    def write(self, text: str) -> None:
        """Note it."""
        if self._fails:
            raise RuntimeError("no text is taken")
        self.text += text

    def flush(self) -> None:
        """Have nothing to do."""


def test_a_stream_without_a_descriptor_is_written_to_at_once() -> None:
    """However it says that it has none; and what goes wrong there ends nothing."""
    odd, writer = Odd(None), Writer()
    writer.write(cast("TextIO", odd), "one\n")
    writer.write(cast("TextIO", Odd(None, fails=True)), "two\n")

    assert odd.text == "one\n"


def test_a_stream_that_is_odd_ends_no_log(pipe: Pipe) -> None:
    """What is said elsewhere is still written, by the same thread."""
    writer = Writer()
    writer.write(cast("TextIO", Odd(pipe.stream.fileno())), "it has no encoding\n", told)
    writer.write(pipe.stream, "one\n", told)

    assert pipe.read_to_end(writer) == ["dropped 1\n", "one\n"]


def test_a_full_disk_is_told_of_when_there_is_room(pipe: Pipe) -> None:
    """The lines that were lost are counted."""
    writer = Writer()
    with Path("/dev/full").open("w") as full:
        writer.write(full, "lost\n", told)
        writer.write(full, "lost\n", told)
        assert writer.flush(PATIENCE_SECONDS)
    writer.write(pipe.stream, "written\n", told)

    assert pipe.read_to_end(writer) == ["dropped 2\n", "written\n"]


def test_what_never_blocks_may_be_full_for_a_while(pipe: Pipe) -> None:
    """Somebody has made the pipe non-blocking, for all who share it."""
    os.set_blocking(pipe.stream.fileno(), False)
    writer = Writer()
    line = "x" * PIPE_BYTES + "\n"
    writer.write(pipe.stream, line)
    writer.write(pipe.stream, line)

    assert pipe.read_to_end(writer) == [line, line]


def run(program: str, redirect: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that logs, with its streams redirected as a shell does it."""
    preamble = """
import os, sys
from rabbit.logs import logger
from rabbit.settings import Settings
log = logger(Settings.load(log_format="json"), stage="printer")
"""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, preamble + program],
        env={"PYTHONPATH": str(ROOT / "shared")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_was_said_last_is_written_at_an_ordinary_end() -> None:
    """All of it, in order, also what is said at exit."""
    program = """
import atexit
atexit.register(log.info, "at exit")
for number in range(2000):
    log.info("said", number=number)
"""
    ended = run(program)

    assert ended.returncode == 0
    lines = ended.stderr.splitlines()
    assert len(lines) == 2001
    assert '"number": 1999' in lines[-2]
    assert '"at exit"' in lines[-1]


def test_last_words_come_after_what_was_logged_before() -> None:
    """Whoever reads but the last line reads the program's own."""
    program = """
from rabbit import terminal
for number in range(2000):
    log.info("said", number=number)
terminal.say("printer: why it ends")
"""
    ended = run(program)

    assert ended.stderr.splitlines()[-1] == "printer: why it ends"


def test_a_process_without_stderr_logs_nothing() -> None:
    """Not on stdout, and not into whatever file gets its number."""
    ended = run('open("/dev/null"); log.info("said")', "2>&-")

    assert (ended.returncode, ended.stdout) == (0, "")


def test_a_child_that_is_forked_writes_its_own_lines() -> None:
    """Also if the lock was held; what waits is its parent's."""
    program = """
from rabbit import terminal
log.info("parent")
with terminal._writer._changed:
    child = os.fork()
    if not child:
        log.info("child")
        sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    ended = run(program)

    assert ended.returncode == 0
    assert [ended.stderr.count(who) for who in ('"parent"', '"child"')] == [1, 1]


def test_a_log_tells_what_it_has_dropped(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a line of its own, in its own form."""
    monkeypatch.setattr("sys.stderr", pipe.stream)
    writer = Writer()
    monkeypatch.setattr("rabbit.terminal.write", writer.write)
    log = logger(Settings.load(log_format="json"), stage="printer")
    for _ in range(2 * (PIPE_BYTES + MOST_WAITING) // 1000):
        log.info("x" * 1000)

    lines = pipe.read_to_end(writer)
    said = next(line for line in lines if "dropped" in line)
    assert '"level": "warning"' in said
    assert '"stage": "printer"' in said
    assert '"count": ' in said
