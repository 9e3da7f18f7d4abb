"""deploy/kubernetes has what docker-compose.yml and `make secure` have, as Kubernetes takes it."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rabbit import Settings
from rabbit.operations.compose import DeclaredStage, stages
from rabbit.operations.definitions import definitions
from rabbit.topology import control_queue
from tests.unit.entries import block_style

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
COMPOSE = block_style((ROOT / "docker-compose.yml").read_text())
SECURED = (ROOT / "deploy/secured/brokers.yml").read_text()
DISTRIBUTION = (ROOT / "deploy/cluster/rabbitmq-env.conf").read_text()

#: Kubernetes of today, and the oldest one that may still be about.
VERSIONS = ("1.37", "1.29")
#: No stages: nothing flows through them, and they log in as `control`.
BESIDE = {"control", "board"}
#: The stages that there are without any that somebody has added.
KNOWN = {"producer", "to_upper", "printer"}
#: A Kubernetes of today knows these by itself.
CORE = re.compile(r"(v1|apps/v1|policy/v1|networking\.k8s\.io/v1)")
#: What operators know of theirs, as far as it is used: fields, and in them fields; `None`: a value,
#: or what Kubernetes knows.
REFERENCE: dict[str, Any] = {"name": None}
ENDPOINT = {
    **dict.fromkeys(("port", "path", "interval", "scheme")),
    "relabelings": {"targetLabel": None, "replacement": None},
    "tlsConfig": {"serverName": None, "ca": {"secret": {"name": None, "key": None}}},
    "basicAuth": {key: {"name": None, "key": None} for key in ("username", "password")},
}
CUSTOM: dict[tuple[str, str], dict[str, Any]] = {
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {
        "secretTargetRef": dict.fromkeys(("parameter", "name", "key"))
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": REFERENCE,
        **dict.fromkeys(("pollingInterval", "minReplicaCount", "maxReplicaCount")),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": None}}},
        "triggers": {"type": None, "authenticationRef": REFERENCE, "metadata": None},
    },
    ("rabbitmq.com/v1beta1", "User"): {
        "rabbitmqClusterReference": REFERENCE,
        "importCredentialsSecret": REFERENCE,
        "tags": None,
    },
    ("rabbitmq.com/v1beta1", "Permission"): {
        "rabbitmqClusterReference": REFERENCE,
        **dict.fromkeys(("user", "vhost")),
        "permissions": dict.fromkeys(("configure", "write", "read")),
    },
    ("rabbitmq.com/v1beta1", "RabbitmqCluster"): {
        **dict.fromkeys(("replicas", "image", "terminationGracePeriodSeconds", "affinity")),
        "tls": dict.fromkeys(("secretName", "caSecretName", "disableNonTLSListeners")),
        "persistence": {"storage": None},
        "resources": None,
        "rabbitmq": dict.fromkeys(("additionalPlugins", "additionalConfig")),
        "override": {"statefulSet": {"spec": {"template": {"spec": None}}}},
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector": None,
        "podMetricsEndpoints": ENDPOINT,
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups": {"name": None, "rules": None}},
}

each_version = pytest.mark.parametrize("version", VERSIONS)


@cache
def _rendered(folder: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a folder, as kubectl would apply them."""
    folders = (os.environ["PATH"], str(Path(sys.executable).parent))
    kubectl = shutil.which("kubectl", path=os.pathsep.join(folders))
    if kubectl is None:
        pytest.fail("the manifests of deploy/kubernetes are checked with kubectl", pytrace=False)
    command = (kubectl, "kustomize", str(FOLDER / folder))
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(each for each in yaml.safe_load_all(printed) if each)


def _of_kind(kind: str, folder: str = "base") -> dict[str, dict[str, Any]]:
    """Return the objects of a kind, by name."""
    return {e["metadata"]["name"]: e for e in _rendered(folder) if e["kind"] == kind}


