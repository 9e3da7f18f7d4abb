"""`make audit`: what its end says, with a pip-audit that is only played."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Makes an environment whose pip-audit does what AUDIT says of the service that it asks.
PYTHON = """#!/bin/sh
mkdir -p "$3/bin"
printf '#!/bin/sh\\nexit "${PIP:-0}"\\n' >"$3/bin/pip"
printf '#!/bin/sh\\neval "$AUDIT"\\n' >"$3/bin/pip-audit"
chmod +x "$3/bin/pip" "$3/bin/pip-audit"
"""

FOUND = "echo 'pika 1.4.4 CVE-1'; exit 1"
NONE = "echo 'No known vulnerabilities found' >&2"
SILENT = "echo Traceback >&2; echo 'no such host' >&2; exit 1"
ONLY_OSV = f'case "$*" in *osv*) {NONE};; *) {SILENT};; esac'


def audit(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    python = tmp_path / "python3"
    python.write_text(PYTHON)
    python.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / "deploy/bin/audit"],
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("played", "code", "told"),
    [(FOUND, 1, "CVE-1"), (NONE, 0, "No known"), (ONLY_OSV, 0, "No known")],
    ids=["found", "none", "only the second service answers"],
)
def test_what_is_known_is_told(tmp_path: Path, played: str, code: int, told: str) -> None:
    """Exit code 1 if there is something."""
    done = audit(tmp_path, AUDIT=played)

    assert (done.returncode, told in done.stdout) == (code, True)


@pytest.mark.parametrize("variables", [{"AUDIT": SILENT}, {"PIP": "1"}], ids=["services", "pip"])
def test_that_nobody_could_be_asked_is_no_good_news(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    """Exit code 2, and a line that says so."""
    done = audit(tmp_path, **variables)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Nothing was audited: ")


@pytest.mark.runs("make audit")
def test_make_runs_it(tmp_path: Path) -> None:
    """It is asked about all that the images' packages are locked to."""
    planned = subprocess.run(
        ["make", "--dry-run", "audit"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    asked = audit(tmp_path, AUDIT='echo "$*"').stdout.split()

    assert planned.stdout.split() == ["deploy/bin/audit"]
    locked = [ROOT / "deploy/requirements.txt", *ROOT.glob("services/*/requirements.txt")]
    assert {str(path.relative_to(ROOT)) for path in locked} <= set(asked)
