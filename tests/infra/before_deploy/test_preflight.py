"""Every check finds what would fail a deploy, says how to mend it, and leaves the account as it is."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra import catalog
from infra.before_deploy.checks import BOOTSTRAP_PARAMETER, SERVICE_ROLES, SPOT_ROLE, Client, Finding
from infra.before_deploy.preflight import CHECKS, NoAccessError, findings
from infra.settings import SYSTEM_INSTANCE_TYPE, Settings

ROOT: Final = Path(__file__).parents[3]
REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"  # moto's
ENOUGH: Final = 10_000.0
INF: Final = catalog.quota_code("inf2.xlarge", "on-demand")
GPU: Final = catalog.quota_code("g5.xlarge", "on-demand")
STANDARD: Final = catalog.quota_code(SYSTEM_INSTANCE_TYPE, "on-demand")

NewSettings = Callable[..., Settings]


class ServiceQuotas:
    """Service Quotas of EC2: what was changed, and AWS's defaults; moto knows those of VPC alone."""

    def __init__(self) -> None:
        self.changed: dict[str, float] = {}
        self.default = ENOUGH

    def get_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """The account's own quota."""
        assert ServiceCode == "ec2"
        if QuotaCode not in self.changed:
            raise refusal("NoSuchResourceException", "GetServiceQuota")
        return {"Quota": {"Value": self.changed[QuotaCode]}}

    def get_aws_default_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803
        """What every account has."""
        assert (ServiceCode, bool(QuotaCode)) == ("ec2", True)
        return {"Quota": {"Value": self.default}}


def refusal(code: str, operation: str) -> ClientError:
    """AWS's answer with an error."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class Account:
    """A fresh account in moto; `ask` makes its clients, `calls` the operations that they were asked for."""

    def __init__(self) -> None:
        self.quotas = ServiceQuotas()
        self.calls: list[str] = []
        self.refused: dict[str, str] = {}

    def ask(self, service: str) -> Any:
        """A client that notes its calls and refuses those in `refused` with their error code."""
        if service == "service-quotas":
            return self.quotas
        client = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]
        client.meta.events.register("before-call", self._note)
        return client

    def _note(self, model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        if model.name in self.refused:
            raise refusal(self.refused[model.name], model.name)

    def client(self, service: str) -> Any:
        """A client for the test itself."""
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


@pytest.fixture
def bare() -> Iterator[Account]:
    """An account that nobody has used."""
    with mock_aws():
        yield Account()


@pytest.fixture
def prepared(bare: Account) -> Account:
    """One that is bootstrapped and has the service-linked roles."""
    bare.client("ssm").put_parameter(Name=BOOTSTRAP_PARAMETER, Value="23", Type="String")
    bare.client("s3").create_bucket(Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}")
    for role in SERVICE_ROLES | SPOT_ROLE:
        bare.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    return bare


def told(check: str, ask: Client, settings: Settings) -> list[Finding]:
    """What one check finds."""
    return list(CHECKS[check](ask, settings))


def only(check: str, ask: Client, settings: Settings) -> Finding:
    """The check's one finding."""
    (found,) = told(check, ask, settings)
    return found


def test_a_prepared_account_is_ready_and_nothing_was_written(
    prepared: Account, new_settings: NewSettings
) -> None:
    """Every finding is ok, and every call one that reads."""
    found = findings(new_settings(), prepared.ask)
    assert [finding.line for finding in found if not finding.line.startswith("ok")] == []
    assert {finding.subject.partition(" ")[0] for finding in found} >= {
        "account",
        "bootstrap",
        "stack",
        "zones",
        "quota",
    }
    assert all(call.startswith(("Describe", "Get", "Head")) for call in prepared.calls)


def test_an_account_without_the_cdks_stack_fails(bare: Account, new_settings: NewSettings) -> None:
    """With the command that prepares it."""
    found = only("bootstrap", bare.ask, new_settings())
    assert found.fails
    assert found.mend.endswith(f"bootstrap aws://{ACCOUNT}/{REGION}")


def test_an_outdated_bootstrap_fails(prepared: Account, new_settings: NewSettings) -> None:
    """The CDK refuses to deploy over it."""
    prepared.client("ssm").put_parameter(Name=BOOTSTRAP_PARAMETER, Value="5", Type="String", Overwrite=True)
    assert only("bootstrap", prepared.ask, new_settings()).fails


def test_a_bootstrap_whose_bucket_is_gone_fails(prepared: Account, new_settings: NewSettings) -> None:
    """Its parameter alone holds no assets."""
    prepared.client("s3").delete_bucket(Bucket=f"cdk-hnb659fds-assets-{ACCOUNT}-{REGION}")
    assert "is gone" in only("bootstrap", prepared.ask, new_settings()).text


def test_another_account_than_the_settings_name_fails(prepared: Account, new_settings: NewSettings) -> None:
    """A deploy with the wrong profile is a common mistake."""
    assert only("account", prepared.ask, new_settings(account="210987654321")).fails
    assert not only("account", prepared.ask, new_settings(account=ACCOUNT)).fails


