"""The cluster: what it is made with, what runs on it, who may do what, and in which order."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from aws_cdk.assertions import Template

from infra import pins
from infra.accelerators import ACCELERATORS
from infra.cluster import charts
from infra.cluster.addons import INSIGHTS_LOGS, NAMES
from infra.settings import Settings

NewSettings = Callable[..., Settings]
Synth = Callable[[Settings], Template]
CONTROLLER = "aws-load-balancer-controller"


def resources(template: Template, kind: str, **properties: object) -> dict[str, dict[str, Any]]:
    """Logical id to resource of that type, with these properties."""
    found: Mapping[str, Any] = template.find_resources(kind, {"Properties": properties} if properties else {})
    return dict(found)


def only(template: Template, kind: str, **properties: object) -> tuple[str, dict[str, Any]]:
    """The logical id and the one resource of that type with these properties."""
    ((logical_id, resource),) = resources(template, kind, **properties).items()
    return logical_id, resource


def chart(template: Template, release: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the resource of a Helm chart."""
    return only(template, "Custom::AWSCDK-EKS-HelmChart", Release=release)


def stands_after(template: Template, later: str) -> set[str]:
    """Every resource that CloudFormation creates before `later`, by DependsOn alone."""
    every = template.to_json()["Resources"]

    def earlier(logical_id: str) -> Iterator[str]:
        needs = every[logical_id].get("DependsOn", [])
        for needed in [needs] if isinstance(needs, str) else needs:
            yield needed
            yield from earlier(needed)

    return set(earlier(later))


def test_all_logs_are_on_and_kept_as_long_as_the_settings_say(ground: Template) -> None:
    """As AwsSolutions-EKS2 asks, which does not see this construct; EKS's own log group would keep all."""
    logical_id, cluster = only(ground, "AWS::EKS::Cluster")
    enabled = cluster["Properties"]["Logging"]["ClusterLogging"]["EnabledTypes"]
    assert {entry["Type"] for entry in enabled} == {
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    }
    group, logged = only(ground, "AWS::Logs::LogGroup", LogGroupName="/aws/eks/Fulcrum/cluster")
    assert logged["Properties"]["RetentionInDays"] == 90
    assert group in stands_after(ground, logical_id)


def test_secrets_are_encrypted_with_a_key_of_the_stack(ground: Template) -> None:
    """The key rotates, and outlives the stack, but not a create that failed."""
    _, cluster = only(ground, "AWS::EKS::Cluster")
    (encryption,) = cluster["Properties"]["EncryptionConfig"]
    key_id = encryption["Provider"]["KeyArn"]["Fn::GetAtt"][0]
    key = resources(ground, "AWS::KMS::Key")[key_id]
    assert encryption["Resources"] == ["secrets"]
    assert key["Properties"]["EnableKeyRotation"] is True
    assert key["DeletionPolicy"] == "RetainExceptOnCreate"


def test_access_is_by_access_entries_alone(ground: Template) -> None:
    """Neither the aws-auth map nor whoever happens to deploy gives rights."""
    _, cluster = only(ground, "AWS::EKS::Cluster")
    access = cluster["Properties"]["AccessConfig"]
    assert access == {"AuthenticationMode": "API", "BootstrapClusterCreatorAdminPermissions": False}


def test_auto_mode_is_off(ground: Template) -> None:
    """It would launch nodes of its own beside those that the loop sizes."""
    properties = only(ground, "AWS::EKS::Cluster")[1]["Properties"]
    assert properties["ComputeConfig"] == {"Enabled": False}
    assert properties["StorageConfig"] == {"BlockStorage": {"Enabled": False}}
    assert properties["KubernetesNetworkConfig"]["ElasticLoadBalancing"] == {"Enabled": False}


def test_the_control_plane_and_all_nodes_are_in_private_subnets(ground: Template) -> None:
    """Nothing of the cluster can be reached from outside but the API."""
    private = {
        name
        for name, subnet in resources(ground, "AWS::EC2::Subnet").items()
        if {"Key": "aws-cdk:subnet-type", "Value": "Private"} in subnet["Properties"]["Tags"]
    }
    _, cluster = only(ground, "AWS::EKS::Cluster")
    used = [cluster["Properties"]["ResourcesVpcConfig"]["SubnetIds"]]
    used += [group["Properties"]["Subnets"] for group in resources(ground, "AWS::EKS::Nodegroup").values()]
    assert all({subnet["Ref"] for subnet in subnets} <= private for subnets in used)


@pytest.mark.parametrize(
    ("cidrs", "access"),
    [
        ("0.0.0.0/0", (True, None)),
        ("203.0.113.0/24,198.51.100.7/32", (True, ["203.0.113.0/24", "198.51.100.7/32"])),
        ([], (False, None)),
    ],
)
def test_the_api_can_be_closed_to_all_but_some_networks(
    new_settings: NewSettings, synth_ground: Synth, cidrs: object, access: tuple[bool, list[str] | None]
) -> None:
    """It is always reachable from the VPC; IAM guards it everywhere."""
    template = synth_ground(new_settings(api_cidrs=cidrs))
    config = only(template, "AWS::EKS::Cluster")[1]["Properties"]["ResourcesVpcConfig"]
    assert config["EndpointPrivateAccess"] is True
    assert (config["EndpointPublicAccess"], config.get("PublicAccessCidrs")) == access


