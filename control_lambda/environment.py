"""The environment of the two handlers, parsed once; every error names the variable and what is valid."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from control_lambda.core import names


class InvalidEnvironmentError(ValueError):
    """A variable is missing or wrong; the message names it and what would be valid."""


@dataclass(frozen=True)
class Deployment:
    """What the stack made for one unit: its target group, the node group of each pool, and its builds.

    `builds` names the CodeBuild projects that all have to succeed once before its nodes can serve.
    """

    target_group_arn: str
    node_groups: Mapping[str, str]
    builds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """What a handler is told about the stack it belongs to."""

    fleet_parameter: str
    pause_parameter: str
    cluster_name: str
    listener_arn: str
    units: Mapping[str, Deployment]
    state_table: str
    metric_namespace: str = names.NAMESPACE
    tick_function: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables named in `core.names`.

        Raises:
            InvalidEnvironmentError: naming the variable and what would be valid.
        """
        return cls(
            fleet_parameter=_required(environ, names.FLEET_PARAMETER, "the name of an SSM parameter"),
            pause_parameter=_required(environ, names.PAUSE_PARAMETER, "the name of an SSM parameter"),
            cluster_name=_required(environ, names.CLUSTER_NAME, "the name of the EKS cluster"),
            listener_arn=_arn(
                names.LISTENER_ARN,
                _required(environ, names.LISTENER_ARN, "the ARN of a listener"),
                ":listener/app/",
            ),
            units=_units(_required(environ, names.UNITS, _UNITS_FORM)),
            state_table=_required(environ, names.STATE_TABLE, "the name of a DynamoDB table"),
            metric_namespace=environ.get(names.METRIC_NAMESPACE) or names.NAMESPACE,
            tick_function=environ.get(names.TICK_FUNCTION, ""),
        )

    def require_tick_function(self) -> None:
        """Refuse an environment that does not say which function ticks.

        Raises:
            InvalidEnvironmentError: naming the variable and what would be valid.
        """
        if not self.tick_function:
            raise InvalidEnvironmentError(
                f"environment: {names.TICK_FUNCTION}: not set; valid: the name of the tick's Lambda function"
            )

    @cached_property
    def node_group_of(self) -> Mapping[str, str]:
        """Pool to node group name."""
        return {pool: group for unit in self.units.values() for pool, group in unit.node_groups.items()}

    @cached_property
    def pool_of(self) -> Mapping[str, str]:
        """Node group name to pool."""
        return {group: pool for pool, group in self.node_group_of.items()}

    @cached_property
    def unit_of_target_group(self) -> Mapping[str, str]:
        """Target group ARN to unit."""
        return {unit.target_group_arn: name for name, unit in self.units.items()}

    @cached_property
    def builds(self) -> Mapping[str, tuple[str, ...]]:
        """Unit to the CodeBuild projects that have to succeed once before it can serve."""
        return {name: unit.builds for name, unit in self.units.items()}

    @property
    def load_balancer_dimension(self) -> str:
        """The value of CloudWatch's dimension LoadBalancer: `app/<name>/<id>`."""
        return self.listener_arn.split(":listener/", 1)[1].rsplit("/", 1)[0]


_UNITS_FORM = (
    'JSON: {"<unit>": {"target_group_arn": "<ARN>", "pools": {"<pool>": "<node group>"}, '
    '"builds": ["<CodeBuild project>"]}}, builds optional'
)


def target_group_dimension(arn: str) -> str:
    """The value of CloudWatch's dimension TargetGroup: `targetgroup/<name>/<id>`."""
    return arn.rsplit(":", 1)[1]


def _required(environ: Mapping[str, str], variable: str, valid: str) -> str:
    value = environ.get(variable, "")
    if not value:
        raise InvalidEnvironmentError(f"environment: {variable}: not set; valid: {valid}")
    return value


def _arn(variable: str, value: object, part: str) -> str:
    if not isinstance(value, str) or not value.startswith("arn:") or part not in value:
        raise InvalidEnvironmentError(
            f"environment: {variable}: {value!r}; valid: an ARN that holds '{part}'"
        )
    return value


def _units(text: str) -> Mapping[str, Deployment]:
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidEnvironmentError(f"environment: {names.UNITS}: {error}; valid: {_UNITS_FORM}") from None
    if not isinstance(raw, dict) or not raw:
        raise InvalidEnvironmentError(f"environment: {names.UNITS}: no object; valid: {_UNITS_FORM}")
    return {unit: _deployment(unit, described) for unit, described in raw.items()}


def _deployment(unit: str, described: Any) -> Deployment:
    pools = described.get("pools") if isinstance(described, dict) else None
    if not isinstance(pools, dict) or not all(isinstance(group, str) for group in pools.values()):
        raise InvalidEnvironmentError(f"environment: {names.UNITS}: {unit}: no pools; valid: {_UNITS_FORM}")
    builds = described.get("builds", [])
    if not isinstance(builds, list) or not all(isinstance(project, str) for project in builds):
        raise InvalidEnvironmentError(
            f"environment: {names.UNITS}: {unit}: builds: no list of names; valid: {_UNITS_FORM}"
        )
    variable = f"{names.UNITS}: {unit}: target_group_arn"
    arn = _arn(variable, described.get("target_group_arn"), ":targetgroup/")
    return Deployment(arn, pools, tuple(builds))
