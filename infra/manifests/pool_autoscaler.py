"""What keeps as many serving pods as a pool has nodes: cluster-proportional-autoscaler, one per pool."""

import json
from collections.abc import Sequence
from typing import Final

from control_lambda.core.fleet import MAX_NODES
from infra import pins
from infra.cluster.cluster import NAMESPACE
from infra.cluster.nodes import POOL_LABEL
from infra.manifests.common import (
    POOL_AUTOSCALER,
    Manifest,
    container_security,
    http_probe,
    labels,
    manifest,
    pod_security,
)
from infra.manifests.pool import deployment_name

REPOSITORY: Final = "registry.k8s.io/cpa/cluster-proportional-autoscaler"
IMAGE: Final = f"{REPOSITORY}:{pins.version('image', 'cluster-proportional-autoscaler')}"
POLL_SECONDS: Final = 5  # how long a new node may stand without its pod; nodes take minutes to start
_HEALTH_PORT: Final = 8080
_RBAC: Final = "rbac.authorization.k8s.io"


def shared_manifests(*, pools: Sequence[str]) -> list[Manifest]:
    """What the autoscalers of all pools share: an account, what it may do, and how they count.

    They read nodes, and set the scale of the pools' own Deployments and of nothing else.
    """
    account = {"kind": "ServiceAccount", "name": POOL_AUTOSCALER, "namespace": NAMESPACE}
    return [
        _named("v1", "ServiceAccount"),
        _named("v1", "ConfigMap", data={"ladder": _one_pod_per_node()}),
        _named(f"{_RBAC}/v1", "Role", rules=_own_rules(pools)),
        _named(f"{_RBAC}/v1", "RoleBinding", roleRef=_role("Role"), subjects=[account]),
        _cluster_wide("ClusterRole", rules=[_rule("", ["nodes"], ["list", "watch"])]),
        _cluster_wide("ClusterRoleBinding", roleRef=_role("ClusterRole"), subjects=[account]),
    ]


def autoscaler(*, pool: str) -> Manifest:
    """The Deployment that keeps the pool's pods as many as its nodes."""
    name = f"{POOL_AUTOSCALER}-{pool}"
    selector = labels(POOL_AUTOSCALER, pool=pool)
    pod = {
        "serviceAccountName": POOL_AUTOSCALER,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [_container(pool)],
    }
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": selector}, "spec": pod},
    }
    return manifest("apps/v1", "Deployment", name, {"spec": spec}, labelled=selector)


def _one_pod_per_node() -> str:
    """The autoscaler's parameters: as many pods as nodes, from none to EKS's limit for a node group.

    A ladder, because the linear mode never goes below one pod, and a pod that waits for a node in an
    empty pool would count as a disruption of its unit. Cordoned nodes count: without them a drain
    would take away a pod that serves, and the evicted one would come back in its place.
    """
    steps = [[nodes, nodes] for nodes in range(MAX_NODES + 1)]
    return json.dumps({"nodesToReplicas": steps, "includeUnschedulableNodes": True}, separators=(",", ":"))


def _own_rules(pools: Sequence[str]) -> list[Manifest]:
    deployments = [deployment_name(pool) for pool in pools]
    return [
        _rule("apps", ["deployments/scale"], ["get", "update"], named=deployments),
        _rule("", ["configmaps"], ["get"], named=[POOL_AUTOSCALER]),
    ]


def _rule(group: str, resources: list[str], verbs: list[str], *, named: Sequence[str] = ()) -> Manifest:
    rule: Manifest = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return {**rule, "resourceNames": list(named)} if named else rule


def _role(kind: str) -> Manifest:
    return {"apiGroup": _RBAC, "kind": kind, "name": _name_of(kind)}


def _name_of(kind: str) -> str:
    """Cluster-wide objects carry the namespace in their name, as others share the cluster with them."""
    return f"{NAMESPACE}-{POOL_AUTOSCALER}" if kind.startswith("Cluster") else POOL_AUTOSCALER


def _named(api_version: str, kind: str, **body: object) -> Manifest:
    return manifest(api_version, kind, POOL_AUTOSCALER, body, labelled=labels(POOL_AUTOSCALER))


def _cluster_wide(kind: str, **body: object) -> Manifest:
    metadata = {"name": _name_of(kind), "labels": labels(POOL_AUTOSCALER)}
    return {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, **body}


def _container(pool: str) -> Manifest:
    return {
        "name": POOL_AUTOSCALER,
        "image": IMAGE,
        "args": [
            f"--namespace={NAMESPACE}",
            f"--configmap={POOL_AUTOSCALER}",
            f"--target=deployment/{deployment_name(pool)}",
            f"--nodelabels={POOL_LABEL}={pool}",
            f"--poll-period-seconds={POLL_SECONDS}",
            "--logtostderr=true",
            "--v=0",
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "64Mi"},
        },
        "securityContext": container_security(),
        "livenessProbe": http_probe("/last-poll", period=10, failures=12, port=_HEALTH_PORT),
    }
