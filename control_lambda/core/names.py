"""Names that two worlds must spell alike: metrics, dimensions and environment variables."""

from typing import Final

NAMESPACE: Final = "Fulcrum"

# Dimensions
FLEET: Final = "Fleet"
UNIT: Final = "Unit"
POOL: Final = "Pool"
KIND: Final = "Kind"

# Metrics put by signals and read by every tick
CAPACITY_ERRORS: Final = "CapacityErrors"
PRICE_USD_PER_HOUR: Final = "PriceUsdPerHour"

# Metrics written by every tick (EMF)
MODE: Final = "Mode"
DEMAND_RPM: Final = "DemandRpm"
FORECAST_RPM: Final = "ForecastRpm"
COST_USD_PER_HOUR: Final = "CostUsdPerHour"
SAVINGS_USD_PER_HOUR: Final = "SavingsUsdPerHour"
WEIGHT: Final = "Weight"
READY_NODES: Final = "ReadyNodes"
DESIRED_NODES: Final = "DesiredNodes"
AVAILABLE: Final = "Available"
SIGNAL_AGE_SECONDS: Final = "SignalAgeSeconds"
TICK_FAILURES: Final = "TickFailures"
LEASE_HELD: Final = "LeaseHeld"
POOLS_SHORT: Final = "PoolsShort"
# The same, 1 while it is so and 0 otherwise; the last one by pool
PAUSED: Final = "Paused"
BUDGET_REACHED: Final = "BudgetReached"
SHORTFALL: Final = "Shortfall"
QUOTA_REACHED: Final = "QuotaReached"
UNITS_NOT_BUILT: Final = "UnitsNotBuilt"  # how many, not a flag
FOREIGN_WEIGHTS: Final = "ForeignWeights"
SURVIVAL: Final = "Survival"
ALL_UNHEALTHY: Final = "AllUnhealthy"
BELIEFS_STALE: Final = "BeliefsStale"  # of how many units, not a flag
NODE_GROUP_HELD: Final = "NodeGroupHeld"

# Load balancer metrics read by every tick
LOAD_BALANCER_NAMESPACE: Final = "AWS/ApplicationELB"
LOAD_BALANCER: Final = "LoadBalancer"
TARGET_GROUP: Final = "TargetGroup"
REQUEST_COUNT: Final = "RequestCount"
TARGET_RESPONSE_TIME: Final = "TargetResponseTime"
TARGET_5XX_COUNT: Final = "HTTPCode_Target_5XX_Count"
HEALTHY_HOST_COUNT: Final = "HealthyHostCount"
FIXED_RESPONSE_COUNT: Final = "HTTP_Fixed_Response_Count"
ELB_503_COUNT: Final = "HTTPCode_ELB_503_Count"
# Shown only: its 503s, and its 502s and 504s for targets that did not answer
ELB_5XX_COUNT: Final = "HTTPCode_ELB_5XX_Count"

# With `routing: router` the router puts RequestCount, TargetResponseTime (seconds) and
# HTTPCode_Target_5XX_Count by Fleet and Unit into our namespace, because it answers for the units' target
# groups; and by Fleet alone what it refused, which reached no unit.
REFUSED_REQUEST_COUNT: Final = "RefusedRequestCount"

# The listener's last possible rule, which the stack declares; every other forwarding rule is the loop's
STACK_RULE_PRIORITY: Final = 50_000
# With `routing: router` the stack declares this rule too: every request to the router
ROUTER_RULE_PRIORITY: Final = 1

# Tags on instances and Auto Scaling groups
CLUSTER_TAG: Final = "eks:cluster-name"
NODE_GROUP_TAG: Final = "eks:nodegroup-name"

# Environment of the two handlers
FLEET_PARAMETER: Final = "FLEET_PARAMETER"
PAUSE_PARAMETER: Final = "PAUSE_PARAMETER"
CLUSTER_NAME: Final = "CLUSTER_NAME"
LISTENER_ARN: Final = "LISTENER_ARN"
UNITS: Final = "UNITS"
STATE_TABLE: Final = "STATE_TABLE"
METRIC_NAMESPACE: Final = "METRIC_NAMESPACE"
TOPIC_ARN: Final = "TOPIC_ARN"
TICK_FUNCTION: Final = "TICK_FUNCTION"
