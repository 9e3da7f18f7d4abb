"""The producer publishes the lines of a file, every message confirmed: `make publish FILE=`.

The file is given to the shipped image; throughput and CPU time are measured as for a relay.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.bodies import Tally, bodies
from tests.benchmarks.candidates import Candidate, publishers
from tests.benchmarks.rig import Rig
from tests.benchmarks.runs import Run
from tests.benchmarks.watch import StalledError, Watch
from tests.support.containers import Image

NAME = "publish, 16 B, quorum"
_SIZE_BYTES = 16
_INSIDE = "/lines"
_END_SECONDS = 60.0

#: A shell outlives the publisher a little: a container's CPU time is gone with the container.
_OUTLIVE = '"$@"; code=$?; sleep 2; exit $code'


def measure(rig: Rig) -> None:
    """Let each of them publish a file, round robin."""
    rates: dict[str, float] = {}
    for number in range(1, rig.options.rounds + 1):
        for candidate in _candidates(rig):
            rate = rates.get(candidate.name, candidate.expected_per_second)
            with rig.progress.doing(f"{NAME}: {candidate.name}, round {number}"):
                run = _publish(rig, candidate, int(rate * rig.options.seconds), number)
            rates[candidate.name] = run.figures.get("messages_per_second", rate)
            rig.record(run)


def _candidates(rig: Rig) -> list[Candidate]:
    wanted = rig.options.candidates
    return [
        each
        for each in publishers(_INSIDE)
        if (not wanted or each.name in wanted) and (each.name != "c" or rig.has_reference)
    ]


def _publish(rig: Rig, candidate: Candidate, count: int, number: int) -> Run:
    queue = f"{candidate.name}.published"
    rig.broker.declare(queue)
    rig.broker.empty(queue)
    figures: dict[str, float] = {}
    errors = []
    with TemporaryDirectory() as folder:
        image = outliving(rig, candidate.image, lines_file(Path(folder), count))
        environment = {**rig.broker.environment, **candidate.environment, "OUTPUT_QUEUE": queue}
        container = rig.containers.run(image, environment)
        try:
            figures = Watch(rig.broker, queue, [container]).until(count)
            if code := container.wait(_END_SECONDS):
                errors.append(f"ended with exit code {code}\n{container.log()}")
        except StalledError as stalled:
            errors.append(f"{stalled}\n{container.log()}")
        finally:
            container.remove()
    tally = Tally(count, upper=False)
    errors += rig.broker.verify(queue, tally)
    figures["duplicates"] = tally.duplicates
    return Run(NAME, candidate.name, number, figures, tuple(errors))


def lines_file(folder: Path, count: int) -> Path:
    """Write the file, for somebody else to read: who runs the containers."""
    folder.chmod(0o755)
    lines = folder / "lines"
    lines.write_text("".join(f"{text}\n" for text in bodies(count, _SIZE_BYTES)))
    lines.chmod(0o644)
    return lines


def outliving(rig: Rig, image: Image, lines: Path) -> Image:
    """Return the image with the lines in it, and with the shell around its program."""
    program = image.entrypoint or rig.containers.entrypoint(image.name)
    return image._replace(
        entrypoint=["sh", "-c", _OUTLIVE, "sh", *program], mounts=(*image.mounts, (lines, _INSIDE))
    )
