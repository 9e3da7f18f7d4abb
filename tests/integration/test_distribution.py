"""The library for a program elsewhere: `pip install .` in an environment that has nothing else."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

import rabbit
from tests.broker import Broker
from tests.conftest import Unique
from tests.process import ROOT

PROGRAM = """
import sys
from pathlib import Path
import rabbit
import rabbit.operations.management

queue = sys.argv[1]
rabbit.MessageQueue(queue).publish("hello from elsewhere")
print(rabbit.__version__, Path(rabbit.__file__).with_name("py.typed").exists())
"""


def _run(*command: object, **variables: str) -> str:
    """Run a command outside of the project, with these variables; fail with what it says."""
    done = subprocess.run(
        [str(each) for each in command],
        env={**os.environ, "PYTHONPATH": "", **variables},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, from a copy that has one package more."""
    folder = tmp_path_factory.mktemp("distribution")
    copy, built = folder / "project", folder / "built"
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "shared", copy / "shared", ignore=caches)
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    (copy / "shared/rabbit/newer").mkdir()
    (copy / "shared/rabbit/newer/__init__.py").write_text('"""A package of its own."""\n')

    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", built, copy)

    (path,) = built.iterdir()
    return path


@pytest.mark.thorough
def test_the_wheel_has_the_library_and_nothing_else(wheel: Path) -> None:
    """Every module and package of it, those that come later too, that it is typed, the licence."""
    files = set(ZipFile(wheel).namelist())
    library = ROOT / "shared/rabbit"
    modules = {f"rabbit/{path.relative_to(library)}" for path in library.rglob("*.py")}

    assert wheel.name == f"rabbitmq_pipeline-{rabbit.__version__}-py3-none-any.whl"
    assert {name for name in files if ".dist-info/" not in name} == {
        *modules,
        "rabbit/newer/__init__.py",
        "rabbit/py.typed",
    }
    assert any(name.endswith("licenses/LICENSE") for name in files)


@pytest.mark.thorough
@pytest.mark.runs("pip install .")
def test_a_program_elsewhere_publishes(
    wheel: Path, broker: Broker, unique: Unique, tmp_path: Path
) -> None:
    """Installed with what it depends on, it publishes to a real broker, and can be operated."""
    queue = unique("elsewhere")
    venv.create(tmp_path / "environment")  # without a pip of its own, which takes seconds
    python = tmp_path / "environment/bin/python"

    _run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--disable-pip-version-check",
        f"{wheel}[operations]",
    )
    said = _run(python, "-c", PROGRAM, queue, **broker.environment)

    assert said.split() == [rabbit.__version__, "True"]
    assert [each.text for each in broker.take(queue, 1)] == ["hello from elsewhere"]
