"""`make up`, and replicas whose containers it has replaced."""

import pytest

from .played import Played

#: A replica whose container is there before. LOOK is how it is looked at after `up`.
DOCKER = """
case $* in
    'compose ps '*) echo 53143bbb0b31 ;;
    *' up --detach') touch up ;;
    *' 53143bbb0b31') if [[ -e up ]]; then LOOK; else echo '53143bbb0b31 printer/1'; fi ;;
esac
"""
NO_DAEMON = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
GONE = "echo 'Error: No such object: 53143bbb0b31' >&2; exit 1"


@pytest.mark.parametrize(
    ("look", "is_forgotten"),
    [(GONE, True), ("echo 53143bbb0b31", False), (NO_DAEMON, False)],
    ids=["replaced", "kept", "no daemon"],
)
def test_only_what_was_replaced_is_forgotten(
    played: Played, look: str, *, is_forgotten: bool
) -> None:
    """Of a container that cannot be looked at, nobody knows that it is gone."""
    played.play("docker", DOCKER.replace("LOOK", look))

    done = played.run("deploy/bin/up", UP_TIMEOUT="0")

    forgotten = "compose run --rm --no-deps control forget --missing-ok printer/1"
    assert (forgotten in played.asked("docker")) is is_forgotten
    assert ("Cannot connect" in done.stderr) is (look == NO_DAEMON)
