"""The README of deploy/kubernetes, then numbered messages through what may happen to pods."""

import os
import re
import sys
import time

import pytest

from tests.kubernetes.cluster import Cluster, forgets
from tests.support.numbered import Numbered

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(3000)]


@pytest.mark.runs(
    "make secure NAMES=rabbitmq.pipeline.svc",
    "make up TARGET=kubernetes",
    "make publish TARGET=kubernetes MSG=hello",
    "kubectl logs -l stage=printer",
    "make status TARGET=kubernetes",
)
def test_from_nothing(cluster: Cluster) -> None:
    """Three brokers and the stages come up; messages flow; it is looked at and paused as always."""
    assert "runs. What now" in cluster.make("up")
    cluster.wait_clustered()
    cluster.make("publish", "MSG=hello world")
    cluster.wait_printed({"HELLO", "WORLD"})
    assert "my_queue → upper" in cluster.make("status")
    assert "paused 2/2" in cluster.make("pause")
    assert "resumed 2/2" in cluster.make("resume")
    assert "no dead letters" in cluster.make("dead-letters")
    assert "no difference" in cluster.make("doctor")


@pytest.mark.runs(
    "make halt TARGET=kubernetes",
    "make resume TARGET=kubernetes",
    "make drain TARGET=kubernetes",
    "kubectl scale deployment printer --replicas 2",
)
def test_what_was_halted_stays_halted(cluster: Cluster) -> None:
    """With proof, and until it is resumed, with as many replicas as there were."""
    cluster.scale("printer", 2)
    before = cluster.replicas()

    assert "halted 3/3" in cluster.make("halt")
    assert [*cluster.running("printer"), *cluster.running("to-upper")] == []
    cluster.make("publish", "MSG=later")
    assert "nobody to halt" in cluster.make("halt", check=False)
    cluster.make("resume")
    assert cluster.replicas() == before
    cluster.wait_printed({"LATER"})

    assert "halted 2/2" in cluster.make("halt", "ARGS=printer")
    assert cluster.replicas() == {**before, "printer": 0}
    assert "halt the stage printer" in cluster.make("halt", "ARGS=printer/1", check=False)
    cluster.make("resume", "ARGS=printer")
    assert "drained 2 stages: to_upper → printer" in cluster.make("drain")
    cluster.make("up")
    assert cluster.replicas() == before
    cluster.scale("printer", 1)


