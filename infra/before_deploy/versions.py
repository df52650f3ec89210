"""Whether what is pinned can still be had and is still supported."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, Final

from infra import pins
from infra.before_deploy.checks import Client, Finding
from infra.before_deploy.pins import ageing
from infra.cluster import addons
from infra.pins import Pin
from infra.settings import Settings

TABLE: Final = "infra/tables/pins.csv"


def kubernetes(ask: Client, settings: Settings) -> Iterator[Finding]:
    """EKS offers the version, and supports it at the ordinary price."""
    wanted = settings.kubernetes_version
    found = ask("eks").describe_cluster_versions(clusterVersions=[wanted])["clusterVersions"]
    if not found:
        mend = "kubernetes_version in cdk.json; aws eks describe-cluster-versions"
        yield Finding("kubernetes", f"EKS does not offer {wanted}", fails=True, mend=mend)
        return
    ends = f"{found[0]['endOfStandardSupportDate']:%Y-%m-%d}"
    if found[0]["status"].upper() == "EXTENDED_SUPPORT":
        text = f"standard support of {wanted} ended on {ends}: the control plane costs six times as much"
        yield Finding("kubernetes", text, mend="kubernetes_version in cdk.json")
    else:
        yield Finding("kubernetes", f"{wanted}, in standard support until {ends}")


def addon_versions(ask: Client, settings: Settings) -> Iterator[Finding]:
    """EKS offers every pinned add-on version for this Kubernetes."""
    wanted = {name: pins.version("addon", name, settings.kubernetes_version) for name in addons.NAMES}
    missing = 0
    for name, version in wanted.items():
        offered = list(_offered(ask("eks"), name, settings.kubernetes_version))
        if version not in offered:
            missing += 1
            text = f"EKS offers no {name} {version} for Kubernetes {settings.kubernetes_version}"
            newest = f": {offered[0]} is the newest" if offered else ""
            yield Finding("add-ons", text, fails=True, mend=f"its row in {TABLE}{newest}")
    if not missing:
        yield Finding("add-ons", "EKS offers all pinned versions")


def _offered(eks: Any, name: str, kubernetes_version: str) -> Iterator[str]:
    """The add-on's versions, the newest first, as EKS lists them."""
    pages = eks.get_paginator("describe_addon_versions").paginate(
        addonName=name, kubernetesVersion=kubernetes_version
    )
    for page in pages:
        for addon in page["addons"]:
            yield from (version["addonVersion"] for version in addon["addonVersions"])


def support(_ask: Client, settings: Settings) -> Iterator[Finding]:
    """Nothing that this deploy uses has outlived its support."""
    yield from aged(settings, datetime.now(tz=UTC).date())


def aged(settings: Settings, today: date) -> Iterator[Finding]:
    """What this deploy uses and nobody supports any more on that day."""
    found = [each for each in ageing(list(_used(settings)), today) if each.expired]
    for each in found:
        mend = f"its row in {TABLE}, and what it says there"
        yield Finding(
            "support", f"{each.pin.name} {each.pin.version} ended on {each.pin.end_of_support}", mend=mend
        )
    if not found:
        yield Finding("support", "nothing pinned has expired")


def _used(settings: Settings) -> Iterator[Pin]:
    for pin in pins.pins():
        of_other = pin.kind == "kubernetes" and pin.version != settings.kubernetes_version
        for_other = pin.kubernetes not in ("", settings.kubernetes_version)
        if not (of_other or for_other):
            yield pin
