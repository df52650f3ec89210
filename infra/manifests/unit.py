"""What a unit is to the cluster: one Service, its binding to the target group, one disruption budget."""

from collections.abc import Mapping

from infra.manifests.common import PORT, SERVER, Manifest, labels, manifest


def unit_manifests(*, unit: str, target_group_arn: str) -> list[Manifest]:
    """The unit's objects; the pods of all its pools stand behind the one Service.

    Two bindings on one target group would be refused, so pools of one unit share this one.
    """
    name = f"{SERVER}-{unit}"
    selector = labels(SERVER, unit=unit)
    return [
        service(name=name, selector=selector),
        binding(name=name, selector=selector, target_group_arn=target_group_arn),
        _disruption_budget(name, selector),
    ]


def service(*, name: str, selector: Mapping[str, str]) -> Manifest:
    """A Service for the pods that `selector` selects."""
    spec = {
        "type": "ClusterIP",
        "selector": dict(selector),
        "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
    }
    return manifest("v1", "Service", name, {"spec": spec}, labelled=selector)


def binding(*, name: str, selector: Mapping[str, str], target_group_arn: str) -> Manifest:
    """What registers the Service's pods, by their IP, in the target group.

    Without `networking` the AWS Load Balancer Controller leaves security groups to the stack.
    """
    spec = {
        "targetGroupARN": target_group_arn,
        "targetType": "ip",
        "ipAddressType": "ipv4",
        "serviceRef": {"name": name, "port": PORT},
    }
    return manifest("elbv2.k8s.aws/v1beta1", "TargetGroupBinding", name, {"spec": spec}, labelled=selector)


def _disruption_budget(name: str, selector: Mapping[str, str]) -> Manifest:
    """At most half of the unit's pods may be evicted at a time.

    A tighter bound would hold up the drain of spot nodes past their two minutes, where an eviction,
    with its preStop, is the only kind end. A pod that is not ready carries nothing and may always go.
    """
    spec = {
        "maxUnavailable": "50%",
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": dict(selector)},
    }
    return manifest("policy/v1", "PodDisruptionBudget", name, {"spec": spec}, labelled=selector)
