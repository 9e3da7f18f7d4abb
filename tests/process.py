"""A stage as a real process, so that SIGTERM and SIGKILL are real too."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import warm
from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]

#: How long a process may take to become ready, and to end: generous, for machines under load.
START_SECONDS = 30.0
END_SECONDS = 30.0


class Process:
    """One child process, its exit code, and what it prints.

    Attributes:
        pid: its id.
        arguments: what it was started with, for people.
    """

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start `python ARGUMENTS` in the root of the tree.

        Args:
            arguments: as for python: `-m module`, `-c program` or a path.
            environment: all of it; nothing is inherited.
            folder: an empty one, where what it prints and its ready file are kept.
        """
        self.arguments = arguments
        self._ready_file = folder / "ready"
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._read = 0  # bytes, by `more_objects`
        variables = {**environment, "READY_FILE": str(self._ready_file)}
        self._child = warm.start(arguments, variables, self._out, self._err)
        self.pid = self._child.pid

    @property
    def out(self) -> str:
        """What it has printed on stdout so far."""
        return self._out.read_text()

    @property
    def lines(self) -> list[str]:
        """The same, in lines; one that is not complete yet is left out."""
        return [line[:-1] for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def more_objects(self) -> list[dict[str, Any]]:
        """Return what it has printed since this was called last, where each line is JSON."""
        with self._out.open() as out:
            out.seek(self._read)
            whole, _, _ = out.read().rpartition("\n")
        self._read += len(whole.encode()) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The same, where each line is a JSON object."""
        return [json.loads(line) for line in self.lines]

    @property
    def log(self) -> str:
        """What it has printed on stderr so far."""
        return self._err.read_text()

    @property
    def peak_mebibytes(self) -> float:
        """The most memory that was ever resident, by the kernel's account."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (peak,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peak.split()[1]) / 1024

    @property
    def is_ready(self) -> bool:
        """Whether its ready file exists."""
        return self._ready_file.exists()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it is or has been ready; fail at once, with its log, when it ends instead."""

        def decided() -> str:
            # A stage that has been ready stays it only as long as its messages can be settled: what
            # takes that from it is logged, and may come before anybody has seen the file.
            if self.is_ready or "blocked: " in self.log:
                return "ready"
            return "" if self.is_running else "ended"

        how = wait_until(decided, seconds, lambda: f"{self} is ready\n{self.log}")
        assert how == "ready", f"{self} ended with {self._child.returncode}\n{self.log}"

    def wait_printed(self, line: str, seconds: float = START_SECONDS) -> None:
        """Wait until it has printed this line on stdout."""
        wait_until(lambda: line in self.lines, seconds, lambda: f"{line!r} is printed\n{self}")

    def wait_log(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until its log contains `text`."""
        wait_until(lambda: text in self.log, seconds, lambda: f"{self} logs {text!r}\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.send_signal(number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a warning, and wait for that."""
        self._child.kill()
        self._child.wait()

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        wait_until(lambda: not self.is_running, seconds, f"{self} ends")
        code = self._child.poll()
        assert code is not None
        return code

    def halt(self) -> int:
        """Send it SIGTERM and wait until it ends; return its exit code."""
        self.terminate()
        return self.wait()

    def __str__(self) -> str:
        """Name it as on a command line."""
        return f"process {self.pid} ({' '.join(self.arguments)[:60]})"
