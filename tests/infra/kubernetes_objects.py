"""The Kubernetes objects that a template holds, and whether a cluster would take them."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from aws_cdk.assertions import Template

Manifest = dict[str, Any]
RESOURCE = "Custom::AWSCDK-EKS-KubernetesResource"
DATA = Path(__file__).parent / "data"


def manifests_of(template: Template, id: str = "") -> list[Manifest]:  # noqa: A002 - CloudFormation's word
    """Every Kubernetes object of the manifests whose logical id starts with `id`; tokens become text."""
    return [
        made
        for logical_id, resource in template.find_resources(RESOURCE).items()
        if logical_id.startswith(id)
        for made in json.loads(_text(resource["Properties"]["Manifest"]))
    ]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The objects of one kind, by name."""
    return {made["metadata"]["name"]: made for made in manifests if made["kind"] == kind}


def pod_specs(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pods' specs of all Deployments, by the Deployment's name."""
    deployments = of_kind(manifests, "Deployment")
    return {name: made["spec"]["template"]["spec"] for name, made in deployments.items()}


def check(manifest: Manifest, version: str) -> None:
    """Raise where the object does not fit its schema, unknown fields included."""
    if manifest["kind"] == "TargetGroupBinding":
        jsonschema.validate(manifest["spec"], _target_group_binding_spec())
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


@cache
def _target_group_binding_spec() -> Mapping[str, Any]:
    text = (DATA / "target_group_binding_spec.yaml").read_text(encoding="utf-8")
    schema: dict[str, Any] = yaml.safe_load(text)
    _forbid_unknown_fields(schema)
    return schema


def _forbid_unknown_fields(schema: Any) -> None:
    """A cluster drops fields that a custom resource's schema does not know; here they are faults."""
    for part in _parts(schema):
        if "properties" in part:
            part["additionalProperties"] = False


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    if isinstance(schema, dict | list):
        for part in list(schema.values() if isinstance(schema, dict) else schema):
            yield from _parts(part)


def _text(value: Any) -> str:
    """The text that CloudFormation would make of the value, names standing in for what AWS decides."""
    match value:
        case str():
            return value
        case {"Fn::Join": [between, parts]}:
            return str(between).join(map(_text, parts))
        case {"Ref": name} | {"Fn::GetAtt": [name, *_]}:
            return str(name)
        case {"Fn::Select": [index, {"Fn::Split": [_, source]}]}:
            return f"{_text(source)}-{index}"
        case _:
            raise AssertionError(f"not foreseen in a manifest: {value}")
