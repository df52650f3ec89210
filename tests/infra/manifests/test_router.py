"""The query router, for fleets that ask for it."""

from infra.manifests.router import router_bindings, router_workload
from tests.infra.kubernetes_objects import of_kind
from tests.infra.manifests.examples import ARN, FLEET


def test_the_router_is_told_the_fleet() -> None:
    """As JSON in its environment, so that a change of the fleet rolls it."""
    (made,) = router_workload(image="router:tag", fleet_json=FLEET.to_json(), variables={"PORT": "8000"})
    spec = made["spec"]["template"]["spec"]
    *told, own_address = spec["containers"][0]["env"]
    assert {one["name"]: one["value"] for one in told} == {"PORT": "8000", "FLEET_JSON": FLEET.to_json()}
    assert own_address == {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert spec["containers"][0]["command"] == ["python", "-m", "containers.router"]


def test_the_router_reads_endpoints_and_nothing_else() -> None:
    """Least rights: EndpointSlices of its own namespace."""
    (rule,) = of_kind(router_bindings(target_group_arn=ARN), "Role")["router"]["rules"]
    assert rule == {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["get", "list", "watch"],
    }
