"""What is in the images of the stages, and what is not."""

import json
from pathlib import Path

import pytest

from tests.e2e.pipeline import ROOT, Pipeline

STAGES = sorted(
    path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").exists()
)


def _run(pipeline: Pipeline, stage: str, program: str) -> str:
    image = f"{pipeline.name}-{stage}"
    return pipeline.run(
        "docker", "run", "--rm", "--entrypoint", "python", image, "-c", program
    ).stdout.strip()


@pytest.fixture
def built(installed: Pipeline) -> Pipeline:
    """All images, those behind a profile too."""
    installed.compose("--profile", "*", "--progress", "quiet", "build")
    return installed


@pytest.mark.parametrize("stage", STAGES)
def test_small(built: Pipeline, stage: str) -> None:
    """A stage adds less than 60 MB to its base image."""
    base = next(iter(built.run("deploy/bin/base-images").stdout.split()))
    sizes = [
        json.loads(built.run("docker", "image", "inspect", name).stdout)[0]["Size"]
        for name in (f"{built.name}-{stage}", base)
    ]

    assert base.startswith("python:")
    assert sizes[0] - sizes[1] < 60_000_000


@pytest.mark.parametrize("stage", STAGES)
def test_only_its_own_stage(built: Pipeline, stage: str) -> None:
    """An image has the library and one stage's folder, and not the other stages."""
    listed = "import os; print(*sorted(set(os.listdir({!r})) - {{'__pycache__'}}))"

    assert _run(built, stage, listed.format("/app")) == "rabbit stage"
    assert _run(built, stage, listed.format("/app/stage")).split() == sorted(
        path.name for path in Path(ROOT, "services", stage).glob("*.py")
    )


def test_only_its_own_packages(built: Pipeline) -> None:
    """A stage's own packages are in its image, and in no image of a stage that has none."""
    program = (
        "import importlib.util as i; print(*filter(i.find_spec, ['pika', 'rich', 'tenacity']))"
    )

    assert {stage: _run(built, stage, program) for stage in STAGES} == {
        "control": "pika rich tenacity",
        "printer": "pika",
        "producer": "pika rich",
        "to_upper": "pika",
    }


def test_stages_without_packages_share_the_dependencies(built: Pipeline) -> None:
    """All layers but that of the code are the same, and need to be stored and sent only once."""
    form = "{{json .RootFS.Layers}}"
    inspect = ("docker", "image", "inspect", "--format", form)
    one, other = (
        json.loads(built.run(*inspect, f"{built.name}-{stage}").stdout)
        for stage in ("printer", "to_upper")
    )

    assert one[:-1] == other[:-1]
    assert one[-1] != other[-1]


def test_nothing_to_install_or_compile_with(built: Pipeline) -> None:
    """There is neither pip nor a compiler, and the process is not root."""
    program = (
        "import importlib.util, os, shutil;"
        "print(importlib.util.find_spec('pip'), shutil.which('gcc'), shutil.which('pip'));"
        "print(os.getuid())"
    )

    assert _run(built, "printer", program) == "None None None\n10001"


def test_locked_down(installed: Pipeline) -> None:
    """A running stage cannot write to its file system and has no capabilities."""
    (container,) = installed.containers("printer")
    form = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}"

    said = installed.run("docker", "inspect", "--format", form, container).stdout.strip()

    assert said == "true [ALL] [no-new-privileges:true]"


def test_no_certificate_left(built: Pipeline) -> None:
    """The CA bundle that pip may need while an image is built is not part of the image."""
    program = "import pathlib; print([*pathlib.Path('/run').rglob('*ca_bundle*')])"

    assert _run(built, "printer", program) == "[]"
