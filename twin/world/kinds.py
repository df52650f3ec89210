"""The kinds of trouble: what each is called, which fields it takes, and what is valid in them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from control_lambda.core.fleet import Fleet
from twin.world.group import ZONES

MAX_WEIGHT: Final = 999
# The AWS actions that the loop and signals call, or may come to call.
ACTIONS: Final = (
    "CreateRule",
    "DescribeAutoScalingGroups",
    "DescribeInstances",
    "DescribeNodegroup",
    "DescribeRules",
    "DescribeScalingActivities",
    "DescribeSpotPriceHistory",
    "DescribeTargetHealth",
    "DescribeWarmPool",
    "GetMetricData",
    "GetParameter",
    "GetProducts",
    "ModifyRule",
    "PutMetricData",
    "ResumeProcesses",
    "SetDesiredCapacity",
    "SuspendProcesses",
    "TerminateInstanceInAutoScalingGroup",
    "UpdateItem",
)


class InvalidFieldError(ValueError):
    """A field's value cannot be used; the text says what would be valid."""


Check = Callable[[object, Fleet], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a kind: `check` turns a given value into the one used, or raises InvalidFieldError."""

    check: Check
    required: bool = True
    default: Any = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trouble: its `sentence`, fields and an `example` of them.

    `subject` names the fields that two entries at one time may not share; () means any two of the kind;
    None, that they may. `once` kinds happen at their beginning alone. `any_of` names fields of which exactly
    one is given.
    """

    sentence: str
    fields: Mapping[str, Field]
    example: Mapping[str, Any]
    subject: tuple[str, ...] | None
    once: bool = False
    any_of: tuple[str, ...] = field(default=())


def _whole(least: int) -> Check:
    def check(value: object, _: Fleet) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidFieldError(f"a whole number of {least} or more")
        return value

    return check


def _number(valid: str, admits: Callable[[float], bool]) -> Check:
    def check(value: object, _: Fleet) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidFieldError(valid)
        if not (isfinite(value) and admits(value)):
            raise InvalidFieldError(valid)
        return float(value)

    return check


def _one_of(*choices: str) -> Check:
    def check(value: object, _: Fleet) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidFieldError(", ".join(choices))
        return value

    return check


def _text(value: object, _: Fleet) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise InvalidFieldError("a line of text")
    return value.strip()


def _flag(value: object, _: Fleet) -> bool:
    if not isinstance(value, bool):
        raise InvalidFieldError("true or false")
    return value


def _pool(value: object, fleet: Fleet) -> str:
    return str(_one_of(*fleet.pool_named)(value, fleet))


def _spot_pool(value: object, fleet: Fleet) -> str:
    spot = [pool.name for pool in fleet.pools if pool.market == "spot"]
    if not spot:
        raise InvalidFieldError("a spot pool, of which this fleet has none")
    return str(_one_of(*spot)(value, fleet))


def _standby_pool(value: object, fleet: Fleet) -> str:
    prepared = [pool.name for pool in fleet.pools if getattr(pool, "standby", None) is not None]
    if not prepared:
        raise InvalidFieldError("a pool with standby nodes, of which this fleet has none")
    return str(_one_of(*prepared)(value, fleet))


def _unit(value: object, fleet: Fleet) -> str:
    return str(_one_of(*(unit.name for unit in fleet.units))(value, fleet))


def _list_of(check: Check, what: str) -> Check:
    def checked(value: object, fleet: Fleet) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise InvalidFieldError(f"a list of {what}")
        found = tuple(check(item, fleet) for item in value)
        if len(set(found)) < len(found):
            raise InvalidFieldError(f"a list of {what}, each once")
        return found

    return checked


def _quoted(value: object, _: Fleet) -> float | str:
    """What a feed may say, valid or not: a number or a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidFieldError("a number or a text, valid as a price or not")
    return value if isinstance(value, str) else float(value)


def _weights(value: object, fleet: Fleet) -> dict[str, int]:
    valid = (
        f"a mapping of {', '.join(unit.name for unit in fleet.units)} to whole numbers of 0 to {MAX_WEIGHT}"
    )
    if not isinstance(value, dict) or not value:
        raise InvalidFieldError(valid)
    for unit, weight in value.items():
        whole = isinstance(weight, int) and not isinstance(weight, bool)
        if unit not in {known.name for known in fleet.units} or not whole or not 0 <= weight <= MAX_WEIGHT:
            raise InvalidFieldError(valid)
    if not any(value.values()):
        raise InvalidFieldError(f"{valid}, at least one of them above 0")
    return {unit.name: value.get(unit.name, 0) for unit in fleet.units}


_POOL: Final = Field(_pool)
_NODES: Final = Field(_whole(1))
_SHARE: Final = Field(_number("a number above 0, at most 1", lambda share: 0 < share <= 1))
_FACTOR: Final = Field(_number("a number above 0", lambda factor: factor > 0))
_OF: Final = Field(_one_of("requests", "all"))
_UNIT_OR_ALL: Final = Field(_unit, required=False)
_PARTIAL_OF: Final = Field(_one_of("requests", "all"), required=False, default="requests")
_INF2: Final = "inf2-neuron-on-demand"

KINDS: Final[Mapping[str, Kind]] = {
    "node-dead": Kind(
        "The accelerator of serving nodes, the oldest first, fails; EC2 and the group think all is well.",
        {
            "pool": _POOL,
            "nodes": Field(_whole(1), required=False),
            "share": Field(_SHARE.check, required=False),
        },
        {"pool": _INF2, "nodes": 4},
        subject=None,
        once=True,
        any_of=("nodes", "share"),
    ),
    "node-hangs": Kind(
        "The next so many launches of the pool never become ready.",
        {"pool": _POOL, "nodes": _NODES},
        {"pool": _INF2, "nodes": 6},
        subject=None,
    ),
    "node-slow": Kind(
        "Serving nodes, the oldest first, take so many times as long; AWS calls them healthy.",
        {"pool": _POOL, "nodes": _NODES, "factor": _FACTOR},
        {"pool": _INF2, "nodes": 2, "factor": 2.5},
        subject=None,
    ),
    "node-errors": Kind(
        "Serving nodes, the oldest first, answer that share of their requests with 500 at once.",
        {"pool": _POOL, "nodes": _NODES, "share": _SHARE},
        {"pool": _INF2, "nodes": 1, "share": 0.5},
        subject=None,
    ),
    "unit-slow": Kind(
        "Every node of the unit takes so many times as long as its profile; below 1, it is faster.",
        {"unit": Field(_unit), "factor": _FACTOR},
        {"unit": "inf2-neuron", "factor": 1.5},
        subject=("unit",),
    ),
    "start-slow": Kind(
        "Launches of the pool take so many times as long as start_seconds.",
        {"pool": _POOL, "factor": _FACTOR},
        {"pool": _INF2, "factor": 3},
        subject=("pool",),
    ),
    "zone-refuses": Kind(
        "Launches of the pool in those zones are refused; its group tries its other zones a minute later.",
        {
            "pool": _POOL,
            "zones": Field(_list_of(_one_of(*ZONES), ", ".join(ZONES))),
            "kind": Field(_one_of("shortage", "unsupported")),
        },
        {"pool": _INF2, "zones": ["us-east-1a"], "kind": "shortage"},
        subject=("pool",),
    ),
    "nodes-swapped": Kind(
        "Zone rebalancing replaces the oldest nodes one by one; each goes before its replacement serves.",
        {"pool": _POOL, "nodes": _NODES, "suspended": Field(_flag, required=False, default=True)},
        {"pool": _INF2, "nodes": 3, "suspended": False},
        subject=("pool",),
        once=True,
    ),
    "interrupted": Kind(
        "That share of a spot pool's nodes gets two minutes' notice; new ones are refused meanwhile.",
        {"pool": Field(_spot_pool), "share": _SHARE},
        {"pool": "inf2-neuron-spot", "share": 1},
        subject=("pool",),
    ),
    "counts-late": Kind(
        "The load balancer's metrics of these minutes come so much later than usual.",
        {"seconds": Field(_number("a number above 0", lambda seconds: seconds > 0)), "of": _OF},
        {"seconds": 120, "of": "requests"},
        subject=("of",),
    ),
    "counts-missing": Kind(
        "The load balancer's metrics of these minutes never come; of one unit, or of all.",
        {"of": _OF, "unit": _UNIT_OR_ALL},
        {"of": "all", "unit": "inf2-neuron"},
        subject=("of", "unit"),
    ),
    "counts-partial": Kind(
        "A sum first shows that share of itself and is complete five minutes later.",
        {"share": _SHARE, "of": _PARTIAL_OF},
        {"share": 0.4, "of": "requests"},
        subject=("of",),
    ),
    "api-fails": Kind(
        "That share of the calls of an AWS action fails with that error code, the SDK's retries included.",
        {"action": Field(_one_of(*ACTIONS)), "code": Field(_text), "share": _SHARE},
        {"action": "DescribeInstances", "code": "RequestLimitExceeded", "share": 1},
        subject=("action",),
    ),
    "table-down": Kind("Every DynamoDB call fails with InternalServerError.", {}, {}, subject=()),
    "checks-fail": Kind(
        "Every target of these units is unhealthy though it serves; the load balancer fails open.",
        {"units": Field(_list_of(_unit, "units of the fleet"))},
        {"units": ["inf2-neuron", "g5-inductor"]},
        subject=("units",),
    ),
    "group-max": Kind(
        "A person lowers the MaxSize of the pool's Auto Scaling group; what is above it drains.",
        {"pool": _POOL, "nodes": Field(_whole(0))},
        {"pool": _INF2, "nodes": 5},
        subject=("pool",),
    ),
    "group-suspended": Kind(
        "The group's Launch process is suspended, by a person or by AWS itself.",
        {"pool": _POOL, "by": Field(_one_of("person", "aws"))},
        {"pool": _INF2, "by": "person"},
        subject=("pool",),
    ),
    "group-deleted": Kind(
        "A person deletes the pool's node group and its Auto Scaling group; its nodes go at once.",
        {"pool": _POOL},
        {"pool": _INF2},
        subject=("pool",),
        once=True,
    ),
    "group-status": Kind(
        "EKS says that about the pool's node group; its Auto Scaling group works all the same.",
        {"pool": _POOL, "status": Field(_one_of("DEGRADED", "UPDATING", "UPDATE_FAILED"))},
        {"pool": _INF2, "status": "DEGRADED"},
        subject=("pool",),
    ),
    "quota": Kind(
        "Launches beyond so many vCPUs of the family are refused: an xlarge has 4, a 2xlarge 8.",
        {
            "family": Field(_one_of("Inf", "G and VT", "Trn")),
            "vcpus": Field(_whole(0)),
            "market": Field(_one_of("on-demand", "spot"), required=False, default="on-demand"),
        },
        {"family": "Inf", "vcpus": 32},
        subject=("family", "market"),
    ),
    "price": Kind(
        "What the price feed says, valid or not, of every pool of that instance type and market; the bill "
        "is unchanged.",
        {"pool": _POOL, "usd_per_hour": Field(_quoted)},
        {"pool": "g5-inductor-on-demand", "usd_per_hour": 0},
        subject=("pool",),
    ),
    "foreign-weights": Kind(
        "Somebody else writes the rule.",
        {"weights": Field(_weights)},
        {"weights": {"inf2-neuron": 0, "g5-inductor": 100}},
        subject=(),
        once=True,
    ),
    "ticks-missing": Kind("The schedule delivers nothing.", {}, {}, subject=()),
    "ticks-doubled": Kind("The schedule delivers each minute's tick twice.", {}, {}, subject=()),
    "killed": Kind(
        "In every tick the function dies after so many writes: nothing is saved, and the lease stays.",
        {"after_write": Field(_whole(1))},
        {"after_write": 1},
        subject=(),
    ),
    "clock": Kind(
        "Tick times jump by so much.",
        {"seconds": Field(_number("a number other than 0", lambda seconds: seconds != 0))},
        {"seconds": -3600},
        subject=(),
    ),
    "refill-refused": Kind(
        "Launches into the pool's standby nodes are refused.",
        {"pool": Field(_standby_pool)},
        {"pool": _INF2},
        subject=("pool",),
    ),
    "standby-refused": Kind(
        "Starts of the pool's standby nodes are refused.",
        {"pool": Field(_standby_pool)},
        {"pool": _INF2},
        subject=("pool",),
    ),
    "note": Kind(
        "Nothing happens: it cuts a phase and stands in the report.",
        {"text": Field(_text)},
        {"text": "the campaign begins"},
        subject=None,
    ),
}
