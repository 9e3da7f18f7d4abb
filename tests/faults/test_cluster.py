"""What happens to a cluster of three brokers, as deploy/cluster makes it."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.broker import PASSWORD, USERNAME, Operator
from tests.conftest import Start
from tests.faults.replica import Replica
from tests.faults.stream import Stream
from tests.faults.summary import Summary
from tests.order import disorder, handled, handlings
from tests.support import images
from tests.support.containers import Container, Containers, Image, frozen
from tests.support.pipeline import ROOT, Pipeline
from tests.waiting import wait_until

#: How long a command may take: HALT_TIMEOUT, and starting and leaving.
_COMMAND_SECONDS = 90.0

_NODES = ("rabbitmq", "rabbitmq2", "rabbitmq3")
_BOOT_SECONDS = 180.0
_ELECTION_SECONDS = 60.0

#: How often one node may take its clients, or the leader of a queue, along: once of each kind.
_ONE_NODE = {"source": 2, "worker": 4, "sink": 2}


class Cluster(NamedTuple):
    """Three brokers.

    Attributes:
        nodes: their containers, by service.
        operator: sees them through the first one, whose ports are published.
        containers: stages on their network.
        pipeline: what brought them up.
    """

    nodes: dict[str, Container]
    operator: Operator
    containers: Containers
    pipeline: Pipeline

    def look(self) -> None:
        """Find the containers that the nodes have now."""
        for name in _NODES:
            found = self.containers.client.containers.get(self.pipeline.containers(name)[0])
            self.nodes[name] = Container(found)

    def doctor(self, **stages: dict[str, str]) -> set[tuple[str, str]]:
        """Return what the doctor finds in these stages: problem and name."""
        services = {name: {"environment": variables} for name, variables in stages.items()}
        done = subprocess.run(
            [sys.executable, "-m", "services.control", "doctor", "--format", "json"],
            cwd=ROOT,
            env={**self.operator.environment, "PYTHONPATH": str(ROOT / "shared")},
            input=json.dumps({"services": services}),
            stdout=subprocess.PIPE,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        return {(each["problem"], each["name"]) for each in json.loads(done.stdout)}

    def wait_whole(self) -> None:
        """Wait until all nodes are there, by the count of the first."""

        def are_running() -> bool:
            listed = self.operator.api("GET", "nodes")
            return [each["running"] for each in listed] == [True] * len(_NODES)

        self.operator.wait_until_up()
        wait_until(are_running, _BOOT_SECONDS, "all nodes run")

    def leader(self, queue: str) -> Container:
        """Return the node that leads a queue."""
        return self.nodes[self.operator.queues()[queue]["leader"].partition("@")[2]]


@pytest.fixture(scope="module")
def cluster(containers: Containers) -> Iterator[Cluster]:  # noqa: ARG001 - it builds the stages
    """Bring up the brokers of the compose files."""
    files = "docker-compose.yml:deploy/cluster/docker-compose.cluster.yml"
    login = {"RABBITMQ_USERNAME": USERNAME, "RABBITMQ_PASSWORD": PASSWORD}
    name = f"pipeline-faults-cluster-{os.getpid()}"
    pipeline = Pipeline(
        name, COMPOSE_FILE=files, RABBITMQ_ERLANG_COOKIE=secrets.token_hex(), **login
    )
    try:
        pipeline.compose("up", "--detach", *_NODES)
        operator = Operator(pipeline.amqp_port, pipeline.management_port)
        with Containers("faults-cluster", network=f"{pipeline.name}_default") as stages:
            made = Cluster({}, operator, stages, pipeline)
            made.look()
            made.wait_whole()
            yield made
    finally:
        pipeline.remove()


@pytest.fixture
def stream(cluster: Cluster, summary: Summary) -> Iterator[Stream]:
    """Prepare a stream that knows all nodes."""
    environment = {
        "RABBITMQ_HOST": ",".join(_NODES),
        "RABBITMQ_USERNAME": USERNAME,
        "RABBITMQ_PASSWORD": PASSWORD,
        "RABBITMQ_HEARTBEAT": "2",
    }
    made = Stream(cluster.containers, cluster.operator, environment, summary)
    try:
        yield made
    finally:
        made.remove()
        for queue in cluster.operator.queues():
            cluster.operator.delete_queue(queue)


@pytest.mark.runs(
    "export COMPOSE_FILE=docker-compose.yml:deploy/cluster/docker-compose.cluster.yml"
)
@pytest.mark.timeout(600)
def test_three_members(cluster: Cluster, stream: Stream) -> None:
    """Each queue of the stages has a copy on each node."""
    stream.start()

    members = {queue: len(known["members"]) for queue, known in cluster.operator.queues().items()}

    assert {stream.input, stream.output} < set(members)
    assert set(members.values()) == {len(_NODES)}


@pytest.mark.timeout(600)
def test_a_stage_does_not_reach_what_brokers_say_to_each_other(
    cluster: Cluster, stream: Stream
) -> None:
    """Erlang's ports are closed to it at each broker, at every address that it can get at."""
    stream.start()
    worker = stream.replicas[0]
    scan = (
        "import json, socket\n"
        "hosts = [name + end for name in {nodes} for end in ('', '.distribution')]\n"
        "def opens(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, port), 2).close()\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
        "found = [port for host in hosts for port in (4369, 5672, 25672) if opens(host, port)]\n"
        "print(json.dumps(found))"
    ).replace("{nodes}", repr(_NODES))
    for node in cluster.nodes.values():  # where they are open, and the scan would find them
        listens = "</dev/tcp/$HOSTNAME.distribution/{}"
        for port in (4369, 25672):
            assert node.raw.exec_run(["bash", "-c", listens.format(port)]).exit_code == 0

    assert json.loads(worker.raw.exec_run(["python3", "-c", scan]).output) == [5672] * len(_NODES)


