"""`make bench` measures; here only that it does, on a small part."""

import os
import subprocess

import pytest

from tests.support import images
from tests.support.pipeline import ROOT

SECONDS = 240.0
PART = "--only relay --candidates ours --size 16 --queue-type quorum --rounds 1 --seconds 0.5"


@pytest.mark.thorough
@pytest.mark.runs("make bench", "make bench QUICK=1")
def test_a_part_of_the_benchmark_runs() -> None:
    """It relays through the shipped stage, finds every message, and prints the figures."""
    images.build_stages()  # not while others build; the benchmark finds them made
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", "bench", f"ARGS={PART}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "relay, 16 B, quorum" in done.stdout
    assert "| ours |" in done.stdout
