"""Ready and alive, as files."""

import os
import threading
from pathlib import Path

import pytest

from rabbit.errors import ConfigurationError
from rabbit.logs import logger
from rabbit.runtime.health import Health
from rabbit.settings import Settings


def health(ready_file: Path | None = None, alive_file: Path | None = None) -> Health:
    """Return a health whose troubles are logged."""
    return Health(ready_file, alive_file, logger(Settings.load()))


def test_the_file_says_ready(tmp_path: Path) -> None:
    """It exists while the replica is ready, and only then."""
    path = tmp_path / "ready"
    made = health(path)

    made.update(ready=False)
    assert not path.exists()
    made.update(ready=True)
    assert path.exists()
    made.update(ready=False)
    assert not path.exists()


def test_a_look_whether_they_can_be_written_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment; and what a process before has said is taken away."""
    made_files: list[Path] = []

    def note(path: Path) -> None:
        made_files.append(path)

    monkeypatch.setattr(Path, "touch", note)
    (tmp_path / "ready").write_text("")

    health(tmp_path / "ready", tmp_path / "alive").check()

    assert made_files == []
    assert list(tmp_path.iterdir()) == []


def test_the_other_file_says_alive(tmp_path: Path) -> None:
    """Ready or not."""
    path = tmp_path / "alive"
    made = health(alive_file=path)
    assert not path.exists()

    made.update(ready=False)
    assert path.exists()
    made.update(ready=True)
    assert path.exists()


def test_the_files_are_fresh_while_the_loop_turns(tmp_path: Path) -> None:
    """Each update gives them a new time: an old file means a loop that hangs."""
    paths = tmp_path / "ready", tmp_path / "alive"
    made = health(*paths)
    made.update(ready=True)
    for path in paths:
        os.utime(path, (1, 1))
    made.update(ready=True)

    assert min(path.stat().st_mtime for path in paths) > 1


def test_the_end_takes_both_away(tmp_path: Path) -> None:
    """Nobody is ready or alive any more."""
    paths = tmp_path / "ready", tmp_path / "alive"
    made = health(*paths)
    made.update(ready=True)
    made.remove()
    made.remove()

    assert not any(path.exists() for path in paths)


def test_what_a_process_before_us_has_left_says_nothing(tmp_path: Path) -> None:
    """It was killed, and its file is still there."""
    path = tmp_path / "ready"
    path.touch()
    health(path).check()

    assert not path.exists()


def test_stages_of_one_process_may_share_a_file(tmp_path: Path) -> None:
    """The tutorial's workflow runs three in threads: none takes another's check for a failure."""
    errors: list[BaseException] = []

    def check_again_and_again() -> None:
        try:
            for _ in range(100):
                health(tmp_path / "ready").check()
        except ConfigurationError as error:
            errors.append(error)

    threads = [threading.Thread(target=check_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("name", ["READY_FILE", "ALIVE_FILE"])
def test_a_missing_folder_is_told_at_start(name: str, tmp_path: Path) -> None:
    """In one line with the variable, and what is allowed."""
    path = tmp_path / "missing" / "file"
    given = {"READY_FILE": (path, None), "ALIVE_FILE": (None, path)}[name]

    with pytest.raises(ConfigurationError) as error:
        health(*given).check()
    assert str(error.value) == (
        f"{name}: '{path}' cannot be written: No such file or directory; allowed: a path in a "
        "folder that this process may write to"
    )


def test_a_file_that_cannot_be_written_later_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told once; the health check sees that the file is old, or away."""
    folder = tmp_path / "folder"
    folder.mkdir()
    made = health(folder / "ready")
    made.check()
    folder.rmdir()
    for _ in range(3):
        made.update(ready=True)

    [line] = capsys.readouterr().err.splitlines()
    assert "the health check's file cannot be written" in line


def test_no_path_no_file() -> None:
    """Who does not ask for a health check gets none."""
    made = health()
    made.check()
    made.update(ready=True)
    made.remove()
