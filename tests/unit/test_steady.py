"""Commands that look at containers, while others come and go."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GONE = "Error response from daemon: No such container: 53143bbb0b31"
#: Ends with an error so often, and as the text says; then it succeeds.
PLAYED = """
source deploy/bin/steady.sh
look() {
    echo look >>"$1"
    if (($(wc -l <"$1") <= $2)); then echo "$3" >&2; return 1; fi
    printf 'a\\nb\\n'
}
steady look "$@"
"""


@pytest.mark.parametrize(
    ("failures", "error", "code", "out", "looks"),
    [
        (0, GONE, 0, "a\nb\n", 1),
        (3, GONE, 0, "a\nb\n", 4),
        (99, GONE, 1, "", 10),
        (1, "Cannot connect to the Docker daemon", 1, "", 1),
    ],
    ids=["at once", "one goes", "again and again", "another error"],
)
def test_a_container_that_goes_away_meanwhile_is_no_error(
    tmp_path: Path, failures: int, error: str, code: int, out: str, looks: int
) -> None:
    """It is looked at again, but not for ever; what else went wrong is told at once."""
    counter = tmp_path / "looks"

    done = subprocess.run(
        ["bash", "-c", PLAYED, "bash", counter, str(failures), error],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (code, out)
    assert done.stderr == (f"{error}\n" if code else "")
    assert len(counter.read_text().splitlines()) == looks
