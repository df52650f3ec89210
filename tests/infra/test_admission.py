"""Every pod of the namespace as admission leaves it, against the profile that the namespace enforces."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aws_cdk.assertions import Template

from infra.settings import Settings
from tests.infra.admission import admitted, faults
from tests.infra.kubernetes_objects import manifests_of, of_kind
from tests.infra.manifests.examples import selects

NewSettings = Callable[..., Settings]
Synth = Callable[[Settings], Template]


def auto_monitor(template: Template) -> Mapping[str, bool]:
    """How the observability add-on of the template is told to instrument; its own default where it is not."""
    addons = template.find_resources("AWS::EKS::Addon").values()
    (found,) = (
        addon["Properties"]
        for addon in addons
        if addon["Properties"]["AddonName"] == "amazon-cloudwatch-observability"
    )
    values: dict[str, Any] = json.loads(found.get("ConfigurationValues", "{}"))
    told: Mapping[str, bool] = values.get("manager", {}).get("applicationSignals", {}).get("autoMonitor", {})
    return told


def refused(template: Template, monitored: Mapping[str, bool]) -> dict[str, list[str]]:
    """The Deployments whose pods the namespace's profile refuses, with the reasons."""
    manifests = manifests_of(template)
    (namespace,) = of_kind(manifests, "Namespace").values()
    profile = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service").values()]
    found = {}
    for name, made in of_kind(manifests, "Deployment").items():
        pod = made["spec"]["template"]
        has_service = any(selects(selector, pod["metadata"]["labels"]) for selector in selectors)
        after = admitted(pod["spec"], has_service=has_service, auto_monitor=monitored)
        if wrong := faults(after, profile):
            found[name] = wrong
    return found


def test_no_pod_is_refused_after_the_webhooks(template: Template) -> None:
    """What the namespace enforces holds for what webhooks make of a pod, not for what was applied."""
    assert refused(template, auto_monitor(template)) == {}


def test_the_add_ons_own_default_would_keep_every_server_out(template: Template) -> None:
    """This is what the configuration is there for: without it no server pod is ever made."""
    names = refused(template, {})
    assert {name for name in names if name.startswith("server-")} == names.keys() != set()
    assert all("capabilities not dropped" in " ".join(why) for why in names.values())


def test_with_application_signals_on_the_namespace_admits_what_it_adds(
    new_settings: NewSettings, synth: Synth
) -> None:
    """The switch moves both: the instrumentation, and the profile under which it is admitted."""
    template = synth(new_settings(application_signals="true"))
    monitored = auto_monitor(template)
    assert monitored == {"monitorAllServices": True, "restartPods": False}
    assert refused(template, monitored) == {}


@pytest.mark.parametrize("security", [{}, {"privileged": True}])
def test_the_model_of_pod_security_refuses_what_it_should(security: Mapping[str, bool]) -> None:
    """A bare container fails restricted, a privileged one baseline as well."""
    spec = {"containers": [{"name": "bare", "securityContext": dict(security)}]}
    assert faults(spec, "restricted")
    assert bool(faults(spec, "baseline")) is bool(security)
