"""The serving pods of a pool: a Deployment with one pod for each of its nodes."""

from collections.abc import Mapping
from typing import Any, Final

from control_lambda.core.fleet import Pool, Unit
from infra.accelerators import ACCELERATORS
from infra.catalog import InstanceType
from infra.cluster.nodes import POOL_LABEL
from infra.manifests.common import (
    GRACE_SECONDS,
    PORT,
    PRE_STOP_SECONDS,
    SCRATCH,
    SERVER,
    Manifest,
    container_security,
    environment,
    from_pod,
    http_probe,
    labels,
    manifest,
    pod_security,
)
from infra.room import for_pods

CACHE: Final = "/cache"

# What the node's 150 GiB volume can spare beside images: weights and compiled graphs, and scratch.
_CACHE_SIZE: Final = "80Gi"
_SCRATCH_SIZE: Final = "10Gi"
_STARTUP_SECONDS: Final = 300  # importing the frameworks from a cold disk; loading the model is readiness


def deployment_name(pool: str) -> str:
    """The name of the pool's Deployment."""
    return f"server-{pool}"


def deployment(
    *, unit: Unit, pool: Pool, instance_type: InstanceType, image: str, variables: Mapping[str, str]
) -> Manifest:
    """The pool's Deployment, without `replicas`: the pool's autoscaler owns them.

    One pod per node, so a rollout has no room for a surge: it takes a pod away before it adds one.
    """
    name = deployment_name(pool.name)
    selector = labels(SERVER, unit=unit.name, pool=pool.name)
    spec = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": _progress_deadline(unit),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": selector},
            "spec": _pod(selector, pool.name, _container(instance_type, image, variables)),
        },
    }
    return manifest("apps/v1", "Deployment", name, {"spec": spec}, labelled=selector)


def _progress_deadline(unit: Unit) -> int:
    """Seconds without a pod becoming ready after which a rollout counts as failed: thrice a start."""
    return max(600, round(3 * unit.profile.start_seconds))


def _pod(selector: Mapping[str, str], pool: str, container: Manifest) -> Manifest:
    return {
        "serviceAccountName": SERVER,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "nodeSelector": {POOL_LABEL: pool},
        "tolerations": _tolerations(pool),
        "affinity": _one_per_node(selector),
        "containers": [container],
        "volumes": [
            {"name": "cache", "emptyDir": {"sizeLimit": _CACHE_SIZE}},
            {"name": "scratch", "emptyDir": {"sizeLimit": _SCRATCH_SIZE}},
        ],
    }


def _tolerations(pool: str) -> list[Manifest]:
    """The pool's own taint, and those that clusters usually put on accelerators."""
    own = {"key": POOL_LABEL, "operator": "Equal", "value": pool, "effect": "NoSchedule"}
    plugins = [facts.device_plugin for facts in ACCELERATORS.values() if facts.device_plugin]
    usual = [{"key": plugin.resource, "operator": "Exists", "effect": "NoSchedule"} for plugin in plugins]
    return [own, *usual]


def _one_per_node(selector: Mapping[str, str]) -> Manifest:
    """The loop counts a node as one server: a second pod would share its device or, on CPUs, its cores."""
    term = {"labelSelector": {"matchLabels": dict(selector)}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def _container(instance_type: InstanceType, image: str, variables: Mapping[str, str]) -> Manifest:
    return {
        "name": SERVER,
        "image": image,
        "env": [*environment(variables), from_pod("HOST_IP", "status.hostIP")],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(instance_type),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "cache", "mountPath": CACHE}, SCRATCH],
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "startupProbe": http_probe("/health/live", period=5, failures=_STARTUP_SECONDS // 5),
        "livenessProbe": http_probe("/health/live", period=10, failures=6),
        "readinessProbe": http_probe("/health/ready", period=5, failures=2),
    }


def _resources(instance_type: InstanceType) -> dict[str, Any]:
    """Every accelerator of the node, and what its agents leave of cores and memory.

    Memory is asked for as it is limited: the node is the pod's alone, and what it takes is there.
    """
    left = for_pods(instance_type)
    requests: dict[str, str] = {"cpu": f"{left.millicores}m", "memory": f"{left.mib}Mi"}
    limits = {"memory": f"{left.mib}Mi"}
    plugin = ACCELERATORS[instance_type.accelerator].device_plugin
    if plugin:
        requests[plugin.resource] = limits[plugin.resource] = str(instance_type.devices)
    return {"requests": requests, "limits": limits}
