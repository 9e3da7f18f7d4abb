"""What the tests of scripts share."""

from pathlib import Path

import pytest

from .played import Played


@pytest.fixture
def played(tmp_path: Path) -> Played:
    """Return a project whose docker does nothing, and says nothing."""
    played = Played(tmp_path)
    played.play("docker")
    return played