@pytest.mark.parametrize(
    ("create", "named"),
    [
        (
            lambda account: account.client("logs").create_log_group(logGroupName="/aws/eks/Fulcrum/cluster"),
            "/aws/eks/Fulcrum/cluster",
        ),
        (
            lambda account: account.client("ssm").put_parameter(
                Name="/fulcrum/sd21/fleet", Value="{}", Type="String"
            ),
            "/fulcrum/sd21/fleet",
        ),
        (
            lambda account: account.client("eks").create_cluster(
                name="Fulcrum", roleArn=f"arn:aws:iam::{ACCOUNT}:role/eks", resourcesVpcConfig={}
            ),
            "Fulcrum",
        ),
    ],
)
def test_a_name_that_is_taken_fails_a_first_deploy(
    create: Callable[[Account], object], named: str, prepared: Account, new_settings: NewSettings
) -> None:
    """Each with the command that frees it."""
    create(prepared)
    found = only("stack", prepared.ask, new_settings())
    assert found.fails
    assert named in found.text
    assert "aws " in found.mend


def test_the_stacks_own_names_are_not_taken(prepared: Account, new_settings: NewSettings) -> None:
    """An update finds what the first deploy made."""
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    prepared.client("cloudformation").create_stack(StackName="Fulcrum", TemplateBody=json.dumps(template))
    prepared.client("ssm").put_parameter(Name="/fulcrum/sd21/fleet", Value="{}", Type="String")
    found = only("stack", prepared.ask, new_settings())
    assert not found.fails
    assert "updates it" in found.text


class CloudFormation:
    """Knows one stack and its status."""

    def __init__(self, status: str) -> None:
        self._status = status

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        """The stack."""
        return {"Stacks": [{"StackName": StackName, "StackStatus": self._status}]}


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("UPDATE_COMPLETE", "ok .* updates it$"),
        ("UPDATE_ROLLBACK_COMPLETE", "ok .* updates it$"),
        ("REVIEW_IN_PROGRESS", "ok .* updates it$"),
        ("UPDATE_IN_PROGRESS", "FAILS .* -> aws cloudformation wait"),
        ("ROLLBACK_COMPLETE", "FAILS .* -> aws cloudformation delete-stack"),
        ("UPDATE_ROLLBACK_FAILED", "FAILS .* -> aws cloudformation continue-update-rollback"),
    ],
)
def test_a_stack_that_cannot_be_updated_fails(status: str, line: str, new_settings: NewSettings) -> None:
    """As CloudFormation's statuses say."""
    found = only("stack", lambda _: CloudFormation(status), new_settings())
    assert re.match(line, found.line)


def test_a_zone_that_aws_does_not_offer_is_told(prepared: Account, new_settings: NewSettings) -> None:
    """The tables are dated, and settings may be wrong; AWS knows better."""
    settings = new_settings(zone_offerings={"trn1.2xlarge": ["use1-az4", "use1-az5"]})
    found = {finding.text.partition(" ")[0]: finding for finding in told("zones", prepared.ask, settings)}
    assert "not offered in use1-az4, but in use1-az5" in found["trn1.2xlarge"].text
    assert "zone_offerings" in found["trn1.2xlarge"].mend
    assert not any(finding.fails for finding in found.values())
    assert not found["inf2.xlarge"].mend


class Nowhere:
    """EC2 in a region that offers nothing."""

    def get_paginator(self, operation: str) -> "Nowhere":
        """The one that is asked for."""
        assert operation == "describe_instance_type_offerings"
        return self

    def paginate(self, **_: Any) -> list[Mapping[str, Any]]:
        """One empty page."""
        return [{"InstanceTypeOfferings": []}]


def test_a_type_that_no_zone_in_use_offers_fails(new_settings: NewSettings) -> None:
    """Its node group could never launch."""
    found = told("zones", lambda _: Nowhere(), new_settings())
    assert all(finding.fails for finding in found)
    assert {finding.text.partition(" ")[0] for finding in found} >= {"inf2.xlarge", "m7i.large"}


def test_a_quota_below_the_fleets_maximum_is_told_with_the_request(
    prepared: Account, new_settings: NewSettings
) -> None:
    """40 inf2.xlarge of 4 vCPUs; the deploy itself succeeds, the loop will be refused."""
    prepared.quotas.changed[INF] = 64
    (found,) = (item for item in told("quotas", prepared.ask, new_settings()) if INF in item.subject)
    assert not found.fails
    assert found.text.startswith("64 vCPUs of 160")
    assert f"--quota-code {INF} --desired-value 160 --region {REGION}" in found.mend


def test_pools_of_one_family_share_its_quota(prepared: Account, new_settings: NewSettings) -> None:
    """G5 and G6 on demand: 14 + 20 + 20 nodes of 4 vCPUs."""
    found = [item for item in told("quotas", prepared.ask, new_settings()) if GPU in item.subject]
    assert [item.text for item in found] == ["10000 vCPUs of 216 at the fleet's most nodes"]


