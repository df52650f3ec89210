"""Every gap of moto that the embedded AWS fills, seen through boto3 as the loop sees it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import EvidenceKind
from twin.cloud.embedded import BEGINNING, Cloud, start
from twin.world.nodes import DRAIN_SECONDS, NOTICE_SECONDS, ZONES

START_SECONDS = 300
MARKETS = [
    {"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 1.006},
    {"market": "spot", "nodes": {"max": 10}, "price_usd_per_hour": 0.4},
]


def unit(name: str, instance_type: str, pools: list[Any]) -> dict[str, Any]:
    """A unit of the test fleet."""
    profile = {"service_seconds": 0.6, "throughput_rpm": 90, "latency_seconds": 0.7}
    return {
        "name": name,
        "instance_type": instance_type,
        "accelerator": "nvidia",
        "framework": "inductor",
        "profile": {**profile, "start_seconds": START_SECONDS},
        "pools": pools,
    }


FLEET: Fleet = parse_fleet(
    {
        "fleet": "small",
        "model": "tiny",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [unit("g5", "g5.xlarge", MARKETS), unit("g6", "g6.xlarge", MARKETS[:1])],
    }
)
OD, SPOT = "g5-on-demand", "g5-spot"


class Account:
    """A provisioned cloud and what a test asks of it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.environment = cloud.provision(FLEET)
        self.units = json.loads(self.environment["UNITS"])
        self.cluster = self.environment["CLUSTER_NAME"]

    def __getattr__(self, service: str) -> Any:
        return self.cloud.client(service)

    def arn(self, unit: str = "g5") -> str:
        """The target group of the unit."""
        return str(self.units[unit]["target_group_arn"])

    def node_group(self, pool: str) -> Any:
        """The node group as EKS describes it."""
        return self.eks.describe_nodegroup(clusterName=self.cluster, nodegroupName=pool)["nodegroup"]

    def group(self, pool: str) -> Any:
        """The Auto Scaling group that EKS names for the pool."""
        name = self.node_group(pool)["resources"]["autoScalingGroups"][0]["name"]
        (group,) = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])[
            "AutoScalingGroups"
        ]
        return group

    def set_desired(self, pool: str, nodes: int) -> None:
        """Size the pool as the loop does."""
        name = self.group(pool)["AutoScalingGroupName"]
        self.autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=nodes)

    def health(self, unit: str = "g5") -> dict[str, str]:
        """The state of each target of the unit, by address."""
        described = self.elbv2.describe_target_health(TargetGroupArn=self.arn(unit))
        targets = described["TargetHealthDescriptions"]
        return {target["Target"]["Id"]: target["TargetHealth"]["State"] for target in targets}

    def instances(self, **arguments: Any) -> list[Any]:
        """What DescribeInstances finds, reservations aside."""
        reservations = self.ec2.describe_instances(**arguments)["Reservations"]
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    def weigh(self, weights: dict[str, int]) -> Any:
        """Create the loop's rule with these weights by ARN."""
        groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
        return self.elbv2.create_rule(
            ListenerArn=self.environment["LISTENER_ARN"],
            Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["*"]}],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
        )["Rules"][0]


@pytest.fixture
def account() -> Iterator[Account]:
    """A provisioned account without nodes."""
    with start() as cloud:
        yield Account(cloud)


def tag(key: str, *values: str) -> list[dict[str, Any]]:
    """A filter by tag."""
    return [{"Name": f"tag:{key}", "Values": list(values)}]


def code(refused: Any) -> str:
    """The error code that a client reads."""
    return str(refused.value.response["Error"]["Code"])


def test_a_weight_above_999_is_refused(account: Account) -> None:
    """ELBv2: weights are 0 to 999."""
    account.weigh({account.arn(): 999})
    with pytest.raises(account.elbv2.exceptions.ClientError, match="999") as refused:
        account.weigh({account.arn(): 1500})
    assert code(refused) == "ValidationError"


def test_a_sixth_target_group_is_refused(account: Account) -> None:
    """ELBv2: a forward action takes at most five target groups."""
    with pytest.raises(account.elbv2.exceptions.ClientError) as refused:
        account.weigh({f"{account.arn()}{number}": 1 for number in range(6)})
    assert code(refused) == "ValidationError"


def test_a_rule_to_a_target_group_that_does_not_exist_is_refused(account: Account) -> None:
    """ELBv2: ARNs are looked up, and the rule stays as it was."""
    rule = account.weigh({account.arn("g5"): 700, account.arn("g6"): 300})
    groups = [{"TargetGroupArn": account.arn() + "0", "Weight": 1}]
    with pytest.raises(account.elbv2.exceptions.TargetGroupNotFoundException):
        account.elbv2.modify_rule(
            RuleArn=rule["RuleArn"],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}],
        )
    (kept,) = account.elbv2.describe_rules(RuleArns=[rule["RuleArn"]])["Rules"]
    assert [group["Weight"] for group in kept["Actions"][0]["ForwardConfig"]["TargetGroups"]] == [700, 300]


