"""What would keep CloudFormation from rolling back a first create: a walk over what the template makes.

A rollback deletes everything that was made. `Retain` leaves a resource alone, `RetainExceptOnCreate` does so
only once its creation has succeeded. What refuses to be deleted, or still holds something that the service
does not delete with it, leaves the stack in ROLLBACK_FAILED.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aws_cdk.assertions import Template

Resource = Mapping[str, Any]

DELETED: Final = frozenset({"Delete", "RetainExceptOnCreate"})
PROTECTED_BY: Final = {
    "AWS::DynamoDB::Table": "DeletionProtectionEnabled",
    "AWS::EKS::Cluster": "DeletionProtection",
    "AWS::Logs::LogGroup": "DeletionProtectionEnabled",
}


def stuck(template: Template) -> dict[str, str]:
    """Logical id to the reason, of whatever a rollback of the first create could not delete."""
    resources: Mapping[str, Resource] = template.to_json()["Resources"]
    emptied = set(_emptied(resources))
    found = {}
    for name, resource in resources.items():
        if resource.get("DeletionPolicy", "Delete") in DELETED:
            reason = _refuses(resource) or _holds_something(name, resource, emptied)
            if reason:
                found[name] = reason
    return found


def left(template: Template) -> set[str]:
    """The types of what a rollback leaves behind on purpose."""
    resources: Mapping[str, Resource] = template.to_json()["Resources"]
    return {made["Type"] for made in resources.values() if made.get("DeletionPolicy") == "Retain"}


def _refuses(resource: Resource) -> str:
    properties = resource.get("Properties", {})
    if properties.get(PROTECTED_BY.get(resource["Type"], "")) is True:
        return "is protected against deletion"
    attributes = properties.get("LoadBalancerAttributes", [])
    if {"Key": "deletion_protection.enabled", "Value": "true"} in attributes:
        return "is protected against deletion"
    return ""


def _holds_something(name: str, resource: Resource, emptied: set[str]) -> str:
    """Builds and the load balancer's logs fill buckets and repositories while the create goes on."""
    if resource["Type"] == "AWS::S3::Bucket" and name not in emptied:
        return "may hold objects by then"
    if resource["Type"] == "AWS::ECR::Repository" and not resource["Properties"].get("EmptyOnDelete"):
        return "may hold images by then"
    return ""


def _emptied(resources: Mapping[str, Resource]) -> Iterator[str]:
    for resource in resources.values():
        if resource["Type"] == "Custom::S3AutoDeleteObjects":
            yield resource["Properties"]["BucketName"]["Ref"]
