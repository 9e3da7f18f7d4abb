"""What the build from Debian packages says of the list it takes them from. No network is needed."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.pipeline import ROOT


def _validity(cache: Path, until: datetime | None) -> str:
    """Return what is said of a list that is valid until then; None: its mirror does not say."""
    lists = cache / "pipeline/testing/lists"
    lists.mkdir(parents=True)
    said = f"Valid-Until: {until:%a, %d %b %Y %H:%M:%S} UTC\n" if until else ""
    (lists / "mirror_dists_testing_InRelease").write_text(f"Suite: testing\n{said}Hash: x\n")
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail; source deploy/offline/debian.sh; debian_validity"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stderr


def test_a_list_that_has_expired_is_told(tmp_path: Path) -> None:
    """In one line, with its date."""
    said = _validity(tmp_path, datetime(2026, 1, 7, 8, 9, 10, tzinfo=UTC))

    assert said.startswith(
        "warning: the list of packages of Debian testing was valid until "
        "Wed, 07 Jan 2026 08:09:10 UTC: "
    )
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("until", [datetime.now(UTC) + timedelta(days=3), None])
def test_a_list_that_is_valid_is_not_told(tmp_path: Path, until: datetime | None) -> None:
    """Nor one whose mirror gives no date."""
    assert _validity(tmp_path, until) == ""
