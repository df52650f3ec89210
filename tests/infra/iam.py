"""As much of IAM as the handlers' roles use: who may do what, from the statements of a template."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KNOWN_KEYS: Final = {"Sid", "Effect", "Action", "Resource", "Condition"}


@dataclass(frozen=True)
class Request:
    """One call as IAM judges it.

    `resource` is "*" for an action that knows none; `context` holds the condition keys.
    """

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Statement:
    """An Allow statement, its tokens resolved."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Statement":
        """Read a statement; what this evaluator does not understand is an error, not a yes."""
        unknown = set(raw) - KNOWN_KEYS
        if unknown or raw["Effect"] != "Allow" or set(raw.get("Condition", {})) - {"StringEquals"}:
            raise NotImplementedError(f"statement {raw}")
        return cls(
            raw.get("Sid", ""), _tuple(raw["Action"]), _tuple(raw["Resource"]), raw.get("Condition", {})
        )

    def allows(self, request: Request) -> bool:
        """Whether the statement allows the request."""
        return (
            any(_matches(pattern, request.action, re.IGNORECASE) for pattern in self.actions)
            and any(_matches(pattern, request.resource) for pattern in self.resources)
            and all(
                request.context.get(key) == value
                for key, value in self.conditions.get("StringEquals", {}).items()
            )
        )


def statements_of(template: Mapping[str, Any], role: str, values: Mapping[str, str]) -> list[Statement]:
    """The statements of every policy of the role (its logical id); `values` resolves references.

    A managed policy would say more than the template does, so it is an error.
    """
    resources = template["Resources"]
    if set(resources[role]["Properties"]) & {"ManagedPolicyArns", "Policies"}:
        raise NotImplementedError(f"{role} has managed or inline policies")
    return [
        Statement.parse(resolve(raw, values))
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::Policy" and {"Ref": role} in resource["Properties"]["Roles"]
        for raw in resource["Properties"]["PolicyDocument"]["Statement"]
    ]


def resolve(value: Any, values: Mapping[str, str]) -> Any:
    """A part of a template with its intrinsic functions evaluated, as CloudFormation does.

    `values` maps `Name` and `Name.Attribute` to what they stand for.
    """
    if isinstance(value, list):
        return [resolve(part, values) for part in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": str(name)}:
            found: Any = values[name]
        case {"Fn::GetAtt": [name, attribute]}:
            found = values[f"{name}.{attribute}"]
        case {"Fn::Join": [between, parts]}:
            found = str(between).join(resolve(parts, values))
        case {"Fn::Split": [between, text]}:
            found = resolve(text, values).split(between)
        case {"Fn::Select": [index, parts]}:
            found = resolve(parts, values)[int(index)]
        case _:
            found = {key: resolve(part, values) for key, part in value.items()}
    return found


def unused(statements: Iterable[Statement], requests: Iterable[Request]) -> Iterator[tuple[str, str]]:
    """Every (action, resource) that a statement names and no request needed."""
    made = list(requests)
    for statement in statements:
        for action in statement.actions:
            for resource in statement.resources:
                alone = Statement(statement.sid, (action,), (resource,), statement.conditions)
                if not any(alone.allows(request) for request in made):
                    yield action, resource


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _matches(pattern: str, value: str, flags: int = 0) -> bool:
    """IAM's wildcards: `*` stands for any characters, `?` for one."""
    parts = ("." if char == "?" else ".*" if char == "*" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), value, flags | re.DOTALL) is not None
