"""What is in the images of the stages, and what is not."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import building
from tests.support.pipeline import ROOT, Pipeline, copy_of_the_project
from tests.variations import variations

STAGES = sorted(
    path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").exists()
)


def _run(pipeline: Pipeline, stage: str, program: str) -> str:
    image = f"{pipeline.name}-{stage}"
    return pipeline.run(
        "docker", "run", "--rm", "--entrypoint", "python", image, "-c", program
    ).stdout.strip()


@pytest.fixture(scope="module")
def built() -> Iterator[Pipeline]:
    """All images, those behind a profile too, as `make up` builds them."""
    pipeline = Pipeline(f"pipeline-test-images-{os.getpid()}")
    try:
        with building():
            pipeline.compose("--profile", "*", "--progress", "quiet", "build")
        yield pipeline
    finally:
        pipeline.remove()


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


@pytest.mark.parametrize("stage", variations(STAGES))
def test_only_its_own_stage(built: Pipeline, stage: str) -> None:
    """An image has the library and one stage's folder, and not the other stages."""
    listed = "import os; print(*sorted(set(os.listdir({!r})) - {{'__pycache__'}}))"

    assert _run(built, stage, listed.format("/app")) == "rabbit stage"
    folder = ROOT / "services" / stage
    assert _run(built, stage, listed.format("/app/stage")).split() == sorted(
        path.name for path in (*folder.glob("*.py"), *folder.glob("data"))
    )


@pytest.fixture
def untidy(tmp_path: Path) -> Iterator[Pipeline]:
    """A pipeline of a copy of the project, whose printer has files beside its Python."""
    copy = copy_of_the_project(tmp_path)
    for name in (*_SECRET, *_NEEDED):
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("'hunter2'")
    pipeline = Pipeline(f"pipeline-test-untidy-{os.getpid()}", copy)
    try:
        yield pipeline
    finally:
        pipeline.remove()


_SECRET = (
    "services/printer/.env",
    "services/printer/id.key",
    "services/printer/notes.txt",
    "services/printer/.cache/module.py",
    "services/printer/parts/ca.pem",
    "services/printer/data/.env",
    "services/printer/requirements.in",
    "shared/rabbit/.env",
    "shared/rabbit/client.key",
)
_NEEDED = ("services/printer/parts/module.py", "services/printer/data/words.txt")


def test_only_what_may_go_in(untidy: Pipeline) -> None:
    """Keys, caches and the like stay outside; a stage's Python and its folder data go in."""
    with building():
        untidy.compose("--progress", "quiet", "build", "printer")

    program = (
        "import pathlib; print(*(p.relative_to('/app') for p in pathlib.Path('/app').rglob('*')"
        "if p.is_file() and p.suffix != '.pyc' and 'hunter2' in p.read_text()))"
    )
    needed = {name.replace("services/printer", "stage") for name in _NEEDED}
    assert set(_run(untidy, "printer", program).split()) == needed


@pytest.mark.thorough
def test_only_its_own_packages(built: Pipeline) -> None:
    """A stage's own packages are in its image, and in no image of a stage that has none."""
    program = (
        "import importlib.util as i; print(*filter(i.find_spec, ['pika', 'rich', 'tenacity']))"
    )

    expected = {
        "control": "pika rich tenacity",
        "printer": "pika",
        "producer": "pika rich",
        "to_upper": "pika",
    }

    assert {stage: _run(built, stage, program) for stage in expected} == expected


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


@pytest.mark.thorough
@pytest.mark.runs("make sbom")
def test_what_is_in_them_is_written_down(built: Pipeline) -> None:
    """For each image, the broker's too: its packages of Debian, and those of Python."""
    files = built.make("sbom").stdout.split()

    found = {
        name: {each["purl"].partition("/")[0] for each in components if "purl" in each}
        for name in files
        for components in [json.loads((ROOT / name).read_text())["components"]]
    }
    stages = {f"sbom/{built.name}-{stage}-latest.cdx.json" for stage in STAGES}
    assert all({"pkg:deb", "pkg:pypi"} <= found[name] for name in stages)
    (broker,) = set(files) - stages
    assert "pkg:deb" in found[broker]
    for name in files:
        (ROOT / name).unlink()


@pytest.mark.parametrize("stage", STAGES)
def test_an_image_says_what_it_is(built: Pipeline, stage: str) -> None:
    """In the words of OCI's labels."""
    form = "{{json .Config.Labels}}"
    said = built.run("docker", "image", "inspect", "--format", form, f"{built.name}-{stage}").stdout
    labels = json.loads(said)

    name = "org.opencontainers.image"
    assert labels[f"{name}.title"] == f"pipeline: {stage}"
    assert labels[f"{name}.licenses"] == "MIT"
    assert labels[f"{name}.version"] == "latest"
    assert labels[f"{name}.base.name"].startswith("python:")


def test_images_can_be_named_for_a_registry() -> None:
    """By REGISTRY and TAG; without them they have the project's name."""
    named = Pipeline("named", REGISTRY="registry.example.com/team/", TAG="1.2.3", PULL_POLICY="")
    config = ("--profile", "*", "config", "--images")

    for pipeline, form in (
        (named, "registry.example.com/team/named-{}:1.2.3"),
        (Pipeline("plain"), "plain-{}:latest"),
    ):
        images = set(pipeline.compose(*config).split())
        assert {form.format(stage) for stage in STAGES} == {
            image for image in images if image.startswith(form.partition("{")[0])
        }


def test_no_registry_is_asked_for_what_is_built_here() -> None:
    """A stranger's image of that name would be run in its place."""
    said = Pipeline("plain").compose("--profile", "*", "config", "--format", "json")
    services = json.loads(said)["services"]

    assert {services[stage]["pull_policy"] for stage in STAGES} == {"never"}


def test_no_certificate_left(built: Pipeline) -> None:
    """The CA bundle that pip may need while an image is built is not part of the image."""
    program = "import pathlib; print([*pathlib.Path('/run').rglob('*ca_bundle*')])"

    assert _run(built, "printer", program) == "[]"
