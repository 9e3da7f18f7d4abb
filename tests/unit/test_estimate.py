"""What the benchmark's figures are calculated to."""

import pytest

from tests.benchmarks import estimate
from tests.readme import OPERATING


@pytest.mark.runs("PYTHONPATH=shared:. .venv/bin/python -m tests.benchmarks.estimate")
def test_a_million_messages_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what the README shows."""
    estimate.main([])

    assert capsys.readouterr().out in OPERATING.blocks("text")


def test_it_grows_with_what_is_asked_for() -> None:
    """Twice the stages take twice the brokers; one copy needs nothing between them."""
    one, two = (estimate.estimate(600_000, 16, stages, 1, 1.0) for stages in (1, 2))
    brokers = [float(lines[1].split()[1].replace(",", "")) for lines in (one, two)]

    assert brokers[1] == pytest.approx(2 * brokers[0], rel=0.05)
    assert "and 0.0 between them" in one[-1]
