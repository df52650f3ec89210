"""What a fleet costs in a month at its minimum, typically and at its maximum, before anything is deployed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from control_lambda.core.fleet import Fleet, Pool, Unit
from control_lambda.core.metrics import OF_FLEET, OF_POOL, OF_UNIT, Metric, Owner
from control_lambda.core.plan.planner import Need, Plan, PoolOption, plan
from control_lambda.core.plan.staffing import carried_table
from control_lambda.core.supply.refusal_kinds import LAUNCH_REFUSALS
from infra import catalog, pins
from infra.before_deploy.service_prices import REGIONS, service_prices
from infra.cluster.cluster import SYSTEM_NODES, SYSTEM_VOLUME_GIB
from infra.cluster.nodes import GP3_THROUGHPUT, volume_throughput
from infra.cluster.pools import VOLUME_GIB
from infra.control.control import MEMORY_MIB
from infra.manifests.server_environment import neuron_target
from infra.observability.alarms import count_watched
from infra.settings import SYSTEM_INSTANCE_TYPE, Settings

HOURS: Final = 730  # a month, as AWS's calculator counts it
TICKS: Final = HOURS * 60
HOME: Final = "us-east-1"  # where every price is recorded
GIB_MIB: Final = 1024

DEFAULT_RPM: Final = 500.0
IMAGE_MB: Final = 0.5  # a PNG of 512 x 512 pixels
TICK_SECONDS: Final = 1.0
# Measured on a day's replay of fleet.yaml (5 pools) and fleets/spot-twins.yaml (10 pools).
STATE_KIB: Final = 9
LOG_KB_PER_TICK: Final = 8
WRITES_PER_TICK: Final = 2  # the lease, and the state with it

# What a tick reads with GetMetricData: of the fleet what found no target, and what slow nodes say (a series
# for each that does); per unit; and per pool the refusals by kind and, in one minute of ten, the price.
FLEET_READS: Final = 3
UNIT_READS: Final = 6
POOL_READS: Final = len(LAUNCH_REFUSALS) + 0.1

# Not measured, but of the order of small clusters: whoever runs one puts their own figures here.
OBSERVATIONS_PER_NODE_MINUTE: Final = 230  # Container Insights: some 30 metrics of a node, 15 of each pod
CONTROL_PLANE_LOG_GB: Final = 15  # a month, all five kinds; the audit log is most of it
LOG_GB_PER_NODE: Final = 1  # a month: flow logs, and what the pods write
IMAGE_MINUTES: Final = 25  # an image or the weights, on CodeBuild's medium machine
COMPILE_MINUTES: Final = 120  # a model for a kind of Neuron chip, on its extra-large one

NOT_COUNTED: Final = (
    "not counted: data transfer, what passes through NAT, storage of the model and of images, taxes"
)


@dataclass(frozen=True, slots=True)
class Line:
    """USD per month of one part, and of a pool the number of its nodes."""

    name: str
    minimum: float
    typical: float
    maximum: float
    nodes: tuple[int, int, int] | None = None

    def __add__(self, other: "Line") -> "Line":
        """Both under this one's name."""
        return Line(
            self.name,
            self.minimum + other.minimum,
            self.typical + other.typical,
            self.maximum + other.maximum,
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The lines of the pools, those of everything else, and what they rest on."""

    region: str
    pools: tuple[Line, ...]
    fixed: tuple[Line, ...]
    assumptions: tuple[str, ...]

    @property
    def total(self) -> Line:
        """The sum of all lines."""
        return sum((*self.pools, *self.fixed), Line("total", 0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class _Load:
    """Requests per minute that are carried at the minimum, typically and at the maximum."""

    minimum: float
    typical: float
    maximum: float


def estimate(
    settings: Settings, requests_per_minute: float = DEFAULT_RPM, today: date | None = None
) -> Estimate:
    """The estimate for the settings' fleet and region, by the day's price of its Kubernetes version.

    Minimum: the fewest nodes that the fleet allows. Typical: the nodes with which the loop's planner carries
    `requests_per_minute` all month at least cost. Maximum: every pool at its most nodes, less what the
    budget holds back.
    """
    fleet = settings.fleet
    prices = {pool.name: _pool_price(settings, pool) for pool in fleet.pools}
    typical = _plan(fleet, prices, requests_per_minute, surviving=True)
    most = _plan(fleet, prices, sum(_table(fleet, unit)[-1] for unit in fleet.units), surviving=False)
    load = _Load(0.0, min(requests_per_minute, typical.carried_rpm), most.carried_rpm)
    pools = tuple(
        _pool_line(pool, prices[pool.name], (pool.nodes.min, typical.nodes[pool.name], pool.nodes.max))
        for pool in fleet.pools
    )
    held_back = tuple(_held_back(fleet, pools))
    return Estimate(
        settings.region,
        (*pools, *held_back),
        tuple(_fixed(settings, pools, load, today or datetime.now(tz=UTC).date())),
        tuple(_assumptions(settings, requests_per_minute, typical)),
    )


def _pool_price(settings: Settings, pool: Pool) -> float:
    """The recorded price in the region, else the fleet file's."""
    instance_type = settings.fleet.unit_of[pool.name].instance_type
    recorded = catalog.price_usd_per_hour(settings.region, instance_type, pool.market)
    return pool.price_usd_per_hour if recorded is None else recorded


def _system_price(region: str) -> float:
    for where in (region, HOME):
        price = catalog.price_usd_per_hour(where, SYSTEM_INSTANCE_TYPE, "on-demand")
        if price is not None:
            return price
    raise LookupError(f"infra/tables/prices.csv: no price of {SYSTEM_INSTANCE_TYPE} in {HOME}")


def _plan(fleet: Fleet, prices: Mapping[str, float], rpm: float, *, surviving: bool) -> Plan:
    """The loop's planner on the demand; `surviving`: all of it survives the loss of the fleet's reserve."""
    options = [
        PoolOption(
            name=pool.name,
            unit=pool.unit,
            market=pool.market,
            price_usd_per_hour=prices[pool.name],
            low=pool.nodes.min,
            high=pool.nodes.max,
        )
        for pool in fleet.pools
    ]
    tables = {unit.name: _table(fleet, unit) for unit in fleet.units}
    reserve: dict[str, float] = {market: share for market, share in fleet.reserve.items() if surviving}
    need = Need(rpm, rpm if reserve else 0.0, reserve, budget_usd_per_hour=fleet.budget_usd_per_hour)
    return plan(options, tables, need)


def _table(fleet: Fleet, unit: Unit) -> tuple[float, ...]:
    """The requests per minute that 0 to all nodes of the unit carry within the objective."""
    objective = fleet.objective
    most = sum(pool.nodes.max for pool in unit.pools)
    miss_share = 1 - objective.percentile / 100
    return carried_table(unit.profile.service_seconds, objective.latency_seconds, miss_share, most)


def _pool_line(pool: Pool, price: float, nodes: tuple[int, int, int]) -> Line:
    minimum, typical, maximum = (count * price * HOURS for count in nodes)
    return Line(pool.name, minimum, typical, maximum, nodes)


def _held_back(fleet: Fleet, pools: tuple[Line, ...]) -> Iterator[Line]:
    """What the budget keeps from being spent, as a negative line where it does."""
    over = sum(line.maximum for line in pools) - fleet.budget_usd_per_hour * HOURS
    if over > 0:
        yield Line(f"held back by the budget of {fleet.budget_usd_per_hour:g} USD/hour", 0.0, 0.0, -over)


def _fixed(settings: Settings, pools: tuple[Line, ...], load: _Load, today: date) -> Iterator[Line]:
    usd = service_prices()
    system = SYSTEM_NODES * (_system_price(settings.region) * HOURS + SYSTEM_VOLUME_GIB * usd["gp3_volume"])
    yield _control_plane(settings.kubernetes_version, today)
    yield _constant(f"system nodes, {SYSTEM_NODES} x {SYSTEM_INSTANCE_TYPE}", system)
    yield from _network(settings, load)
    yield _volumes(settings.fleet, pools)
    yield _constant("the loop: Lambda and DynamoDB", _loop())
    yield _constant("CloudWatch: metrics, alarms, dashboard, logs", _observability(settings.fleet))
    yield from _watching(pools)
    yield _constant("builds, one run a month", _builds(settings.fleet))
    yield _constant("KMS key", usd["kms_key"])


def _control_plane(kubernetes: str, today: date) -> Line:
    ends = pins.standard_support_ends(kubernetes)
    if ends is not None and today > ends:
        return _constant("EKS control plane, extended", service_prices()["eks_cluster_extended"] * HOURS)
    return _constant("EKS control plane", service_prices()["eks_cluster"] * HOURS)


def _volumes(fleet: Fleet, pools: tuple[Line, ...]) -> Line:
    usd = service_prices()
    total = Line("volumes of the pools' nodes", 0.0, 0.0, 0.0)
    for line in pools:
        if line.nodes:
            throughput = volume_throughput(fleet.unit_of[line.name].instance_type)
            volume = VOLUME_GIB * usd["gp3_volume"] + (throughput - GP3_THROUGHPUT) * usd["gp3_throughput"]
            total += _scaled("", line.nodes, volume)
    return total


def _watching(pools: tuple[Line, ...]) -> Iterator[Line]:
    """What AWS charges for seeing into the cluster, by its nodes."""
    usd = service_prices()
    fewest, typical, most = map(sum, zip(*(line.nodes for line in pools if line.nodes), strict=True))
    nodes = (SYSTEM_NODES + fewest, SYSTEM_NODES + typical, SYSTEM_NODES + most)
    observed = OBSERVATIONS_PER_NODE_MINUTE * 60 * HOURS * usd["insights_observation"]
    yield _scaled("Container Insights", nodes, observed)
    name = "logs of control plane, network and pods"
    of_nodes = _scaled(name, nodes, LOG_GB_PER_NODE * usd["log_ingestion"])
    yield of_nodes + _constant(name, CONTROL_PLANE_LOG_GB * usd["log_ingestion"])


def _builds(fleet: Fleet) -> float:
    """A run of the builds: an image per accelerator, the weights, and what is compiled for each chip."""
    usd = service_prices()
    images = len({unit.accelerator for unit in fleet.units}) + (fleet.routing == "router")
    chips = len({neuron_target(unit.instance_type) for unit in fleet.units if unit.accelerator == "neuron"})
    medium = (images + 1) * IMAGE_MINUTES * usd["build_medium"]
    return medium + chips * COMPILE_MINUTES * usd["build_xlarge"]


def _network(settings: Settings, load: _Load) -> Iterator[Line]:
    usd = service_prices()
    gateways = 0 if settings.vpc_id else settings.nat_gateways
    addresses = gateways + (len(settings.zones) if settings.public else 0)
    yield _constant(f"NAT gateways, {gateways}", gateways * usd["nat_gateway"] * HOURS)
    yield _constant(f"public addresses, {addresses}", addresses * usd["public_address"] * HOURS)
    yield _constant("load balancer", usd["load_balancer"] * HOURS)
    # One capacity unit is a GB an hour; images weigh far more than connections and rules do.
    per_rpm = 60 * IMAGE_MB / 1000 * usd["load_balancer_capacity_unit"] * HOURS
    yield Line(
        "load balancer capacity", load.minimum * per_rpm, load.typical * per_rpm, load.maximum * per_rpm
    )


def _loop() -> float:
    usd = service_prices()
    invocation = usd["lambda_request"] + TICK_SECONDS * MEMORY_MIB / GIB_MIB * usd["lambda_compute"]
    return TICKS * (invocation + WRITES_PER_TICK * STATE_KIB * usd["dynamodb_write"])


def _observability(fleet: Fleet) -> float:
    usd = service_prices()
    return (
        count_put(fleet) * usd["custom_metric"]
        + count_watched(fleet) * usd["alarm_metric"]
        + usd["composite_alarm"]
        + usd["dashboard"]
        + _ticks_in_cloudwatch(fleet)
    )


def _ticks_in_cloudwatch(fleet: Fleet) -> float:
    """The metrics that ticks read, and their log."""
    usd = service_prices()
    reads = FLEET_READS + UNIT_READS * len(fleet.units) + POOL_READS * len(fleet.pools)
    return TICKS * (reads * usd["metric_read"] + LOG_KB_PER_TICK / 1e6 * usd["log_ingestion"])


def _scaled(name: str, counts: tuple[int, int, int], usd: float) -> Line:
    """So much for each of what is counted at the minimum, typically and at the maximum."""
    minimum, typical, maximum = counts
    return Line(name, minimum * usd, typical * usd, maximum * usd)


def count_put(fleet: Fleet) -> int:
    """How many metrics stand in our namespace all month: all but those that are put on occasion."""
    owners = {Owner.LOOP, Owner.SIGNALS, *([Owner.ROUTER] if fleet.routing == "router" else [])}
    series = {OF_FLEET: 1, OF_UNIT: len(fleet.units), OF_POOL: len(fleet.pools)}
    return sum(
        series[metric.dimensions]
        for metric in Metric
        if metric.owner in owners and metric.cadence != "occasion"
    )


def _constant(name: str, usd: float) -> Line:
    return Line(name, usd, usd, usd)


def _assumptions(settings: Settings, requests_per_minute: float, typical: Plan) -> Iterator[str]:
    fleet = settings.fleet
    yield f"prices of {catalog.PRICES_DATE} and older (infra/tables/README.md), {HOURS} hours a month"
    yield "minimum: every pool at nodes.min and no requests"
    yield (
        f"typical: {requests_per_minute:g} requests per minute all month, on the cheapest nodes that carry "
        f"them within {fleet.objective.latency_seconds:g} s (with the fleet's reserve); every pool can be "
        "had, and demand that swings needs a margin on top"
    )
    if typical.shortfall_rpm:
        yield (
            f"these nodes lack {typical.shortfall_rpm:.0f} requests per minute: nodes.max and the budget "
            "allow no more"
        )
    yield "maximum: every pool at nodes.max all month, less what the budget holds back"
    yield f"an image weighs {IMAGE_MB:g} MB; a tick takes {TICK_SECONDS:g} s"
    yield (
        f"the loop itself costs {_loop() + _ticks_in_cloudwatch(fleet):.2f} of it: Lambda, DynamoDB, the "
        "metrics it reads and its log"
    )
    yield (
        f"assumed a month: {CONTROL_PLANE_LOG_GB} GB of control plane logs, {LOG_GB_PER_NODE} GB of others "
        f"per node; {OBSERVATIONS_PER_NODE_MINUTE} observations per node and minute"
    )
    yield from _extended_support(settings.kubernetes_version)
    yield from _borrowed_prices(settings)
    yield NOT_COUNTED


def _extended_support(kubernetes: str) -> Iterator[str]:
    ends = pins.standard_support_ends(kubernetes)
    if ends is not None:
        extended = service_prices()["eks_cluster_extended"] * HOURS
        yield (
            f"Kubernetes {kubernetes} leaves standard support on {ends}: the control plane costs "
            f"{extended:.0f} then"
        )


def _borrowed_prices(settings: Settings) -> Iterator[str]:
    """What no price is recorded of in this region, and what stands in for it."""
    region, fleet = settings.region, settings.fleet
    unknown = [
        pool.name
        for pool in fleet.pools
        if catalog.price_usd_per_hour(region, fleet.unit_of[pool.name].instance_type, pool.market) is None
    ]
    if unknown:
        yield f"no price recorded in {region}, {settings.fleet_file}'s stands in: {', '.join(unknown)}"
    if catalog.price_usd_per_hour(region, SYSTEM_INSTANCE_TYPE, "on-demand") is None:
        yield f"no price of {SYSTEM_INSTANCE_TYPE} recorded in {region}, that of {HOME} stands in"
    if region not in REGIONS:
        yield f"no prices of services recorded in {region}, those of {HOME} stand in"
