"""Every code that a tick gives in its record or instead of one, each with its words; codes are stable.

A code's name in `docs/operating.md` is its heading there.
"""

from enum import StrEnum
from typing import Final, Self

from control_lambda.core.model import Reason

# The cases of REFUSED: whether AWS's words say something to us.
READ: Final = 0
UNREAD: Final = 1
# The cases of BUDGET.
HELD_BACK: Final = 0
OVER_BUDGET: Final = 1
# The cases of OUTLIVED.
PRICED: Final = 0
EXPOSED: Final = 1
# The cases of HEALTH_UNKNOWN.
OF_UNIT: Final = 0
EVERYWHERE: Final = 1
# The cases of REPLACED.
AS_MANY: Final = 0
ONE_LESS: Final = 1
# The cases of REBALANCING.
STOPS: Final = 0
GOES_ON: Final = 1
BY_PERSON: Final = 2


class Code(StrEnum):
    """Why a tick did what it did: the code, what it means, and how the tick says it."""

    meaning: str
    sentences: tuple[str, ...]

    def __new__(cls, code: str, meaning: str, *sentences: str) -> Self:
        """A code whose sentences name in braces what they are about."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.sentences = sentences
        return member

    REFUSED = (
        "launch-refused",
        "AWS refused to launch a node here; what runs keeps its traffic.",
        "{subject}: launch refused ({kind}); next probe in {wait:.0f} s",
        '{subject}: launch refused ({kind}: "{text}"); next probe in {wait:.0f} s',
    )
    PROBE = (
        "probe",
        "After a refusal one node is asked for, to learn whether capacity is back.",
        "{subject}: one probe node after {kind}",
    )
    PROVEN = (
        "capacity-back",
        "A launch was granted after refusals; the pool may grow as planned again.",
        "{subject}: a launch was granted, it may grow again",
    )
    INTERRUPTED = (
        "interrupted",
        "AWS takes a spot node away within two minutes; it no longer counts.",
        "{subject}: AWS takes {node} away within 120 s",
    )
    NOT_SENSED = (
        "pool-not-sensed",
        "The pool's nodes could not be read, so its size is left as it is.",
        "{subject}: not sensed, held at {nodes} nodes",
    )
    HELD = (
        "node-group-held",
        "The node group is being updated by someone else, so its size is left as it is.",
        "{subject}: node group is being updated, held at {nodes} nodes",
    )
    SUSPENDED = (
        "launches-suspended",
        "AWS suspended the group's launches after a day of refusals.",
        "{subject}: AWS suspended the group's launches",
    )
    LAUNCHES_STOPPED = (
        "launches-stopped",
        "A person suspended the group's launches; that is respected, and nodes are bought elsewhere.",
        "{subject}: a person suspended the group's launches, no node is asked for here",
    )
    GROUP_DELETED = (
        "group-deleted",
        "The node group is gone; what it served is bought elsewhere.",
        "{subject}: the node group is gone, its nodes are bought elsewhere",
    )
    LIMITED = (
        "limited",
        "The group may not get as many nodes as fleet.yaml allows; the rest is bought elsewhere.",
        "{subject}: its group may hold {limit} nodes at most, fleet.yaml allows {most}",
    )
    ZONE_REFUSED = (
        "zone-refused",
        "One zone refuses launches; the group tries its others by itself.",
        "{subject}: launch refused ({kind}) in {zone}; the group tries its other zones",
    )
    UNMET = (
        "desired-unmet",
        "The group got no node for minutes although it wants more; the pool counts as short.",
        "{subject}: wants {desired} nodes and has held {nodes} for {minutes:.0f} min",
    )
    DEAD = (
        "node-dead",
        "Nodes that served no longer do; they are no capacity and are replaced a few at a time.",
        "{subject}: {nodes} dead",
    )
    HUNG = (
        "node-hung",
        "Nodes were launched and never served; they are no capacity and are terminated a few at a time.",
        "{subject}: {nodes} not ready within twice the start time",
    )
    SLOW = (
        "node-slow",
        "Nodes serve far worse than others of their unit; they are replaced a few at a time and leave first.",
        "{subject}: {nodes} far slower than the others, or answering errors",
    )
    REPLACED = (
        "node-replaced",
        "A node is terminated by its id, because it is of no use or the worst of a pool that shrinks.",
        "{subject}: {node} is terminated ({why}) and replaced",
        "{subject}: {node} is terminated ({why}), its place is given up",
    )
    BREAKER = (
        "breaker",
        "Whole units ceased to serve at once: the checks or the image are to blame, not every node.",
        "all that served fell within 10 min ({units}): one replacement at a time, somebody should look",
    )
    REBALANCING = (
        "rebalancing",
        "A group's own swapping of nodes between zones is suspended, or runs while EKS updates the group.",
        "{subject}: its group no longer swaps nodes to even out its zones",
        "{subject}: its group may swap nodes while EKS updates it",
        "{subject}: a person suspended zone rebalancing, which EKS's update needs",
    )
    NOT_BUILT = (
        "unit-not-built",
        "The unit's image or compiled model is not built yet, so it gets no nodes.",
        "{subject}: gets no nodes before it is built ({builds})",
    )
    STALE = (
        "demand-stale",
        "No request counts have come lately, so no size is changed for demand.",
        "no recent request counts: sizes are held, dead weights still removed",
    )
    CAPACITY_MODE = (
        "capacity-mode",
        "The cheapest nodes cannot be had in sufficient number; others serve as well.",
        "capacity mode: the cheapest units are short ({pools})",
    )
    COST_MODE = (
        "cost-mode",
        "The cheapest nodes can carry demand again; traffic returns to them.",
        "cost mode: the cheapest units can carry the forecast again",
    )
    GROW = (
        "grow",
        "The pool gets nodes for the demand that is expected.",
        "{subject}: {before} -> {after} nodes for the forecast",
    )
    SHRINK = (
        "shrink",
        "The pool gives nodes back that demand no longer needs.",
        "{subject}: {before} -> {after} nodes, the rest carries demand",
    )
    WAITING = (
        "waiting-for-ready",
        "Surplus nodes stay until those that replace them are ready.",
        "{subject}: {surplus} more than planned until others are ready",
    )
    SHORTFALL = (
        "shortfall",
        "Not enough nodes may be launched for the demand that is expected.",
        "{rpm:.0f} requests/min of the forecast cannot be carried by what may be launched",
    )
    OUTLIVED = (
        "pool-loss",
        "The reserve asks that any one pool of its market may be lost whole; this is what that takes.",
        "that any one pool may be lost whole costs {usd:.2f} USD per hour",
        "after the loss of a pool less is carried than the reserve asks for: no other pool may grow so far",
    )
    BUDGET = (
        "budget-reached",
        "The hourly budget does not pay for the nodes that demand needs.",
        "the budget of {budget:g} USD per hour holds back further nodes",
        "what runs costs {cost:.2f} USD per hour, above the budget of {budget:g}: nothing is added",
    )
    NO_READY_UNIT = (
        "no-ready-unit",
        "No node anywhere is ready: every request fails.",
        "no unit has a ready node: nothing can be served",
    )
    FAILOVER = (
        "failover",
        "A unit lost its last ready node; its traffic moved to the others.",
        "{subject}: no ready node left, its traffic moves to the others",
    )
    JUMP = (
        "survival-before-ramp",
        "Traffic moved in one step, because the rest could not have carried it.",
        "shares moved at once: the ready rest could not carry demand",
    )
    SHIFT = (
        "weights-shifted",
        "The load balancer's shares of traffic changed.",
        "weights: {weights}",
    )
    FOREIGN_WEIGHTS = (
        "foreign-weights",
        "Somebody else changed the load balancer's weights; they were set right.",
        "the rule's weights are not those that the loop wrote; corrected",
    )
    TRUST_LOWERED = (
        "trust-lowered",
        "The unit is slower than its profile says, so it is given less to do.",
        "{subject}: slower than its profile, now trusted with {level:.0%} of its throughput",
    )
    FLEET_UNREADABLE = (
        "fleet-unreadable",
        "The fleet description could not be read; the last good one stays in force.",
        "The fleet parameter cannot be read; the last good fleet, if any, stays.",
    )
    FLEET_INVALID = (
        "fleet-invalid",
        "The fleet description is invalid; the last good one stays in force.",
        "The fleet parameter is invalid ({error}); the last good one, if any, stays.",
    )
    PAUSED = (
        "paused",
        "The loop is paused: it decides and reports, but writes nothing.",
        "The loop is paused: it decides and reports, and writes nothing.",
    )

    NO_MEMORY = (
        "no-memory",
        "The table with the loop's memory does not answer; only weights are moved, by target health alone.",
        "survival: no memory; weight only leaves units that have nothing healthy",
    )
    NO_FLEET = (
        "no-fleet",
        "No fleet description is known; only weights are moved, by target health alone.",
        "survival: no fleet is known; weight only leaves units that have nothing healthy",
    )
    PAUSE_UNREADABLE = (
        "pause-unreadable",
        "Whether the loop is paused could not be read; only weights are moved, by target health alone.",
        "survival: the pause cannot be read; weight only leaves units that have nothing healthy",
    )
    HEALTH_INFERRED = (
        "health-inferred",
        "Which nodes of the unit serve could not be read; it is known from elsewhere.",
        "{subject}: {nodes} nodes serve, by {source} of {age:.0f} s ago",
    )
    HEALTH_UNKNOWN = (
        "health-unknown",
        "Whether any node of the unit serves is not known; its weight stays only while no other is healthy.",
        "{subject}: not known whether any node serves",
        "survival: the health of no unit can be read; nothing is changed",
    )
    ALL_UNHEALTHY = (
        "all-unhealthy",
        "All that served turned unhealthy at once; weights and sizes stay, the checks may be to blame.",
        "every node that served is unhealthy: weights and sizes are held",
    )

    def reason(self, subject: str = "", *, case: int = 0, **named: object) -> Reason:
        """The reason about `subject`, in the sentence of the `case` (most codes have one), `named` filled in.

        Raises:
            KeyError: the sentence names something that is not given.
        """
        return Reason(self, self.sentences[case].format(subject=subject, **named), subject)


class Failure(StrEnum):
    """What can go wrong in a tick: how it begins in the record, its runbook heading and what it means.

    The first beginning that fits counts.
    """

    heading: str
    meaning: str

    def __new__(cls, beginning: str, heading: str, meaning: str) -> Self:
        """A kind of failure."""
        member = str.__new__(cls, beginning)
        member._value_ = beginning
        member.heading = heading
        member.meaning = meaning
        return member

    SKIPPED = ("skipped", "write-skipped", "A write was left to the next tick.")
    STATE_NOT_SAVED = (
        "state-not-saved",
        "state-not-saved",
        "The tick acted, but what it learned was not saved.",
    )
    STATE_UNREADABLE = (
        "state-unreadable",
        "state-unreadable",
        "The saved state cannot be read; the loop starts afresh.",
    )
    LEASE_LOST = ("lease-lost", "lease-lost", "Another tick took over while this one ran.")
    LEASE_NOT_RELEASED = (
        "lease-not-released",
        "lease-not-released",
        "The next tick waits until the lease runs out.",
    )
    CLOCK_JUMPED = ("clock-jumped", "clock-jumped", "This tick's time lies far before the last one's.")
    EVIDENCE_UNREADABLE = (
        "evidence-unreadable",
        "evidence-unreadable",
        "A stored observation cannot be read and is left out.",
    )
    EVIDENCE_WITHOUT_POOL = (
        "evidence for",
        "evidence-without-pool",
        "An observation names a pool that the fleet does not have.",
    )
    FOREIGN_WEIGHTS = (
        Code.FOREIGN_WEIGHTS.value,
        Code.FOREIGN_WEIGHTS.value,
        "The weights read back are not those just written.",
    )
    FLEET_UNREADABLE = (
        Code.FLEET_UNREADABLE.value,
        Code.FLEET_UNREADABLE.value,
        "The fleet description could not be read.",
    )
    FLEET_INVALID = (
        Code.FLEET_INVALID.value,
        Code.FLEET_INVALID.value,
        "The fleet description is invalid.",
    )
    FLEET_PARAMETER = (
        "fleet-parameter",
        Code.FLEET_UNREADABLE.value,
        "The SSM parameter with the fleet could not be read.",
    )
    PAUSE_PARAMETER = (
        "pause-parameter",
        Code.PAUSE_UNREADABLE.value,
        "The pause parameter could not be read or holds what is not valid.",
    )
    MEMORY = ("memory", Code.NO_MEMORY.value, "DynamoDB did not give the loop's memory.")
    METRICS = ("metrics", "metrics-failed", "CloudWatch gave no request counts.")
    PRICES = ("prices", "prices-failed", "CloudWatch gave no live prices; the last good ones count.")
    WEIGHTS = ("weights", "weights-failed", "The load balancer's rule could not be read or written.")
    INSTANCES = ("instances", "nodes-failed", "EC2 did not list the fleet's instances.")
    GROUPS = ("groups", "nodes-failed", "The Auto Scaling groups could not be read.")
    TARGET_HEALTH = (
        "target-health",
        "nodes-failed",
        "The load balancer did not say which nodes are healthy.",
    )
    NODE_GROUP = ("node-group", "nodes-failed", "EKS did not describe the node group.")
    ACTIVITIES = (
        "scaling-activities",
        "scaling-activities-failed",
        "Refused launches could not be looked up.",
    )
    SIZE = ("size of", "size-failed", "A pool's size could not be set.")
    RESUME = ("resume of", "resume-failed", "A pool's suspended launches could not be resumed.")
    TERMINATION = ("termination of", "termination-failed", "A node could not be terminated.")
    REBALANCING = (
        "rebalancing of",
        "rebalancing-failed",
        "A group's own swapping of nodes could not be suspended or resumed.",
    )

    def told(self, cause: str, subject: str = "") -> str:
        """The failure as the record tells it."""
        return f"{self} {subject}: {cause}" if subject else f"{self}: {cause}"

    @classmethod
    def of(cls, told: str) -> "Failure | None":
        """The kind of a failure that a record tells; None for one that this version does not know."""
        return next((kind for kind in cls if told.startswith(kind)), None)


class Skip(StrEnum):
    """Why a tick does nothing: how its answer begins, and the sentence that follows."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """A code whose sentence names in braces what it is about."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    LEASE_HELD = ("lease-held", "another tick is running")
    NOT_LATER = ("not-later", "a tick for {time} has already run")

    def told(self, **named: object) -> str:
        """The code with its sentence, `named` filled in."""
        return f"{self}: {self.sentence.format(**named)}"
