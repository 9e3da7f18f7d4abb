"""What git leaves out."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("name", "is_ignored"),
    [(".env", True), (".env.new", True), (".env.before", True), (".env.example", False)],
)
def test_copies_of_the_env_file_are_left_out(
    tmp_path: Path, name: str, *, is_ignored: bool
) -> None:
    """There is a password in each, also in one that an interrupted command has left."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (tmp_path / name).touch()

    done = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=tmp_path, check=False)

    assert (done.returncode == 0) is is_ignored
