"""What the router knows: its settings, its queue, what it learned, and which router holds the queue."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from containers.router.dispatcher import Dispatcher
from containers.router.endpoints import Discovered
from containers.router.lobby import Lobby
from containers.router.matching import Decision, Distributor, Instance, LeastLaxity, Query
from containers.router.metrics import Telemetry
from containers.router.predictors import LatencyModel, LatencyPredictor
from containers.router.settings import Settings

# How much service times vary around their mean until it is learned; profiles do not say. The share is that
# of the twin's plant.
PROFILE_SPREAD: Final = 0.05


class TimedDistributor:
    """A distributor, and how long its decisions take."""

    def __init__(self, distributor: Distributor, telemetry: Telemetry) -> None:
        self._distributor = distributor
        self._telemetry = telemetry

    def decide(
        self,
        now: float,
        waiting: Sequence[Query],
        instances: Sequence[Instance],
        models: Mapping[str, LatencyModel],
    ) -> Decision:
        """The distributor's decision."""
        began = time.perf_counter()
        decision = self._distributor.decide(now, waiting, instances, models)
        self._telemetry.decided(time.perf_counter() - began)
        return decision


class Router:
    """The state behind the HTTP interface; one event loop's."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.telemetry = Telemetry([unit.name for unit in settings.fleet_json.units])
        size = settings.default_size
        self.dispatcher = Dispatcher(
            TimedDistributor(LeastLaxity(typical_size=size), self.telemetry),
            {
                unit.name: LatencyPredictor(
                    profile_model(unit.profile.service_seconds, size), typical_size=size
                )
                for unit in settings.fleet_json.units
            },
            max_waiting=settings.max_waiting,
        )
        self.lobby = Lobby(settings.max_held)
        self._routers: tuple[str, ...] = ()
        self._is_discovered = False
        self._is_draining = False

    def discover(self, found: Discovered) -> None:
        """These pods and routers are ready now."""
        self._is_discovered = True
        self._routers = found.routers
        self.dispatcher.update(found.endpoints)
        if self.dispatcher.has_pods:
            self.lobby.let_in()

    def drain(self) -> None:
        """The router was told to stop."""
        self._is_draining = True
        self.lobby.send_away()

    @property
    def holds(self) -> bool:
        """Whether queries wait for the first pod now, instead of being refused."""
        return self.settings.hold_seconds > 0 and not self.dispatcher.has_pods and not self._is_draining

    @property
    def is_draining(self) -> bool:
        """Whether the router was told to stop."""
        return self._is_draining

    @property
    def not_ready(self) -> str:
        """Why it should get no traffic; empty when it should."""
        if self._is_draining:
            return "the router is stopping"
        return "" if self._is_discovered else "the pods are not known yet"

    @property
    def holder(self) -> str:
        """The address of the router that holds the queue, where that is another one; else empty.

        Two queues over the same pods would each take for idle what the other one keeps busy. So the ready
        router with the lowest address holds the queue, and the others pass their queries on to it.
        """
        first = min(self._routers, default="")
        if not first or not self.settings.pod_ip or first == self.settings.pod_ip:
            return ""
        return f"http://{first}:{self.settings.port}"


def profile_model(service_seconds: float, default_size: float) -> LatencyModel:
    """The first guess at a unit's latency: in proportion to the size, as steps and pixels cost alike."""
    return LatencyModel(intercept=0.0, slope=service_seconds / default_size, spread=PROFILE_SPREAD)
