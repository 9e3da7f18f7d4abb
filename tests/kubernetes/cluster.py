"""A namespace of a cluster, driven as the README says."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.copies import COMMAND, are_three
from tests.support.numbered import Numbered
from tests.support.pipeline import Pipeline
from tests.waiting import wait_until

_STAGES = ("producer", "to_upper", "printer", "control", "board")

#: How long Kubernetes may take for anything, in seconds: a bound, not a wait.
PATIENCE_SECONDS = 300.0
#: Between two looks, each of which is a process.
_PAUSE_SECONDS = 1.0

#: What the test changes: so slow that messages are in flight whenever something happens, and little
#: enough for a small machine.
_OVERLAY = """\
resources: [../base]
configMapGenerator:
  - name: settings
    behavior: merge
    literals: [PREFETCH={prefetch}, TO_UPPER_DELAY=0.02]
patches:
  - target: {{ kind: StatefulSet }}
    patch: |-
      - op: replace
        path: /spec/volumeClaimTemplates/0/spec/resources/requests/storage
        value: 2Gi
      - op: replace
        path: /spec/template/spec/containers/0/resources/requests
        value: {{ cpu: 100m }}
"""
#: Kubernetes before 1.21 knows them by another version.
_FORMER_BUDGETS = """\
  - target: { kind: PodDisruptionBudget }
    patch: |-
      - op: replace
        path: /apiVersion
        value: policy/v1beta1
