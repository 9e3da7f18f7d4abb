"""What Compose knows of its containers."""

import json

import pytest

from rabbit import ConfigurationError
from rabbit.operations.compose import Containers
from rabbit.operations.engine import Engine


def told(*containers: tuple[str, str, int]) -> Containers:
    """Return containers of these names, states and exit codes."""
    lines = [
        json.dumps({"service": name[0], "name": name, "state": state, "exit_code": code})
        for name, state, code in containers
    ]
    return Containers.read("\n".join(lines))


@pytest.mark.parametrize("state", ["exited", "dead", "created", "removing"])
def test_a_replica_whose_container_has_ended_does_not_run(state: str) -> None:
    """It is said how it ended."""
    assert told(("p/1", state, 137)).why_dead("p/1") == f"its container has ended: {state} (137)"


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
def test_a_replica_whose_container_runs_or_will_may_run(state: str) -> None:
    """Also between two starts; and so may one that is not listed: on another machine."""
    known = told(("p/1", state, 1))

    assert known.why_dead("p/1") is None
    assert known.why_dead("p/2") is None
    assert known.hint("p/1") == f"its container, of p, is {state}"
    assert known.hint("p/2").endswith("make forget ARGS=p/2")


def test_of_two_containers_with_one_name_one_may_run() -> None:
    """On the host's network, say, all have its name."""
    assert told(("p/host", "exited", 0), ("p/host", "running", 0)).why_dead("p/host") is None


def test_nobody_may_have_told() -> None:
    """Without Compose's word nobody is known not to run."""
    assert Containers.read(None).why_dead("p/1") is None
    assert str(Containers.read(None)) == "what Compose knows was not told"
    assert str(Containers.read("")) == "Compose: no container of a stage"
    assert (
        str(told(("p/1", "exited", 0), ("q/1", "running", 0))) == "Compose: p exited (0), q running"
    )


@pytest.mark.parametrize(
    ("target", "name", "unit"), [("swarm", "Swarm", "task"), ("kubernetes", "Kubernetes", "pod")]
)
def test_elsewhere_it_has_other_words(target: str, name: str, unit: str) -> None:
    """Those of what runs the containers, and its TARGET of make."""
    line = {"service": "p", "name": "p/1", "state": "exited", "exit_code": 1}
    known = Containers.read(json.dumps(line), Engine.of(target))

    assert known.why_dead("p/1") == f"its {unit} has ended: exited (1)"
    assert known.hint("p/2").startswith(f"{name} knows no such {unit} here; ")
    assert known.hint("p/2").endswith(f"make forget ARGS=p/2 TARGET={target}")
    assert str(known) == f"{name}: p exited (1)"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"service": 1}', "7"])
def test_something_else_is_refused(text: str) -> None:
    """In one line."""
    with pytest.raises(ConfigurationError, match=r"^CONTAINERS_FILE: a JSON object a line"):
        Containers.read(text)
