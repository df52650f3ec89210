"""The settings of a deployment: cdk.json's defaults, what `-c` may say, and one clear line otherwise."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_cdk import App

import app
from infra import pins
from infra.__main__ import NO_SETTING
from infra.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
CONTEXT: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
KEYS = [key for key in Settings.model_fields if key != "fleet"]
NewSettings = Callable[..., Settings]
CERTIFICATE = "arn:aws:acm:{}:111122223333:certificate/0a1b2c3d-0000-1111-2222-333344445555"
SECRET = "arn:aws:secretsmanager:{}:111122223333:secret:hub-AbCdEf"
VPC = {
    "vpc_id": "vpc-0123456789abcdef0",
    "private_subnets": "use1-az5=subnet-0123456789abcdef0,use1-az6=subnet-0123456789abcdef1",
}


def refusal(**changes: object) -> str:
    """The one line with which settings of this context are refused."""
    assert changes.keys() <= Settings.model_fields.keys(), "there is no such setting"
    context: dict[str, Any] = {"fleet_file": str(ROOT / "fleet.yaml"), **changes}
    with pytest.raises(SettingsError) as refused:
        Settings.from_context(context.get)
    message = str(refused.value)
    assert "\n" not in message
    assert "; valid: " in message
    return message


def changed_fleet(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """The path of the default fleet, changed."""
    description = yaml.safe_load((ROOT / "fleet.yaml").read_text(encoding="utf-8"))
    change(description)
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(description), encoding="utf-8")
    return str(path)


def test_cdk_json_holds_every_setting_with_its_default_and_says_what_it_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever deploys finds every setting in cdk.json, and nothing else but comments and feature flags."""
    given = {key for key in CONTEXT if not key.startswith(NO_SETTING)}
    assert given == set(KEYS)
    assert all(CONTEXT.get(f"//{key}") for key in KEYS)
    monkeypatch.chdir(ROOT)
    assert Settings.from_context(CONTEXT.get) == Settings.from_context(dict[str, Any]().get)


def test_every_feature_flag_of_the_cdk_is_as_recommended_or_says_why_not(tmp_path: Path) -> None:
    """None keeps an old default unseen, of which each synthesis would tell; a new CDK may bring some."""
    App(outdir=str(tmp_path), context=dict(CONTEXT)).synth()
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    flags = manifest["artifacts"]["aws-cdk-lib/feature-flag-report"]["properties"]["flags"]
    other = {
        name
        for name, flag in flags.items()
        if flag.get("userValue", flag.get("unconfiguredBehavesLike", {}).get("v2", False))
        != flag["recommendedValue"]
    }
    explained = {key.removeprefix("//") for key in CONTEXT if key.startswith("//@aws-cdk/")}
    assert other == explained != set()


def test_by_default_every_zone_of_the_region_is_used(new_settings: NewSettings) -> None:
    """The more zones, the more places to find an accelerator; a type keeps to the zones that have it."""
    settings = new_settings()
    assert settings.zones == ("use1-az1", "use1-az2", "use1-az4", "use1-az5", "use1-az6")
    assert settings.zones_with("trn1.2xlarge") == ("use1-az5", "use1-az6")


def test_the_fleet_does_not_choose_the_zones(tmp_path: Path, new_settings: NewSettings) -> None:
    """Otherwise a new unit would move the subnets of a cluster that stands."""
    fleet = changed_fleet(tmp_path, lambda raw: raw.update(units=[raw["units"][1]]))
    assert new_settings(fleet_file=fleet).zones == new_settings().zones


def test_zones_may_be_chosen(new_settings: NewSettings) -> None:
    """As a string, as `-c` gives it, or as a list, as cdk.json may."""
    chosen = ("use1-az5", "use1-az6")
    assert new_settings(zones="use1-az5, use1-az6").zones == chosen
    assert new_settings(zones=list(chosen)).zones == chosen


def test_the_table_of_offerings_may_be_corrected(new_settings: NewSettings) -> None:
    """AWS opens zones faster than tables are dated."""
    settings = new_settings(zone_offerings={"trn1.2xlarge": ["use1-az4"]})
    assert settings.zones_with("trn1.2xlarge") == ("use1-az4",)
    assert settings.zones_with("inf2.xlarge") == ("use1-az2", "use1-az4", "use1-az5", "use1-az6")


def test_an_existing_vpc_gives_its_zones(new_settings: NewSettings) -> None:
    """The zones in use are those of the private subnets that are named."""
    settings = new_settings(**VPC, vpc_cidr="10.0.0.0/16")
    assert settings.zones == ("use1-az5", "use1-az6")
    assert settings.private_subnets["use1-az6"] == "subnet-0123456789abcdef1"


