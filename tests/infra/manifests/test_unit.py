"""What stands in front of a unit's pods, and how many of them may be evicted at a time."""

import pytest

from control_lambda.core.fleet import Fleet
from infra.manifests.common import Manifest
from infra.manifests.pool import deployment_name
from infra.manifests.unit import unit_manifests
from tests.infra.kubernetes_objects import of_kind
from tests.infra.manifests.examples import ARN, FLEET, TWINS, everything, selects


def allowed_disruptions(budget: Manifest, pods: int, healthy: int) -> int:
    """How many evictions Kubernetes allows: percentages are rounded up, pods that are not ready count."""
    share = int(budget["spec"]["maxUnavailable"].rstrip("%"))
    return max(0, healthy - (pods - -(-pods * share // 100)))


@pytest.mark.parametrize(("pods", "allowed"), [(1, 1), (2, 1), (10, 5)])
def test_a_drain_is_never_stuck_and_never_takes_more_than_half(pods: int, allowed: int) -> None:
    """The last server of a unit may go, too: on a spot node it has two minutes, whatever a budget says."""
    budget = of_kind(unit_manifests(unit="a-unit", target_group_arn=ARN), "PodDisruptionBudget")
    assert allowed_disruptions(budget["server-a-unit"], pods, pods) == allowed


@pytest.mark.parametrize("fleet", [FLEET, TWINS], ids=lambda fleet: fleet.fleet)
def test_the_pods_of_all_pools_of_a_unit_and_no_others_stand_behind_its_service(fleet: Fleet) -> None:
    """A spot pool and its on-demand twin share the unit's target group, and its budget."""
    manifests = everything(fleet)
    pods = {
        name: made["spec"]["template"]["metadata"]["labels"]
        for name, made in of_kind(manifests, "Deployment").items()
    }
    for unit in fleet.units:
        own = {deployment_name(pool.name) for pool in unit.pools}
        service = of_kind(manifests, "Service")[f"server-{unit.name}"]["spec"]["selector"]
        budget = of_kind(manifests, "PodDisruptionBudget")[f"server-{unit.name}"]["spec"]["selector"]
        assert {name for name, labels in pods.items() if selects(service, labels)} == own
        assert {name for name, labels in pods.items() if selects(budget["matchLabels"], labels)} == own


def test_each_unit_has_one_binding_by_ip_and_security_groups_stay_the_stacks() -> None:
    """Two bindings on one target group are refused, and `networking` would open ports a second time."""
    for unit in TWINS.units:
        manifests = unit_manifests(unit=unit.name, target_group_arn=ARN)
        (binding,) = of_kind(manifests, "TargetGroupBinding").values()
        (service,) = of_kind(manifests, "Service").values()
        assert binding["spec"]["targetType"] == "ip"
        assert binding["spec"]["targetGroupARN"] == ARN
        assert "networking" not in binding["spec"]
        assert binding["spec"]["serviceRef"]["name"] == service["metadata"]["name"]
        assert binding["spec"]["serviceRef"]["port"] in [port["port"] for port in service["spec"]["ports"]]
