"""Each kind of work is a module with a function `measure`; a new one is a line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.benchmarks.rig import Rig
from tests.benchmarks.workloads import (
    burst,
    cold_start,
    handler,
    latency,
    memory,
    observed,
    ordered,
    payloads,
    pipeline,
    prefetch,
    publish,
    relay,
    replicas,
    slow_handler,
    tls,
    waiting,
)

#: By name, in the order in which they are run.
WORKLOADS: Mapping[str, Callable[[Rig], None]] = MappingProxyType(
    {
        "relay": relay.measure,
        "handler": handler.measure,
        "tls": tls.measure,
        "observed": observed.measure,
        "publish": publish.measure,
        "pipeline": pipeline.measure,
        "replicas": replicas.measure,
        "prefetch": prefetch.measure,
        "payloads": payloads.measure,
        "cold-start": cold_start.measure,
        "memory": memory.measure,
        "burst": burst.measure,
        "slow-handler": slow_handler.measure,
        "ordered": ordered.measure,
        "waiting": waiting.measure,
        "latency": latency.measure,
    }
)