@pytest.mark.runs("docker compose kill rabbitmq2", "docker compose start rabbitmq2")
@pytest.mark.timeout(600)
def test_leader_killed(cluster: Cluster, stream: Stream) -> None:
    """The node that leads the input queue is killed: the other two go on without it."""
    stream.start()
    leader = cluster.leader(stream.input)

    with stream.fault("cluster: leader killed", **_ONE_NODE):
        leader.raw.kill()
        stream.wait_flowing(_ELECTION_SECONDS)
        leader.start()
        cluster.wait_whole()


@pytest.mark.timeout(600)
def test_nodes_restarted_in_turn(cluster: Cluster, stream: Stream) -> None:
    """Each node is restarted, when the one before is back."""
    stream.start()
    counts = {stage: len(_NODES) * count for stage, count in _ONE_NODE.items()}

    with stream.fault("cluster: each node restarted in turn", **counts):
        for node in cluster.nodes.values():
            node.raw.restart(timeout=60)
            cluster.wait_whole()
            stream.wait_flowing(_ELECTION_SECONDS)


@pytest.mark.timeout(600)
def test_partition(cluster: Cluster, stream: Stream) -> None:
    """The node that leads is cut off from all others, and comes back."""
    stream.start()
    leader = cluster.leader(stream.input)
    (name,) = (name for name, node in cluster.nodes.items() if node is leader)
    networks = cluster.containers.client.networks
    clients, others = (
        networks.get(f"{cluster.pipeline.name}_{each}") for each in ("default", "distribution")
    )

    with stream.fault("cluster: partition", **_ONE_NODE):
        others.disconnect(leader.id)
        clients.disconnect(leader.id)
        try:
            stream.wait_flowing(_ELECTION_SECONDS)
        finally:
            others.connect(leader.id, aliases=[f"{name}.distribution"])
            clients.connect(leader.id, aliases=[name])
        cluster.wait_whole()


@pytest.mark.timeout(600)
def test_first_node_frozen(cluster: Cluster, stream: Stream) -> None:
    """It takes connections and never says a word: whoever operates gets on with the other two."""
    stream.start()
    first = cluster.nodes[_NODES[0]]

    with stream.fault("cluster: first node frozen, operated", **_ONE_NODE):
        with frozen(first.raw):
            stream.wait_flowing(_ELECTION_SECONDS)
            told: list[dict[str, str]] = []

            def all_run() -> bool:
                """Replicas that were connected to the frozen node need a while to notice."""
                status = json.loads(_control(cluster, stream, "status", "--format", "json"))
                told[:] = status["replicas"]
                return [each["state"] for each in told] == ["running"] * len(stream.replicas)

            wait_until(all_run, _ELECTION_SECONDS, lambda: f"all run: {told}")
            assert "no dead letters" in _control(cluster, stream, "dead-letters", "list")
            _control(cluster, stream, "dead-letters", "replay", "--all")
            halted = _control(cluster, stream, "halt", "printer")
            assert halted.startswith(f"halted 1/1 {stream.sinks[0]}")
            stream.sinks[0].start()
            stream.wait_flowing(_ELECTION_SECONDS)
        cluster.wait_whole()


@pytest.mark.timeout(600)
def test_doctor_looks_at_the_nodes(cluster: Cluster, stream: Stream) -> None:
    """A queue with too few copies, a node in maintenance, and one that is away."""
    stream.start()
    stages = {
        "to_upper": {"INPUT_QUEUE": stream.input, "OUTPUT_QUEUE": stream.output},
        "printer": {"INPUT_QUEUE": stream.output},
    }
    name, node = "rabbit@rabbitmq2", cluster.nodes["rabbitmq2"]

    assert cluster.doctor(**stages) == set()

    def misses_a_copy() -> bool:
        """The brokers mend that by themselves, before the doctor looks or after."""
        node.raw.exec_run(["rabbitmq-queues", "delete_member", stream.input, name])
        return cluster.doctor(**stages) == {("members", stream.input)}

    wait_until(misses_a_copy, _ELECTION_SECONDS, "the doctor misses a copy")
    node.raw.exec_run(["rabbitmq-queues", "grow", name, "all"])
    wait_until(lambda: cluster.doctor(**stages) == set(), _ELECTION_SECONDS, "it has grown")
    node.raw.exec_run(["rabbitmq-upgrade", "drain"])
    try:
        assert cluster.doctor(**stages) == {("maintenance", name)}
        node.raw.stop()
        away = {("down", name)}
        wait_until(lambda: cluster.doctor(**stages) == away, _ELECTION_SECONDS, "it is away")
    finally:
        node.start()
    cluster.wait_whole()

    wait_until(lambda: cluster.doctor(**stages) == set(), _BOOT_SECONDS, "all is well again")
    stream.wait_flowing(_ELECTION_SECONDS)