@pytest.mark.runs(
    "kubectl scale deployment to-upper --replicas 6",
    "TAG=0.2.0 make up TARGET=kubernetes",
    "kubectl rollout restart statefulset rabbitmq",
    "make doctor TARGET=kubernetes",
)
def test_nothing_is_lost(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbered messages: all that are confirmed are there in the end, few of them twice.

    Meanwhile nothing reads them: what a printer has printed is gone with its pod.
    """
    cluster.scale("printer", 0)
    numbered = cluster.numbered()
    with numbered.publishing():
        for number in (6, 1, 2):
            cluster.scale("to-upper", number)
        cluster.roll_out("deployment", "to-upper")
        cluster.build("2")
        cluster.make("up")
        _kill(cluster, *(each["metadata"]["name"] for each in cluster.pods("to-upper")))
        cluster.wait_pods("to-upper", 2)
        _kill(cluster, "rabbitmq-1")
        cluster.wait_clustered()
        cluster.roll_out("statefulset", "rabbitmq")
        cluster.wait_clustered()
        # Its one finding: nobody reads what the printer is to read.
        assert "1 difference" in cluster.make("doctor", check=False)
    while numbered.confirmed < 5000:
        numbered.publish(1000)
    _all_there(cluster, numbered, capsys)
    for each in forgets(cluster.make("halt", check=False)):
        cluster.make("forget", each)
    cluster.make("up")
    assert "halted 3/3" in cluster.make("halt")
    cluster.make("up")


def _all_there(cluster: Cluster, numbered: Numbered, capsys: pytest.CaptureFixture[str]) -> None:
    """Have them printed: none is lost, few came twice."""
    cluster.scale("printer", 1)
    twice = numbered.count_twice(cluster.wait_printed(numbered.expected))
    with capsys.disabled():
        sys.stdout.write(f"{numbered.confirmed} messages, {twice} of them twice\n")
    assert twice <= 10 * cluster.PREFETCH


def _kill(cluster: Cluster, *pods: str) -> None:
    """Have pods end without a word."""
    cluster.kubectl("delete", "pod", "--force", "--grace-period=0", *pods)


@pytest.mark.skipif(
    not {"KUBERNETES_KILL", "KUBERNETES_START"} <= os.environ.keys(),
    reason="only who has the cluster can take its nodes away: tests/kubernetes/__init__.py",
)
@pytest.mark.runs(
    "kubectl drain node-2 --ignore-daemonsets --delete-emptydir-data", "kubectl uncordon node-2"
)
def test_replicas_leave_a_node(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is drained, and one that has failed; its broker waits for it."""
    cluster.scale("printer", 0)
    # So many that some of those that stay are connected to the broker that goes.
    cluster.scale("to-upper", 6)
    node = max(cluster.nodes("to-upper"))  # the first one may have the control plane
    numbered = cluster.numbered()
    with numbered.publishing():
        cluster.drain(node)
        cluster.wait_elsewhere("to-upper", 6, node)
        cluster.uncordon(node)
        cluster.wait_clustered()
        cluster.roll_out("deployment", "to-upper")  # it is to have some of them again
        cluster.wait_pods("to-upper", 6)
        seconds = _failed(cluster, node, 6)
    with capsys.disabled():
        sys.stdout.write(f"elsewhere {seconds:.0f} s after the node was known to have failed\n")
    _all_there(cluster, numbered, capsys)
    for each in forgets(cluster.make("halt", check=False)):
        cluster.make("forget", each)
    cluster.make("up")
    cluster.scale("to-upper", 1)
    assert 20 < seconds < 120


def _failed(cluster: Cluster, node: str, number: int) -> float:
    """Have a node fail and come back; return after how long all replicas were elsewhere."""
    stay = cluster.elsewhere("to-upper", node)
    before = cluster.restarts("to-upper")
    assert len(stay) < number
    cluster.kill(node)
    try:
        cluster.wait_node(node, is_ready=False)
        known = time.monotonic()
        cluster.wait_elsewhere("to-upper", number, node)
        seconds = time.monotonic() - known
        # The broker that has failed keeps the names of those that were connected to it.
        after = cluster.restarts("to-upper")
        assert {name: after[name] for name in stay} == {name: before[name] for name in stay}
    finally:
        cluster.start(node)
    cluster.wait_node(node, is_ready=True)
    cluster.wait_clustered()
    return seconds


def test_what_cannot_start_is_told(cluster: Cluster) -> None:
    """An image that there is not, and a wrong password: which pod, and why; the others go on."""
    said = cluster.make("up", check=False, TAG="missing")
    assert re.search(rf" of {cluster.name}-\w+:missing: (ErrImage|ImagePull)", said)
    assert "not all is rolled out" in said
    cluster.set_image("producer")  # nothing can be published by one that there is not
    cluster.make("publish", "MSG=nevertheless")
    cluster.wait_printed({"NEVERTHELESS"})
    cluster.make("up")

    password = cluster.password("to_upper")
    right = password.read_text()
    password.write_text("wrong")
    cluster.make("up")
    cluster.kubectl("rollout", "restart", "deployment", "to-upper")
    said = cluster.make("up", check=False, UP_TIMEOUT="40")
    assert re.search(r"to-upper-\S+ of \S+: runs, and is not ready", said)
    assert "RABBITMQ_PASSWORD" in said
    password.write_text(right)
    cluster.kubectl("delete", "pod", "-l", "stage=to_upper", check=False)
    cluster.make("up")


def test_passwords_are_replaced(cluster: Cluster) -> None:
    """Of pods that go on, too: whoever connects again has the new one."""
    before = [each["metadata"]["name"] for each in cluster.pods("printer")]
    cluster.secure("ROTATE=passwords")
    cluster.make("up")
    close = ("rabbitmqctl", "--quiet", "close_all_connections", "replaced")
    cluster.kubectl("exec", "rabbitmq-0", "--", *close)

    cluster.make("publish", "MSG=replaced")
    cluster.wait_printed({"REPLACED"})
    assert [each["metadata"]["name"] for each in cluster.pods("printer")] == before
