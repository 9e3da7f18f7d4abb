"""What control is told of containers, of more than fit into a variable."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.control.__main__ import app

from .played import Played

#: 3,000 containers of a stage, in whichever form they are asked for.
MANY = """
for ((each = 1; each <= 3000; each++)); do
    echo '{"name":"printer/3143bbb0b31'$each'","service":"printer","state":"running","exit_code":0}'
done
"""
DOCKER = f"""
case $* in
    'compose ps '*) echo 53143bbb0b31 ;;
    'inspect '*State.ExitCode*) {MANY} ;;
    'inspect '*ContainerStatus*) printf 'task1 %s running 0\\n' {{1..9000}} ;;
    'compose run '*)
        [[ $* =~ --volume\\ ([^:]*):([^:]*):ro\\ .*CONTAINERS_FILE=([^ ]*) ]]
        [[ ${{BASH_REMATCH[2]}} == "${{BASH_REMATCH[3]}}" ]] && cp "${{BASH_REMATCH[1]}}" told
        ;;
    'stack ps '*) echo task1 pipeline_printer.1 ;;
    'service inspect '*Env*) echo RABBITMQ_USERNAME=control ;;
    'cp '*:/run/told/containers) cp "$3" told ;;
esac
"""
KUBECTL = f"""
case $* in
    'get pods '*state.terminated*) {MANY} ;;
    'create '*) cat >/dev/null; echo control-run-1 ;;
    'patch '*) cat >/dev/null ;;
    *'cat >/tmp/containers') cat >told ;;
esac
"""


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("deploy/bin/control status", ""),
        ("deploy/bin/doctor", ""),
        ("deploy/bin/control status", "swarm"),
        ("deploy/bin/control status", "kubernetes"),
    ],
    ids=["Compose", "doctor", "Swarm", "Kubernetes"],
)
def test_there_may_be_any_number(played: Played, command: str, target: str) -> None:
    """Control is told of each of them; nothing of that is left afterwards."""
    played.play("docker", DOCKER)
    played.play("kubectl", KUBECTL)
    for name in ("ca.pem", "passwords/control"):
        file = played.folder / "secrets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    done = played.run(*command.split(), TARGET=target)

    assert (done.returncode, done.stderr) == (0, "")
    told = (played.folder / "told").read_text().splitlines()
    assert len({json.loads(line)["name"] for line in told}) >= 3000
    assert [*played.folder.glob(".containers*")] == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """In one line, and nothing is halted."""
    file = tmp_path / "containers"

    ended = CliRunner().invoke(app, ["halt"], env={"CONTAINERS_FILE": str(file)})

    assert ended.exit_code == 2
    assert f"{file}:Nosuchfile" in re.sub(r"[\s│]", "", ended.stderr)
