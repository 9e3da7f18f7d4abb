"""`make secure`, and brokers that do not answer, or that read a folder which is gone."""

import pytest

from .played import Played

SECURE = "deploy/bin/secure"
#: A pipeline whose broker runs. LOOK is what it does when it is asked whether it is secured, SUM
#: how it says which definitions it reads.
DOCKER = """
case $* in
    *'compose config') printf 'name: pipeline\\nservices:\\n' ;;
    *'config --format json') echo '{}' ;;
    *'ps --services'*) PS ;;
    *'exec --no-TTY rabbitmq sh -c if test'*) LOOK ;;
    *'exec --no-TTY rabbitmq sh -c cksum'*) SUM ;;
    *'control secure /made'*)
        cat >/dev/null
        echo passwords >secrets/unfinished
        echo new >secrets/definitions.json
        echo services:
        ;;
esac
"""
READS_THEM, READS_OTHERS = "cksum <secrets/definitions.json", "echo other | cksum"


def play(played: Played, ps: str = "echo rabbitmq", look: str = "echo yes", sum_: str = "") -> None:
    """Have Docker tell of a pipeline that was secured."""
    script = DOCKER.replace("PS", ps).replace("LOOK", look).replace("SUM", sum_ or READS_THEM)
    played.play("docker", script)
    played.env.write_text("COMPOSE_FILE=docker-compose.yml:secrets/compose.yml\n")


@pytest.mark.parametrize(
    ("ps", "look", "said"),
    [
        ("echo 'no daemon' >&2; exit 1", "echo yes", "no daemon"),
        ("echo rabbitmq", "echo 'is paused' >&2; exit 1", "rabbitmq does not say whether"),
        ("echo rabbitmq", "exit 126", "rabbitmq does not say whether"),
    ],
    ids=["no daemon", "it is paused", "it does not start"],
)
def test_a_broker_that_does_not_answer_is_not_taken_for_none(
    played: Played, ps: str, look: str, said: str
) -> None:
    """Else all files would be replaced, the broker not told, and every stage locked out."""
    play(played, ps, look)

    done = played.run(SECURE, ROTATE="")

    assert done.returncode == 1
    assert said in done.stderr
    assert [each for each in played.asked("docker") if "secure /made" in each] == []


def test_one_that_cannot_be_told_which_files_it_has_leaves_the_mark(played: Played) -> None:
    """The next `make secure` finishes it, and `make up` starts nothing before."""
    play(played, sum_="exit 1")

    done = played.run(SECURE)

    assert done.returncode == 2
    assert done.stderr.endswith("when it runs again, make secure finishes this.\n")
    assert (played.folder / "secrets/unfinished").exists()


def test_brokers_that_run_are_told(played: Played) -> None:
    """They are looked for also where .env names a folder that is gone."""
    fails = "[[ -e secrets/compose.yml || ${COMPOSE_FILE:-$(<.env)} != *:secrets/* ]] || exit 1"
    play(played, f"{fails}; echo rabbitmq")

    done = played.run(SECURE)

    assert (done.returncode, done.stdout) == (0, "The brokers that run know it.\n"), done.stderr
    assert any("import_definitions" in each for each in played.asked("docker"))
    assert not (played.folder / "secrets/unfinished").exists()


def test_a_broker_without_secrets_learns_it_when_it_starts(played: Played) -> None:
    """It runs, and was never secured."""
    play(played, look="echo no")

    done = played.run(SECURE)

    assert (done.returncode, done.stdout) == (0, "make up puts it to use.\n"), done.stderr


def test_what_runs_with_the_files_of_a_folder_that_is_gone_has_to_start_anew(
    played: Played,
) -> None:
    """`make up` would leave it as it is, and no new container would get in: exit code 1."""
    play(played, sum_=READS_OTHERS)

    done = played.run(SECURE)

    assert done.returncode == 1
    assert done.stderr.endswith("with these: make down, then make up\n")
    assert not any("import_definitions" in each for each in played.asked("docker"))
    assert not (played.folder / "secrets/unfinished").exists()
