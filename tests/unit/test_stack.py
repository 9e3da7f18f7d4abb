"""deploy/swarm has what docker-compose.yml and `make secure` have, in a form that Swarm takes."""

import re
import subprocess
from pathlib import Path

import pytest

from rabbit import Settings
from tests.unit.entries import block_style

ROOT = Path(__file__).parents[2]
COMPOSE = block_style((ROOT / "docker-compose.yml").read_text())
SECURED = (ROOT / "deploy/secured/brokers.yml").read_text()
COMPOSE_CLUSTER = (ROOT / "deploy/cluster/docker-compose.cluster.yml").read_text()
STACK = (ROOT / "deploy/swarm/stack.yml").read_text()
CLUSTER = (ROOT / "deploy/swarm/cluster.yml").read_text()
ENCRYPTED = (ROOT / "deploy/swarm/encrypted.yml").read_text()

#: How brokers find each other, on a network of their own.
FILES = ("distribution", "names")

#: What `docker stack deploy` refuses, ignores, or takes for something else; and health checks, by
#: which Swarm ends a stage that then does not come back.
NOT_FOR_SWARM = (
    "build|container_name|depends_on|develop|extends|extra_hosts|healthcheck|name|ports|profiles"
    "|pull_policy|restart|security_opt|tmpfs"
)
#: What `make secure` sets for each stage, beside its user.
OF_SECURE = {"RABBITMQ_CA_FILE", "TOPOLOGY", "RABBITMQ_USERNAME", "RABBITMQ_PASSWORD"}


