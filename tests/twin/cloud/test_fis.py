"""Fault Injection in the embedded AWS: experiments act on the nodes that their tags find, and end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from control_lambda.fleet_file import load_fleet
from twin.cloud import embedded
from twin.cloud.embedded import Cloud

FLEET = load_fleet(Path(__file__).parents[3] / "fleets" / "spot-twins.yaml")
POOL = "inf2-neuron-spot"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A cloud with the stack's templates."""
    with embedded.start() as made:
        made.provision(FLEET)
        yield made


def start(cloud: Cloud, scenario: str) -> Any:
    """Start the scenario's experiment."""
    resources = cloud.client("cloudformation").list_stack_resources(StackName="Fulcrum")
    fis = cloud.client("fis")
    for each in resources["StackResourceSummaries"]:
        if each["ResourceType"] == "AWS::FIS::ExperimentTemplate":
            id_ = each["PhysicalResourceId"]
            tags = fis.get_experiment_template(id=id_)["experimentTemplate"]["tags"]
            if tags["fulcrum:scenario"] == scenario:
                return fis.start_experiment(experimentTemplateId=id_)["experiment"]
    raise AssertionError(f"no template of {scenario}")


def status(cloud: Cloud, experiment: Any) -> str:
    """How the experiment stands."""
    return str(cloud.client("fis").get_experiment(id=experiment["id"])["experiment"]["state"]["status"])


def launches(cloud: Cloud) -> int:
    """How many nodes the pool gets of one more that is asked for."""
    before = len(cloud.nodes.members(POOL))
    cloud.nodes.set_desired(POOL, before + 1, cloud.time)
    return len(cloud.nodes.members(POOL)) - before


def test_a_shortage_refuses_launches_until_it_is_stopped(cloud: Cloud) -> None:
    """And leaves the nodes that there are alone."""
    cloud.set_ready(POOL, 1)
    experiment = start(cloud, "shortage")
    assert launches(cloud) == 0
    assert cloud.nodes.refusals(POOL)
    cloud.client("fis").stop_experiment(id=experiment["id"])
    assert status(cloud, experiment) == "stopped"
    assert launches(cloud) == 1


def test_a_shortage_ends_by_itself(cloud: Cloud) -> None:
    """After its duration, whoever started it."""
    experiment = start(cloud, "shortage")
    cloud.advance(cloud.time + 3601)
    assert status(cloud, experiment) == "completed"
    assert launches(cloud) == 1


def test_an_alarm_among_the_stop_conditions_ends_it_and_lets_none_begin(cloud: Cloud) -> None:
    """As AWS does; another alarm changes nothing."""
    experiment = start(cloud, "shortage")
    cloud.ring("tick-missing")
    assert status(cloud, experiment) == "running"
    cloud.ring("objective-missed")
    assert status(cloud, experiment) == "stopped"
    with pytest.raises(ClientError, match="ConflictException"):
        start(cloud, "shortage")


def test_a_spot_loss_gives_every_node_its_notice(cloud: Cloud) -> None:
    """Up to the quota of five; an empty pool fails the experiment."""
    assert start(cloud, "spot-loss")["state"]["status"] == "failed"
    cloud.set_ready(POOL, 5)
    start(cloud, "spot-loss")
    assert len([event for event in cloud.events() if "Interruption" in event["detail-type"]]) == 5
    cloud.set_ready(POOL, 6)
    assert start(cloud, "spot-loss")["state"]["status"] == "failed"


def test_a_terminated_node_is_replaced_by_its_group(cloud: Cloud) -> None:
    """It is gone at once, and desired stays."""
    cloud.set_ready(POOL, 2)
    before = [node.id for node in cloud.nodes.members(POOL)]
    start(cloud, "node-terminated")
    after = [node.id for node in cloud.nodes.members(POOL)]
    assert len(after) == 2
    assert before[0] not in after
