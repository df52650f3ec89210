"""A first deploy that fails is no trap: CloudFormation can take all of it away again."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aws_cdk import App
from aws_cdk.assertions import Template

from infra.settings import Settings
from infra.stack import FulcrumStack
from tests.infra.rollback import left, stuck

NewSettings = Callable[..., Settings]
Synth = Callable[[Settings], Template]


def test_a_first_create_that_fails_can_be_rolled_back(template: Template) -> None:
    """As cdk.json has it: nothing refuses to go, and nothing holds what was written meanwhile."""
    assert stuck(template) == {}


def test_what_a_rollback_leaves_behind_has_no_name_that_the_next_create_needs(template: Template) -> None:
    """Buckets and repositories may be filled by then; their names are generated."""
    assert left(template) == {"AWS::S3::Bucket", "AWS::ECR::Repository"}
    kept = [
        made["Properties"]
        for made in template.to_json()["Resources"].values()
        if made.get("DeletionPolicy") == "Retain"
    ]
    assert not [made for made in kept if {"BucketName", "RepositoryName"} & made.keys()]


def test_the_stack_itself_can_be_deleted_after_a_failed_create(default_settings: Settings) -> None:
    """The CDK turns termination protection on before the change set runs."""
    assert not FulcrumStack(App(), settings=default_settings).termination_protection


@pytest.mark.parametrize("changes", [{"keep_data": "false"}, {"fleet_file": "fleets/cpu-laptop.yaml"}])
def test_other_settings_do_not_set_the_trap_again(
    new_settings: NewSettings, synth: Synth, changes: Mapping[str, Any]
) -> None:
    """A trial that leaves nothing behind empties what it deletes."""
    assert stuck(synth(new_settings(**changes))) == {}


def test_protection_from_the_first_deploy_on_would_be_the_trap(
    new_settings: NewSettings, synth: Synth
) -> None:
    """The load balancer and the table refuse to go: this is why preflight warns of it."""
    found = stuck(synth(new_settings(deletion_protection="true")))
    assert set(found.values()) == {"is protected against deletion"}
    assert {name.partition("LoadBalancer")[0] for name in found} >= {"Routing"}
