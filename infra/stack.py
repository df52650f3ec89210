"""The stack: what it is made of, and in which order its parts come and go.

CloudFormation deletes in the reverse of the order in which it creates: the schedule stops first, then
pods leave, then the release takes the loop's rules away, then target groups, nodes and cluster go.
"""

from aws_cdk import Environment, Stack
from constructs import Construct

from infra import tags
from infra.builds.images import Images
from infra.builds.model_store import ModelStore
from infra.cluster.cluster import Cluster
from infra.cluster.pools import Pools
from infra.control.control import Control
from infra.control.release import Release
from infra.experiments import Experiments
from infra.network import Network
from infra.observability.observability import Observability
from infra.routing import Routing
from infra.serving import Serving
from infra.settings import Settings


class FulcrumStack(Stack):
    """Everything that serves one fleet."""

    def __init__(self, scope: Construct, *, settings: Settings) -> None:
        super().__init__(
            scope,
            settings.stack_name,
            env=Environment(account=settings.account, region=settings.region),
            description="Serves diffusion models on a mixed fleet of accelerators",
            termination_protection=settings.deletion_protection,
        )
        self._zones = settings.zones
        tags.tag_stack(self, settings)
        network = Network(self, "Network", settings=settings)
        cluster = Cluster(self, "Cluster", settings=settings, network=network)
        pools = Pools(self, "Pools", settings=settings, cluster=cluster, network=network)
        routing = Routing(
            self,
            "Routing",
            settings=settings,
            network=network,
            pod_security_group=cluster.pod_security_group,
        )
        model_store = ModelStore(self, "ModelStore", settings=settings)
        images = Images(self, "Images", settings=settings, model_store=model_store)
        serving = Serving(
            self,
            "Serving",
            settings=settings,
            cluster=cluster,
            target_groups=routing.target_groups,
            images=images,
            model_store=model_store,
        )
        if routing.router_target_group:
            serving.add_router(routing.router_target_group)
        control = Control(
            self,
            "Control",
            settings=settings,
            cluster_name=cluster.cluster.cluster_name,
            routing=routing,
            node_groups=pools.node_groups,
            builds={unit.name: images.projects_of(unit.name) for unit in settings.fleet.units},
        )
        Release(self, "Release", settings=settings, control=control, routing=routing)
        observability = Observability(
            self,
            "Observability",
            settings=settings,
            control=control,
            routing=routing,
            builds=images.run.state_machine,
        )
        Experiments(
            self,
            "Experiments",
            settings=settings,
            network=network,
            cluster=cluster,
            node_groups=pools.node_groups,
            harm=observability.harm_to_users,
        )

        # Pods leave before the nodes under them are taken away.
        serving.node.add_dependency(pools)
        # Whoever listens for the end of a build listens before the first one starts.
        images.run.node.add_dependency(*control.announcements)
        # The first tick finds everything that it may have to steer.
        control.schedule.node.add_dependency(serving)

    @property
    def availability_zones(self) -> list[str]:
        """The zones in use, so that no construct asks an account for its zones at synthesis."""
        return list(self._zones)
