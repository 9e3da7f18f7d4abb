"""Starts Python programs from a process that has loaded the library already: a third of the time.

Hundreds of tests start a stage, and most of the CPU of such a start is imports. What is forked
here is a process like any other: its own pid, signals, environment, output and exit code. A
program whose interpreter has to be started in a particular way is started as usual.
"""

import gc
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from runpy import run_module
from types import ModuleType
from typing import Any, NoReturn, Protocol

from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]

#: What the interpreter, or the C library, reads once: at its start.
_READ_AT_START = ("PYTHON", "MALLOC", "LANG", "LC_", "LD_")
_AS_ALWAYS = {"PYTHONPATH", "PYTHONUNBUFFERED"}

#: What takes long at the start of a stage, and of a command.
_LOADED = (
    "rabbit",
    "rabbit.dead_letters.letters",
    "rabbit.operations.drain",
    "rabbit.operations.repair",
    "rich.live",
    "typer.rich_utils",
    "urllib.request",
)

_WAIT_SECONDS = 60.0
_MOST_BYTES = 1 << 16


class Child(Protocol):
    """A process that was started: as much of subprocess.Popen as tests need."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""

    def kill(self) -> None:
        """End it without a warning."""

    def wait(self) -> int:
        """Wait until it has ended."""


def start(arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path) -> Child:
    """Start `python ARGUMENTS` in the root of the tree, with nothing to read.

    Args:
        arguments: as for python; a module (`-m`) or a program (`-c`) is started warm.
        environment: all of it.
        out: where its standard output goes.
        err: where its standard error goes.
    """
    is_usual = all(
        name in _AS_ALWAYS or not name.startswith(_READ_AT_START) for name in environment
    )
    if arguments[0] in {"-m", "-c"} and is_usual:
        return _starter().start(arguments, environment, out, err)
    with out.open("wb") as to_out, err.open("wb") as to_err:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
        )


class _Forked:
    """A process that the starter has forked, and reaps; its id may soon be another one's."""

    def __init__(self, pid: int, starter: "_Starter") -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._starter = starter
        self._descriptor: int | None = None
        with suppress(ProcessLookupError):  # it has ended already
            self._descriptor = os.pidfd_open(pid)
            weakref.finalize(self, os.close, self._descriptor)

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._starter.exit_code(self.pid)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None and self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, sig)

    def kill(self) -> None:
        """End it without a warning."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended."""
        wait_until(lambda: self.poll() is not None, _WAIT_SECONDS, f"process {self.pid} ends")
        assert self.returncode is not None
        return self.returncode


class _Starter:
    """The process that forks, as the tests see it; it ends with the one that has started it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._received = b""
        self._ended: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}",
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path
    ) -> _Forked:
        for path in (out, err):
            path.touch()
        request = {"arguments": arguments, "environment": dict(environment)}
        _send(self._socket, request | {"out": str(out), "err": str(err)})
        self._socket.settimeout(_WAIT_SECONDS)
        while "started" not in (told := self._receive()):
            pass
        pid = told["started"]
        self._ended.pop(pid, None)  # of one that had the same id
        return _Forked(pid, self)

    def exit_code(self, pid: int) -> int | None:
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self._receive()
        return self._ended.get(pid)

    def _receive(self) -> dict[str, int]:
        while b"\n" not in self._received:
            received = self._socket.recv(_MOST_BYTES)
            if not received:
                raise AssertionError(f"what starts processes has ended: {self._process.poll()}")
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        told: dict[str, int] = json.loads(line)
        if "ended" in told:
            self._ended[told["ended"]] = told["code"]
        return told


def _send(to: socket.socket, said: Mapping[str, Any]) -> None:
    to.sendall(json.dumps(said).encode() + b"\n")


_starters: dict[int, _Starter] = {}


def _starter() -> _Starter:
    """Return that of this process."""
    pid = os.getpid()
    if pid not in _starters:
        _starters[pid] = _Starter()
    return _starters[pid]


# The process that forks


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request; return it in the child. Ends the process when nobody asks any more."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the children, and the tests
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is woken:
                woken.recv(_MOST_BYTES)
                _report(channel)
                continue
            given = channel.makefile("rb", buffering=0).readline()
            if not given:
                _leave()
            # Kept until the child can take it: whoever is told that it has started may send one.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            pid = os.fork()
            if not pid:
                for each in (selector, woken, wake, channel):
                    each.close()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                request: dict[str, Any] = json.loads(given)
                return request
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            _send(channel, {"started": pid})


def _report(channel: socket.socket) -> None:
    """Tell which children have ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            with suppress(BrokenPipeError):
                _send(channel, {"ended": pid, "code": code})


def _leave() -> NoReturn:
    os._exit(0)


def _become(request: Mapping[str, Any]) -> None:
    """Be what was asked for, as if the interpreter had just been started."""
    for name, number in (("out", 1), ("err", 2)):
        opened = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    random.seed()
    how, what, *sys.argv[1:] = request["arguments"]
    if how == "-m":
        run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0], sys.modules["__main__"] = how, ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))  # noqa: S102


if __name__ == "__main__":
    for name in _LOADED:
        import_module(name)
    gc.freeze()
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
