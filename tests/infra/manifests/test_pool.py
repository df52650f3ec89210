"""How a pool's servers come, where they run, and how they go."""

import pytest

from containers.serving.settings import Settings as ServerSettings
from control_lambda.core.fleet import Unit
from infra import catalog
from infra.cluster import nodes
from infra.manifests.common import GRACE_SECONDS, PRE_STOP_SECONDS
from infra.routing import DEREGISTRATION_DELAY
from tests.infra.manifests.examples import CPU, FLEET, TWINS, servers

SPOT_NOTICE_SECONDS = 120


@pytest.mark.parametrize(
    ("unit", "resource"),
    [
        (FLEET.units[0], "aws.amazon.com/neuron"),
        (FLEET.units[2], "nvidia.com/gpu"),
        (CPU.units[0], None),
    ],
    ids=["neuron", "nvidia", "cpu"],
)
def test_a_server_asks_for_all_of_its_nodes_accelerators(unit: Unit, resource: str | None) -> None:
    """A node is one server: nobody else may take a device of it."""
    (made,) = servers(unit)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    asked = {key: value for key, value in container["resources"]["requests"].items() if "/" in key}
    devices = str(catalog.devices(unit.instance_type))
    assert asked == ({resource: devices} if resource else {})
    assert asked.items() <= container["resources"]["limits"].items()


def test_a_server_runs_on_its_own_pools_nodes_alone_and_never_beside_another() -> None:
    """The label chooses the nodes, the toleration lets it there, the anti-affinity keeps it alone."""
    for unit in TWINS.units:
        for pool, made in zip(unit.pools, servers(unit), strict=True):
            spec = made["spec"]["template"]["spec"]
            assert spec["nodeSelector"] == {nodes.POOL_LABEL: pool.name}
            own = {"key": nodes.POOL_LABEL, "operator": "Equal", "value": pool.name, "effect": "NoSchedule"}
            assert own in spec["tolerations"]
            (term,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term["topologyKey"] == "kubernetes.io/hostname"
            assert term["labelSelector"]["matchLabels"] == made["spec"]["selector"]["matchLabels"]


def test_a_rollout_takes_a_server_away_before_it_adds_one() -> None:
    """Every node of the pool is taken: a surge would wait for ever, and the rollout with it."""
    (made,) = servers(FLEET.units[0])
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_slow_model_is_no_failed_rollout() -> None:
    """A pod may take as long as the profile says, thrice over, before the rollout counts as failed."""
    for unit in FLEET.units:
        (made,) = servers(unit)
        assert made["spec"]["progressDeadlineSeconds"] >= 2 * unit.profile.start_seconds


def test_a_model_that_loads_for_long_is_not_killed() -> None:
    """Loading shows in readiness alone: liveness and start-up ask whether the process answers at all."""
    (made,) = servers(FLEET.units[0])
    (container,) = made["spec"]["template"]["spec"]["containers"]
    probed = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probed == {
        "startup": {"path": "/health/live", "port": 8000},
        "liveness": {"path": "/health/live", "port": 8000},
        "readiness": {"path": "/health/ready", "port": 8000},
    }


def test_a_request_in_flight_outlives_its_pods_end() -> None:
    """The load balancer learns first, the server ends what it began, and all of it fits spot's notice."""
    server = ServerSettings.from_environ({})
    delay = DEREGISTRATION_DELAY.to_seconds()
    assert PRE_STOP_SECONDS < delay < GRACE_SECONDS < SPOT_NOTICE_SECONDS
    assert PRE_STOP_SECONDS + server.drain_seconds + server.grace_seconds <= GRACE_SECONDS
    (made,) = servers(FLEET.units[0])
    spec = made["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == GRACE_SECONDS
    assert spec["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": PRE_STOP_SECONDS}}