def test_administrators_are_those_that_the_settings_name(
    new_settings: NewSettings, synth_ground: Synth
) -> None:
    """By default there is one entry, of the function through which the stack applies manifests."""
    arn = "arn:aws:iam::111122223333:role/platform/Admin"
    template = synth_ground(new_settings(admin_arns=arn))
    entries = resources(template, "AWS::EKS::AccessEntry")
    assert len(entries) == 2
    _, entry = only(template, "AWS::EKS::AccessEntry", PrincipalArn=arn)
    (policy,) = entry["Properties"]["AccessPolicies"]
    assert json.dumps(policy["PolicyArn"]).endswith('cluster-access-policy/AmazonEKSClusterAdminPolicy"]]}')


def test_the_add_ons_are_those_that_a_cluster_without_defaults_needs(ground: Template) -> None:
    """EKS installs none by itself here, so that CloudFormation owns every one."""
    _, cluster = only(ground, "AWS::EKS::Cluster")
    assert cluster["Properties"]["BootstrapSelfManagedAddons"] is False
    assert {addon["Properties"]["AddonName"] for addon in resources(ground, "AWS::EKS::Addon").values()} == {
        "amazon-cloudwatch-observability",
        "coredns",
        "eks-pod-identity-agent",
        "kube-proxy",
        "vpc-cni",
    }


def test_network_policies_are_enforced(ground: Template) -> None:
    """Without this setting a NetworkPolicy is accepted and ignored."""
    _, addon = only(ground, "AWS::EKS::Addon", AddonName="vpc-cni")
    assert json.loads(addon["Properties"]["ConfigurationValues"]) == {"enableNetworkPolicy": "true"}


@pytest.mark.parametrize(
    ("addon", "account", "policy"),
    [
        ("vpc-cni", "aws-node", "AmazonEKS_CNI_Policy"),
        ("amazon-cloudwatch-observability", "cloudwatch-agent", "CloudWatchAgentServerPolicy"),
    ],
)
def test_an_add_on_that_calls_aws_has_its_own_role(
    ground: Template, addon: str, account: str, policy: str
) -> None:
    """The role belongs to the add-on's pods, not to the node and so to every pod on it."""
    _, found = only(ground, "AWS::EKS::Addon", AddonName=addon)
    (association,) = found["Properties"]["PodIdentityAssociations"]
    role = ground.to_json()["Resources"][association["RoleArn"]["Fn::GetAtt"][0]]
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert association["ServiceAccount"] == account
    assert json.dumps(role["Properties"]["ManagedPolicyArns"]).endswith(f':iam::aws:policy/{policy}"]]}}]')
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]


def test_container_logs_do_not_stay_for_ever(ground: Template) -> None:
    """The agent would make its log groups itself, without retention."""
    addon, _ = only(ground, "AWS::EKS::Addon", AddonName="amazon-cloudwatch-observability")
    for kind in INSIGHTS_LOGS:
        name = f"/aws/containerinsights/Fulcrum/{kind}"
        group, logged = only(ground, "AWS::Logs::LogGroup", LogGroupName=name)
        assert logged["Properties"]["RetentionInDays"] == 90
        assert group in stands_after(ground, addon)


def test_nodes_may_join_and_pull_images_and_nothing_else(ground: Template) -> None:
    """A pod that reaches its node's credentials can change nothing with them."""
    groups = resources(ground, "AWS::EKS::Nodegroup").values()
    (role_id,) = {group["Properties"]["NodeRole"]["Fn::GetAtt"][0] for group in groups}
    properties = ground.to_json()["Resources"][role_id]["Properties"]
    names = [json.dumps(arn).rpartition("/")[2].rstrip('"]}') for arn in properties["ManagedPolicyArns"]]
    assert names == ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"]
    assert "Policies" not in properties


def test_two_system_nodes_run_what_belongs_to_no_pool(ground: Template) -> None:
    """They are what is left when every pool is at zero, and one of them may be lost."""
    _, group = only(ground, "AWS::EKS::Nodegroup", Labels={"fulcrum.dev/pool": "system"})
    properties = group["Properties"]
    assert properties["ScalingConfig"] == {"MinSize": 2, "DesiredSize": 2, "MaxSize": 3}
    assert properties["AmiType"] == "AL2023_x86_64_STANDARD"
    assert "Taints" not in properties


def test_networking_stands_before_nodes_and_nodes_before_what_runs_on_them(ground: Template) -> None:
    """A node without its CNI is never ready; an add-on without a node stays degraded and fails the deploy."""
    system, _ = only(ground, "AWS::EKS::Nodegroup", Labels={"fulcrum.dev/pool": "system"})
    for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent"):
        assert only(ground, "AWS::EKS::Addon", AddonName=name)[0] in stands_after(ground, system)
    for name in ("coredns", "amazon-cloudwatch-observability"):
        assert system in stands_after(ground, only(ground, "AWS::EKS::Addon", AddonName=name)[0])
    assert system in stands_after(ground, chart(ground, CONTROLLER)[0])


