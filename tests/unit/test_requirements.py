"""The locked requirements: what is asked for is locked, and everybody gets what was tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "deploy/requirements.txt"
TESTS = ROOT / "tests/requirements.txt"
ASKED = sorted((ROOT / "services").glob("*/requirements.in"))
LOCKED = sorted((ROOT / "services").glob("*/requirements.txt"))

_HINT = "run `make lock` after a change in what is asked for"


def _versions(path: Path) -> dict[str, str]:
    """Return each package with its version, as it stands in a locked file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))


def _asked(path: Path) -> set[str]:
    """Return the packages that a stage asks for."""
    return set(re.findall(r"^[\w.-]+", path.read_text(), re.MULTILINE))


def test_what_is_asked_for_is_locked() -> None:
    """Every requirements.in has its requirements.txt, and there are no others."""
    assert [path.with_suffix(".txt") for path in ASKED] == LOCKED, _HINT
    for path in ASKED:
        assert _asked(path) <= set(_versions(path.with_suffix(".txt"))), _HINT


@pytest.mark.parametrize("path", [LIBRARY, *LOCKED], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_stage_runs_with_what_was_tested(path: Path) -> None:
    """Its versions are those of the tests, and the library's packages are among them."""
    locked = _versions(path)

    assert locked.items() <= _versions(TESTS).items(), _HINT
    assert _versions(LIBRARY).items() <= locked.items(), _HINT


def test_the_library_needs_no_terminal() -> None:
    """What only some stages need is theirs: rich alone costs every stage 4 MiB and its start."""
    assert {"rich", "tenacity", "typer"}.isdisjoint(_versions(LIBRARY))
