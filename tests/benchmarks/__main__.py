"""Run the benchmark: `make bench`, or parts of it: `python -m tests.benchmarks --help`."""

import signal
import sys
from collections.abc import Sequence

from docker.errors import DockerException  # type: ignore[import-untyped]

from tests.benchmarks import images, native, report
from tests.benchmarks.broker import Broker
from tests.benchmarks.containers import Containers
from tests.benchmarks.options import Options, parse
from tests.benchmarks.relay import Relay
from tests.benchmarks.rig import Progress, Rig
from tests.benchmarks.runs import Runs
from tests.benchmarks.workloads import WORKLOADS


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
    sys.stdout.write("\n".join(report.works(runs)) + "\n")
    sys.stderr.writelines(f"ERROR: {wrong}\n" for wrong in runs.errors)
    return 1 if runs.errors else 0


def _measure(options: Options, runs: Runs) -> None:
    progress = Progress()
    with progress.doing("building the images"):
        images.build_stages()
        if not options.candidates or set(options.candidates) - {"ours", "c"}:
            images.build_peers()
    try:
        native.build()
        has_reference = True
    except native.NotCompiledError as error:
        has_reference = False
        sys.stderr.write(f"not measured: {error}\n")
    with Containers() as containers:
        with progress.doing("starting the broker"):
            broker = Broker(containers)
        relay = Relay(containers, broker)
        rig = Rig(containers, broker, relay, options, runs, progress, has_reference)
        for name in options.only or WORKLOADS:
            WORKLOADS[name](rig)


if __name__ == "__main__":
    sys.exit(main())
