"""The long run, short."""

import pytest

from tests.support.pipeline import Pipeline


@pytest.mark.runs("make soak", "make soak MESSAGES=100000")
@pytest.mark.timeout(600)
def test_a_short_soak() -> None:
    """`make soak` with fewer messages accounts for each of them, and says so in one line."""
    done = Pipeline("soak").make("soak", "MESSAGES=200000", "SEED=1", "EVERY=3")

    assert "lost 0, unexpected 0" in done.stdout
    assert len(done.stdout.splitlines()) == 1
