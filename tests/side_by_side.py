"""How tests are spread over processes (pytest-xdist), and how all of these end together.

Each process has a broker of its own, so most tests can be run in any of them, at any time.
"""

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from tests.process import ROOT
from tests.waiting import wait_until

#: How long all processes may take to remove what they have started.
_REMOVAL_SECONDS = 120.0

#: The processes that run tests, in the one that has started them.
_nodes: list[Any] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep in one process what shares more than a broker, which takes long to set up."""
    for item in items:
        group = _group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str:
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    if folder in {"unit", "faults"}:
        return folder
    return "pipeline" if "installed" in getattr(item, "fixturenames", ()) else ""


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
def pytest_testnodeready(node: Any) -> None:
    """Remember a process that runs tests."""
    _nodes.append(node)


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    """Interrupt the processes and wait: pytest-xdist would end them in the middle of removing."""
    for node in _nodes:
        with suppress(ProcessLookupError):
            os.kill(node.workerinfo["pid"], signal.SIGINT)
    # What a process has to say, it says when all is removed.
    wait_until(
        lambda: all(hasattr(node, "workeroutput") for node in _nodes),
        _REMOVAL_SECONDS,
        "all processes have removed what they have started",
    )
