"""What CloudFormation would do to get from one template to another.

A property is compared as the template writes it. Whether a change replaces the resource is read from
CloudFormation's own resource schemas (`createOnlyProperties`), which cfn-lint carries along. What
refers to a replaced resource changes with it, although its text stays the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aws_cdk.assertions import Template
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

REGION = "us-east-1"
Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Logical ids to resource types; `updated` stay in place, `replaced` get a successor first."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    updated: Mapping[str, str]
    replaced: Mapping[str, str]

    def touched(self, *kinds: str) -> set[str]:
        """The logical ids of these types that are added, removed, updated or replaced."""
        parts = (self.added, self.removed, self.updated, self.replaced)
        return {name for part in parts for name, kind in part.items() if kind in kinds}


def change_set(before: Template, after: Template) -> ChangeSet:
    """The change set that CloudFormation would make of the two templates."""
    old: Mapping[str, Resource] = before.to_json()["Resources"]
    new: Mapping[str, Resource] = after.to_json()["Resources"]
    common = old.keys() & new.keys()
    replaced = _replaced(old, new)
    changed = {name for name in common if _properties(old[name]) != _properties(new[name])}
    changed |= {name for name in common if replaced & set(_references(_properties(new[name])))}
    return ChangeSet(
        added=_types(new, new.keys() - common),
        removed=_types(old, old.keys() - common),
        updated=_types(new, changed - replaced),
        replaced=_types(new, replaced),
    )


def _replaced(old: Mapping[str, Resource], new: Mapping[str, Resource]) -> set[str]:
    """What is replaced by its own change, and then what has that in a property that cannot change."""
    replaced: set[str] = set()
    while True:
        found = {
            name
            for name in old.keys() & new.keys()
            if old[name]["Type"] != new[name]["Type"]
            or any(_changes(old[name], new[name], path, replaced) for path in _create_only(new[name]["Type"]))
        }
        if found == replaced:
            return found
        replaced = found


def _changes(old: Resource, new: Resource, path: tuple[str, ...], replaced: set[str]) -> bool:
    before, after = _at(_properties(old), path), _at(_properties(new), path)
    return before != after or bool(replaced & set(_references(after)))


def _create_only(kind: str) -> list[tuple[str, ...]]:
    """The paths of the properties whose change replaces a resource; of a custom resource, its function."""
    if kind.startswith("Custom::"):
        return [("ServiceToken",)]
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    pointers = schema.get("createOnlyProperties", [])
    return [tuple(pointer.removeprefix("/properties/").split("/")) for pointer in pointers]


def _properties(resource: Resource) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = resource.get("Properties", {})
    return properties


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _references(value: Any) -> Iterator[str]:
    """The logical ids that a value refers to."""
    if isinstance(value, Mapping):
        if "Ref" in value:
            yield value["Ref"]
        if "Fn::GetAtt" in value:
            yield value["Fn::GetAtt"][0]
        for inner in value.values():
            yield from _references(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _types(resources: Mapping[str, Resource], names: set[str]) -> Mapping[str, str]:
    return {name: resources[name]["Type"] for name in sorted(names)}
