"""Ready and alive, as a file."""

import os
from pathlib import Path

from rabbit.health import ReadyFile


def test_the_file_says_ready(tmp_path: Path) -> None:
    """It exists while the replica is ready, and only then."""
    path = tmp_path / "ready"
    ready_file = ReadyFile(path)

    ready_file.update(ready=False)
    assert not path.exists()
    ready_file.update(ready=True)
    assert path.exists()
    ready_file.update(ready=False)
    assert not path.exists()


def test_the_file_is_fresh_while_the_loop_turns(tmp_path: Path) -> None:
    """Each update gives it a new time: an old file means a loop that hangs."""
    path = tmp_path / "ready"
    ready_file = ReadyFile(path)
    ready_file.update(ready=True)
    os.utime(path, (1, 1))
    ready_file.update(ready=True)

    assert path.stat().st_mtime > 1


def test_no_path_no_file() -> None:
    """Who does not ask for a health check gets none."""
    ReadyFile(None).update(ready=True)