def test_the_command_line_only_knows_strings(new_settings: NewSettings) -> None:
    """`-c` gives text, whatever the setting is."""
    settings = new_settings(
        public="true",
        deletion_protection="false",
        log_retention_days="30",
        nat_gateways="3",
        api_cidrs="203.0.113.0/24,198.51.100.7/32",
        certificate_arn=CERTIFICATE.format("us-east-1"),
    )
    assert (settings.public, settings.deletion_protection) == (True, False)
    assert (settings.log_retention_days, settings.nat_gateways) == (30, 3)
    assert settings.api_cidrs == (IPv4Network("203.0.113.0/24"), IPv4Network("198.51.100.7/32"))


@pytest.mark.parametrize("key", ["account", "vpc_id", "certificate_arn", "alert_email"])
def test_an_empty_string_means_absent(new_settings: NewSettings, key: str) -> None:
    """JSON has no word for a setting that is not there; cdk.json shows it empty."""
    assert getattr(new_settings(**{key: ""}), key) is None


@pytest.mark.parametrize(
    ("context", "key"),
    [
        ({"stack_name": "9 lives"}, "stack_name"),
        ({"account": "1234"}, "account"),
        ({"region": "us-east-9"}, "region"),
        ({"vpc_id": "vpc"}, "vpc_id"),
        ({"vpc_cidr": "10.0.0.0/8"}, "vpc_cidr"),
        ({"vpc_cidr": "10.0.0.0/24"}, "vpc_cidr"),
        ({"vpc_cidr": "ten"}, "vpc_cidr"),
        ({"private_subnets": "subnet-0123abcd"}, "private_subnets"),
        ({"zones": "us-east-1a,us-east-1b"}, "zones"),
        ({"zones": "use1-az5"}, "zones"),
        ({"zones": "use1-az3,use1-az5"}, "zones"),
        ({"zone_offerings": "trn1"}, "zone_offerings"),
        ({"nat_gateways": "0"}, "nat_gateways"),
        ({"interface_endpoints": "perhaps"}, "interface_endpoints"),
        ({"public": "perhaps"}, "public"),
        ({"certificate_arn": "mine"}, "certificate_arn"),
        ({"alert_email": "nobody"}, "alert_email"),
        ({"kubernetes_version": "1.29"}, "kubernetes_version"),
        ({"api_cidrs": "203.0.113.0/40"}, "api_cidrs"),
        ({"admin_arns": "root"}, "admin_arns"),
        ({"log_retention_days": "42"}, "log_retention_days"),
        ({"deletion_protection": "perhaps"}, "deletion_protection"),
        ({"application_signals": "perhaps"}, "application_signals"),
        ({"model_revision": "main"}, "model_revision"),
        ({"model_source": "https://mine/models"}, "model_source"),
        ({"model_source": "s3://mine"}, "model_source"),
        ({"model_revision": "0" * 40, "model_source": "s3://mine/sd21"}, "model_revision"),
        ({"hub_token_secret": "hf_0123456789"}, "hub_token_secret"),
        ({"hub_token_secret": SECRET.format("eu-west-1")}, "hub_token_secret"),
        ({"private_subnets": VPC["private_subnets"]}, "vpc_id"),
        ({**VPC, "public": "true"}, "public_subnets"),
        ({**VPC, "zones": "use1-az4,use1-az5"}, "zones"),
        ({**VPC, "private_subnets": "use1-az5=subnet-0123abcd"}, "private_subnets"),
    ],
)
def test_a_bad_setting_is_refused_by_its_key(context: Mapping[str, object], key: str) -> None:
    """The line names the file, the key, what would be valid and how to say it."""
    message = refusal(**context)
    assert message.startswith(f"cdk.json: context: {key}: ")
    assert f"(or -c {key}=...)" in message


def test_a_certificate_of_another_region_is_refused() -> None:
    """A load balancer only takes certificates of its own region."""
    assert refusal(certificate_arn=CERTIFICATE.format("eu-west-1")) == (
        "cdk.json: context: certificate_arn: is in eu-west-1; "
        "valid: one in us-east-1, the stack's region (or -c certificate_arn=...)"
    )


def test_a_pool_without_a_zone_in_the_region_is_refused() -> None:
    """Every unit that no zone offers is named, with the regions that do offer it."""
    message = refusal(region="eu-west-1")
    assert "fleet.yaml: units[1].instance_type: no zone in use offers trn1.2xlarge; valid: " in message
    assert "us-east-1, us-east-2, us-west-2" in message
    assert "units[3].instance_type: no zone in use offers g6.xlarge" in message
    assert "units[0]" not in message


