"""The checks that matter most in an account that has not done much yet: what AWS holds back there."""

from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from infra.before_deploy.checks import Client, Finding, quota_value
from infra.settings import SYSTEM_INSTANCE_TYPE, Settings

UPGRADE: Final = "aws freetier upgrade-account-plan --account-plan-type PAID --region us-east-1"
NO_PLAN_KNOWN: Final = frozenset({"AccessDenied", "AccessDeniedException", "ResourceNotFoundException"})

# What a dry run of a launch comes to: its error code to whether a deploy would fail, and what mends it.
WOULD_LAUNCH: Final = "DryRunOperation"
WITHOUT_NETWORK: Final = "VPCIdNotSpecified"
SUPPORT: Final = "AWS Support, Account and billing"
HELD_BACK: Final = {
    "PendingVerification": "wait: AWS verifies new accounts within four hours, and writes a mail",
    "Blocked": SUPPORT,
    "OptInRequired": "sign up for EC2 in the console",
    "InvalidParameterCombination": UPGRADE,  # "not eligible for Free Tier"
}

# Service Quotas of CodeBuild: what the images and weights are built on, and what compiles for Neuron.
CODEBUILD: Final = "codebuild"
BUILD_QUOTAS: Final = {"Linux/Medium": "L-2DC20C30", "Linux/XLarge": "L-04E5CA62"}


def plan(ask: Client, _settings: Settings) -> Iterator[Finding]:
    """The account is on no plan that refuses the instances of this stack."""
    try:
        found = ask("freetier").get_account_plan_state()
    except ClientError as error:
        if error.response["Error"]["Code"] not in NO_PLAN_KNOWN:
            raise
        yield Finding("plan", "none known, which is how accounts without a Free Plan answer")
        return
    kind = found["accountPlanType"]
    if kind == "FREE":
        text = f"Free Plan: it refuses {SYSTEM_INSTANCE_TYPE} and every accelerator"
        yield Finding("plan", text, fails=True, mend=UPGRADE)
    else:
        yield Finding("plan", kind.capitalize())


def verification(ask: Client, settings: Settings) -> Iterator[Finding]:
    """AWS would launch a system node: a dry run, which launches nothing."""
    image = (
        f"resolve:ssm:/aws/service/eks/optimized-ami/{settings.kubernetes_version}"
        "/amazon-linux-2023/x86_64/standard/recommended/image_id"
    )
    asked = {"ImageId": image, "InstanceType": SYSTEM_INSTANCE_TYPE, "MinCount": 1, "MaxCount": 1}
    try:
        ask("ec2").run_instances(**asked, DryRun=True)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == WOULD_LAUNCH:
            yield Finding("launches", f"AWS would launch {SYSTEM_INSTANCE_TYPE}")
        elif code == WITHOUT_NETWORK:
            yield Finding("launches", "cannot be told in an account without a default VPC")
        elif code in HELD_BACK:
            text = f"AWS launches nothing in this account yet: {code}"
            yield Finding("launches", text, fails=True, mend=HELD_BACK[code])
        else:
            raise


def builds(ask: Client, settings: Settings) -> Iterator[Finding]:
    """CodeBuild runs builds in this account. With few at once they run one after the other, for hours."""
    needed = dict(BUILD_QUOTAS)
    if not any(unit.accelerator == "neuron" for unit in settings.fleet.units):
        del needed["Linux/XLarge"]
    for size, code in needed.items():
        allowed = quota_value(ask("service-quotas"), CODEBUILD, code)
        text = f"{allowed:g} at once on {size}"
        mend = f"{SUPPORT}: a case about CodeBuild's limit {code}; the run tries for ten hours meanwhile"
        yield Finding("builds", text, mend="" if allowed >= 1 else mend)


def fleet_requests(ask: Client, _settings: Settings) -> Iterator[Finding]:
    """No quota on requests for fleets, which node groups launch with, stands at zero."""
    zero = [quota["QuotaName"] for quota in _quotas_named(ask, "fleet") if quota["Value"] == 0]
    if zero:
        text = f"these quotas are 0, and node groups launch through fleets: {', '.join(zero)}"
        yield Finding("fleet requests", text, fails=True, mend=SUPPORT)
    else:
        yield Finding("fleet requests", "no quota on them stands at 0")


def _quotas_named(ask: Client, word: str) -> Iterator[dict[str, Any]]:
    pages = ask("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
    for page in pages:
        yield from (quota for quota in page["Quotas"] if word in quota["QuotaName"].lower())
