"""Gap: the instances behind node groups, and spot prices.

Moto launches no instance for a node group, and its spot price history is a stub of 2006. Restored:
DescribeInstances over the pools' nodes, by tag or id, in pages; DescribeSpotPriceHistory from the fleet's
prices, the price in force at the start of the window included, as EC2 does.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from control_lambda.core.names import CLUSTER_TAG, NODE_GROUP_TAG
from twin.cloud.moto_gaps.deployment import Deployment, address
from twin.cloud.moto_gaps.prices import Prices, quoted
from twin.cloud.moto_gaps.protocol import ZONE, AwsError, Operation, Parameters, Result, page, refuse_unknown
from twin.world.nodes import Node

PAGE: Final = 1000  # the most results that EC2 answers with
GROUP_TAG: Final = "aws:autoscaling:groupName"
PRODUCT: Final = "Linux/UNIX"
CLUSTER_GROUP: Final = "sg-00000000000000001"
UNREACHABLE_GROUP: Final = "sg-00000000000000002"


class Ec2:
    """Instances and spot prices of the deployment."""

    service = "ec2"

    def __init__(self, deployment: Deployment, prices: Prices) -> None:
        self._deployment = deployment
        self._prices = prices

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here."""
        return {
            "DescribeInstances": self.describe_instances,
            "DescribeNetworkInterfaces": self.describe_network_interfaces,
            "DescribeSpotPriceHistory": self.describe_spot_price_history,
            "ModifyNetworkInterfaceAttribute": self.modify_network_interface,
        }

    def describe_network_interfaces(self, parameters: Parameters) -> Result:
        """The one interface of each node, by private address."""
        refuse_unknown(parameters, "DescribeNetworkInterfaces", "Filters")
        ((name, addresses),) = [(item["Name"], item["Values"]) for item in parameters["Filters"]]
        if name != "addresses.private-ip-address":
            raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")
        found = [node for node in self._deployment.existing() if address(node) in addresses]
        return {
            "NetworkInterfaces": [
                {
                    "NetworkInterfaceId": "eni" + node.id[1:],
                    "Attachment": {"InstanceId": node.id},
                    "Groups": [{"GroupId": self._group_of(node)}],
                }
                for node in found
            ]
        }

    def modify_network_interface(self, parameters: Parameters) -> Result:
        """Move an interface into another security group: none of its targets answers in the unreachable one.

        Raises:
            AwsError: InvalidNetworkInterfaceID.NotFound.
        """
        refuse_unknown(parameters, "ModifyNetworkInterfaceAttribute", "NetworkInterfaceId", "Groups")
        interface = parameters["NetworkInterfaceId"]
        nodes = {"eni" + node.id[1:]: node for node in self._deployment.existing()}
        if interface not in nodes:
            raise AwsError("InvalidNetworkInterfaceID.NotFound", f"'{interface}' does not exist")
        node, now = nodes[interface], self._deployment.time
        if parameters["Groups"] == [UNREACHABLE_GROUP]:
            node.dead_at = min(node.dead_at, now)
            self._deployment.unreachable.add(node.id)
        elif node.id in self._deployment.unreachable:
            node.dead_at = inf
            self._deployment.unreachable.discard(node.id)
        self._deployment.nodes.touched()
        return {}

    def _group_of(self, node: Node) -> str:
        return UNREACHABLE_GROUP if node.id in self._deployment.unreachable else CLUSTER_GROUP

    def describe_instances(self, parameters: Parameters) -> Result:
        """Instances by id or by filters (`tag:<key>`, `tag-key`, `instance-state-name`), one a reservation.

        Raises:
            AwsError: InvalidInstanceID.NotFound for an id that no node has, InvalidParameterCombination
                for ids with MaxResults, InvalidParameterValue for an unknown filter.
        """
        refuse_unknown(parameters, "DescribeInstances", "Filters", "InstanceIds", "MaxResults", "NextToken")
        ids = parameters.get("InstanceIds")
        if ids and "MaxResults" in parameters:
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            )
        filters = parameters.get("Filters", ())
        _check_filters(filters)
        nodes = self._named(ids) if ids else list(self._deployment.existing())
        instances = [self._instance(node) for node in nodes]
        found = [item for item in instances if _matches(item, filters)]
        size = int(parameters.get("MaxResults", PAGE))
        shown, token = page(found, parameters.get("NextToken"), size, "InvalidNextToken")
        reservations = [
            {"ReservationId": "r-" + item["InstanceId"][2:], "Instances": [item]} for item in shown
        ]
        return {"Reservations": reservations, "NextToken": token}

    def describe_spot_price_history(self, parameters: Parameters) -> Result:
        """Spot prices by instance type between StartTime and EndTime, latest first, in pages."""
        refuse_unknown(
            parameters,
            "DescribeSpotPriceHistory",
            *("AvailabilityZone", "EndTime", "InstanceTypes", "MaxResults", "NextToken"),
            *("ProductDescriptions", "StartTime"),
        )
        elsewhere = parameters.get("AvailabilityZone", ZONE) != ZONE
        products = parameters.get("ProductDescriptions") or [PRODUCT]
        types = parameters.get("InstanceTypes") or self._prices.types("spot")
        found = [] if elsewhere or PRODUCT not in products else self._spot_prices(types, parameters)
        size = int(parameters.get("MaxResults") or PAGE)
        shown, token = page(found, parameters.get("NextToken") or None, size, "InvalidNextToken")
        return {"SpotPriceHistory": list(shown), "NextToken": token or ""}

    def _spot_prices(self, types: Sequence[str], parameters: Parameters) -> Sequence[Result]:
        end = min(parameters.get("EndTime", inf), self._deployment.time)
        start = min(parameters.get("StartTime", -inf), end)
        points = [
            {
                "InstanceType": instance_type,
                "ProductDescription": PRODUCT,
                "SpotPrice": quoted(price, 6),
                "Timestamp": at,
                "AvailabilityZone": ZONE,
            }
            for instance_type in types
            for at, price in self._prices.between(instance_type, "spot", start, end)
        ]
        return sorted(points, key=lambda point: point["Timestamp"], reverse=True)

    def _named(self, ids: Sequence[str]) -> list[Node]:
        nodes = {node.id: node for node in self._deployment.existing()}
        missing = [instance for instance in ids if instance not in nodes]
        if missing:
            raise AwsError(
                "InvalidInstanceID.NotFound", f"The instance ID '{', '.join(missing)}' does not exist"
            )
        return [nodes[instance] for instance in ids]

    def _instance(self, node: Node) -> dict[str, Any]:
        deployment = self._deployment
        pool = deployment.fleet.pool_named[node.pool]
        tags = {
            CLUSTER_TAG: deployment.cluster,
            NODE_GROUP_TAG: node.pool,
            GROUP_TAG: deployment.group(node.pool),
        }
        pending = deployment.is_pending(node)
        instance: dict[str, Any] = {
            "InstanceId": node.id,
            "InstanceType": deployment.fleet.unit_of[node.pool].instance_type,
            "LaunchTime": node.launched_at,
            "Placement": {"AvailabilityZone": node.zone},
            "PrivateIpAddress": address(node),
            "State": {"Code": 0, "Name": "pending"} if pending else {"Code": 16, "Name": "running"},
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        return instance | {"InstanceLifecycle": "spot"} if pool.market == "spot" else instance


def _matches(instance: Result, filters: Sequence[Parameters]) -> bool:
    return all(_filter_admits(instance, item["Name"], item["Values"]) for item in filters)


def _check_filters(filters: Sequence[Parameters]) -> None:
    for name in (item["Name"] for item in filters):
        if not name.startswith("tag:") and name not in ("tag-key", "instance-state-name"):
            raise AwsError("InvalidParameterValue", f"The filter '{name}' is invalid")


def _filter_admits(instance: Result, name: str, values: Sequence[str]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    if name == "tag-key":
        return any(key in values for key in tags)
    if name == "instance-state-name":
        return instance["State"]["Name"] in values
    return tags.get(name.removeprefix("tag:")) in values
