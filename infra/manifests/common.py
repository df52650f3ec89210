"""What every manifest shares: names, labels and the hardening that Pod Security's `restricted` asks for."""

from collections.abc import Mapping
from typing import Any, Final

from infra.cluster.cluster import NAMESPACE
from infra.cluster.nodes import POOL_LABEL, UNIT_LABEL

Manifest = dict[str, Any]

PORT: Final = 8000
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
SERVER: Final = "server"
ROUTER: Final = "router"
POOL_AUTOSCALER: Final = "pool-autoscaler"
SCRATCH: Final[Mapping[str, str]] = {"name": "scratch", "mountPath": "/tmp"}  # noqa: S108 - the pod's own
USER_ID: Final = 10001  # any user but root: nothing in the images belongs to it but what it writes

# From the pod's deletion on, in seconds. The sleep outlives the load balancer's learning of it; the
# grace period outlives the sleep, the slowest request and the server's own drain, and still fits
# into the two minutes that spot gives. The target groups' deregistration delay lies between the two.
PRE_STOP_SECONDS: Final = 15
GRACE_SECONDS: Final = 90


def labels(component: str, *, unit: str = "", pool: str = "") -> dict[str, str]:
    """The labels of an object of `component`, with unit and pool where it belongs to one."""
    own = {UNIT_LABEL: unit, POOL_LABEL: pool}
    return {
        "app.kubernetes.io/part-of": "fulcrum",
        COMPONENT_LABEL: component,
        **{key: value for key, value in own.items() if value},
    }


def manifest(
    api_version: str, kind: str, name: str, body: Mapping[str, Any], *, labelled: Mapping[str, str]
) -> Manifest:
    """One namespaced object: head from the arguments, `body` beside it."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": dict(labelled)},
        **body,
    }


def pod_security() -> Manifest:
    """The pod's security context: never root, the container runtime's seccomp profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """The container's security context: nothing to write to but volumes, no capability, no way up."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def environment(values: Mapping[str, str]) -> list[dict[str, str]]:
    """The mapping as Kubernetes writes environment variables."""
    return [{"name": name, "value": value} for name, value in values.items()]


def from_pod(name: str, path: str) -> Manifest:
    """A variable that Kubernetes fills with a field of the pod, such as `status.hostIP`."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def http_probe(path: str, *, period: int, failures: int, port: int = PORT) -> Manifest:
    """A GET of `path` every `period` seconds that fails for good after `failures` in a row."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period,
        "timeoutSeconds": min(period, 5),
        "failureThreshold": failures,
    }
