"""The query router, for fleets with `routing: router`: a proxy that picks the node, request by request."""

from collections.abc import Mapping
from typing import Final

from infra.cluster.cluster import NAMESPACE
from infra.manifests.common import (
    GRACE_SECONDS,
    PORT,
    PRE_STOP_SECONDS,
    ROUTER,
    SCRATCH,
    Manifest,
    container_security,
    environment,
    from_pod,
    http_probe,
    labels,
    manifest,
    pod_security,
)
from infra.manifests.unit import binding, service

REPLICAS: Final = 2  # on the two system nodes; either one carries the traffic alone
_RBAC: Final = "rbac.authorization.k8s.io"


def router_bindings(*, target_group_arn: str) -> list[Manifest]:
    """What must stand before the router's pods: Service, binding, budget, account and its one right."""
    account = {"kind": "ServiceAccount", "name": ROUTER, "namespace": NAMESPACE}
    role = {"apiGroup": _RBAC, "kind": "Role", "name": ROUTER}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels(ROUTER)}}
    return [
        service(name=ROUTER, selector=labels(ROUTER)),
        binding(name=ROUTER, selector=labels(ROUTER), target_group_arn=target_group_arn),
        _named("policy/v1", "PodDisruptionBudget", spec=budget),
        _named("v1", "ServiceAccount"),
        _named(f"{_RBAC}/v1", "Role", rules=[_reads_endpoints()]),
        _named(f"{_RBAC}/v1", "RoleBinding", roleRef=role, subjects=[account]),
    ]


def router_workload(*, image: str, fleet_json: str, variables: Mapping[str, str]) -> list[Manifest]:
    """The router's Deployment, and the fleet that it reads from its environment as FLEET_JSON."""
    selector = labels(ROUTER)
    spec = {
        "replicas": REPLICAS,
        "revisionHistoryLimit": 3,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": selector}, "spec": _pod(image, fleet_json, variables)},
    }
    return [_named("apps/v1", "Deployment", spec=spec)]


def _pod(image: str, fleet_json: str, variables: Mapping[str, str]) -> Manifest:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels(ROUTER)},
    }
    return {
        "serviceAccountName": ROUTER,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "topologySpreadConstraints": [spread],
        "containers": [_container(image, {**variables, "FLEET_JSON": fleet_json})],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
    }


def _container(image: str, variables: Mapping[str, str]) -> Manifest:
    return {
        "name": ROUTER,
        "image": image,
        "command": ["python", "-m", "containers.router"],
        # By its address a router knows itself among its peers, of which one holds the queue.
        "env": [*environment(variables), from_pod("POD_IP", "status.podIP")],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": container_security(),
        "volumeMounts": [SCRATCH],
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "livenessProbe": http_probe("/health/live", period=10, failures=6),
        "readinessProbe": http_probe("/health/ready", period=5, failures=2),
    }


def _reads_endpoints() -> Manifest:
    return {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch"],
    }


def _named(api_version: str, kind: str, **body: object) -> Manifest:
    return manifest(api_version, kind, ROUTER, body, labelled=labels(ROUTER))
