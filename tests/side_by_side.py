"""How tests are spread over processes (pytest-xdist), and how all of these end together.

Each process has a broker of its own, so most tests can be run in any of them, at any time.
"""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.waiting import wait_until

#: How long all processes may take to remove what they have started.
_REMOVAL_SECONDS = 120.0

#: The processes that run tests, by their ids, in the one that has started them.
_nodes: dict[int, Any] = {}


#: Files of end-to-end tests that share a pipeline; the tests of any other share one of the file's.
_TOGETHER = dict.fromkeys(("test_readme.py", "test_tour.py"), "what is shipped")

#: Other files whose tests share what takes long to make: a broker with TLS only, a wheel.
_SHARING = {"test_distribution.py", "test_tls.py"}


def group(nodeid: str) -> str:
    """Name the group of a test: what shares more than a broker, which takes long to set up.

    Args:
        nodeid: the test, as pytest calls it: `tests/FOLDER/FILE::NAME`.
    """
    path = nodeid.partition("::")[0]
    _, folder, *_, file = path.split("/")
    if folder in {"unit", "faults", "secured"}:
        return folder
    if folder == "e2e":
        return _TOGETHER.get(file, path)
    return path if file in _SHARING else nodeid


class _Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps a group in one process.

    pytest-xdist's own groups (`--dist loadgroup`) have no effect with the pytest of today.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Spread the tests by these groups, the largest first."""
    return _Groups(config, log)


def pytest_configure() -> None:
    """Have SIGTERM end the run as Ctrl-C does: with all that it has started removed."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End the run. A second one must not end the removal: at a terminal, each process gets two."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Remember a process that runs tests, and its id."""
    channel = node.gateway.remote_exec("import os; channel.send(os.getpid())")
    _nodes[channel.receive()] = node


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """Interrupt the processes and wait: pytest-xdist would end them in the middle of removing."""
    wait_until(
        _have_ended,
        _REMOVAL_SECONDS,
        "all processes have removed what they have started",
        pause_seconds=0.5,
    )


def _have_ended() -> bool:
    """Tell whether all have said what they have to say, when all is removed; interrupt the others.

    Again and again: a signal that another thread than the main one is given wakes nobody.
    """
    running = [pid for pid, node in _nodes.items() if not hasattr(node, "workeroutput")]
    for pid in running:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    return not running
