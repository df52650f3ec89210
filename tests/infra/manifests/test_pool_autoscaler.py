"""As many servers as nodes, and no right beyond that."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.fleet import MAX_NODES, Fleet
from infra.cluster import nodes
from infra.manifests.pool import deployment_name
from infra.manifests.pool_autoscaler import shared_manifests
from tests.infra.kubernetes_objects import of_kind
from tests.infra.manifests.examples import FLEET, TWINS, everything


def expected_replicas(parameters: str, nodes_of_pool: int) -> int:
    """What the autoscaler makes of a ladder: the last step at or below the number of nodes.

    As cluster-proportional-autoscaler does (pkg/autoscaler/controller/laddercontroller/ladder_controller.go).
    """
    steps = sorted(json.loads(parameters)["nodesToReplicas"])
    position = sum(1 for step in steps if step[0] <= nodes_of_pool)
    return int(steps[max(0, position - 1)][1])


@given(st.integers(0, MAX_NODES))
def test_a_pool_has_as_many_servers_as_nodes(nodes_of_pool: int) -> None:
    """From an empty pool, where a pod would wait for a node for ever, to EKS's limit."""
    config = of_kind(shared_manifests(pools=[]), "ConfigMap")["pool-autoscaler"]
    assert expected_replicas(config["data"]["ladder"], nodes_of_pool) == nodes_of_pool


def test_cordoned_nodes_count() -> None:
    """Else a drain would first take away a serving pod, and then evict the one on the drained node."""
    config = of_kind(shared_manifests(pools=[]), "ConfigMap")["pool-autoscaler"]
    assert json.loads(config["data"]["ladder"])["includeUnschedulableNodes"] is True


@pytest.mark.parametrize("fleet", [FLEET, TWINS], ids=lambda fleet: fleet.fleet)
def test_each_pool_has_an_autoscaler_that_scales_its_own_deployment(fleet: Fleet) -> None:
    """It counts the pool's nodes alone, and owns the number of replicas, which the Deployment leaves out."""
    deployments = of_kind(everything(fleet), "Deployment")
    for pool in fleet.pools:
        (container,) = deployments[f"pool-autoscaler-{pool.name}"]["spec"]["template"]["spec"]["containers"]
        assert f"--target=deployment/{deployment_name(pool.name)}" in container["args"]
        assert f"--nodelabels={nodes.POOL_LABEL}={pool.name}" in container["args"]
        assert "replicas" not in deployments[deployment_name(pool.name)]["spec"]


def test_the_autoscalers_may_scale_the_pools_deployments_and_nothing_else() -> None:
    """Least rights: no other object is named, none is created, and of nodes they only read."""
    manifests = shared_manifests(pools=[pool.name for pool in TWINS.pools])
    scale, config = of_kind(manifests, "Role")["pool-autoscaler"]["rules"]
    assert scale["resources"] == ["deployments/scale"]
    assert scale["verbs"] == ["get", "update"]
    assert scale["resourceNames"] == [deployment_name(pool.name) for pool in TWINS.pools]
    assert (config["verbs"], config["resourceNames"]) == (["get"], ["pool-autoscaler"])
    (cluster_wide,) = of_kind(manifests, "ClusterRole")["fulcrum-pool-autoscaler"]["rules"]
    assert (cluster_wide["resources"], cluster_wide["verbs"]) == (["nodes"], ["list", "watch"])
