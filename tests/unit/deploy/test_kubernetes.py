"""`make halt`, `resume` and `up` with TARGET=kubernetes where the API fails now and then."""

import pytest

from .played import Played

#: A cluster with a stage of three replicas. What is said of it is in files: `replicas`, `note` (how
#: many it had before it was halted) and `paused` (by which KEDA leaves it alone).
KUBECTL = """
refuse() { echo 'connection refused' >&2; exit 1; }
case $* in FAILS) FAILING ;; esac
case $* in
    'get deployments '*) echo "printer printer $(<replicas) $(cat note 2>/dev/null)" ;;
    'get statefulsets,deployments '*) echo deployment.apps/printer ;;
    'get scaledobject '*) echo scaledobject.keda.sh/printer ;;
    'annotate '*=0) touch paused ;;
    'annotate '*-) rm -f paused ;;
    'patch deployment '*'replicas":null'*) rm note; echo 3 >replicas ;;
    'patch deployment '*) echo 3 >note; echo 0 >replicas ;;
    'create --filename '*) cat >/dev/null; echo control-run-1 ;;
    'rollout status '*) echo 'successfully rolled out' ;;
    'exec '*halt*) touch commanded; echo scale; echo 'halted 3/3' ;;
    'exec '*resume*) echo 'resumed 3/3' ;;
    *' --filename -'*) cat >/dev/null ;;
esac
"""
CONTROL, UP = "deploy/kubernetes/control", "deploy/kubernetes/up"
NO_KEDA = """echo "error: the server doesn't have a resource type \\"scaledobject\\"" >&2; exit 1"""


def play(
    played: Played, fails: str = "none", failing: str = "refuse", *, halted: bool = False
) -> None:
    """Have calls of kubectl that look like this fail."""
    played.play("kubectl", KUBECTL.replace("FAILS", fails).replace("FAILING", failing))
    if halted:
        (played.folder / "note").write_text("3")
        (played.folder / "paused").touch()
    (played.folder / "replicas").write_text("0" if halted else "3")


def state(played: Played) -> dict[str, str]:
    """Return what there is of the stage."""
    files = (played.folder / name for name in ("replicas", "note", "paused"))
    return {file.name: file.read_text().strip() for file in files if file.exists()}


HALTED = {"replicas": "0", "note": "3", "paused": ""}


def test_a_halt_scales_the_stage_down(played: Played) -> None:
    """And has KEDA leave it alone; a resume undoes both."""
    play(played)

    halted = played.run(CONTROL, "halt")
    assert (halted.returncode, halted.stdout) == (0, "halted 3/3\n"), halted.stderr
    assert state(played) == HALTED

    resumed = played.run(CONTROL, "resume")
    assert resumed.stdout == "brought back: printer: 3\nresumed 3/3\n", resumed.stderr
    assert state(played) == {"replicas": "3"}


def test_without_keda_nobody_is_paused(played: Played) -> None:
    """That there is no such thing is known at once."""
    play(played, "'get scaledobject '*", NO_KEDA)

    assert played.run(CONTROL, "halt").returncode == 0
    assert state(played) == {"replicas": "0", "note": "3"}
    assert not any(each.startswith("annotate") for each in played.asked("kubectl"))
    assert played.asked("sleep") == []


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("'get pods '*Timestamp*", "Whether all pods have ended is not known: kubectl get pods"),
        ("'patch deployment '*", "printer is not scaled to 0, or KEDA may scale it up again: "),
        ("'get scaledobject '*", "printer is not scaled to 0, or KEDA may scale it up again: "),
        ("'annotate '*", "printer is not scaled to 0, or KEDA may scale it up again: "),
    ],
    ids=["pods", "scale", "KEDA", "pause"],
)
def test_a_halt_that_could_not_be_completed_is_none(played: Played, fails: str, said: str) -> None:
    """After some tries it says so, and ends with 1; the same again completes it."""
    failing = "if [[ -e commanded ]]; then refuse; fi"
    play(played, fails, failing)

    done = played.run(CONTROL, "halt")

    assert done.returncode == 1
    assert said in done.stderr
    play(played, halted="note" in state(played))
    (played.folder / "paused").unlink(missing_ok=True)
    assert played.run(CONTROL, "halt").returncode == 0
    assert state(played) == HALTED


@pytest.mark.parametrize(
    "fails",
    ["'get pods '*Timestamp*", "'patch deployment '*", "'get scaledobject '*", "'annotate '*"],
)
def test_one_call_may_fail(played: Played, fails: str) -> None:
    """It is made again."""
    once = "if [[ -e commanded && ! -e failed ]]; then touch failed; refuse; fi"
    play(played, fails, once)

    done = played.run(CONTROL, "halt")

    assert done.returncode == 0, done.stderr
    assert state(played) == HALTED


@pytest.mark.parametrize("fails", ["'get scaledobject '*", "'annotate '*", "'patch deployment '*"])
def test_a_resume_that_was_interrupted_can_be_done_again(played: Played, fails: str) -> None:
    """The number stays noted until KEDA looks after the stage again, and that is there."""
    play(played, fails, halted=True)

    done = played.run(CONTROL, "resume")

    assert done.returncode == 1
    assert "printer is not brought back: make resume TARGET=kubernetes once more" in done.stderr
    assert state(played)["note"] == "3"
    played.play("kubectl", KUBECTL)
    assert played.run(CONTROL, "resume").returncode == 0
    assert state(played) == {"replicas": "3"}


@pytest.mark.parametrize(
    ("command", "fails"),
    [
        ((CONTROL, "resume"), "'get deployments '*"),
        ((UP,), "'get deployments '*"),
        ((UP,), "'get statefulsets,deployments '*"),
        ((UP,), "'get pods '*"),
    ],
    ids=["resume", "up, what was halted", "up, what is rolled out", "up, brokers that run"],
)
def test_what_cannot_be_looked_at_is_not_there_yet(
    played: Played, command: tuple[str, ...], fails: str
) -> None:
    """No "brought back: none", and no "The pipeline runs"."""
    (played.folder / "secrets/passwords").mkdir(parents=True)
    for name in ("compose.yml", "definitions.json"):
        (played.folder / "secrets" / name).touch()
    play(played, fails, halted=True)

    done = played.run(*command)

    assert done.returncode == 1
    assert "connection refused" in done.stderr
    assert "runs. What now" not in done.stdout
    assert "brought back" not in done.stdout
