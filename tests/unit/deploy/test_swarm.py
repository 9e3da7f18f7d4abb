"""`make up` and `make halt` with TARGET=swarm where Docker fails now and then."""

import pytest

from .played import Played

#: A stack of three brokers and a stage. FAILS is which call is to fail, FAILING how it does.
DOCKER = """
refuse() { echo 'The swarm does not have a leader' >&2; exit 1; }
case $* in FAILS) FAILING ;; esac
case $* in
    'info '*) echo true ;;
    'node ls '*) echo node-1 ;;
    'node inspect '*) printf '%s\\n' 1 2 3 ;;
    'service ls --filter name='*) echo 1/1 ;;
    'service ls '*) echo 'pipeline_printer 2/2' ;;
    'service inspect '*Image*) echo pipeline-control ;;
    'service inspect '*Env*) echo RABBITMQ_USERNAME=control ;;
    'service inspect '*Replicated*) echo 1 ;;
    'stack services '*) echo 'pipeline_printer 2/2' ;;
    'stack ps '*) echo 'task1 pipeline_printer.1'; echo 'task2 pipeline_rabbitmq.1' ;;
    'inspect '*) echo 'task1 53143bbb0b31 complete 0'; echo 'task2 63143bbb0b31 running 0' ;;
    'create '*) echo created ;;
esac
"""
UP, CONTROL = "deploy/swarm/up", "deploy/bin/control"


@pytest.fixture
def stack(played: Played) -> Played:
    """Return a project that was secured."""
    (played.folder / "secrets/passwords").mkdir(parents=True)
    for name in ("compose.yml", "ca.pem", "erlang_cookie", "passwords/control"):
        (played.folder / "secrets" / name).touch()
    return played


def play(played: Played, fails: str = "none", failing: str = "refuse") -> None:
    """Have calls of docker that look like this fail."""
    played.play("docker", DOCKER.replace("FAILS", fails).replace("FAILING", failing))


def test_three_brokers_stay_three(stack: Played) -> None:
    """All that runs is deployed again, and looked at until it runs."""
    play(stack)

    done = stack.run(UP)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The stack pipeline runs.")
    (deployed,) = [each for each in stack.asked("docker") if each.startswith("stack deploy")]
    assert "deploy/swarm/cluster.yml" in deployed


def test_whether_there_are_three_has_to_be_known(stack: Played) -> None:
    """As one broker, `stack deploy --prune` would remove the two others."""
    play(stack, "'service inspect '*rabbitmq2 | *name=*")

    done = stack.run(UP)

    assert done.returncode == 1
    assert done.stderr == "The swarm does not have a leader\n"
    assert not any(each.startswith("stack deploy") for each in stack.asked("docker"))


@pytest.mark.parametrize(
    "fails",
    ["'service ls --filter label='* | 'stack services '*", "'service inspect '*UpdateStatus*"],
    ids=["services", "updates"],
)
@pytest.mark.parametrize("times", [1, 99])
def test_what_cannot_be_looked_at_does_not_run_yet(stack: Played, fails: str, times: int) -> None:
    """It is looked at again for some seconds; then it says what Docker says."""
    count = f"echo >>failed; if (($(wc -l <failed) <= {times})); then refuse; fi"
    play(stack, fails, count)

    done = stack.run(UP)

    assert done.returncode == (1 if times > 1 else 0)
    assert ("The stack pipeline runs." in done.stdout) is (times == 1)
    assert ("does not have a leader" in done.stderr) is (times > 1)


@pytest.mark.parametrize("fails", ["'stack ps '*", "'inspect '*"], ids=["tasks", "containers"])
def test_a_halt_does_not_begin_without_knowing_its_containers(stack: Played, fails: str) -> None:
    """Else one that was killed looks cut off, and no halt is proved."""
    play(stack, fails)

    done = stack.run(CONTROL, "halt", TARGET="swarm")

    assert (done.returncode, done.stderr) == (1, "The swarm does not have a leader\n")
    assert not any(each.startswith("start") for each in stack.asked("docker"))


def test_a_halt_knows_of_those_of_stages(stack: Played) -> None:
    """Of brokers it does not."""
    play(stack)
    said = stack.run("deploy/swarm/containers")

    assert said.stdout == (
        '{"name":"printer/53143bbb0b31","state":"exited","exit_code":0,"service":"printer"}\n'
    )


@pytest.mark.parametrize(
    "said",
    [
        "nothing found in stack: pipeline",
        "Error response from daemon: This node is not a swarm manager.",
    ],
)
def test_without_a_stack_it_is_said_what_to_do(stack: Played, said: str) -> None:
    """There are no containers then, and nobody to halt them."""
    play(stack, "'stack ps '* | 'service inspect '*", f"echo '{said}' >&2; exit 1")

    done = stack.run(CONTROL, "halt", TARGET="swarm")

    assert done.returncode == 2
    assert done.stderr.startswith("There is no service pipeline_control where docker points to")
