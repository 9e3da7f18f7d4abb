"""Run the benchmark: `make bench`, or parts of it: `python -m tests.benchmarks --help`."""

import signal
import sys
from collections.abc import Sequence

from docker.errors import DockerException  # type: ignore[import-untyped]
from pika.exceptions import AMQPError

from tests.benchmarks import machine, native, report, results
from tests.benchmarks.broker import Broker
from tests.benchmarks.candidates import everyone
from tests.benchmarks.options import Options, parse
from tests.benchmarks.relay import Relay
from tests.benchmarks.rig import Progress, Rig
from tests.benchmarks.runs import Run, Runs
from tests.benchmarks.watch import StalledError
from tests.benchmarks.workloads import WORKLOADS
from tests.support import images
from tests.support.containers import Containers


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return 1 when a message was lost or somebody failed."""
    # As Ctrl-C: with all that was started removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parse(arguments, list(WORKLOADS))
    runs = Runs()
    try:
        _measure(options, runs)
    except (DockerException, images.BuildError, LookupError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted; what was measured is written, all else removed\n")
        return 1
    if options.output:
        sys.stdout.write(f"{options.output / 'results.md'}\n")
    else:
        sys.stdout.write("\n".join(report.works(runs)) + "\n")
    sys.stderr.writelines(f"ERROR: {wrong}\n" for wrong in runs.errors)
    return 1 if runs.errors else 0


def _measure(options: Options, runs: Runs) -> None:
    progress = Progress()
    has_peers = bool(options.output or set(options.candidates or ["all"]) - {"ours", "c"})
    with progress.doing("building the images"):
        images.build_stages()
        if has_peers:
            images.build_peers()
    has_reference = _compile()
    with Containers() as containers:
        with progress.doing("starting the broker"):
            broker = Broker(containers)
        relay = Relay(containers, broker)
        rig = Rig(containers, broker, relay, options, runs, progress, has_reference)
        try:
            for name in options.only or WORKLOADS:
                _run(name, rig)
        finally:  # what an interrupted run has measured is worth keeping, too
            if options.output:
                with progress.doing("writing the results"):
                    results.write(options.output, runs, _setting(rig))


def _compile() -> bool:
    """Compile the references in C; say what is missing where that cannot be done."""
    try:
        native.build()
    except native.NotCompiledError as error:
        sys.stderr.write(f"not measured: {error}\n")
        return False
    return True


def _run(name: str, rig: Rig) -> None:
    """Run a workload; one that fails is noted, since the others have something to tell."""
    try:
        WORKLOADS[name](rig)
    except (AMQPError, AssertionError, OSError, StalledError, LookupError) as error:
        rig.containers.clear(keep=rig.broker.container)
        rig.record(Run(name, "–", 1, errors=(f"{type(error).__name__}: {error}",)))


def _setting(rig: Rig) -> results.Setting:
    """Say what the figures hold for."""
    known = {
        name for work in rig.runs.works for name in rig.runs.candidates(work) if name != "ours"
    }
    peers = [each for each in everyone() if each.distribution and each.name in known]
    distributions = sorted({each.distribution for each in peers if each.distribution})
    return results.Setting(
        machine.describe(rig.containers, rig.broker, has_reference=rig.has_reference),
        rig.options,
        peers,
        machine.peers(rig.containers, distributions),
    )


if __name__ == "__main__":
    sys.exit(main())