def test_a_target_is_initial_until_its_node_is_ready_and_drains_when_it_leaves(account: Account) -> None:
    """ELBv2: target health follows the nodes of all of the unit's pools."""
    account.cloud.set_ready(OD, 1)
    account.set_desired(SPOT, 1)
    first, second = (instance["PrivateIpAddress"] for instance in account.instances())
    assert account.health() == {first: "healthy", second: "initial"}
    account.cloud.advance(BEGINNING + START_SECONDS)
    assert account.health() == {first: "healthy", second: "healthy"}
    account.set_desired(OD, 0)
    assert account.health() == {first: "draining", second: "healthy"}
    account.cloud.advance(account.cloud.time + DRAIN_SECONDS)
    assert account.health() == {second: "healthy"}


def test_targets_of_a_group_that_no_rule_uses_are_unused(account: Account) -> None:
    """ELBv2: they are not checked until a rule forwards to their group."""
    account.cloud.set_ready(OD, 1)
    rules = account.elbv2.describe_rules(ListenerArn=account.environment["LISTENER_ARN"])["Rules"]
    account.elbv2.delete_rule(RuleArn=rules[0]["RuleArn"])
    assert set(account.health().values()) == {"unused"}
    account.weigh({account.arn(): 0})
    assert set(account.health().values()) == {"healthy"}


def test_the_health_of_an_unknown_target_group_is_refused(account: Account) -> None:
    """ELBv2: TargetGroupNotFound."""
    with pytest.raises(account.elbv2.exceptions.TargetGroupNotFoundException):
        account.elbv2.describe_target_health(TargetGroupArn=account.arn() + "0")


def test_instances_are_found_by_tag_and_page_by_page(account: Account) -> None:
    """EC2: DescribeInstances filters by the tags of EKS and gives MaxResults at a time."""
    account.cloud.set_ready(OD, 4)
    account.cloud.set_ready(SPOT, 3)
    mine = tag("eks:cluster-name", account.cluster)
    pages = list(
        account.ec2.get_paginator("describe_instances").paginate(
            Filters=mine, PaginationConfig={"PageSize": 5}
        )
    )
    assert [len(page["Reservations"]) for page in pages] == [5, 2]
    spot = account.instances(Filters=mine + tag("eks:nodegroup-name", SPOT))
    assert {instance["InstanceLifecycle"] for instance in spot} == {"spot"}
    assert len({instance["PrivateIpAddress"] for instance in account.instances()}) == 7
    assert account.instances(Filters=tag("eks:cluster-name", "another")) == []


def test_an_instance_tells_its_pool_its_launch_and_its_state(account: Account) -> None:
    """EC2: what the loop joins targets and pools by."""
    account.cloud.advance(BEGINNING + 60)
    account.set_desired(OD, 1)
    (instance,) = account.instances()
    tags = {item["Key"]: item["Value"] for item in instance["Tags"]}
    assert tags["eks:nodegroup-name"] == OD
    assert instance["LaunchTime"].timestamp() == BEGINNING + 60
    assert (instance["InstanceType"], instance["State"]["Name"]) == ("g5.xlarge", "pending")
    account.cloud.advance(BEGINNING + 120)
    assert account.instances(InstanceIds=[instance["InstanceId"]])[0]["State"]["Name"] == "running"


def test_an_unknown_instance_is_not_found(account: Account) -> None:
    """EC2: InvalidInstanceID.NotFound, as for instances of an event that are long gone."""
    with pytest.raises(account.ec2.exceptions.ClientError) as refused:
        account.instances(InstanceIds=["i-0123456789abcdef0"])
    assert code(refused) == "InvalidInstanceID.NotFound"


def test_an_unknown_filter_is_refused(account: Account) -> None:
    """EC2: a filter that would be ignored is an error."""
    with pytest.raises(account.ec2.exceptions.ClientError) as refused:
        account.instances(Filters=[{"Name": "colour", "Values": ["red"]}])
    assert code(refused) == "InvalidParameterValue"