def test_a_quota_that_does_not_pay_for_the_system_nodes_fails(
    prepared: Account, new_settings: NewSettings
) -> None:
    """The deploy waits for them; what was never changed has AWS's default."""
    prepared.quotas.default = 2.0
    found = {item.subject.split()[1]: item for item in told("quotas", prepared.ask, new_settings())}
    assert found[STANDARD].fails
    assert not found[INF].fails


def test_a_missing_service_role_is_told_but_fails_nothing(
    prepared: Account, new_settings: NewSettings
) -> None:
    """AWS makes it on first use; spot's is of interest to spot pools alone."""
    for role in ("AWSServiceRoleForAutoScaling", "AWSServiceRoleForEC2Spot"):
        prepared.client("iam").delete_role(RoleName=role)
    found = told("service-linked roles", prepared.ask, new_settings())
    assert [item.mend.rsplit(maxsplit=1)[-1] for item in found] == ["autoscaling.amazonaws.com"]
    assert not found[0].fails
    spot = new_settings(fleet_file=str(ROOT / "fleets/spot-twins.yaml"))
    assert len(told("service-linked roles", prepared.ask, spot)) == 2


def test_a_certificate_that_does_not_exist_fails(prepared: Account, new_settings: NewSettings) -> None:
    """A listener cannot be made with it."""
    unknown = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/01234567-89ab-cdef-0123-456789abcdef"
    found = only("certificate", prepared.ask, new_settings(certificate_arn=unknown))
    assert found.fails
    assert "does not exist" in found.text


class Certificates:
    """ACM with one certificate."""

    def __init__(self, status: str) -> None:
        self._status = status

    def describe_certificate(self, CertificateArn: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        """The certificate."""
        return {"Certificate": {"Status": self._status, "DomainName": f"of {CertificateArn}"}}


@pytest.mark.parametrize(("status", "mark"), [("ISSUED", "ok"), ("PENDING_VALIDATION", "FAILS")])
def test_a_certificate_serves_once_it_is_issued(status: str, mark: str, new_settings: NewSettings) -> None:
    """A listener refuses any other."""
    arn = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/01234567-89ab-cdef-0123-456789abcdef"
    settings = new_settings(certificate_arn=arn)
    assert only("certificate", lambda _: Certificates(status), settings).line.split()[0] == mark


def test_without_a_certificate_there_is_nothing_to_look_at(
    prepared: Account, new_settings: NewSettings
) -> None:
    """HTTP alone is a valid deployment."""
    assert told("certificate", prepared.ask, new_settings()) == []


def test_subnets_have_to_be_where_the_settings_say(prepared: Account, new_settings: NewSettings) -> None:
    """In the VPC and in the zone that they are named for."""
    ec2 = prepared.client("ec2")
    subnets = ec2.describe_subnets()["Subnets"]
    vpc = subnets[0]["VpcId"]
    named = {subnet["AvailabilityZoneId"]: subnet["SubnetId"] for subnet in subnets}
    first, second = sorted(zone for zone in named if zone != "use1-az3")[:2]

    def settings(private: Mapping[str, str], of: str = vpc) -> Settings:
        types = ("inf2.xlarge", "trn1.2xlarge", "g5.xlarge", "g6.xlarge")
        offered = {instance_type: list(private) for instance_type in types}
        return new_settings(vpc_id=of, private_subnets=dict(private), zone_offerings=offered)

    right = {first: named[first], second: named[second]}
    assert not only("network", prepared.ask, settings(right)).fails
    swapped = {first: named[second], second: named[first]}
    assert [item.fails for item in told("network", prepared.ask, settings(swapped))] == [True, True]
    unknown = {**right, first: "subnet-00000000"}
    assert "does not exist" in only("network", prepared.ask, settings(unknown)).text
    elsewhere = told("network", prepared.ask, settings(right, of="vpc-00000000"))
    assert all(f"is in {vpc}" in item.text for item in elsewhere)


def test_a_loop_that_was_left_paused_is_told(prepared: Account, new_settings: NewSettings) -> None:
    """It would observe and never act, and everything else would look well."""
    assert told("loop", prepared.ask, new_settings()) == []
    prepared.client("ssm").put_parameter(Name="/fulcrum/sd21/pause", Value="observe", Type="String")
    found = only("loop", prepared.ask, new_settings())
    assert "python -m twin resume" in found.mend


def test_what_may_not_be_read_is_a_finding_and_ends_nothing(
    prepared: Account, new_settings: NewSettings
) -> None:
    """The other checks go on, and the missing right is named."""
    prepared.refused = {"GetRole": "AccessDenied", "DescribeStacks": "Throttling"}
    found = {finding.subject: finding for finding in findings(new_settings(), prepared.ask)}
    assert found["service-linked roles"].mend == "allow GetRole"
    assert found["stack"].mend == "try again"
    assert not any(finding.fails for finding in found.values())
    assert "bootstrap" in found


def test_credentials_that_are_refused_end_the_preflight(prepared: Account, new_settings: NewSettings) -> None:
    """There is nothing to be found out without them."""
    prepared.refused = {"GetCallerIdentity": "InvalidClientTokenId"}
    with pytest.raises(NoAccessError, match=r"AWS credentials: .*; valid: AWS_PROFILE"):
        findings(new_settings(), prepared.ask)
