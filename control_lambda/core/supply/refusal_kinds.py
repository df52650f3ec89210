"""The kinds of refused launches, one row each: AWS's words for it, how long to stay away, and what shares it.

Whatever depends on the kinds derives from these rows. Texts are those that Auto Scaling writes into scaling
activities and EKS into the health of a node group; every one has its source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from control_lambda.core.fleet import Market
from control_lambda.core.model import Evidence, EvidenceKind

# How much of a text that nobody can read is kept for people: the reason stands at its beginning.
SHOWN_CHARACTERS: Final = 200


class Scope(StrEnum):
    """Which pools of the same market a refusal holds for."""

    TYPE = "type"  # all of the instance type; where the zone is known, the refused pool alone
    FAMILY = "family"  # all of the family, which shares one quota
    POOL = "pool"  # the refused pool


@dataclass(frozen=True, slots=True)
class Example:
    """A refusal as AWS words it, in one market or in both.

    {type}, {zone}, {others} (the other zones) and {subnet} stand for names.
    """

    text: str
    source: str
    market: Market | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalKind:
    """What a refusal of this kind says and how the loop takes it.

    `words` are parts of texts (in any case) and `issues` EKS's codes of node group issues that mean it. The
    back-off (seconds) doubles from `first_back_off` to `longest_back_off`. `refuses_launch`: AWS launches
    nothing; otherwise a node was launched and is of no use. `flips_mode`: it can lead to capacity mode.
    `zonal`: a zone that it names refuses alone, and others may grant.
    """

    kind: EvidenceKind
    words: tuple[str, ...]
    issues: tuple[str, ...] = ()
    first_back_off: float
    longest_back_off: float
    scope: Scope
    refuses_launch: bool = True
    flips_mode: bool = False
    zonal: bool = False
    examples: tuple[Example, ...]

    @property
    def runbook(self) -> str:
        """Its heading in docs/operating.md."""
        return self.kind.value

    def text(self, market: Market) -> str:
        """How AWS words it in the market: the first of the examples.

        Raises:
            LookupError: AWS was never seen to write it there.
        """
        for example in self.examples:
            if example.market in (None, market):
                return example.text
        raise LookupError(f"{self.kind}: no example of the {market} market")


_AUTO_SCALING: Final = "EC2 Auto Scaling User Guide, Troubleshoot: EC2 instance launch failures"
_EC2_ERRORS: Final = "EC2 API Reference, Error codes"
_EC2_STATES: Final = "EC2 API Reference, StateReason"

# In this order: the first words found decide, so that a quota, a full subnet or a missing offering is never
# read as a shortage. A refused launch costs nothing, so shortages, which end by themselves, are probed often;
# what only a person mends is probed rarely. A raised quota is found within a quarter of an hour: with a tick
# a minute, 840 s is the longest wait for that.
_ROWS: Final = (
    RefusalKind(
        kind=EvidenceKind.QUOTA,
        words=(
            "VcpuLimitExceeded",
            "more vCPU capacity than your current vCPU limit",
            "InstanceLimitExceeded",
            "than your current instance limit",
            "MaxSpotInstanceCountExceeded",
            "Max spot instance count exceeded",
            "MaxFleetCountExceeded",
            "quota for maximum Fleet Requests",
            "VolumeLimitExceeded",
        ),
        issues=("InstanceLimitExceeded",),
        first_back_off=420,
        longest_back_off=840,
        scope=Scope.FAMILY,
        examples=(
            Example(
                "VcpuLimitExceeded - You have requested more vCPU capacity than your current vCPU limit of "
                "32 allows for the instance bucket that the specified instance type belongs to. Please visit "
                "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
                _EC2_ERRORS,
                "on-demand",
            ),
            Example("MaxSpotInstanceCountExceeded - Max spot instance count exceeded.", _EC2_ERRORS, "spot"),
            Example(
                "You have requested more vCPU capacity than your current vCPU limit of 384 allows for the "
                "instance bucket that the specified instance type belongs to.",
                "github.com/kubernetes/kops/pull/15778",
                "on-demand",
            ),
            Example(
                "Max spot instance count exceeded. Placing Spot instance request failed.",
                "github.com/aws/aws-parallelcluster/issues/340",
                "spot",
            ),
            Example(
                "Client.InstanceLimitExceeded - Your quota allows for 0 more running instance(s). You "
                "requested at least 1",
                "github.com/quintilesims/layer0/issues/273",
                "on-demand",
            ),
            Example(
                "You have requested more instances (7) than your current instance limit of 5 allows for the "
                "specified instance type.",
                "github.com/convox/rack/issues/2539",
                "on-demand",
            ),
            Example(
                "MaxFleetCountExceeded - You've reached your quota for maximum Fleet Requests for this "
                "account.",
                "github.com/runs-on/runs-on/issues/88",
            ),
            Example(
                "You've reached your quota for maximum Fleet Requests for this account.",
                "github.com/int128/terraform-aws-nat-instance/issues/70",
            ),
            # Of the volumes, which every launch needs: it too passes only when a person has it raised.
            Example("Client.VolumeLimitExceeded: Volume limit exceeded", _EC2_STATES),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.NO_ADDRESSES,
        words=("InsufficientFreeAddresses", "not enough free addresses"),
        issues=("InsufficientFreeAddresses",),
        first_back_off=600,
        longest_back_off=3600,
        scope=Scope.POOL,
        zonal=True,
        examples=(
            Example(
                "InsufficientFreeAddressesInSubnet - There are not enough free addresses in subnet "
                "'{subnet}' to satisfy the requested number of instances.",
                _EC2_ERRORS,
            ),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.SHORTAGE,
        words=(
            "InsufficientInstanceCapacity",
            "InsufficientCapacity",
            "InsufficientHostCapacity",
            "SpotMaxPriceTooLow",
            "lower than the minimum required Spot request fulfillment price",
            "UnfulfillableCapacity",
            "There is no Spot capacity available",
            "do not have sufficient",
            "not have sufficient compatible and available capacity",
        ),
        first_back_off=120,
        longest_back_off=600,
        scope=Scope.TYPE,
        flips_mode=True,
        zonal=True,
        examples=(
            Example(
                "InsufficientInstanceCapacity - We currently do not have sufficient {type} capacity in the "
                "Availability Zone you requested ({zone}). Our system will be working on provisioning "
                "additional capacity. You can currently get {type} capacity by not specifying an "
                "Availability Zone in your request or choosing {others}.",
                _AUTO_SCALING,
                "on-demand",
            ),
            Example(
                "InsufficientInstanceCapacity - There is no Spot capacity available that matches your "
                "request.",
                "github.com/kubernetes/autoscaler/issues/3241",
                "spot",
            ),
            Example(
                "We currently do not have sufficient g5.xlarge capacity in the Availability Zone you "
                "requested (us-east-1a). Launching EC2 instance failed.",
                _AUTO_SCALING,
                "on-demand",
            ),
            Example(
                "There is no Spot capacity available that matches your request. Launching EC2 instance "
                "failed.",
                "github.com/aws/aws-parallelcluster/issues/1944",
                "spot",
            ),
            Example(
                "SpotMaxPriceTooLow - Your Spot request price of 0.24 is lower than the minimum required "
                "Spot request fulfillment price of 0.6034. Launching EC2 instance failed.",
                "github.com/redhat-developer/mapt/issues/576",
                "spot",
            ),
            Example(
                "Your Spot request price of 0.015 is lower than the minimum required Spot request "
                "fulfillment price of 0.0735.",
                _AUTO_SCALING,
                "spot",
            ),
            Example(
                "UnfulfillableCapacity - Unable to fulfill capacity due to your request configuration. "
                "Please adjust your request and try again. Launching EC2 instance failed.",
                "github.com/buildkite/elastic-ci-stack-for-aws/issues/851",
                "spot",
            ),
            Example(
                "The requested reservation does not have sufficient compatible and available capacity for "
                "this request. Launching EC2 instance failed.",
                _AUTO_SCALING,
                "on-demand",
            ),
            Example(
                "InsufficientCapacity - There is not enough capacity to fulfill your request.", _EC2_ERRORS
            ),
            Example(
                "InsufficientHostCapacity - There is not enough capacity to fulfill your Dedicated Host "
                "request.",
                _EC2_ERRORS,
                "on-demand",
            ),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.PERMISSION,
        words=(
            "UnauthorizedOperation",
            "AccessDenied",
            "Access denied",
            "not authorized",
            "KMS",
            "Client.InternalError",
            "ServiceLinkedRoleCreationNotPermitted",
            "permission to create the service-linked role",
            "not eligible for Free Tier",
            "The security group",
        ),
        issues=("AccessDenied", "AutoScalingGroupInvalidConfiguration"),
        first_back_off=3600,
        longest_back_off=14400,
        scope=Scope.POOL,
        examples=(
            Example("UnauthorizedOperation - You are not authorized to perform this operation.", _EC2_ERRORS),
            Example("AccessDenied when assuming the role", "EKS User Guide, Managed node group error codes"),
            Example(
                "Access denied when attempting to assume role arn:aws:iam::111122223333:role/"
                "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling. Validating load "
                "balancer configuration failed.",
                "github.com/pelias-deprecated/kubernetes/issues/32",
            ),
            Example(
                "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
                "github.com/runs-on/runs-on/issues/233",
                "spot",
            ),
            Example(
                "The provided credentials do not have permission to create the service-linked role for EC2 "
                "Spot Instances.",
                "github.com/aws/karpenter-provider-aws/issues/504",
                "spot",
            ),
            Example(
                "Instance became unhealthy while waiting for instance to be in InService state. Termination "
                "Reason: Client.InternalError: Client error on launch",
                _AUTO_SCALING,
            ),
            Example(
                "Instance became unhealthy while waiting for instance to be in InService state. Termination "
                "Reason: Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
                "github.com/hashicorp/terraform-provider-aws/issues/39904",
            ),
            # The account's plan forbids the type in every zone until somebody upgrades it.
            Example(
                "InvalidParameterCombination - The specified instance type is not eligible for Free Tier. "
                "For a list of Free Tier instance types, run 'describe-instance-types' with the filter "
                "'free-tier-eligible=true'.",
                "github.com/LinkedInLearning/learning-terraform-3087701/issues/345",
            ),
            # A launch template that no longer fits the account, like AutoScalingGroupInvalidConfiguration.
            Example(
                "The security group 'sg-2d396c40' does not exist in VPC 'vpc-d69ff8bb'. Launching EC2 "
                "instance failed.",
                "github.com/weaveworks-guides/weave-net-legacy/issues/65",
            ),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.UNSUPPORTED,
        words=(
            "Unsupported",
            "not supported in your requested Availability Zone",
            "requested configuration is currently not supported",
        ),
        first_back_off=3600,
        longest_back_off=14400,
        scope=Scope.TYPE,
        zonal=True,
        examples=(
            Example(
                "Unsupported - Your requested instance type ({type}) is not supported in your requested "
                "Availability Zone ({zone}). Please retry your request by not specifying an Availability "
                "Zone or choosing {others}.",
                _EC2_ERRORS,
            ),
            Example(
                "Your requested instance type (trn1.2xlarge) is not supported in your requested Availability "
                "Zone (us-east-1e).",
                _AUTO_SCALING,
            ),
            Example(
                "The requested configuration is currently not supported. Please check the documentation for "
                "supported configurations. Launching EC2 instance failed.",
                "github.com/gruntwork-io/intro-to-terraform/issues/6",
            ),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.NEVER_READY,
        words=("Lifecycle Action with token",),
        issues=("NodeCreationFailure",),
        first_back_off=900,
        longest_back_off=3600,
        scope=Scope.POOL,
        refuses_launch=False,
        examples=(
            Example(
                "Instance failed to complete user's Lifecycle Action: Lifecycle Action with token "
                "95c60857-3c0a-4a67-8518-6dc18797e421 was abandoned: Heartbeat Timeout",
                "repost.aws/knowledge-center/lifecycle-actions-code-deploy",
            ),
        ),
    ),
    RefusalKind(
        kind=EvidenceKind.UNKNOWN,
        words=(),
        first_back_off=120,
        longest_back_off=600,
        scope=Scope.POOL,
        examples=(Example("InternalError - An internal error has occurred.", _EC2_ERRORS),),
    ),
)
REFUSAL_KINDS: Final[Mapping[EvidenceKind, RefusalKind]] = MappingProxyType({row.kind: row for row in _ROWS})
# The kinds that signals reads from refused launches and counts in CapacityErrors.
LAUNCH_REFUSALS: Final = tuple(
    kind for kind in EvidenceKind if kind in REFUSAL_KINDS and REFUSAL_KINDS[kind].refuses_launch
)


def kind_of_refusal(text: str, issue_code: str = "") -> EvidenceKind:
    """What a refused launch means, from AWS's words and, for node group health, the issue's code.

    The text wins, because EKS reports shortage, quota and missing offerings alike as
    `AsgInstanceLaunchFailures`.
    """
    lowered = text.lower()
    said = (row.kind for row in _ROWS if any(words.lower() in lowered for words in row.words))
    coded = (row.kind for row in _ROWS if issue_code in row.issues)
    return next(said, None) or next(coded, EvidenceKind.UNKNOWN)


def read_refusal(text: str, issue_code: str = "") -> tuple[EvidenceKind, str]:
    """What AWS's words mean, and the beginning of them where they say nothing to us."""
    kind = kind_of_refusal(text, issue_code)
    return kind, text[:SHOWN_CHARACTERS] if kind is EvidenceKind.UNKNOWN else ""


def refused_launch(pool: str, text: str, at: float, *, zone: str = "") -> Evidence:
    """The evidence in AWS's words."""
    kind, unread = read_refusal(text)
    return Evidence(pool, kind, at, zone=zone, text=unread)