def test_a_pool_without_a_zone_among_the_chosen_is_refused() -> None:
    """Here the zones are at fault, and those that would do are named."""
    assert "trn1.2xlarge; valid: zones with one of use1-az5, use1-az6" in refusal(zones="use1-az2,use1-az4")


def test_an_unknown_instance_type_is_refused(tmp_path: Path) -> None:
    """What is in no table cannot be placed, priced or held against a quota."""
    fleet = changed_fleet(tmp_path, lambda raw: raw["units"][0].update(instance_type="inf9.xlarge"))
    message = refusal(fleet_file=fleet)
    assert message.startswith(f"{fleet}: units[0].instance_type: 'inf9.xlarge' is not in infra/tables/")
    assert "inf2.xlarge" in message


def test_an_accelerator_that_the_type_does_not_have_is_refused(tmp_path: Path) -> None:
    """It would get the wrong image and the wrong driver."""
    fleet = changed_fleet(tmp_path, lambda raw: raw["units"][0].update(accelerator="nvidia"))
    assert refusal(fleet_file=fleet) == (
        f"{fleet}: units[0].accelerator: given 'nvidia'; valid: neuron, which inf2.xlarge has"
    )


def test_a_model_that_does_not_fit_into_its_nodes_memory_is_refused(tmp_path: Path) -> None:
    """SDXL on inf2.xlarge: the pods would be killed as they load, and nothing else would say why."""
    xl = "stabilityai/stable-diffusion-xl-base-1.0"
    fleet = changed_fleet(tmp_path, lambda raw: raw.update(model=xl, units=[raw["units"][0]]))
    message = refusal(fleet_file=fleet)
    assert message.startswith(f"{fleet}: units[0].instance_type: a server of {xl} takes 15794 MiB of memory")
    assert message.endswith("inf2.xlarge leaves it 13394; valid: trn1.2xlarge or inf2.8xlarge")


def test_the_same_model_fits_where_the_gpu_holds_it(tmp_path: Path, new_settings: NewSettings) -> None:
    """On g5.xlarge the weights only pass through the host's memory."""
    xl = "stabilityai/stable-diffusion-xl-base-1.0"
    fleet = changed_fleet(tmp_path, lambda raw: raw.update(model=xl, units=[raw["units"][2]]))
    assert new_settings(fleet_file=fleet).fleet.model == xl


def test_six_units_are_refused(tmp_path: Path) -> None:
    """A load balancer's rule takes five target groups."""
    fleet = changed_fleet(
        tmp_path, lambda raw: raw["units"].append({**raw["units"][0], "name": "sixth-unit"})
    )
    assert refusal(fleet_file=fleet).startswith(
        f"{fleet}: units: given a list of 6; valid: a list of 1 to 5 units"
    )


def test_a_missing_fleet_file_is_refused() -> None:
    """The line names the path that was asked for."""
    assert refusal(fleet_file="none.yaml").startswith("none.yaml: No such file or directory; valid: ")


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ({"region": "us-east-9"}, "cdk.json: context: region: given 'us-east-9'; valid: one of "),
        ({"fleet_file": "none.yaml"}, "none.yaml: No such file or directory; valid: "),
        ({"model_revision": "main"}, "cdk.json: context: model_revision: given 'main'; valid: a commit"),
        ({"kubernetes_version": "1.29"}, "cdk.json: context: kubernetes_version: given '1.29'; valid: "),
    ],
)
def test_the_app_answers_a_bad_setting_with_one_line_and_exit_code_two(
    tmp_path: Path, context: Mapping[str, str], line: str
) -> None:
    """No traceback, nothing on standard output, and no template."""
    out = tmp_path / "cdk.out"
    result = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps({**CONTEXT, **context}), "CDK_OUTDIR": str(out)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert list(out.glob("*.json")) == []


def test_an_add_on_without_a_pinned_version_is_one_line_at_synth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the table and the row that is missing."""
    kept = tuple(pin for pin in pins.pins() if pin.what != "coredns")
    monkeypatch.setattr(pins, "pins", lambda: kept)
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({**CONTEXT, "aws:cdk:disable-asset-staging": True}))
    assert app.main() == 2
    newest = pins.kubernetes_versions()[-1]
    line = f"infra/tables/pins.csv: no row for addon coredns for Kubernetes {newest}\n"
    assert capsys.readouterr().err == line
