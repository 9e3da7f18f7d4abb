"""The long run, short."""

import subprocess

import pytest

from tests.faults.replica import ROOT


@pytest.mark.timeout(600)
def test_a_short_soak() -> None:
    """`make soak` with fewer messages accounts for each of them, and says so in one line."""
    command = ["make", "soak", "MESSAGES=200000", "SEED=1", "EVERY=3"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, unexpected 0" in done.stdout
    assert len(done.stdout.splitlines()) == 1
