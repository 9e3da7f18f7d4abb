"""`make doctor ARGS=--fix` at a terminal: what would be done is shown, and asked for."""

import pytest

from .played import Played

DOCTOR = "deploy/bin/doctor"
#: One that would create a queue.
WOULD = """
case $* in
    *--dry-run*) echo 'create the queue upper'; exit 1 ;;
    *--yes*) echo done ;;
esac
"""


@pytest.mark.parametrize("form", [("--format", "json"), ("--format=json",)])
def test_json_is_no_question(played: Played, form: tuple[str, ...]) -> None:
    """It takes --yes: there is no way to answer, and nothing would ever be mended."""
    played.play("docker", WOULD)

    done = played.run(DOCTOR, "--fix", *form, typed="y\n")

    assert done.returncode == 2
    assert done.stderr.startswith("With --format json nobody is asked: add --yes")
    assert played.run(DOCTOR, "--fix", *form, "--yes", typed="").stdout == "done\n"
    assert played.run(DOCTOR, "--fix", "--dry-run", *form, typed="").returncode == 1


def test_yes_mends(played: Played) -> None:
    """After what would be done."""
    played.play("docker", WOULD)

    done = played.run(DOCTOR, "--fix", typed="y\n")

    assert (done.returncode, done.stdout) == (0, "create the queue upper\ndone\n")
