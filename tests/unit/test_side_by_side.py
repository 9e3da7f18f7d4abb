"""How tests are spread over processes, and how these end."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.side_by_side import group
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: Two tests that last, each with something that has to be removed in the end.
LASTING = """
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture
def thing(request: pytest.FixtureRequest) -> Iterator[Path]:
    path = FOLDER / f"made-{request.node.name}"
    path.write_text(str(os.getpid()))
    yield path
    (FOLDER / f"removing-{request.node.name}").touch()
    while not (FOLDER / "interrupted again").exists():
        time.sleep(0.01)
    path.unlink()
    (FOLDER / f"removed-{request.node.name}").touch()


@pytest.mark.parametrize("number", [1, 2])
def test_it_lasts(thing: Path, number: int) -> None:
    (FOLDER / f"running-{number}").touch()
    time.sleep(60)
"""


def test_what_shares_a_pipeline_a_network_or_a_broker_stays_together() -> None:
    """The tests of a file, or of a folder; all others are on their own."""
    together = [
        ["tests/unit/test_a.py::test_x", "tests/unit/runtime/test_b.py::test_y[1::2]"],
        ["tests/faults/test_a.py::test_x", "tests/faults/test_b.py::test_y"],
        ["tests/e2e/test_a.py::test_x", "tests/e2e/test_a.py::test_y[a/b]"],
        ["tests/e2e/test_b.py::test_x"],
        ["tests/integration/test_tls.py::test_x", "tests/integration/test_tls.py::test_y"],
        ["tests/integration/test_a.py::test_x"],
        ["tests/integration/test_a.py::test_y"],
    ]

    groups = [{group(each) for each in nodeids} for nodeids in together]

    assert [len(each) for each in groups] == [1] * len(together)
    assert len(set.union(*groups)) == len(together)


def test_an_interrupted_run_removes_what_it_has_started(tmp_path: Path) -> None:
    """At a terminal, each process gets Ctrl-C twice; all of them remove what is theirs."""
    folder = tmp_path / "tests" / "integration"
    folder.mkdir(parents=True)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.side_by_side",)\n')
    (folder / "test_lasting.py").write_text(LASTING)
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "--import-mode=importlib", "."]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(lambda: len([*folder.glob("running-*")]) == 2, 120, "both tests run")
        os.killpg(run.pid, signal.SIGINT)
        wait_until(lambda: len([*folder.glob("removing-*")]) == 2, 120, "both are interrupted")
        for path in folder.glob("made-*"):
            os.kill(int(path.read_text()), signal.SIGINT)
        (folder / "interrupted again").touch()
        said, _ = run.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)

    assert run.returncode == 2, said  # pytest's for an interrupted run
    assert len([*folder.glob("removed-*")]) == 2
    assert not [*folder.glob("made-*")]
