"""The constructs of the control loop in a small stack of their own: seconds instead of a whole cluster."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import App, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_eks_v2 as eks
from aws_cdk.assertions import Template

from infra.control.control import Control
from infra.control.release import Release
from infra.network import Network
from infra.routing import Routing
from infra.settings import Settings
from tests.infra.conftest import UNSTAGED

Resources = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ControlStack:
    """The stack, its parts and what CloudFormation gets."""

    stack: Stack
    routing: Routing
    control: Control
    release: Release
    node_groups: Mapping[str, eks.CfnNodegroup]
    template: Mapping[str, Any]

    def of_type(self, kind: str) -> Resources:
        """The resources of a CloudFormation type, by logical id."""
        return {
            name: resource
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind
        }

    def one(self, kind: str) -> dict[str, Any]:
        """The properties of the only resource of that type."""
        (resource,) = self.of_type(kind).values()
        properties: dict[str, Any] = resource["Properties"]
        return properties

    def shown(self, token: object) -> str:
        """A token as the template writes it, as JSON: the key under which its value can be looked up."""
        return json.dumps(self.stack.resolve(token), sort_keys=True)

    def logical_id(self, part: Any) -> str:
        """The logical id of a construct's own resource."""
        return str(self.stack.get_logical_id(part.node.default_child or part))

    def follows(self, later: str, earlier: str) -> bool:
        """Whether CloudFormation creates one resource after another, and so deletes it before."""
        resources, seen, todo = self.template["Resources"], set(), [later]
        while todo:
            name = todo.pop()
            if name == earlier:
                return True
            if name in seen or name not in resources:
                continue
            seen.add(name)
            todo += _needed(resources[name])
        return False


def control_stack(
    settings: Settings,
    *,
    cluster_name: str = "fulcrum-cluster",
    builds: Mapping[str, Sequence[str]] | None = None,
    app: App | None = None,
) -> ControlStack:
    """Synthesize the stack for these settings, in an app that stages no assets unless another is given."""
    stack = _SmallStack(app or App(context=UNSTAGED), settings)
    network = Network(stack, "Network", settings=settings)
    pods = ec2.SecurityGroup(stack, "Pods", vpc=network.vpc)
    node_groups = {pool.name: _node_group(stack, pool.name) for pool in settings.fleet.pools}
    routing = Routing(stack, "Routing", settings=settings, network=network, pod_security_group=pods)
    control = Control(
        stack,
        "Control",
        settings=settings,
        cluster_name=cluster_name,
        routing=routing,
        node_groups=node_groups,
        builds=builds,
    )
    release = Release(stack, "Release", settings=settings, control=control, routing=routing)
    template = Template.from_stack(stack).to_json()
    return ControlStack(stack, routing, control, release, node_groups, template)


class _SmallStack(Stack):
    def __init__(self, app: App, settings: Settings) -> None:
        super().__init__(app, "Small", env=Environment(account=settings.account, region=settings.region))
        self._zones = list(settings.zones)

    @property
    def availability_zones(self) -> list[str]:
        return self._zones


def _node_group(stack: Stack, pool: str) -> eks.CfnNodegroup:
    return eks.CfnNodegroup(
        stack, f"Pool-{pool}", cluster_name="cluster", node_role="role", subnets=["subnet-0123abcd"]
    )


def _needed(resource: Mapping[str, Any]) -> list[str]:
    """The logical ids that a resource depends on, explicitly or by a reference."""
    explicit = resource.get("DependsOn", [])
    return [*([explicit] if isinstance(explicit, str) else explicit), *_references(resource)]


def _references(value: Any) -> list[str]:
    match value:
        case {"Ref": str(name)}:
            return [name]
        case {"Fn::GetAtt": [str(name), _]}:
            return [name]
        case dict():
            return [name for part in value.values() for name in _references(part)]
        case list():
            return [name for part in value for name in _references(part)]
        case _:
            return []
