"""The single checks of the preflight: each reads one part of the account and yields what it found."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from control_lambda.core.fleet import Market
from infra import catalog
from infra.cluster.addons import INSIGHTS_LOGS
from infra.cluster.cluster import SYSTEM_NODES
from infra.settings import SYSTEM_INSTANCE_TYPE, Settings

# Makes the boto3 client of a service.
Client = Callable[[str], Any]

CDK: Final = "npx --yes aws-cdk@2.1148.1"
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION: Final = 6  # what the CDK asks of a stack with assets

TRIAL_FLEET: Final = "fleets/cpu-laptop.yaml"  # needs no accelerator

IN_PROGRESS: Final = "_IN_PROGRESS"
UNEXECUTED: Final = "REVIEW_IN_PROGRESS"  # a change set that nobody ran; the CDK replaces it
BEYOND_UPDATE: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
STUCK: Final = "UPDATE_ROLLBACK_FAILED"

UNPROTECT: Final = "aws cloudformation update-termination-protection --no-enable-termination-protection"

SERVICE_ROLES: Final = {
    "AWSServiceRoleForAmazonEKS": "eks.amazonaws.com",
    "AWSServiceRoleForAmazonEKSNodegroup": "eks-nodegroup.amazonaws.com",
    "AWSServiceRoleForAutoScaling": "autoscaling.amazonaws.com",
    "AWSServiceRoleForElasticLoadBalancing": "elasticloadbalancing.amazonaws.com",
}
SPOT_ROLE: Final = {"AWSServiceRoleForEC2Spot": "spot.amazonaws.com"}

_MISSING: Final = frozenset(
    {
        "404",
        "InvalidSubnetID.NotFound",
        "NoSuchEntity",
        "NoSuchResourceException",
        "ParameterNotFound",
        "ResourceNotFoundException",
        "ValidationError",  # CloudFormation's word for a stack that does not exist
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found; `fails`: a deploy would fail on it; `mend`: the command or setting that mends it."""

    subject: str
    text: str
    fails: bool = False
    mend: str = ""

    @property
    def line(self) -> str:
        """The finding as one line: FAILS, look (a deploy succeeds, but) or ok."""
        mark = "FAILS" if self.fails else "look" if self.mend else "ok"
        return f"{mark:5} {self.subject}: {self.text}" + (f" -> {self.mend}" if self.mend else "")


