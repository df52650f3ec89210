"""A pod as the cluster's admission leaves it: what webhooks make of it, and what Pod Security says to that.

Webhooks known to act on pods of the namespace: the EKS Pod Identity one (mutates what has an association),
the AWS Load Balancer Controller's (adds readiness gates), and CloudWatch's agent operator, which instruments
every Deployment that a Service selects while Application Signals' auto-monitor is on. The first two add
neither containers nor anything that a profile looks at but a projected volume.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

Spec = dict[str, Any]

# https://kubernetes.io/docs/concepts/security/pod-security-standards/, "Restricted", volume types.
VOLUMES: Final = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "projected", "secret"}
VOLUMES_WITH_CLAIMS: Final = VOLUMES | {"persistentVolumeClaim"}
BASELINE_CAPABILITIES: Final = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
# Of those whose instrumentation the operator adds to every selected workload.
LANGUAGES: Final = ("java", "python", "nodejs", "dotnet")


def admitted(spec: Spec, *, has_service: bool, auto_monitor: Mapping[str, bool]) -> Spec:
    """The pod's spec after the webhooks; `auto_monitor` is the add-on's configuration of that name."""
    changed = _with_pod_identity(deepcopy(spec))
    if auto_monitor.get("monitorAllServices", True) and has_service:
        changed = _instrumented(changed)
    return changed


def _with_pod_identity(spec: Spec) -> Spec:
    token = {"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": {}}]}}
    spec.setdefault("volumes", []).append(token)
    return spec


def _instrumented(spec: Spec) -> Spec:
    """Init containers without a security context, as the operator's issues #360 and #361 show them."""
    for language in LANGUAGES:
        container = {
            "name": f"opentelemetry-auto-instrumentation-{language}",
            "image": f"adot-autoinstrumentation-{language}",
            "command": ["cp", "-a", "/autoinstrumentation/.", "/otel-auto-instrumentation"],
        }
        spec.setdefault("initContainers", []).append(container)
    spec["volumes"].append({"name": "opentelemetry-auto-instrumentation", "emptyDir": {}})
    return spec


def faults(spec: Spec, profile: str) -> list[str]:
    """What the profile (`baseline` or `restricted`) refuses the pod for."""
    found = list(_baseline(spec))
    if profile == "restricted":
        found += _restricted(spec)
    return found


def _containers(spec: Spec) -> Iterator[Spec]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind, [])


def _baseline(spec: Spec) -> Iterator[str]:
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(shared):
            yield shared
    yield from (
        f"hostPath volume {volume['name']}" for volume in spec.get("volumes", []) if "hostPath" in volume
    )
    for container in _containers(spec):
        security = container.get("securityContext", {})
        added = set(security.get("capabilities", {}).get("add", []))
        if security.get("privileged"):
            yield f"{container['name']}: privileged"
        if added - BASELINE_CAPABILITIES:
            yield f"{container['name']}: adds {sorted(added - BASELINE_CAPABILITIES)}"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{container['name']}: hostPort"
        if security.get("seccompProfile", {}).get("type") == "Unconfined":
            yield f"{container['name']}: seccomp Unconfined"


def _restricted(spec: Spec) -> Iterator[str]:
    of_pod = spec.get("securityContext", {})
    for volume in spec.get("volumes", []):
        if not volume.keys() - {"name"} <= VOLUMES_WITH_CLAIMS:
            yield f"volume {volume['name']}"
    for container in _containers(spec):
        name, security = container["name"], container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation"
        if "ALL" not in security.get("capabilities", {}).get("drop", []):
            yield f"{name}: capabilities not dropped"
        if set(security.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: adds capabilities"
        if security.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
            yield f"{name}: runAsNonRoot"
        if security.get("runAsUser", of_pod.get("runAsUser")) == 0:
            yield f"{name}: runAsUser 0"
        profile = security.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type")
        if profile not in {"RuntimeDefault", "Localhost"}:
            yield f"{name}: seccompProfile"
