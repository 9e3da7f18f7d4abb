"""`make clean` where the folder `secrets` was removed, and what it leaves of .env."""

import pytest

from .played import Played

SECURED = """\
COMPOSE_FILE=docker-compose.yml:secrets/compose.yml:ports.yml
RABBITMQ_ERLANG_COOKIE=not this one, that in secrets/erlang_cookie
AMQP_PORT=5673
"""
CLEAN = "deploy/bin/clean"


@pytest.mark.parametrize("typed", ["N\n", None], ids=["no", "nobody is asked"])
def test_nothing_is_changed_before_somebody_has_said_yes(played: Played, typed: str | None) -> None:
    """Else the next `make up` would start, in clear text, what was secured."""
    played.env.write_text(SECURED)

    done = played.run(CLEAN, typed=typed)

    assert done.returncode == (1 if typed else 2)
    assert played.env.read_text() == SECURED
    assert played.asked("docker") == []


def test_a_link_stays_one(played: Played) -> None:
    """What it leads to is changed: it does without the folder, and has what else it had."""
    kept = played.folder.parent / "kept"
    kept.write_text(SECURED)
    kept.chmod(0o600)
    played.env.symlink_to(kept)

    done = played.run(CLEAN, typed="y\n")

    assert done.returncode == 0, done.stderr
    assert played.env.is_symlink()
    assert kept.read_text() == "COMPOSE_FILE=docker-compose.yml:ports.yml\nAMQP_PORT=5673\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert played.asked("docker")[-1] == "compose --profile * down --volumes --remove-orphans"


def test_the_containers_of_another_folder_are_left_alone(played: Played) -> None:
    """Whose they are Compose can tell only once .env does not name what is gone."""
    played.env.write_text(SECURED)
    foreign = "echo pipeline /elsewhere"
    played.play("docker", f"case $*:$(<.env) in *ps*:*secrets*) exit 1 ;; *ps*) {foreign} ;; esac")

    done = played.run(CLEAN, YES="1")

    assert done.returncode == 2
    assert "were started in /elsewhere, not here" in done.stderr
    assert not any("down" in each for each in played.asked("docker"))


def test_a_pipeline_that_is_secured_stays_so(played: Played) -> None:
    """While the folder is there, .env is as it was."""
    (played.folder / "secrets").mkdir()
    (played.folder / "secrets/compose.yml").touch()
    played.env.write_text(SECURED)

    assert played.run(CLEAN, YES="1").returncode == 0
    assert played.env.read_text() == SECURED