def account(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The credentials' account is the one that the settings name."""
    found = ask("sts").get_caller_identity()["Account"]
    if settings.account and settings.account != found:
        mend = "other credentials, or account in cdk.json"
        yield Finding("account", f"{found}, the settings ask for {settings.account}", fails=True, mend=mend)
    else:
        yield Finding("account", f"{found}, {settings.region}")


def bootstrap(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The account is prepared for the CDK in this region, by a version that is new enough."""
    number = ask("sts").get_caller_identity()["Account"]
    mend = f"{CDK} bootstrap aws://{number}/{settings.region}"
    found = unless_missing(ask("ssm").get_parameter, Name=BOOTSTRAP_PARAMETER)
    if found is None:
        yield Finding("bootstrap", "the CDK's own stack is missing here", fails=True, mend=mend)
        return
    version = int(found["Parameter"]["Value"])
    if version < BOOTSTRAP_VERSION:
        text = f"version {version}, at least {BOOTSTRAP_VERSION} is needed"
        yield Finding("bootstrap", text, fails=True, mend=mend)
        return
    bucket = f"cdk-hnb659fds-assets-{number}-{settings.region}"
    if unless_missing(ask("s3").head_bucket, Bucket=bucket) is None:
        text = f"its bucket {bucket} is gone"
        yield Finding("bootstrap", text, fails=True, mend=f"{mend} after deleting the stack CDKToolkit")
    else:
        yield Finding("bootstrap", f"version {version}")


def stack(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The stack can be created or updated, and what it creates under a fixed name is not there yet.

    It is protected against deletion once it stands, and not before: what is protected cannot be rolled back.
    """
    name = settings.stack_name
    found = unless_missing(ask("cloudformation").describe_stacks, StackName=name)
    if found is None:
        yield from _taken_names(ask, settings)
        if settings.deletion_protection:
            text = "a first deploy that fails could not be rolled back: its load balancer would be protected"
            yield Finding("stack", text, mend="-c deletion_protection=false for the first deploy")
        return
    described = found["Stacks"][0]
    status: str = described["StackStatus"]
    if status.endswith(IN_PROGRESS) and status != UNEXECUTED:
        mend = f"aws cloudformation wait stack-update-complete --stack-name {name}"
        yield Finding("stack", f"{name} is busy: {status}", fails=True, mend=mend)
    elif status in BEYOND_UPDATE:
        mend = f"aws cloudformation delete-stack --stack-name {name}"
        if described.get("EnableTerminationProtection"):
            mend = f"{UNPROTECT} --stack-name {name} && {mend}"
        yield Finding("stack", f"{name} cannot be updated: {status}", fails=True, mend=mend)
    elif status == STUCK:
        mend = f"aws cloudformation continue-update-rollback --stack-name {name}"
        yield Finding("stack", f"{name} cannot be updated: {status}", fails=True, mend=mend)
    else:
        yield Finding("stack", f"{name} exists ({status}), a deploy updates it")
        if status != UNEXECUTED and not settings.deletion_protection:
            text = f"{name} is not protected against deletion"
            yield Finding("stack", text, mend="deletion_protection: true in cdk.json, and a deploy")


def _taken_names(ask: Client, settings: Settings) -> Iterator[Finding]:
    taken = [
        *_taken_cluster(ask, settings.stack_name),
        *_taken_log_groups(ask, settings.stack_name),
        *_taken_parameter(ask, settings),
    ]
    yield from taken
    if not taken:
        yield Finding("stack", f"{settings.stack_name} does not exist yet, and its names are free")


def _taken_cluster(ask: Client, name: str) -> Iterator[Finding]:
    if unless_missing(ask("eks").describe_cluster, name=name) is not None:
        mend = f"another stack_name in cdk.json, or aws eks delete-cluster --name {name}"
        yield Finding("stack", f"an EKS cluster {name} of somebody else's exists", fails=True, mend=mend)


def _taken_log_groups(ask: Client, name: str) -> Iterator[Finding]:
    fixed = [f"/aws/eks/{name}/cluster", *(f"/aws/containerinsights/{name}/{kind}" for kind in INSIGHTS_LOGS)]
    for group in fixed:
        found = ask("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        if any(item["logGroupName"] == group for item in found):
            mend = f"aws logs delete-log-group --log-group-name {group}"
            yield Finding("stack", f"the log group {group} exists already", fails=True, mend=mend)


def _taken_parameter(ask: Client, settings: Settings) -> Iterator[Finding]:
    name = settings.fleet_parameter
    if unless_missing(ask("ssm").get_parameter, Name=name) is not None:
        mend = f"another stack_name in cdk.json, or aws ssm delete-parameter --name {name}"
        yield Finding("stack", f"the parameter {name} exists already", fails=True, mend=mend)


def network(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The subnets of an existing VPC are where the settings say that they are."""
    if settings.vpc_id is None:
        return
    wrong = 0
    for key, subnets in (
        ("private_subnets", settings.private_subnets),
        ("public_subnets", settings.public_subnets),
    ):
        for zone, subnet in subnets.items():
            for fault in _subnet_faults(ask("ec2"), settings.vpc_id, zone, subnet):
                wrong += 1
                yield Finding("network", f"{subnet} {fault}", fails=True, mend=f"{key} in cdk.json")
    if not wrong:
        yield Finding("network", f"{settings.vpc_id} holds the subnets in the zones that are named")


def _subnet_faults(ec2: Any, vpc: str, zone: str, subnet: str) -> Iterator[str]:
    found = unless_missing(ec2.describe_subnets, SubnetIds=[subnet])
    if found is None:
        yield "does not exist in this region"
        return
    (described,) = found["Subnets"]
    if described["VpcId"] != vpc:
        yield f"is in {described['VpcId']}, not in {vpc}"
    if described["AvailabilityZoneId"] != zone:
        yield f"is in {described['AvailabilityZoneId']}, not in {zone}"


def zones(ask: Client, settings: Settings) -> Iterator[Finding]:
    """AWS offers every instance type in the zones that the settings count on."""
    types = dict.fromkeys((SYSTEM_INSTANCE_TYPE, *(unit.instance_type for unit in settings.fleet.units)))
    for instance_type in types:
        offered = _offered(ask("ec2"), instance_type)
        counted_on = settings.zones_with(instance_type)
        lacking = [zone for zone in counted_on if zone not in offered]
        if not lacking:
            yield Finding("zones", f"{instance_type} in {', '.join(counted_on)}")
            continue
        there = ", ".join(sorted(offered)) or "no zone"
        text = f"{instance_type} is not offered in {', '.join(lacking)}, but in {there}"
        mend = f"zone_offerings in cdk.json: {instance_type}"
        yield Finding("zones", text, fails=len(lacking) == len(counted_on), mend=mend)


def _offered(ec2: Any, instance_type: str) -> set[str]:
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone-id",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    return {offering["Location"] for page in pages for offering in page["InstanceTypeOfferings"]}


def quotas(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The account's vCPU quotas pay for the system nodes, and for every pool at its most nodes."""
    system: Market = "on-demand"
    needed = Counter[str]()
    needed[catalog.quota_code(SYSTEM_INSTANCE_TYPE, system)] = SYSTEM_NODES * catalog.vcpus(
        SYSTEM_INSTANCE_TYPE
    )
    indispensable = dict(needed)
    users: dict[str, list[str]] = {code: ["system nodes"] for code in needed}
    for pool in settings.fleet.pools:
        instance_type = settings.fleet.unit_of[pool.name].instance_type
        code = catalog.quota_code(instance_type, pool.market)
        needed[code] += pool.nodes.max * catalog.vcpus(instance_type)
        users.setdefault(code, []).append(pool.name)
    allowed = {code: quota_value(ask("service-quotas"), "ec2", code) for code in needed}
    for code, vcpus in needed.items():
        subject = f"quota {code} ({', '.join(users[code])})"
        yield _quota_finding(subject, code, allowed[code], vcpus, indispensable.get(code, 0), settings.region)
    yield from _startable(settings, allowed, indispensable)


def _startable(
    settings: Settings, allowed: Mapping[str, float], taken: Mapping[str, int]
) -> Iterator[Finding]:
    """What could serve with today's quotas, where some pool could not have a single node."""
    nodes: dict[str, int] = {}
    for pool in settings.fleet.pools:
        instance_type = settings.fleet.unit_of[pool.name].instance_type
        code = catalog.quota_code(instance_type, pool.market)
        free = allowed[code] - taken.get(code, 0)
        nodes[pool.name] = int(max(0, free) // catalog.vcpus(instance_type))
    able = [f"{name} ({count})" for name, count in nodes.items() if count]
    if len(able) == len(nodes):
        return
    if able:
        text = f"only these pools can have nodes (at most) today: {', '.join(able)}"
        yield Finding("quotas today", text, mend="the requests above; the loop serves from what it can have")
    else:
        text = "no pool can have a node today: the deploy would succeed and serve nothing"
        mend = (
            f"the requests above; meanwhile -c fleet_file={TRIAL_FLEET} tries the chain without accelerators"
        )
        yield Finding("quotas today", text, mend=mend)


def _quota_finding(
    subject: str, code: str, allowed: float, needed: int, indispensable: int, region: str
) -> Finding:
    text = f"{allowed:g} vCPUs of {needed} at the fleet's most nodes"
    if allowed >= needed:
        return Finding(subject, text)
    mend = (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {code} --desired-value {needed} --region {region}"
    )
    return Finding(subject, text, fails=allowed < indispensable, mend=mend)


def quota_value(client: Any, service: str, code: str) -> float:
    """The account's quota, or AWS's default where it was never changed."""
    asked = {"ServiceCode": service, "QuotaCode": code}
    found = unless_missing(client.get_service_quota, **asked)
    if found is None:
        found = client.get_aws_default_service_quota(**asked)
    return float(found["Quota"]["Value"])


def service_roles(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The roles of the services exist. AWS makes them on first use, for whoever is allowed to."""
    uses_spot = any(pool.market == "spot" for pool in settings.fleet.pools)
    wanted = SERVICE_ROLES | (SPOT_ROLE if uses_spot else {})
    iam = ask("iam")
    missing = {role: service for role, service in wanted.items() if not _has_role(iam, role)}
    for role, service in missing.items():
        mend = f"aws iam create-service-linked-role --aws-service-name {service}"
        yield Finding("service-linked roles", f"{role} is missing; it is made on first use", mend=mend)
    if not missing:
        yield Finding("service-linked roles", "all exist")


def _has_role(iam: Any, role: str) -> bool:
    return unless_missing(iam.get_role, RoleName=role) is not None


def certificate(ask: Client, settings: Settings) -> Iterator[Finding]:
    """The certificate exists in this region and is issued."""
    arn = settings.certificate_arn
    if arn is None:
        return
    found = unless_missing(ask("acm").describe_certificate, CertificateArn=arn)
    if found is None:
        mend = "certificate_arn in cdk.json; aws acm list-certificates"
        yield Finding("certificate", f"{arn} does not exist", fails=True, mend=mend)
        return
    status = found["Certificate"]["Status"]
    if status == "ISSUED":
        yield Finding("certificate", f"issued for {found['Certificate']['DomainName']}")
        return
    mend = f"aws acm describe-certificate --certificate-arn {arn} --query Certificate.DomainValidationOptions"
    yield Finding("certificate", f"is {status}, not ISSUED", fails=True, mend=mend)


def loop(ask: Client, settings: Settings) -> Iterator[Finding]:
    """Nobody has left the loop paused."""
    name = settings.pause_parameter
    if unless_missing(ask("ssm").get_parameter, Name=name) is not None:
        mend = f"python -m twin resume --pause-parameter {name}"
        yield Finding("loop", f"{name} exists: the loop would only observe", mend=mend)


def unless_missing(call: Callable[..., Any], **arguments: Any) -> Any:
    """The call's answer; None where AWS knows no such thing."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return None
        raise
