"""`make upgrade` that ends half-way: a broker that was drained, and not stopped, serves again."""

import pytest

from .played import Played

DOCKER = """
case $* in
    'compose config --services') printf '%s\\n' printer rabbitmq rabbitmq2 rabbitmq3 ;;
    *rabbitmq2*drain | *rabbitmq2*await*) STEP ;;
    *revive) REVIVE ;;
    'compose up '*rabbitmq2) UP ;;
esac
"""
REVIVED = "compose exec --no-TTY rabbitmq2 rabbitmq-upgrade revive"


def play(played: Played, step: str = ":", up: str = ":", revive: str = ":") -> None:
    """Have the second broker do this."""
    script = DOCKER.replace("STEP", step).replace("UP", up).replace("REVIVE", revive)
    played.play("docker", script)


@pytest.mark.parametrize("up", ["exit 1", "kill -INT -- -$PPID; sleep 1"], ids=["fails", "Ctrl-C"])
def test_a_broker_that_is_not_replaced_serves_again(played: Played, up: str) -> None:
    """No image can be had, say, and its container was not stopped."""
    play(played, up=up)

    done = played.run("setsid", "--wait", "deploy/bin/upgrade")

    assert done.returncode != 0
    assert played.asked("docker")[-1] == REVIVED


def test_one_that_cannot_be_asked_is_told_of(played: Played) -> None:
    """Its exit code is that of what went wrong."""
    play(played, up="exit 1", revive="exit 7")

    done = played.run("deploy/bin/upgrade")

    assert done.returncode == 1
    assert done.stderr.endswith(f"docker {REVIVED.replace('--no-TTY ', '')}\n")


def test_one_that_was_replaced_is_left_alone(played: Played) -> None:
    """Also when the next one cannot be stopped."""
    play(played)
    assert played.run("deploy/bin/upgrade").stdout.endswith(
        "upgraded: rabbitmq rabbitmq2 rabbitmq3\n"
    )

    play(played, step="exit 1")
    played.run("deploy/bin/upgrade")

    assert not any("rabbitmq rabbitmq-upgrade revive" in each for each in played.asked("docker"))
