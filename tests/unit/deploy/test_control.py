"""`make halt`, which waits until containers have ended."""

import pytest

from .played import Played

#: A stage of one replica; IDS is how its container is found once the halt is proved.
DOCKER = """
case $* in
    'compose run '*) touch proved; echo 'halted 1/1' ;;
    'compose ps '*) if [[ -e proved ]]; then IDS; else echo 53143bbb0b31; fi ;;
    *' 53143bbb0b31')
        if [[ -e proved ]]; then STATE; fi
        echo '53143bbb0b31 printer/1 printer-1 running'
        ;;
esac
"""
ID = "echo 53143bbb0b31"
NO_DAEMON = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
ENDED = "echo '53143bbb0b31 printer/1 printer-1 exited'; exit"


@pytest.mark.parametrize(("ids", "state"), [(NO_DAEMON, ENDED), (ID, NO_DAEMON)])
@pytest.mark.parametrize("command", ["halt", "drain"])
def test_containers_that_cannot_be_looked_at_have_not_ended(
    played: Played, command: str, ids: str, state: str
) -> None:
    """It tries for some seconds; then it says what Docker says, and what is not known."""
    played.play("docker", DOCKER.replace("IDS", ids).replace("STATE", state))

    done = played.run("deploy/bin/control", command)

    assert (done.returncode, done.stdout) == (1, "halted 1/1\n")
    assert "Cannot connect to the Docker daemon" in done.stderr
    assert done.stderr.endswith(
        "Whether all containers have ended is not known: docker compose ps\n"
    )


@pytest.mark.parametrize(
    "state",
    [ENDED, "echo 'Error: No such object: 53143bbb0b31' >&2; exit 1"],
    ids=["ended", "removed"],
)
def test_one_look_may_fail(played: Played, state: str) -> None:
    """The next one sees that the container has ended, or is gone."""
    once = f"if [[ ! -e failed ]]; then touch failed; {NO_DAEMON}; fi; {ID}"
    played.play("docker", DOCKER.replace("IDS", once).replace("STATE", state))

    done = played.run("deploy/bin/control", "halt")

    assert (done.returncode, done.stderr) == (0, "")