def _services(text: str) -> dict[str, str]:
    """Return the entry of each service."""
    section = text.split("\nservices:\n", 1)[1]
    section = re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0]
    parts = re.split(r"^  (\w+):", section, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _stages(text: str) -> dict[str, dict[str, str]]:
    """Return the variables of each service that is no broker, without those that all have."""
    variable = re.compile(r"^      ([A-Z_]+):(.*)$", re.MULTILINE)
    return {
        name: {key: value for key, value in variable.findall(entry) if key not in OF_SECURE}
        for name, entry in _services(text).items()
        if not name.startswith("rabbitmq") and name != "board"  # which has a port
    }


def _settings(text: str) -> dict[str, str]:
    """Return the variables that all stages have."""
    section = text.split("\nx-settings: &settings\n", 1)[1].split("\n\n", 1)[0]
    return {
        key: value
        for key, value in re.findall(r"^  ([A-Z_]+):(.*)$", section, re.MULTILINE)
        if key not in OF_SECURE
    }


def test_nothing_stands_there_that_swarm_refuses_or_ignores() -> None:
    """Neither as a key of a service nor at the top."""
    keys = re.compile(rf"^ {{0,4}}({NOT_FOR_SWARM}):", re.MULTILINE)

    assert keys.findall(STACK) == []
    assert keys.findall(CLUSTER) == []
    assert len(keys.findall(COMPOSE)) > 10


def test_stages_have_the_settings_that_they_have_with_compose() -> None:
    """All of them; a stage that was added may be missing, and then others read another queue."""
    with_compose, with_swarm = _stages(COMPOSE), _stages(STACK)
    added = with_compose.keys() - with_swarm.keys()

    assert _settings(STACK) == _settings(COMPOSE)
    assert with_swarm.keys() <= with_compose.keys()
    assert {name: each.keys() for name, each in with_swarm.items()} == {
        name: each.keys() for name, each in with_compose.items() if name not in added
    }
    assert added or with_swarm == with_compose


def test_each_stage_has_a_user_and_its_password() -> None:
    """That of its own name, and the CA; each secret comes from a file of `make secure`."""
    for name, entry in _services(STACK).items():
        if not name.startswith("rabbitmq"):
            assert f"RABBITMQ_USERNAME: {name}\n" in entry
            assert f"{{ source: password_{name}, target: rabbitmq_password }}" in entry
            assert "{ source: ca, target: ca.pem }" in entry
            assert re.search(rf"\n  password_{name}: .*/secrets/passwords/{name} }}\n", STACK)


def test_brokers_are_those_of_make_secure() -> None:
    """The same first process, files of secrets, and limits."""
    files = re.compile(r"target: (ca.pem|server.pem|server.key|definitions.json|erlang_cookie) }")
    (start,) = re.findall(r"- >-\n(.*?)      && exec docker-entry", SECURED, re.DOTALL)
    (limits,) = re.findall(r"limits: \{ memory: 3g, .* \}", COMPOSE)

    assert start in STACK
    assert files.findall(STACK.split("\nservices:")[0]) == files.findall(SECURED)
    assert limits in STACK
    for file in ("rabbitmq/rabbitmq.conf", "cluster/rabbitmq.conf", "secured/rabbitmq.conf"):
        assert f"file: ../{file} }}" in STACK


def test_the_cluster_is_that_of_compose() -> None:
    """The same nodes for every stage that there is, and what makes them find each other."""
    hosts = re.compile(r"RABBITMQ_HOST: (\S+)\n")
    own = re.compile(r"networks: \{.*(distribution: \{ aliases: \[\w+\.distribution\] \})")
    files = re.compile(r"source: (\w+), target: (?:/etc/rabbitmq/(?:conf.d/20|rabbitmq-env|erl))")

    assert _services(CLUSTER).keys() == _services(STACK).keys() - {"rabbitmq"}
    assert hosts.findall(CLUSTER) == hosts.findall(COMPOSE_CLUSTER)
    assert len(own.findall(STACK)) == len(set(own.findall(STACK))) == 3
    assert own.findall(STACK) == own.findall(COMPOSE_CLUSTER)
    assert files.findall(STACK) == files.findall(COMPOSE_CLUSTER) == ["cluster", *FILES]
    for name in FILES:
        (path,) = re.findall(
            rf"^  {name}: {{ file: ./deploy/(\S+) }}$", COMPOSE_CLUSTER, re.MULTILINE
        )
        assert f"file: ../{path} }}" in STACK


def test_brokers_ask_for_an_address_each_time() -> None:
    """One that was replaced has another, for which Erlang would not ask again in ten minutes."""
    names = (ROOT / "deploy/cluster/erl_inetrc").read_text()

    assert "\n{cache_size, 0}.\n" in names


def test_only_brokers_hear_what_brokers_say() -> None:
    """It is a network without a way out, encrypted between nodes, and no stage is on it."""
    (network,) = re.findall(r"^  distribution: (\{ driver.*\})$", STACK, re.MULTILINE)
    (encrypted,) = re.findall(r"^  distribution: (\{.*\})$", ENCRYPTED, re.MULTILINE)

    assert network == "{ driver: overlay, internal: true }"
    assert encrypted == network[:-2] + ', driver_opts: { encrypted: "true" } }'
    for text in (STACK, COMPOSE_CLUSTER):
        on_it = [name for name, entry in _services(text).items() if "distribution:" in entry]
        assert on_it == ["rabbitmq", "rabbitmq2", "rabbitmq3"]


def test_a_stage_is_not_killed_in_its_drain() -> None:
    """It has longer than it gives itself."""
    (seconds,) = re.findall(r"x-stage:.*?stop_grace_period: (\d+)s", STACK, re.DOTALL)

    assert int(seconds) > Settings.model_fields["drain_timeout"].default


def test_a_broker_leaves_as_with_kubernetes() -> None:
    """When no queue needs it, and its clients are with the others; there is time for that."""
    pod = (ROOT / "deploy/kubernetes/base/brokers/rabbitmq.yaml").read_text()
    wait = re.compile(r"rabbitmq-upgrade --timeout (\d+) (\w+)")
    (grace,) = re.findall(r"x-broker:.*?stop_grace_period: (\d+)s", STACK, re.DOTALL)

    assert wait.findall(STACK) == wait.findall(pod)
    assert [command for _, command in wait.findall(STACK)] == [
        "await_online_quorum_plus_one",
        "drain",
    ]
    assert int(grace) >= 60 + sum(int(seconds) for seconds, _ in wait.findall(STACK))
    assert f"terminationGracePeriodSeconds: {grace}\n" in pod


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make down TARGET=swarm", "for Compose only; deploy/swarm/README.md says"),
        ("make down TARGET=kubernetes", "for Compose only; deploy/kubernetes/README.md says"),
        ("make upgrade TARGET=kubernetes", "for Compose only; deploy/kubernetes/README.md says"),
        ("make upgrade TARGET=swarm COMPOSE_PROJECT_NAME=none", "is for three brokers, of which"),
        ("make up TARGET=moon", "TARGET=moon is not known: swarm or kubernetes, or nothing"),
    ],
)
def test_what_there_is_not_is_told(command: str, said: str) -> None:
    """In one line, before anything is done."""
    done = subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert said in done.stderr
