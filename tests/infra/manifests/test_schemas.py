"""What a cluster takes, and what its Pod Security admits."""

import jsonschema
import kubernetes_validate
import pytest
from aws_cdk.assertions import Template

from control_lambda.core.fleet import Fleet
from infra.manifests.unit import unit_manifests
from infra.pins import kubernetes_versions
from tests.infra.kubernetes_objects import check, manifests_of, pod_specs
from tests.infra.manifests.examples import ARN, CPU, FLEET, TWINS, everything

NEXT = "1.37"  # the one that EKS brings next: what it no longer knows is found before it is the default
VERSIONS = (*kubernetes_versions(), NEXT)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fleet", [FLEET, TWINS, CPU], ids=lambda fleet: fleet.fleet)
def test_every_object_fits_its_schema_strictly(fleet: Fleet, version: str) -> None:
    """The chosen Kubernetes version, an older and a newer one know every field, and no field is missing."""
    for made in everything(fleet):
        check(made, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_the_stack_fits_its_schema_strictly(template: Template, version: str) -> None:
    """The same holds for what the template holds in the end, whoever wrote it."""
    manifests = manifests_of(template)
    assert len(manifests) > len(FLEET.units)
    for made in manifests:
        check(made, version)


def test_an_unknown_field_is_refused() -> None:
    """The check above can fail: for objects of Kubernetes and for bindings."""
    service, binding, _ = unit_manifests(unit="inf2-neuron", target_group_arn=ARN)
    service["spec"]["portz"] = []
    binding["spec"]["networkings"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check(service, NEXT)
    with pytest.raises(jsonschema.ValidationError):
        check(binding, NEXT)


@pytest.mark.parametrize("fleet", [FLEET, TWINS], ids=lambda fleet: fleet.fleet)
def test_no_two_objects_share_kind_and_name(fleet: Fleet) -> None:
    """One manifest must not undo what another one made."""
    keys = [(made["kind"], made["metadata"]["name"]) for made in everything(fleet)]
    assert len(keys) == len(set(keys))


def test_every_pod_keeps_to_the_restricted_profile() -> None:
    """The namespace enforces it: a pod that asked for more would not be made.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/, profile "restricted".
    """
    for spec in pod_specs(everything(TWINS)).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        allowed = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
        assert all(volume.keys() <= allowed for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in container["securityContext"]
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_every_container_has_a_read_only_root_and_bounded_memory() -> None:
    """Beyond the profile: nothing is written but to volumes, and no pod takes a node's last byte."""
    for spec in pod_specs(everything(TWINS)).values():
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert "memory" in container["resources"]["limits"]


def test_servers_cannot_talk_to_the_kubernetes_api() -> None:
    """They have no business there: no token is mounted, while autoscalers and router need theirs."""
    for name, spec in pod_specs(everything(FLEET)).items():
        mounted = spec.get("automountServiceAccountToken", True)
        assert mounted is not name.startswith("server-")