def test_the_namespace_goes_before_the_controller(ground: Template) -> None:
    """Its bindings have finalizers that only the controller removes."""
    controller, resource = chart(ground, CONTROLLER)
    namespace, _ = only(ground, "Custom::AWSCDK-EKS-KubernetesResource")
    assert controller in stands_after(ground, namespace)
    assert resource["Properties"]["Wait"] is True


def test_the_namespace_injects_readiness_gates_and_admits_restricted_pods_only(ground: Template) -> None:
    """A pod counts as ready once the load balancer finds it healthy."""
    _, resource = only(ground, "Custom::AWSCDK-EKS-KubernetesResource")
    (namespace,) = json.loads(resource["Properties"]["Manifest"])
    assert namespace["metadata"]["name"] == "fulcrum"
    assert {
        "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled",
        "pod-security.kubernetes.io/enforce": "restricted",
    }.items() <= namespace["metadata"]["labels"].items()


def test_charts_are_pinned(ground: Template) -> None:
    """A deploy of tomorrow installs what that of today does."""
    found = {
        resource["Properties"]["Release"]: resource["Properties"]["Version"]
        for resource in resources(ground, "Custom::AWSCDK-EKS-HelmChart").values()
    }
    assert found == {
        known.release: known.version
        for known in (
            charts.LOAD_BALANCER_CONTROLLER,
            *(facts.device_plugin.chart for facts in ACCELERATORS.values() if facts.device_plugin),
        )
    }


def test_the_controller_is_told_what_it_cannot_read_from_the_node(ground: Template) -> None:
    """Instance metadata is out of the pods' reach; without region and VPC it would not start."""
    values = json.dumps(chart(ground, CONTROLLER)[1]["Properties"]["Values"])
    assert "us-east-1" in values
    assert "NetworkVpc" in values
    assert r"\"enableServiceMutatorWebhook\":false" in values
    assert r"\"createIngressClassResource\":false" in values


def test_the_controller_changes_target_groups_of_this_stack_only(ground: Template) -> None:
    """What it may write is limited by the stack's tag; the rest only reads."""
    association, _ = only(ground, "AWS::EKS::PodIdentityAssociation", ServiceAccount=CONTROLLER)
    policy = next(
        found["Properties"]["PolicyDocument"]["Statement"]
        for name, found in resources(ground, "AWS::IAM::Policy").items()
        if name.startswith("ClusterControllerRole")
    )
    reads, writes = policy
    assert all(action.partition(":")[2].startswith("Describe") for action in reads["Action"])
    assert writes["Action"] == [
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:RegisterTargets",
    ]
    assert writes["Condition"] == {"StringEquals": {"aws:ResourceTag/fulcrum:stack": "Fulcrum"}}
    assert association in stands_after(ground, chart(ground, CONTROLLER)[0])


def test_device_plugins_are_those_of_the_fleets_accelerators(
    new_settings: NewSettings, synth_ground: Synth
) -> None:
    """A fleet without accelerators needs none."""
    template = synth_ground(new_settings(fleet_file="fleets/cpu-laptop.yaml"))
    assert len(resources(template, "Custom::AWSCDK-EKS-HelmChart")) == 1


def test_a_device_plugin_tolerates_the_pools_taint(ground: Template) -> None:
    """Otherwise no accelerator would ever be offered to a pod."""
    toleration = {"key": "fulcrum.dev/pool", "operator": "Exists", "effect": "NoSchedule"}
    nvidia = json.loads(chart(ground, "nvidia-device-plugin")[1]["Properties"]["Values"])
    neuron = json.loads(chart(ground, "neuron-device-plugin")[1]["Properties"]["Values"])
    assert toleration in nvidia["tolerations"]
    assert toleration in neuron["devicePlugin"]["tolerations"]
    assert neuron["npd"] == {"enabled": False}


def test_where_no_data_is_kept_the_key_goes_with_the_stack(
    new_settings: NewSettings, synth_ground: Synth
) -> None:
    """A trial leaves nothing behind."""
    template = synth_ground(new_settings(keep_data=False))
    assert only(template, "AWS::KMS::Key")[1]["DeletionPolicy"] == "Delete"


def test_every_add_on_is_of_the_version_that_the_table_pins(ground: Template) -> None:
    """What EKS calls the default moves: the same checkout would install other software on another day."""
    addons = [addon["Properties"] for addon in resources(ground, "AWS::EKS::Addon").values()]
    newest = pins.kubernetes_versions()[-1]
    assert {addon["AddonName"] for addon in addons} == set(NAMES)
    for addon in addons:
        assert addon["AddonVersion"] == pins.version("addon", addon["AddonName"], newest)


def test_the_cluster_does_not_upgrade_itself(ground: Template) -> None:
    """A control plane that moves on its own leaves the pinned add-ons and AMIs behind."""
    _, cluster = only(ground, "AWS::EKS::Cluster")
    assert cluster["Properties"]["UpgradePolicy"] == {"SupportType": "EXTENDED"}
