"""Fleets, and every object that one may bring into the cluster."""

from control_lambda.core.fleet import Fleet, Unit
from control_lambda.fleet_file import load_fleet
from infra import catalog
from infra.manifests.common import Manifest
from infra.manifests.network_policies import network_policies, router_network_policies
from infra.manifests.pool import deployment
from infra.manifests.pool_autoscaler import autoscaler, shared_manifests
from infra.manifests.router import router_bindings, router_workload
from infra.manifests.unit import unit_manifests
from tests.infra.conftest import ROOT

CIDRS = ["10.42.0.0/16"]
ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/name/0123456789abcdef"
FLEET = load_fleet(ROOT / "fleet.yaml")
TWINS = load_fleet(ROOT / "fleets" / "spot-twins.yaml")
CPU = load_fleet(ROOT / "fleets" / "cpu-laptop.yaml")


def servers(unit: Unit, **variables: str) -> list[Manifest]:
    """The Deployments of all pools of the unit."""
    instance_type = catalog.instance_type(unit.instance_type)
    return [
        deployment(
            unit=unit, pool=pool, instance_type=instance_type, image="registry/image:tag", variables=variables
        )
        for pool in unit.pools
    ]


def everything(fleet: Fleet) -> list[Manifest]:
    """Every object that the fleet may bring into the cluster, the router's too."""
    pools = [pool.name for pool in fleet.pools]
    return [
        *shared_manifests(pools=pools),
        *network_policies(load_balancer_cidrs=CIDRS),
        *(made for unit in fleet.units for made in unit_manifests(unit=unit.name, target_group_arn=ARN)),
        *(made for unit in fleet.units for made in servers(unit, PORT="8000")),
        *(autoscaler(pool=pool) for pool in pools),
        *router_bindings(target_group_arn=ARN),
        *router_network_policies(load_balancer_cidrs=CIDRS),
        *router_workload(image="registry/router:tag", fleet_json=fleet.to_json(), variables={"PORT": "8000"}),
    ]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether the labels have all that the selector asks for."""
    return selector.items() <= labels.items()


def environment_of(spec: Manifest) -> dict[str, str]:
    """The variables of the pod's one container that have a value of their own."""
    (container,) = spec["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
