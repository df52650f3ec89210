"""Every metric that the project puts or reads, in one table: its name, whose it is, and how it comes."""

from enum import Enum, StrEnum
from typing import Final, Literal

from control_lambda.core import names

Dimensions = tuple[str, ...]

OF_FLEET: Final[Dimensions] = (names.FLEET,)
OF_UNIT: Final[Dimensions] = (names.FLEET, names.UNIT)
OF_POOL: Final[Dimensions] = (names.FLEET, names.POOL)
OF_NODE: Final[Dimensions] = (names.FLEET, names.UNIT, names.NODE)  # a node is named by its IP address
OF_REFUSAL: Final[Dimensions] = (names.FLEET, names.POOL, names.KIND)
OF_LOAD_BALANCER: Final[Dimensions] = (names.LOAD_BALANCER,)
OF_TARGET_GROUP: Final[Dimensions] = (names.LOAD_BALANCER, names.TARGET_GROUP)

MetricUnit = Literal["Count", "Seconds", "None"]  # as CloudWatch spells them
# Put on every tick, every minute or every hour, zero included, unless its value is unknown; or only when
# there is something to report.
Cadence = Literal["tick", "minute", "hour", "occasion"]


class Owner(StrEnum):
    """Who puts a metric: one of the two Lambdas, the load balancer, a server, or with `routing: router` the
    router.
    """

    LOOP = "loop"
    SIGNALS = "signals"
    LOAD_BALANCER = "load balancer"
    SERVER = "server"
    ROUTER = "router"


class Metric(Enum):
    """A metric: CloudWatch's `metric_name`, its `owner`, the names of its `dimensions`, unit and cadence.

    The load balancer's stand in its own namespace, all others in ours. What it counts by target group it
    counts over all of them too, but for HealthyHostCount.
    """

    MODE = ("Mode", Owner.LOOP, OF_FLEET, "None", "tick")  # 0 cost, 1 capacity
    DEMAND_RPM = ("DemandRpm", Owner.LOOP, OF_FLEET, "Count", "tick")
    FORECAST_RPM = ("ForecastRpm", Owner.LOOP, OF_FLEET, "Count", "tick")
    COST_USD_PER_HOUR = ("CostUsdPerHour", Owner.LOOP, OF_FLEET, "None", "tick")
    SAVINGS_USD_PER_HOUR = ("SavingsUsdPerHour", Owner.LOOP, OF_FLEET, "None", "tick")
    SIGNAL_AGE_SECONDS = ("SignalAgeSeconds", Owner.LOOP, OF_FLEET, "Seconds", "tick")
    TICK_FAILURES = ("TickFailures", Owner.LOOP, OF_FLEET, "Count", "tick")
    LEASE_HELD = ("LeaseHeld", Owner.LOOP, OF_FLEET, "Count", "tick")
    POOLS_SHORT = ("PoolsShort", Owner.LOOP, OF_FLEET, "Count", "tick")
    UNITS_NOT_BUILT = ("UnitsNotBuilt", Owner.LOOP, OF_FLEET, "Count", "tick")
    # 1 while it is so and 0 otherwise
    PAUSED = ("Paused", Owner.LOOP, OF_FLEET, "Count", "tick")
    BUDGET_REACHED = ("BudgetReached", Owner.LOOP, OF_FLEET, "Count", "tick")
    SHORTFALL = ("Shortfall", Owner.LOOP, OF_FLEET, "Count", "tick")
    QUOTA_REACHED = ("QuotaReached", Owner.LOOP, OF_FLEET, "Count", "tick")
    FOREIGN_WEIGHTS = ("ForeignWeights", Owner.LOOP, OF_FLEET, "Count", "tick")
    SURVIVAL = ("Survival", Owner.LOOP, OF_FLEET, "Count", "tick")
    ALL_UNHEALTHY = ("AllUnhealthy", Owner.LOOP, OF_FLEET, "Count", "tick")
    BREAKER = ("Breaker", Owner.LOOP, OF_FLEET, "Count", "tick")
    # Of how many units it could not be read which nodes serve
    BELIEFS_STALE = ("BeliefsStale", Owner.LOOP, OF_FLEET, "Count", "tick")
    NODE_GROUP_HELD = ("NodeGroupHeld", Owner.LOOP, OF_POOL, "Count", "tick")
    AVAILABLE = ("Available", Owner.LOOP, OF_POOL, "Count", "tick")
    DESIRED_NODES = ("DesiredNodes", Owner.LOOP, OF_POOL, "Count", "tick")
    WEIGHT = ("Weight", Owner.LOOP, OF_UNIT, "Count", "tick")
    READY_NODES = ("ReadyNodes", Owner.LOOP, OF_UNIT, "Count", "tick")

    PRICE_USD_PER_HOUR = ("PriceUsdPerHour", Owner.SIGNALS, OF_POOL, "None", "hour")
    CAPACITY_ERRORS = ("CapacityErrors", Owner.SIGNALS, OF_REFUSAL, "Count", "occasion")

    REQUEST_COUNT = ("RequestCount", Owner.LOAD_BALANCER, OF_TARGET_GROUP, "Count", "occasion")
    TARGET_RESPONSE_TIME = ("TargetResponseTime", Owner.LOAD_BALANCER, OF_TARGET_GROUP, "Seconds", "occasion")
    TARGET_5XX_COUNT = (
        "HTTPCode_Target_5XX_Count",
        Owner.LOAD_BALANCER,
        OF_TARGET_GROUP,
        "Count",
        "occasion",
    )
    HEALTHY_HOST_COUNT = ("HealthyHostCount", Owner.LOAD_BALANCER, OF_TARGET_GROUP, "Count", "minute")
    FIXED_RESPONSE_COUNT = (
        "HTTP_Fixed_Response_Count",
        Owner.LOAD_BALANCER,
        OF_LOAD_BALANCER,
        "Count",
        "occasion",
    )
    ELB_503_COUNT = ("HTTPCode_ELB_503_Count", Owner.LOAD_BALANCER, OF_LOAD_BALANCER, "Count", "occasion")
    # Shown only: its 503s, and its 502s and 504s for targets that did not answer
    ELB_5XX_COUNT = ("HTTPCode_ELB_5XX_Count", Owner.LOAD_BALANCER, OF_LOAD_BALANCER, "Count", "occasion")

    # How long a request takes there: put only by a node that is slower than its unit's profile
    NODE_SERVICE_SECONDS = ("NodeServiceSeconds", Owner.SERVER, OF_NODE, "Seconds", "occasion")

    # The router answers for the units' target groups: what they would tell, it tells by the same names. By
    # fleet alone it counts what it refused, which reached no unit.
    ROUTED_REQUEST_COUNT = (REQUEST_COUNT[0], Owner.ROUTER, OF_UNIT, "Count", "minute")
    ROUTED_RESPONSE_TIME = (TARGET_RESPONSE_TIME[0], Owner.ROUTER, OF_UNIT, "Seconds", "minute")
    ROUTED_5XX_COUNT = (TARGET_5XX_COUNT[0], Owner.ROUTER, OF_UNIT, "Count", "minute")
    REFUSED_REQUEST_COUNT = ("RefusedRequestCount", Owner.ROUTER, OF_FLEET, "Count", "minute")

    def __init__(
        self, metric_name: str, owner: Owner, dimensions: Dimensions, unit: MetricUnit, cadence: Cadence
    ) -> None:
        self.metric_name = metric_name
        self.owner = owner
        self.dimensions = dimensions
        self.unit = unit
        self.cadence = cadence
