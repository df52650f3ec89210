"""How AWS tells that a launch was refused or a node is taken away: texts, activities and events.

Texts are the examples of `control_lambda.core.supply.refusal_kinds`, prefixed as groups with a mixed
instances policy prefix them. Event shapes: "EventBridge events for EC2 Auto Scaling" in the EC2 Auto Scaling
User Guide, "Spot Instance interruption notices" and "EC2 instance rebalance recommendations" in the EC2 User
Guide.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS, REFUSAL_KINDS
from twin.cloud.moto_gaps.deployment import Deployment
from twin.cloud.moto_gaps.protocol import REGION, ZONE, Result, iso, stable_id
from twin.world.nodes import ZONES, Event, Interrupted, Refused

SUBNET: Final = "subnet-0fulcrum00000001"


def status_message(deployment: Deployment, refused: Refused) -> str:
    """The text of AWS for the refusal; as in AWS, it ends with a sentence about the launch.

    Raises:
        ValueError: no launch is refused for that kind.
    """
    if refused.kind not in LAUNCH_REFUSALS:
        raise ValueError(f"no launch is refused as {refused.kind}; valid: {', '.join(LAUNCH_REFUSALS)}")
    pool = deployment.fleet.pool_named[refused.pool]
    market = "Spot" if pool.market == "spot" else "On-Demand"
    instance_type = deployment.fleet.unit_of[refused.pool].instance_type
    zone = refused.zone or ZONES[0]
    others = ", ".join(other for other in ZONES if other != zone)
    names = {"type": instance_type, "zone": zone, "others": others, "subnet": SUBNET}
    text = REFUSAL_KINDS[refused.kind].text(pool.market).format_map(names)
    return f"Could not launch {market} Instances. {text} Launching EC2 instance failed."


def activity(deployment: Deployment, refused: Refused) -> Result:
    """The refusal as a failed scaling activity."""
    return {
        "ActivityId": _activity_id(deployment, refused),
        "AutoScalingGroupName": deployment.group(refused.pool),
        "AutoScalingGroupARN": deployment.group_arn(refused.pool),
        "Description": "Launching a new EC2 instance.  Status Reason: " + status_message(deployment, refused),
        "Cause": _cause(refused),
        "StartTime": refused.at,
        "EndTime": refused.at,
        "StatusCode": "Failed",
        "StatusMessage": status_message(deployment, refused),
        "Progress": 100,
        "Details": json.dumps(_details(refused)),
    }


def eventbridge(deployment: Deployment, event: Event) -> Mapping[str, Any]:
    """What EventBridge delivers for the event."""
    if isinstance(event, Refused):
        return _launch_unsuccessful(deployment, event)
    return _interruption_warning(deployment, event)


def rebalance_recommendation(deployment: Deployment, instance: str) -> Mapping[str, Any]:
    """What EventBridge delivers when the node runs an elevated risk of interruption."""
    detail = {"instance-id": instance}
    kind = "EC2 Instance Rebalance Recommendation"
    return _event(deployment, kind, "aws.ec2", deployment.time, _instance_arn(instance), detail)


def _launch_unsuccessful(deployment: Deployment, refused: Refused) -> Mapping[str, Any]:
    detail = {
        "StatusCode": "Failed",
        "AutoScalingGroupName": deployment.group(refused.pool),
        "ActivityId": _activity_id(deployment, refused),
        "Details": _details(refused),
        "RequestId": _activity_id(deployment, refused),
        "StatusMessage": status_message(deployment, refused),
        "StartTime": iso(refused.at),
        "EndTime": iso(refused.at),
        "EC2InstanceId": "",
        "Cause": _cause(refused),
    }
    kind = "EC2 Instance Launch Unsuccessful"
    arn = deployment.group_arn(refused.pool)
    event = _event(deployment, kind, "aws.autoscaling", refused.at, arn, detail)
    return {**event, "id": stable_id(kind, arn, refused.at, refused.zone)}


def _interruption_warning(deployment: Deployment, event: Interrupted) -> Mapping[str, Any]:
    detail = {"instance-id": event.node, "instance-action": "terminate"}
    kind = "EC2 Spot Instance Interruption Warning"
    return _event(deployment, kind, "aws.ec2", event.at, _instance_arn(event.node), detail)


def _event(
    deployment: Deployment, kind: str, source: str, at: float, resource: str, detail: Mapping[str, Any]
) -> Mapping[str, Any]:
    return {
        "version": "0",
        "id": stable_id(kind, resource, at),
        "detail-type": kind,
        "source": source,
        "account": deployment.account,
        "time": iso(at),
        "region": REGION,
        "resources": [resource],
        "detail": detail,
    }


def _details(refused: Refused) -> Mapping[str, str]:
    """Where the launch was tried; a quota refuses whatever the zone, and names none."""
    return {"Subnet ID": SUBNET} | ({"Availability Zone": refused.zone} if refused.zone else {})


def _instance_arn(instance: str) -> str:
    return f"arn:aws:ec2:{ZONE}:instance/{instance}"


def _activity_id(deployment: Deployment, refused: Refused) -> str:
    return stable_id(deployment.group(refused.pool), refused.at, refused.zone)


def _cause(refused: Refused) -> str:
    return (
        f"At {iso(refused.at)} an instance was started in response to a difference between desired and "
        "actual capacity."
    )