def _pod(workload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the specification of its pods, and their only container."""
    spec = workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def _environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}


def _services() -> dict[str, dict[str, str]]:
    """Return what each service of Compose that is no broker has as variables of its own."""
    section = COMPOSE.split("\nservices:\n", 1)[1].split("\nvolumes:\n")[0]
    parts = re.split(r"^  ([\w-]+):", section, flags=re.MULTILINE)[1:]
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    variable = re.compile(r"^      ([A-Z_]+): (\w+)$", re.MULTILINE)
    return {name: dict(variable.findall(e)) for name, e in entries.items() if "<<: *stage" in e}


@each_version
@pytest.mark.parametrize("folder", ["base", "operator"])
def test_kubernetes_knows_every_field(folder: str, version: str) -> None:
    """What it knows by itself has no field that a strict check refuses."""
    core = [each for each in _rendered(folder) if CORE.fullmatch(each["apiVersion"])]

    assert core
    for each in core:
        kubernetes_validate.validate(each, version, strict=True)


@each_version
def test_a_field_that_is_unknown_is_found(version: str) -> None:
    """The check can fail: with a name that Compose has."""
    deployment = {**_of_kind("Deployment")["printer"], "restart": "on-failure"}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, version, strict=True)


def _unknown(value: Any, known: dict[str, Any] | None, path: str = "") -> list[str]:
    """Return the fields of a custom resource that its operator does not know."""
    if known is None:
        return []
    if isinstance(value, list):
        return [each for part in value for each in _unknown(part, known, path)]
    found = [f"{path}{name}" for name in value if name not in known]
    for name in value.keys() & known.keys():
        found += _unknown(value[name], known[name], f"{path}{name}.")
    return found


@pytest.mark.parametrize("folder", ["operator", "keda", "monitoring"])
def test_operators_know_every_field(folder: str) -> None:
    """Of each custom resource, and there is none that is not checked."""
    custom = [each for each in _rendered(folder) if not CORE.fullmatch(each["apiVersion"])]

    assert custom
    for each in custom:
        assert _unknown(each["spec"], CUSTOM[each["apiVersion"], each["kind"]]) == []
    assert _unknown({"triggers": [{"kind": 1}]}, {"triggers": {"type": None}}) == ["triggers.kind"]


def test_stages_have_the_settings_that_they_have_with_compose() -> None:
    """Queues that differ would be another pipeline; one that was added may be missing."""
    with_compose = _services()
    deployments = _of_kind("Deployment")
    added = with_compose.keys() - {e["metadata"]["labels"]["stage"] for e in deployments.values()}
    assert with_compose.keys() - added >= KNOWN | BESIDE

    for name, each in deployments.items():
        stage = each["metadata"]["labels"]["stage"]
        _, container = _pod(each)
        environment = _environment(container)
        assert name == stage.replace("_", "-")
        assert environment.pop("RABBITMQ_USERNAME") == stage
        assert environment.keys() == with_compose[stage].keys()
        assert added or environment == with_compose[stage]
        assert container["image"] == f"pipeline-{stage}"


def test_settings_of_all_stages_are_settings() -> None:
    """With those of a secured pipeline."""
    (settings,) = (e for name, e in _of_kind("ConfigMap").items() if name.startswith("settings-"))

    assert {name.lower() for name in settings["data"]} <= Settings.model_fields.keys()
    assert settings["data"]["RABBITMQ_CA_FILE"] == "/run/secrets/ca.pem"
    assert settings["data"]["TOPOLOGY"] == "given"


def test_stages_know_that_there_are_several_brokers() -> None:
    """Or else one that has failed, and keeps a replica's name, would keep the replica out."""
    (settings,) = (e for name, e in _of_kind("ConfigMap").items() if name.startswith("settings-"))

    hosts = settings["data"]["RABBITMQ_HOST"].split(",")
    assert len(hosts) > 1
    assert set(hosts) <= _of_kind("Service").keys()


def test_stages_may_no_more_than_with_compose() -> None:
    """No root, no capability, no writing, no token; each reads its own secret only."""
    for name, each in _of_kind("Deployment").items():
        spec, container = _pod(each)
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        mounted = {e["name"]: e["secret"]["secretName"] for e in spec["volumes"] if "secret" in e}
        user = each["metadata"]["labels"]["stage"]
        assert mounted == {"secrets": user.replace("_", "-")}, name


def test_a_stage_is_looked_at_and_ends_by_itself() -> None:
    """By files that its image names; it gets longer than it gives itself, and hears SIGTERM."""
    longest = float(Settings.model_fields["drain_timeout"].default)
    for each in _of_kind("Deployment").values():
        spec, container = _pod(each)
        assert "$READY_FILE" in str(container["readinessProbe"])
        assert "$ALIVE_FILE" in str(container["livenessProbe"])
        assert spec["terminationGracePeriodSeconds"] > longest
        assert spec["shareProcessNamespace"] is True


def test_replicas_are_left_to_who_scales() -> None:
    """What is applied again does not undo it; and one node at a time may be emptied."""
    deployments = _of_kind("Deployment")
    stages = {name: each for name, each in deployments.items() if "replicas" not in each["spec"]}
    budgets = _of_kind("PodDisruptionBudget")

    assert deployments.keys() - stages.keys() == {"producer", *BESIDE}
    for name, each in stages.items():
        labels = each["spec"]["selector"]["matchLabels"]
        assert budgets[name]["spec"]["selector"]["matchLabels"] == labels
        spec, _ = _pod(each)
        (spread,) = spec["topologySpreadConstraints"]
        assert spread["labelSelector"]["matchLabels"] == labels


def test_a_replica_may_be_called_like_its_pod() -> None:
    """The name of a pod has no dot, which the rights of a stage are built on."""
    assert control_queue("to_upper", "to-upper-7d4b9c6f5-x2x9z").count(".") == 2


def test_each_stage_is_scaled_by_the_queue_that_it_reads() -> None:
    """By all that is in it, and never to none."""
    deployments = _of_kind("Deployment")
    for name, each in _of_kind("ScaledObject", "keda").items():
        (trigger,) = each["spec"]["triggers"]
        _, container = _pod(deployments[name])
        assert trigger["metadata"]["queueName"] == _environment(container)["INPUT_QUEUE"]
        assert (trigger["metadata"]["protocol"], trigger["metadata"]["mode"]) == (
            "http",
            "QueueLength",
        )
        assert each["spec"]["minReplicaCount"] == 1
        assert each["spec"]["scaleTargetRef"]["name"] == name


def test_the_operator_gives_the_rights_of_make_secure() -> None:
    """The same users, with the same patterns, and passwords that `make up` puts there."""
    made = definitions([stage for stage in _declared() if stage.name in KNOWN])
    patterns = {each["user"]: each for each in made["permissions"]}
    given = {
        each["spec"]["user"]: {**each["spec"]["permissions"]}
        for each in _of_kind("Permission", "operator").values()
    }
    users = _of_kind("User", "operator")

    assert _is_extended() or given == {
        user: {kind: each[kind] for kind in ("configure", "write", "read")}
        for user, each in patterns.items()
    }
    for user in made["users"]:
        name = user["name"].replace("_", "-")
        assert users[name]["spec"]["importCredentialsSecret"] == {"name": name}
        assert users[name]["spec"].get("tags", []) == user["tags"]


def _is_extended() -> bool:
    """Tell whether somebody has added a stage, whose rights are his to add."""
    return not _services().keys() <= KNOWN | BESIDE


def _declared() -> list[DeclaredStage]:
    """Return the stages, as Compose would say which there are."""
    services = {
        name: {"environment": {**variables, "STAGE": name}}
        for name, variables in sorted(_services().items())
        if name not in BESIDE
    }
    return stages(json.dumps({"services": services}))


def test_the_operator_has_the_brokers_settings() -> None:
    """Those of the files that Compose mounts, as far as it does not set them itself."""
    (cluster,) = _of_kind("RabbitmqCluster", "operator").values()
    written = set(cluster["spec"]["rabbitmq"]["additionalConfig"].splitlines())
    files = [ROOT / f"deploy/{each}/rabbitmq.conf" for each in ("rabbitmq", "cluster")]
    lines = {line for file in files for line in file.read_text().splitlines() if " = " in line}

    theirs = {line for line in written if not line.startswith(("load_", "prometheus."))}
    ours = {line for line in lines if not line.startswith(("#", "default_user", "cluster_form"))}
    assert theirs == ours - {"log.console = true"}


def test_alerts_are_those_of_compose() -> None:
    """All but what to do, which is not the same command."""
    (rules,) = _of_kind("PrometheusRule", "monitoring").values()
    told = yaml.safe_load((ROOT / "deploy/observe/alerts.yml").read_text())
    actions = [
        rule["annotations"].pop("action")
        for groups in (rules["spec"]["groups"], told["groups"])
        for group in groups
        for rule in group["rules"]
    ]

    assert rules["spec"]["groups"] == told["groups"]
    ours = actions[: len(actions) // 2]
    assert [
        each for each in ours if "docker" in each or re.search("make (?!secure)(?!.*TARGET)", each)
    ] == []


def test_a_new_stage_is_one_short_file() -> None:
    """As those that are there."""
    for file in (FOLDER / "base/stages").glob("*.yaml"):
        if file.name not in {"kustomization.yaml", "common.yaml"}:
            assert len(file.read_text().splitlines()) <= 25, file


def test_brokers_are_those_of_compose() -> None:
    """The same files, first process, memory, and time until a node is given up."""
    (broker,) = _of_kind("StatefulSet").values()
    spec, container = _pod(broker)
    (start,) = re.findall(r"- >-\n(.*?)  volumes:", SECURED, re.DOTALL)
    (ticks,) = re.findall(r"-kernel net_ticktime \d+", DISTRIBUTION)
    written = {e["name"]: e["data"]["rabbitmq.conf"] for e in _configurations()}

    assert container["command"][:2] == ["bash", "-c"]
    assert container["command"][2].split() == start.split()
    assert _environment(container)["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] == ticks
    assert container["resources"]["limits"]["memory"] == "3Gi"
    assert "memory: 3g" in COMPOSE
    assert broker["spec"]["replicas"] == 3
    for name, folder in (("", "rabbitmq"), ("-cluster", "cluster"), ("-secured", "secured")):
        assert written[f"rabbitmq{name}"] == (ROOT / f"deploy/{folder}/rabbitmq.conf").read_text()
    for number in range(3):
        assert f"rabbit@rabbitmq-{number}.rabbitmq-nodes" in written["rabbitmq-kubernetes"]
    assert spec["securityContext"]["runAsUser"] == 999


def _configurations() -> list[dict[str, Any]]:
    """Return the brokers' ConfigMaps, their names without what their content adds to them."""
    found = [e for name, e in _of_kind("ConfigMap").items() if name.startswith("rabbitmq")]
    return [{**e, "name": e["metadata"]["name"].rpartition("-")[0]} for e in found]
