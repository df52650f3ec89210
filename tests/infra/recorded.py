"""What the handlers ask of AWS, call by call, as IAM would judge it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.infra.iam import Request
from twin.cloud.embedded import Cloud

# Botocore's signing name to IAM's prefix, and the actions that IAM names otherwise.
PREFIX: Final = {"monitoring": "cloudwatch"}
RENAMED: Final = {"lambda:Invoke": "lambda:InvokeFunction"}

Parameters = Mapping[str, Any]


@dataclass
class Recorder:
    """Makes clients of the cloud that write down every call made through them, refused ones included."""

    cloud: Cloud
    requests: list[Request] = field(default_factory=list)

    def connect(self, service: str, **options: Any) -> Any:
        """A client of the cloud, as `boto3.client` would make it."""
        client = self.cloud.connect(service, **options)
        client.meta.events.register("provide-client-params", self._record)
        return client

    def _record(self, params: Parameters, model: Any, **_: object) -> None:
        service = model.service_model.signing_name
        called = f"{PREFIX.get(service, service)}:{model.name}"
        action = RENAMED.get(called, called)
        self.requests.append(
            Request(action, _resource(self.cloud, action, params), _context(self.cloud, action, params))
        )


def arn(cloud: Cloud, service: str, resource: str) -> str:
    """The ARN of a resource of the embedded account."""
    return f"arn:aws:{service}:us-east-1:{cloud.account}:{resource}"


def node_group_arn(cloud: Cloud, cluster: str, node_group: str) -> str:
    """The ARN of a node group; the embedded AWS gives none."""
    return arn(cloud, "eks", f"nodegroup/{cluster}/{node_group}/id")


# What IAM checks each action against, from AWS's Service Authorization Reference. An action that is not
# here knows no resource: only a statement on "*" can allow it.
_RESOURCES: Final[Mapping[str, Callable[[Cloud, Parameters], str]]] = {
    "autoscaling:ResumeProcesses": lambda cloud, params: str(_group(cloud, params)["AutoScalingGroupARN"]),
    "autoscaling:SetDesiredCapacity": lambda cloud, params: str(_group(cloud, params)["AutoScalingGroupARN"]),
    "autoscaling:SuspendProcesses": lambda cloud, params: str(_group(cloud, params)["AutoScalingGroupARN"]),
    "autoscaling:TerminateInstanceInAutoScalingGroup": lambda cloud, params: str(
        _group(cloud, params)["AutoScalingGroupARN"]
    ),
    "dynamodb:UpdateItem": lambda cloud, params: arn(cloud, "dynamodb", f"table/{params['TableName']}"),
    "eks:DescribeNodegroup": lambda cloud, params: node_group_arn(
        cloud, params["clusterName"], params["nodegroupName"]
    ),
    "elasticloadbalancing:CreateRule": lambda _, params: str(params["ListenerArn"]),
    "elasticloadbalancing:DeleteRule": lambda _, params: str(params["RuleArn"]),
    "elasticloadbalancing:ModifyRule": lambda _, params: str(params["RuleArn"]),
    "lambda:InvokeFunction": lambda cloud, params: arn(cloud, "lambda", f"function:{params['FunctionName']}"),
    "ssm:DeleteParameter": lambda cloud, params: arn(cloud, "ssm", f"parameter{params['Name']}"),
    "ssm:GetParameter": lambda cloud, params: arn(cloud, "ssm", f"parameter{params['Name']}"),
    "ssm:PutParameter": lambda cloud, params: arn(cloud, "ssm", f"parameter{params['Name']}"),
}


def _resource(cloud: Cloud, action: str, params: Parameters) -> str:
    return _RESOURCES[action](cloud, params) if action in _RESOURCES else "*"


def _context(cloud: Cloud, action: str, params: Parameters) -> Mapping[str, str]:
    """The condition keys that AWS would fill."""
    if action == "cloudwatch:PutMetricData":
        return {"cloudwatch:namespace": str(params["Namespace"])}
    if action.startswith("autoscaling:") and action in _RESOURCES:
        tags = _group(cloud, params)["Tags"]
        return {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in tags}
    return {}


def _group(cloud: Cloud, params: Parameters) -> Mapping[str, Any]:
    """The group that the call names, or that holds the instance that it names."""
    answer = cloud.client("autoscaling").describe_auto_scaling_groups()
    found: Mapping[str, Any] = next(
        group
        for group in answer["AutoScalingGroups"]
        if group["AutoScalingGroupName"] == params.get("AutoScalingGroupName")
        or params.get("InstanceId") in {member["InstanceId"] for member in group["Instances"]}
    )
    return found
