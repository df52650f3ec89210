"""Names that two worlds must spell alike: namespaces, dimensions, tags and environment variables."""

from typing import Final

NAMESPACE: Final = "Fulcrum"

# Dimensions of our metrics
FLEET: Final = "Fleet"
UNIT: Final = "Unit"
POOL: Final = "Pool"
KIND: Final = "Kind"
NODE: Final = "Node"

# The load balancer's own
LOAD_BALANCER_NAMESPACE: Final = "AWS/ApplicationELB"
LOAD_BALANCER: Final = "LoadBalancer"
TARGET_GROUP: Final = "TargetGroup"

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