"""


class Cluster:
    """One namespace.

    Attributes:
        name: of the namespace, and of the images.
        tag: of the images that there are.
    """

    #: What `to_upper` may hold, and so what may come twice when a replica or a broker ends.
    PREFETCH = 20

    def __init__(self, folder: Path, name: str) -> None:
        """Use a copy of the project."""
        self.name, self._folder = name, folder
        self._pipeline = Pipeline(name, folder)
        self.tag = ""

    # What a user types

    def make(self, *arguments: str, check: bool = True, stdin: str = "", **variables: str) -> str:
        """Run a target for the cluster; return all that it prints."""
        given = {"TARGET": "kubernetes", "NAMESPACE": self.name, "UP_TIMEOUT": "400"}
        given |= {"KUSTOMIZATION": "deploy/kubernetes/test", "TAG": self.tag, **variables}
        done = self._pipeline.make(*arguments, check=check, stdin=stdin, **given)
        return done.stdout + done.stderr

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl in the namespace; return what it prints."""
        given = ("kubectl", "--namespace", self.name, *arguments)
        return self._pipeline.run(*given, check=check).stdout

    def numbered(self) -> Numbered:
        """Return messages to be sent to it, of which none may be lost."""
        return Numbered(lambda lines: self.make("publish", "FILE=-", stdin=lines))

    def scale(self, name: str, number: int) -> None:
        """Have so many replicas, and none else."""
        self.kubectl("scale", "deployment", name, f"--replicas={number}")
        self.wait_pods(name, number)

    def roll_out(self, kind: str, name: str) -> None:
        """Replace each pod, one after the other."""
        self.kubectl("rollout", "restart", kind, name)
        self.wait_rolled_out(kind, name)

    def wait_rolled_out(self, kind: str, name: str) -> None:
        """Wait until all pods are new, and ready."""
        self.kubectl("rollout", "status", kind, name, f"--timeout={PATIENCE_SECONDS:.0f}s")

    def set_image(self, name: str) -> None:
        """Give a Deployment, of whatever image it is, the one that there is."""
        image = f"{self.name}-{name.replace('-', '_')}:{self.tag}"
        self.kubectl("set", "image", f"deployment/{name}", f"stage={image}")

    # What becomes of it

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a Deployment or a StatefulSet, those too that are about to go."""
        label = f"stage={name.replace('-', '_')}" if name != "rabbitmq" else "app=rabbitmq"
        listed = json.loads(self.kubectl("get", "pods", "-l", label, "-o", "json"))["items"]
        return [each for each in listed if "-run-" not in each["metadata"]["name"]]

    def running(self, name: str) -> list[str]:
        """Return the pods in which something runs."""
        return [each["metadata"]["name"] for each in self.pods(name) if _is_running(each)]

    def restarts(self, name: str) -> dict[str, int]:
        """Return how often each pod of a Deployment has had to be started again."""
        return {
            each["metadata"]["name"]: sum(
                status["restartCount"] for status in each["status"].get("containerStatuses", ())
            )
            for each in self.pods(name)
        }

    def wait_pods(self, name: str, number: int) -> None:
        """Wait until there are so many, each of which is ready."""

        def are_ready() -> bool:
            pods = [each for each in self.pods(name) if not _is_removed(each)]
            return len(pods) == number and all(map(_is_ready, pods))

        wait_until(
            are_ready,
            PATIENCE_SECONDS,
            lambda: self.kubectl("get", "pods", "-o", "wide") + self.kubectl("get", "events"),
            pause_seconds=_PAUSE_SECONDS,
        )

    def replicas(self) -> dict[str, int]:
        """Return how many replicas each Deployment is to have."""
        listed = json.loads(self.kubectl("get", "deployments", "-o", "json"))["items"]
        return {each["metadata"]["name"]: each["spec"]["replicas"] for each in listed}

    def printed(self) -> list[str]:
        """Return what the printers that are there have printed."""
        return self.kubectl("logs", "-l", "stage=printer", "--tail=-1", check=False).split()

    def wait_printed(self, expected: set[str]) -> list[str]:
        """Wait until all of these are printed; return all that is."""
        wait_until(
            lambda: expected <= set(self.printed()),
            PATIENCE_SECONDS,
            lambda: f"{len(expected - set(self.printed()))} of {len(expected)} are missing",
            pause_seconds=_PAUSE_SECONDS,
        )
        return self.printed()

    def wait_clustered(self) -> None:
        """Wait until all three brokers are ready, with a copy of each queue that is up to date."""
        self.wait_pods("rabbitmq", 3)
        wait_until(
            self._is_clustered, PATIENCE_SECONDS, "three copies of each queue", _PAUSE_SECONDS
        )

    def _is_clustered(self) -> bool:
        return are_three(self.kubectl("exec", "rabbitmq-0", "--", *COMMAND, check=False))

    # Nodes

    def nodes(self, name: str) -> set[str]:
        """Return the nodes on which the pods of a Deployment or a StatefulSet are ready."""
        return {each["spec"]["nodeName"] for each in self.pods(name) if _is_ready(each)}

    def elsewhere(self, name: str, node: str) -> list[str]:
        """Return the pods of a Deployment that are ready on other nodes than this one."""
        ready = [each for each in self.pods(name) if _is_ready(each)]
        return [each["metadata"]["name"] for each in ready if each["spec"]["nodeName"] != node]

    def drain(self, node: str) -> None:
        """Have all pods leave a node, which gets none until `uncordon`."""
        # Those of make publish, say, belong to nobody: hence --force.
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force")
        self.kubectl("drain", node, *options, f"--timeout={PATIENCE_SECONDS:.0f}s")

    def uncordon(self, node: str) -> None:
        """Let pods come to it again."""
        self.kubectl("uncordon", node)

    def kill(self, node: str) -> None:
        """Have a node fail."""
        _shell(os.environ["KUBERNETES_KILL"].replace("{}", node))

    def start(self, node: str) -> None:
        """Have it come back."""
        _shell(os.environ["KUBERNETES_START"].replace("{}", node))

    def wait_node(self, node: str, *, is_ready: bool) -> None:
        """Wait until Kubernetes knows of a node that it is ready, or that it is not."""

        def is_so() -> bool:
            return (
                _is_ready(json.loads(self.kubectl("get", "node", node, "-o", "json"))) == is_ready
            )

        wait_until(is_so, PATIENCE_SECONDS, f"{node} is ready: {is_ready}", _PAUSE_SECONDS)

    def wait_elsewhere(self, name: str, number: int, node: str) -> None:
        """Wait until so many pods are ready on other nodes; those of this one may stay listed."""
        wait_until(
            lambda: len(self.elsewhere(name, node)) == number,
            PATIENCE_SECONDS,
            lambda: self.kubectl("get", "pods", "-o", "wide"),
            pause_seconds=_PAUSE_SECONDS,
        )

    # Beginning and end

    def create(self) -> None:
        """Create the namespace, and say what is different in it."""
        self._pipeline.run("kubectl", "create", "namespace", self.name)
        overlay = self._folder / "deploy/kubernetes/test/kustomization.yaml"
        overlay.parent.mkdir()
        known = self._pipeline.run("kubectl", "api-versions").stdout.split()
        budgets = "" if "policy/v1" in known else _FORMER_BUDGETS
        overlay.write_text(_OVERLAY.format(prefetch=self.PREFETCH) + budgets)

    def secure(self, *arguments: str) -> None:
        """Make what secures it, or replace a part of it."""
        self._pipeline.make("secure", f"NAMES=rabbitmq.{self.name}.svc", *arguments)

    def password(self, user: str) -> Path:
        """Return the file that a password is in."""
        return self._folder / "secrets/passwords" / user

    def build(self, tag: str) -> None:
        """Build the images here, and bring them to the nodes."""
        self._pipeline.compose("--profile", "*", "--progress", "quiet", "build", TAG=tag)
        self.tag = tag
        images = [f"{self.name}-{stage}:{tag}" for stage in _STAGES]
        load = os.environ.get("KUBERNETES_LOAD")
        if load:
            _shell(load.replace("{}", " ".join(images)))

    def remove(self) -> None:
        """Remove the namespace, and what is on this machine."""
        quick = ("--force", "--grace-period=0", "--wait=false", "--all")
        self.kubectl("delete", "pods", *quick, check=False)
        self._pipeline.run("kubectl", "delete", "namespace", self.name, check=False)
        self._pipeline.remove()


def _shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602 - the user's


def _is_running(pod: dict[str, Any]) -> bool:
    return any("running" in each["state"] for each in pod["status"].get("containerStatuses", ()))


def _is_removed(pod: dict[str, Any]) -> bool:
    """Tell whether it is about to go, and nothing runs in it any more."""
    return "deletionTimestamp" in pod["metadata"] and not _is_running(pod)


def _is_ready(pod_or_node: dict[str, Any]) -> bool:
    told = pod_or_node["status"].get("conditions", ())
    conditions = {each["type"]: each["status"] for each in told}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod_or_node["metadata"]


def forgets(said: str) -> list[str]:
    """Return what a halt says that is to be forgotten, as arguments of make."""
    return re.findall(r"make forget (ARGS=\S+)", said)
