"""The whole stack against AWS's security rules (cdk-nag) and CloudFormation's schemas (cfn-lint)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from aws_cdk import App, Stack, Validations
from aws_cdk import aws_sqs as sqs
from aws_cdk.assertions import Template
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import ManualArgs, lint

from infra.settings import Settings
from infra.stack import FulcrumStack
from tests.infra.conftest import UNSTAGED

ROOT = Path(__file__).parents[2]
NewSettings = Callable[..., Settings]
# The CDK's own constructs declare dependencies that a reference already implies.
NOISE = "W3005"
EVERYTHING: dict[str, object] = {
    "fleet_file": str(ROOT / "fleets" / "spot-twins.yaml"),
    "public": True,
    "certificate_arn": "arn:aws:acm:us-east-1:111122223333:certificate/0a1b2c3d-0000-1111-2222-333344445555",
    "alert_email": "pager@example.com",
    "interface_endpoints": True,
    "nat_gateways": 3,
    "admin_arns": "arn:aws:iam::111122223333:role/Admin",
    "api_cidrs": "203.0.113.0/24",
    "deletion_protection": True,
    "keep_data": False,
    "model_source": "s3://mine/models/sd21",
    "hub_token_secret": "arn:aws:secretsmanager:us-east-1:111122223333:secret:hub-AbCdEf",
}
EXISTING_VPC: dict[str, object] = {
    "vpc_id": "vpc-0123456789abcdef0",
    "private_subnets": "use1-az5=subnet-00000005,use1-az6=subnet-00000006",
}
VARIANTS = pytest.mark.parametrize(
    "changes", [{}, EVERYTHING, EXISTING_VPC], ids=["default", "everything", "existing-vpc"]
)


def findings(app: App, out: Path) -> list[str]:
    """What AWS Solutions' rules find in the app and nobody has acknowledged: rule and construct."""
    Validations.of(app).add_plugins(AwsSolutionsChecks())
    try:
        app.synth()
    except RuntimeError as error:
        if not str(error).startswith("ValidationFailed"):
            raise
    report = json.loads((out / "validation-report.json").read_text(encoding="utf-8"))
    return [
        f"{violation['ruleName']}: {construct['constructPath']}"
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    ]


def app_in(out: Path) -> App:
    """An app as cdk.json configures it that writes to `out` and stages no asset."""
    return App(outdir=str(out), context=UNSTAGED)


@VARIANTS
def test_aws_solutions_rules_find_nothing_unexplained(
    tmp_path: Path, new_settings: NewSettings, changes: dict[str, object]
) -> None:
    """Every acknowledgement names one finding exactly and says why it stands."""
    app = app_in(tmp_path)
    FulcrumStack(app, settings=new_settings(**changes))
    assert findings(app, tmp_path) == []


def test_a_finding_that_nobody_acknowledged_is_reported(tmp_path: Path) -> None:
    """A queue without TLS and dead letters: the rules are on, and this test's reading of them works."""
    app = app_in(tmp_path)
    sqs.Queue(Stack(app, "Careless"), "Queue")
    assert findings(app, tmp_path) == [
        "AwsSolutions-SQS3: Careless/Queue/Resource",
        "AwsSolutions-SQS4: Careless/Queue/Resource",
    ]


@VARIANTS
def test_the_template_is_valid_by_cloudformations_schemas(
    new_settings: NewSettings, synth: Callable[[Settings], Template], changes: dict[str, object]
) -> None:
    """Types, properties, values, references and limits, as of the schemas that cfn-lint carries."""
    text = json.dumps(synth(new_settings(**changes)).to_json())
    matches = lint(text, config=ManualArgs(regions=["us-east-1"], ignore_checks=[NOISE]))
    assert [f"{match.rule.id} {match.message}" for match in matches] == []