def test_a_group_shows_its_instances_from_pending_to_terminating(account: Account) -> None:
    """Auto Scaling: lifecycle states follow the nodes."""
    account.set_desired(OD, 1)
    group = account.group(OD)
    assert group["AutoScalingGroupName"].startswith(f"eks-{OD}-")
    assert (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (0, 450, 1)
    assert [item["LifecycleState"] for item in group["Instances"]] == ["Pending"]
    account.cloud.advance(BEGINNING + 60)
    assert [item["LifecycleState"] for item in account.group(OD)["Instances"]] == ["InService"]
    account.set_desired(OD, 0)
    assert [item["LifecycleState"] for item in account.group(OD)["Instances"]] == ["Terminating"]


def test_groups_are_found_by_the_tags_of_eks(account: Account) -> None:
    """Auto Scaling: DescribeAutoScalingGroups filters by tag and pages."""
    found = account.autoscaling.describe_auto_scaling_groups(
        Filters=tag("eks:cluster-name", account.cluster), MaxRecords=2
    )
    assert len(found["AutoScalingGroups"]) == 2
    rest = account.autoscaling.describe_auto_scaling_groups(NextToken=found["NextToken"], MaxRecords=2)
    assert len(rest["AutoScalingGroups"]) == 1
    by_pool = account.autoscaling.describe_auto_scaling_groups(Filters=tag("eks:nodegroup-name", SPOT))
    assert by_pool["AutoScalingGroups"] == [account.group(SPOT)]


@pytest.mark.parametrize("nodes", [-1, 451])
def test_a_desired_size_outside_the_limits_is_refused(account: Account, nodes: int) -> None:
    """Auto Scaling: SetDesiredCapacity stays within the group's minimum and maximum."""
    with pytest.raises(account.autoscaling.exceptions.ClientError, match="New SetDesiredCapacity") as refused:
        account.set_desired(OD, nodes)
    assert code(refused) == "ValidationError"
    assert account.group(OD)["DesiredCapacity"] == 0


def test_a_pool_without_capacity_refuses_the_launch(account: Account) -> None:
    """Auto Scaling: desired is taken, nothing launches, and the reason stands in a failed activity."""
    account.cloud.set_capacity(OD, 1)
    account.set_desired(OD, 3)
    assert len(account.group(OD)["Instances"]) == 1
    name = account.group(OD)["AutoScalingGroupName"]
    activities = account.autoscaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
    assert sorted(json.loads(activity["Details"])["Availability Zone"] for activity in activities) == list(
        ZONES
    )
    activity = activities[0]
    assert (activity["StatusCode"], activity["StartTime"].timestamp()) == ("Failed", BEGINNING)
    assert activity["StatusMessage"].startswith(
        "Could not launch On-Demand Instances. InsufficientInstanceCapacity - "
    )
    account.cloud.advance(BEGINNING + 130)
    activities = account.autoscaling.describe_scaling_activities()["Activities"]
    times = [activity["StartTime"].timestamp() - BEGINNING for activity in activities]
    assert times == [120] * 3 + [60] * 3 + [0] * 3


@pytest.mark.parametrize(
    ("pool", "kind", "words"),
    [
        (OD, EvidenceKind.QUOTA, "On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU"),
        (
            OD,
            EvidenceKind.UNSUPPORTED,
            "On-Demand Instances. Unsupported - Your requested instance type (g5.xlarge)",
        ),
        (
            OD,
            EvidenceKind.NO_ADDRESSES,
            "On-Demand Instances. InsufficientFreeAddressesInSubnet - There are",
        ),
        (OD, EvidenceKind.PERMISSION, "On-Demand Instances. UnauthorizedOperation - You are not authorized"),
        (
            SPOT,
            EvidenceKind.SHORTAGE,
            "Spot Instances. InsufficientInstanceCapacity - There is no Spot",
        ),
        (SPOT, EvidenceKind.QUOTA, "Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count"),
    ],
)
def test_every_kind_of_refusal_has_the_words_of_aws(
    account: Account, pool: str, kind: EvidenceKind, words: str
) -> None:
    """Auto Scaling and EKS tell the same code and text for a refused launch."""
    account.cloud.nodes.set_refusal(pool, kind)
    account.cloud.set_capacity(pool, 0)
    account.set_desired(pool, 1)
    activity = account.autoscaling.describe_scaling_activities()["Activities"][0]
    assert words in activity["StatusMessage"]
    (issue,) = account.node_group(pool)["health"]["issues"]
    assert issue["code"] == "AsgInstanceLaunchFailures"
    assert issue["message"] == activity["StatusMessage"]


def test_a_health_issue_goes_when_launches_are_no_longer_refused(account: Account) -> None:
    """EKS: the issue stays while the group retries, and a few minutes longer."""
    account.cloud.set_capacity(OD, 0)
    account.set_desired(OD, 1)
    account.cloud.advance(BEGINNING + 600)
    assert account.node_group(OD)["health"]["issues"]
    account.set_desired(OD, 0)
    account.cloud.advance(BEGINNING + 1000)
    assert account.node_group(OD)["health"]["issues"] == []


def test_a_suspended_group_launches_only_after_resume(account: Account) -> None:
    """Auto Scaling: suspended launches are shown, and resumed ones happen at once."""
    name = account.group(OD)["AutoScalingGroupName"]
    account.autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    account.set_desired(OD, 1)
    group = account.group(OD)
    assert [process["ProcessName"] for process in group["SuspendedProcesses"]] == ["Launch"]
    assert group["Instances"] == []
    account.autoscaling.resume_processes(AutoScalingGroupName=name, ScalingProcesses=["Launch"])
    assert account.group(OD)["SuspendedProcesses"] == []
    assert len(account.group(OD)["Instances"]) == 1


def test_an_interrupted_node_serves_until_it_is_gone(account: Account) -> None:
    """EC2 takes a spot node two minutes after its notice; until then its target is healthy."""
    account.cloud.set_ready(SPOT, 1)
    account.cloud.set_capacity(SPOT, 0)
    assert list(account.health().values()) == ["healthy"]
    account.cloud.advance(BEGINNING + NOTICE_SECONDS)
    assert account.health() == {}
    assert account.instances() == []


def test_a_busy_node_group_takes_no_update(account: Account) -> None:
    """EKS: UPDATING until its time, and ResourceInUseException for whoever wants to change it."""
    account.cloud.busy(OD, BEGINNING + 3600)
    assert account.node_group(OD)["status"] == "UPDATING"
    sizes = {"minSize": 0, "maxSize": 10, "desiredSize": 2}
    with pytest.raises(account.eks.exceptions.ResourceInUseException):
        account.eks.update_nodegroup_config(
            clusterName=account.cluster, nodegroupName=OD, scalingConfig=sizes
        )
    account.cloud.advance(BEGINNING + 3600)
    account.eks.update_nodegroup_config(clusterName=account.cluster, nodegroupName=OD, scalingConfig=sizes)
    assert account.node_group(OD)["scalingConfig"] == sizes
    assert account.node_group(OD)["status"] == "UPDATING"
    assert account.group(OD)["MaxSize"] == 10


@pytest.mark.parametrize(
    "sizes",
    [
        {"minSize": 0, "maxSize": 5, "desiredSize": 6},
        {"minSize": 3, "maxSize": 5, "desiredSize": 2},
        {"minSize": 0, "maxSize": 451, "desiredSize": 0},
    ],
)
def test_node_group_sizes_that_do_not_fit_are_refused(account: Account, sizes: dict[str, int]) -> None:
    """EKS: minimum, desired and maximum in order, 450 at most; nothing changes."""
    with pytest.raises(account.eks.exceptions.InvalidParameterException):
        account.eks.update_nodegroup_config(
            clusterName=account.cluster, nodegroupName=OD, scalingConfig=sizes
        )
    assert account.node_group(OD)["scalingConfig"] == {"minSize": 0, "maxSize": 450, "desiredSize": 0}


def test_node_groups_are_listed_and_an_unknown_one_is_not_found(account: Account) -> None:
    """EKS: one node group a pool."""
    listed = account.eks.list_nodegroups(clusterName=account.cluster)["nodegroups"]
    assert listed == [OD, SPOT, "g6-on-demand"]
    assert account.node_group(SPOT)["capacityType"] == "SPOT"
    with pytest.raises(account.eks.exceptions.ResourceNotFoundException):
        account.node_group("g7-spot")


def test_the_price_list_tells_the_price_of_an_instance_type(account: Account) -> None:
    """Pricing: one JSON document in a string for each product, found by its attributes."""
    account.cloud.set_price(OD, 1.25)
    filters = {"instanceType": "g5.xlarge", "regionCode": "us-east-1", "operatingSystem": "Linux"}
    answer = account.pricing.get_products(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in filters.items()],
    )
    (product,) = (json.loads(text) for text in answer["PriceList"])
    (offer,) = product["terms"]["OnDemand"].values()
    (rate,) = offer["priceDimensions"].values()
    assert float(rate["pricePerUnit"]["USD"]) == 1.25
    assert rate["unit"] == "Hrs"
    assert product["product"]["attributes"]["instanceType"] == "g5.xlarge"


def test_spot_prices_include_the_one_in_force_at_the_start(account: Account) -> None:
    """EC2: the history holds every change in the window, latest first, and what went before it."""
    account.cloud.advance(BEGINNING + 3600)
    account.cloud.set_price(SPOT, 0.55)
    account.cloud.advance(BEGINNING + 7200)
    window = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"]}
    history = account.ec2.describe_spot_price_history(**window, StartTime=BEGINNING + 1800)
    prices = history["SpotPriceHistory"]
    assert [float(point["SpotPrice"]) for point in prices] == [0.55, 0.4]
    assert [point["Timestamp"].timestamp() - BEGINNING for point in prices] == [3600, 0]
    latest = account.ec2.describe_spot_price_history(**window, StartTime=account.cloud.time)
    assert [float(point["SpotPrice"]) for point in latest["SpotPriceHistory"]] == [0.55]
