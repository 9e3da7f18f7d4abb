"""As shipped the pipeline is for one machine, and stays there. No container is started."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.pipeline import ROOT, Pipeline
from tests.variations import variations

CLUSTER = "docker-compose.yml:deploy/cluster/docker-compose.cluster.yml"


@pytest.fixture
def absent() -> Pipeline:
    """Know a pipeline of which there is no container."""
    return Pipeline(f"pipeline-test-absent-{os.getpid()}")


@pytest.mark.parametrize(
    ("broker", "told"),
    variations(
        [
            ('ports: ["5671:5671"]', "port 5671 on all addresses"),
            ('ports: ["0.0.0.0:1:5672", "127.0.0.2:2:5672"]', "port 5672 on 0.0.0.0"),
            ('ports: ["[::]:1:15672", "[::1]:2:15672"]', "port 15672 on ::"),
            ("network_mode: host\n    networks: !reset {}", "all its ports on all addresses"),
        ]
    ),
)
def test_up_does_not_publish_a_broker_s_port_for_others(
    absent: Pipeline, tmp_path: Path, broker: str, told: str
) -> None:
    """Exit code 2, and one line that says which port, before anything is built or started."""
    more = tmp_path / "more.yml"
    more.write_text(f'services:\n  rabbitmq:\n    {broker}\n  printer: {{ ports: ["80:80"] }}\n')

    done = absent.make("up", check=False, COMPOSE_FILE=f"docker-compose.yml:{more}")

    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert done.returncode == 2
    assert len(said) == 1
    assert said[0].startswith(f"The service rabbitmq would publish {told}, in clear text, ")
    assert absent.containers("rabbitmq") == []


def test_a_password_of_one_s_own_is_not_called_the_default(absent: Pipeline) -> None:
    """The line is said of the default one only; that it is said, the tour shows."""
    assert "default" in absent.run("deploy/bin/local").stdout
    assert absent.run("deploy/bin/local", variables={"RABBITMQ_PASSWORD": "other"}).stdout == ""


def test_three_brokers_do_without_a_known_cookie(absent: Pipeline) -> None:
    """Their secret has no default: one line names the variable."""
    done = absent.make("up", check=False, COMPOSE_FILE=CLUSTER, RABBITMQ_ERLANG_COOKIE="")

    said = [line for line in done.stderr.splitlines() if not line.startswith("make:")]
    assert done.returncode == 2
    assert len(said) == 1
    assert "RABBITMQ_ERLANG_COOKIE is missing a value: set it, in .env, to a long" in said[0]


def test_the_offline_image_refuses_what_the_official_one_refuses() -> None:
    """A password file that is not heeded would leave an administrator guest, guest."""
    done = subprocess.run(
        ["bash", "deploy/offline/docker-entrypoint.sh", "rabbitmq-server"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "RABBITMQ_DEFAULT_PASS_FILE": "/run/secrets/password"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: RABBITMQ_DEFAULT_PASS_FILE is set")