@pytest.mark.timeout(600)
def test_a_node_that_is_lost_for_good(cluster: Cluster, stream: Stream) -> None:
    """Another one takes its place, with nothing in it, and gets a copy of each queue by itself."""
    stream.start()
    pipeline, lost = cluster.pipeline, "rabbitmq3"

    def members() -> set[int]:
        return {len(known["members"]) for known in cluster.operator.queues().values()}

    with stream.fault("cluster: node lost for good, and replaced", **_ONE_NODE):
        pipeline.compose("rm", "--stop", "--force", "--volumes", lost)
        pipeline.run("docker", "volume", "rm", f"{pipeline.name}_{lost}")
        forget = ["rabbitmqctl", "forget_cluster_node", f"rabbit@{lost}"]
        assert cluster.nodes["rabbitmq"].raw.exec_run(forget).exit_code == 0
        wait_until(lambda: members() == {2}, _ELECTION_SECONDS, lambda: f"{members()} members")
        pipeline.compose("up", "--detach", "--no-deps", lost)
        cluster.look()
        cluster.wait_whole()
        wait_until(lambda: members() == {3}, _ELECTION_SECONDS, lambda: f"{members()} members")


@pytest.mark.runs("make upgrade")
@pytest.mark.timeout(900)
def test_brokers_upgraded_one_by_one(cluster: Cluster, stream: Stream) -> None:
    """`make upgrade`: each broker is replaced while messages flow, and no replica needs a hand."""
    stream.start()
    before = {node.id for node in cluster.nodes.values()}
    counts = {stage: len(_NODES) * count for stage, count in _ONE_NODE.items()}

    with stream.fault("cluster: brokers upgraded one by one", **counts):
        said = cluster.pipeline.make("upgrade").stdout
        cluster.look()
        cluster.wait_whole()
        stream.wait_flowing(_ELECTION_SECONDS)

    assert said.endswith("upgraded: rabbitmq rabbitmq2 rabbitmq3\n")
    assert not before & {node.id for node in cluster.nodes.values()}
    for replica in stream.replicas:
        replica.raw.reload()
        assert replica.raw.attrs["RestartCount"] == 0, replica.log()


def _control(cluster: Cluster, stream: Stream, *arguments: str) -> str:
    """Run services.control in its container, which ends with 0; return what it prints."""
    image = Image(images.stage("control"), arguments)
    made = Replica.run(cluster.containers, image, stream.environment, restart_policy={})
    assert made.wait(_COMMAND_SECONDS) == 0, made.log()
    return "\n".join(made.out)


@pytest.mark.timeout(600)
def test_order_with_a_leader_killed(cluster: Cluster, start: Start) -> None:
    """Two replicas read an ordered edge; the node that leads one of its partitions is killed."""
    given: dict[str, Any] = {**cluster.operator.environment, "PARTITIONS": 6, "STAGE": "keyed"}
    keys = [f"customer-{number}" for number in range(24)]
    reads: dict[str, Any] = {
        "INPUT_QUEUE": "orders",
        "INPUT_KIND": "ordered",
        "CONCURRENCY": 2,
        "DELAY": 0.005,
    }
    writes: dict[str, Any] = {"OUTPUT_QUEUE": "orders", "OUTPUT_KIND": "ordered", "COUNT": 200}
    readers = [start("-m", "tests.integration.stages.keyed", **given, **reads) for _ in range(2)]
    source = ("-m", "tests.integration.stages.keyed_source")
    writer = start(*source, **given, **writes, KEYS=",".join(keys), ready=False)

    def count_handled() -> int:
        return sum(map(len, handled(handlings(readers)).values()))

    wait_until(lambda: count_handled() > 1000, 120, "messages flow")
    cluster.nodes[_NODES[0]].raw.exec_run(["rabbitmq-queues", "rebalance", "quorum"])
    leaders = {cluster.leader(f"orders.{number}").id: number for number in range(6)}
    others = [cluster.nodes[name] for name in _NODES[1:]]  # the clients are on the first
    led = next(each for each in others if each.id in leaders)
    led.raw.kill()
    wait_until(lambda: count_handled() == 200 * len(keys), 180, lambda: f"{count_handled()}")
    led.start()
    cluster.wait_whole()

    assert writer.wait() == 0
    assert disorder(handlings(readers)) == []
