"""The fleet as its owner describes it: parsed and validated once, then frozen.

The same model reads `fleet.yaml` (through `fleet_file`) and the JSON kept in SSM. Throughput is in
requests per minute per node (rpm); a node serves one request at a time. Money is USD, time seconds.
Each field's `description` says what is valid there: error messages quote it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from control_lambda.core.fleet_words import Location, choice, key_of, shown

MAX_UNITS: Final = 5  # an ALB forward action takes at most five target groups
MAX_JSON_BYTES: Final = 8192  # an advanced SSM parameter holds 8 KB
MAX_NODES: Final = 450  # EKS's limit for one managed node group
MAX_WEIGHT: Final = 999  # an ALB target group takes 0 to 999
MAX_HOLD_SECONDS: Final = 900  # longer than any node takes to start; a client has given up by then

Market = Literal["on-demand", "spot"]
Accelerator = Literal["neuron", "nvidia", "cpu"]
Framework = Literal["neuronx", "inductor", "eager"]
# Each has its row in traffic/policies.py.
Policy = Literal["merit-order", "paper-optimal", "paper-cost", "paper-capacity", "equal"]
Routing = Literal["weights", "router"]

DEFAULT_POLICY: Final[Policy] = "merit-order"

# Strict: the string "3" and the boolean true are no numbers.
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
NodeCount = Annotated[int, Field(strict=True, ge=0, le=MAX_NODES)]
Weight = Annotated[int, Field(strict=True, ge=0, le=MAX_WEIGHT)]
HoldSeconds = Annotated[float, Field(strict=True, ge=0, le=MAX_HOLD_SECONDS)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$")]

_VALID_NAME: Final = (
    "2 to 32 lower-case letters, digits and hyphens, a letter first and no hyphen last, such as inf2-neuron"
)
_VALID_COUNT: Final = f"a whole number from 0 to {MAX_NODES}"
_VALID_POSITIVE: Final = "a number above 0"
_VALID_WEIGHT: Final = f"a whole number from 0 to {MAX_WEIGHT}"


class FleetError(ValueError):
    """A fleet description that cannot be used; the message names the key and what would be valid."""


class Part(BaseModel):
    """A frozen part of the description that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Nodes(Part):
    """How few and how many nodes a pool may have."""

    min: NodeCount = Field(default=0, description=_VALID_COUNT)
    max: NodeCount = Field(description=_VALID_COUNT)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; valid: min at most max")
        return self


class Profile(Part):
    """What one node of a unit does.

    `service_seconds` (time to serve one request on an idle node) drives staffing and the twin's
    plant; `throughput_rpm` and `latency_seconds` (both at the break point) feed only the papers'
    formulas; `start_seconds` runs from launch to ready.
    """

    service_seconds: Positive = Field(description=_VALID_POSITIVE)
    throughput_rpm: Positive = Field(description=_VALID_POSITIVE)
    latency_seconds: Positive = Field(description=_VALID_POSITIVE)
    start_seconds: Positive = Field(description=_VALID_POSITIVE)


class Objective(Part):
    """The latency promise: a share `attainment` of all requests answered within `latency_seconds`.

    `percentile` is the latency percentile that steers; `attainment` is what is reported.
    """

    latency_seconds: Positive = Field(description=_VALID_POSITIVE)
    percentile: float = Field(
        default=95, strict=True, gt=0, lt=100, description="a number above 0 and below 100"
    )
    attainment: float = Field(
        default=0.995, strict=True, gt=0, lt=1, description="a share above 0 and below 1"
    )


class Pool(Part):
    """A unit in one market: one node group. `price_usd_per_hour` is the dated fallback price.

    `unit` is not part of the description: its unit tells each pool its name.
    """

    unit: str = Field(exclude=True)
    market: Market = Field(description=choice(get_args(Market)))
    nodes: Nodes = Field(description="a mapping with max and optionally min")
    price_usd_per_hour: Positive = Field(description=_VALID_POSITIVE)

    @cached_property
    def name(self) -> str:
        """The pool's name, `<unit>-<market>`."""
        return f"{self.unit}-{self.market}"


class Unit(Part):
    """The paper's deployment unit: model, instance type and framework. One target group."""

    name: Name = Field(description=_VALID_NAME)
    instance_type: str = Field(
        pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", description="an EC2 instance type such as inf2.xlarge"
    )
    accelerator: Accelerator = Field(description=choice(get_args(Accelerator)))
    framework: Framework = Field(description=choice(get_args(Framework)))
    profile: Profile = Field(
        description="a mapping with service_seconds, throughput_rpm, latency_seconds and start_seconds"
    )
    pools: tuple[Pool, ...] = Field(
        min_length=1, description="a list of pools, each with market, nodes and price_usd_per_hour"
    )

    @model_validator(mode="before")
    @classmethod
    def _tell_pools_their_unit(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("pools"), list | tuple):
            return raw
        name = str(raw.get("name", ""))
        return {**raw, "pools": [_told(pool, name) for pool in raw["pools"]]}

    @field_validator("pools")
    @classmethod
    def _one_pool_per_market(cls, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
        repeated = _repeated(pool.market for pool in pools)
        if repeated:
            raise ValueError(f"two pools in the market {repeated}; valid: one pool per market")
        return pools


class QueryClass(Part):
    """A kind of query with a listener rule of its own; the first class whose condition matches takes it.

    The condition is a `path` pattern, or the request header `header` with the class's name as its value.
    The last class takes whatever is left and needs none. `from_size` is the smallest query (images x steps)
    that clients send to the class: the search for mixes counts by it. `weights` are the planned shares of its
    traffic by unit; without them the class is shared like all other traffic.
    """

    name: Name = Field(description=_VALID_NAME)
    path: str | None = Field(
        default=None,
        pattern=r"^/[A-Za-z0-9_.$/~@:+*?&-]{0,127}$",
        description="a path pattern such as /v1/large/*, at most 128 characters",
    )
    header: str = Field(
        default="x-query-class",
        pattern=r"^[A-Za-z0-9-]{1,40}$",
        description="a header's name of at most 40 letters, digits and hyphens",
    )
    from_size: Positive | None = Field(default=None, description=_VALID_POSITIVE)
    weights: Mapping[str, Weight] = Field(
        default_factory=dict, description=f"{_VALID_WEIGHT} for some units, at least one above 0"
    )

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, weights: Mapping[str, int]) -> Mapping[str, int]:
        if weights and not any(weights.values()):
            raise ValueError("every weight is 0; valid: at least one above 0")
        return weights


class Fleet(Part):
    """The whole fleet. `budget_usd_per_hour` bounds what the loop may plan to spend.

    `reserve` is the share of ready capacity, per market, whose loss must be survivable; after the loss of any
    one pool of the market half of it, as a share of the forecast, is still carried. Below
    `threshold` times the forecast the loop enters capacity mode. With a router, requests that come while no
    node is ready are held for up to `hold_seconds`. `classes` are query classes.
    """

    fleet: Name = Field(description=_VALID_NAME)
    model: str = Field(min_length=1, description="the model's name, such as stabilityai/sd-turbo")
    objective: Objective = Field(
        description="a mapping with latency_seconds and optionally percentile and attainment"
    )
    budget_usd_per_hour: Positive = Field(description=_VALID_POSITIVE)
    policy: Policy = Field(default=DEFAULT_POLICY, description=choice(get_args(Policy)))
    reserve: Mapping[Market, Share] = Field(
        default_factory=dict,
        description="a share from 0 to below 1 for on-demand, spot or both, such as {spot: 0.5}",
    )
    threshold: Positive = Field(default=1.0, description=_VALID_POSITIVE)
    routing: Routing = Field(default="weights", description=choice(get_args(Routing)))
    hold_seconds: HoldSeconds = Field(
        default=0.0,
        description=f"a number from 0 to {MAX_HOLD_SECONDS}, above 0 with routing: router alone",
    )
    classes: tuple[QueryClass, ...] = Field(
        default=(),
        description="a list of names, or of mappings with name and optionally path or header, from_size and "
        "weights; the last class takes what is left",
    )
    units: tuple[Unit, ...] = Field(
        min_length=1,
        max_length=MAX_UNITS,
        description=f"a list of 1 to {MAX_UNITS} units, each with name, instance_type, accelerator, "
        "framework, profile and pools",
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _names_alone_are_classes(cls, raw: Any) -> Any:
        if not isinstance(raw, list | tuple):
            return raw
        return [{"name": item} if isinstance(item, str) else item for item in raw]

    @field_validator("classes")
    @classmethod
    def _every_class_once(cls, classes: tuple[QueryClass, ...]) -> tuple[QueryClass, ...]:
        repeated = _repeated(item.name for item in classes)
        if repeated:
            raise ValueError(f"{repeated} stands twice; valid: every class once")
        if classes and (classes[-1].weights or classes[-1].path or classes[-1].from_size):
            raise ValueError(
                f"{classes[-1].name} is the last class and takes what is left; "
                "valid: path, from_size and weights on the classes before it"
            )
        return classes

    @model_validator(mode="after")
    def _weights_name_units(self) -> Self:
        units = [unit.name for unit in self.units]
        for item in self.classes:
            strangers = sorted(set(item.weights) - set(units))
            if strangers:
                raise ValueError(
                    f"classes: {item.name}: weights: {strangers[0]} is no unit; valid: {', '.join(units)}"
                )
        return self

    @model_validator(mode="after")
    def _a_router_holds(self) -> Self:
        if self.hold_seconds and self.routing != "router":
            raise ValueError(
                f"hold_seconds: given {self.hold_seconds:g} with routing: {self.routing}; "
                "valid: 0, or routing: router, whose router holds requests"
            )
        return self

    @field_validator("units")
    @classmethod
    def _every_name_once(cls, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
        repeated = _repeated(unit.name for unit in units)
        if repeated:
            raise ValueError(f"two units are named {repeated}; valid: a name of its own for every unit")
        return units

    @model_validator(mode="after")
    def _budget_pays_for_the_minimum(self) -> Self:
        floor = sum(pool.nodes.min * pool.price_usd_per_hour for pool in self.pools)
        if floor > self.budget_usd_per_hour:
            raise ValueError(
                f"budget_usd_per_hour: {self.budget_usd_per_hour:g} does not pay for the minimum nodes; "
                f"valid: at least {floor:g}, or lower nodes.min"
            )
        return self

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool, in the order of the file."""
        return tuple(pool for unit in self.units for pool in unit.pools)

    @cached_property
    def unit_of(self) -> Mapping[str, Unit]:
        """Pool name to its unit."""
        return {pool.name: unit for unit in self.units for pool in unit.pools}

    @cached_property
    def pool_named(self) -> Mapping[str, Pool]:
        """Pool name to pool."""
        return {pool.name: pool for pool in self.pools}

    def to_json(self) -> str:
        """The fleet as the JSON that SSM holds; defaults left out."""
        return self.model_dump_json(exclude_defaults=True)


def parse_fleet(raw: object) -> Fleet:
    """Validate a parsed description.

    Raises:
        FleetError: one line, its faults joined by "; ", each naming the key and what would be valid.
    """
    try:
        fleet = Fleet.model_validate(raw)
    except ValidationError as error:
        raise FleetError(_faults(error)) from None
    _refuse_oversize(fleet)
    return fleet


def fleet_from_json(text: str) -> Fleet:
    """Read what `Fleet.to_json` wrote.

    Raises:
        FleetError: the text is no JSON or no valid fleet; one line, as `parse_fleet` writes it.
    """
    try:
        return Fleet.model_validate_json(text)
    except ValidationError as error:
        raise FleetError(_faults(error)) from None


def _told(pool: Any, unit: str) -> Any:
    """The pool with its unit's name; None, which is refused, where the description gives one itself."""
    if not isinstance(pool, Mapping):
        return pool
    return {**pool, "unit": None if "unit" in pool else unit}


def _repeated(names: Iterable[str]) -> str | None:
    """The first name that stands more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _refuse_oversize(fleet: Fleet) -> None:
    size = len(fleet.to_json().encode())
    if size <= MAX_JSON_BYTES:
        return
    parts = fleet.model_dump(mode="json", exclude_defaults=True)
    largest = max(parts, key=lambda key: len(str(parts[key])))
    raise FleetError(
        f"{largest}: makes the fleet {size} bytes of JSON; "
        f"valid: at most {MAX_JSON_BYTES} for the whole fleet, an SSM parameter's limit"
    )


_PARTS: Final[Mapping[str, type[Part]]] = {
    "objective": Objective,
    "units": Unit,
    "profile": Profile,
    "pools": Pool,
    "nodes": Nodes,
    "classes": QueryClass,
}


def _faults(error: ValidationError) -> str:
    """Every fault in one line, in the order of the description."""
    faults = error.errors()
    # A list also counts as too short when its only items are faulty: tell the cause alone.
    causes = [fault for fault in faults if fault["type"] != "too_short" or fault["input"] in ([], ())]
    return "; ".join(_fault(fault) for fault in causes)


def _fault(fault: ErrorDetails) -> str:
    location = tuple(step for step in fault["loc"] if step != "[key]")
    key = f"{key_of(location)}: " if location else ""
    if fault["type"] == "value_error":
        return key + fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "json_invalid":
        return f"{fault['msg']}; valid: a fleet as JSON"
    if "[key]" in fault["loc"]:
        return f"{key}unknown key; valid: {_valid_value(location)}"
    if fault["type"] in {"extra_forbidden", "invalid_key"} or _is_pool_unit(location):
        return f"{key}unknown key; valid: {_valid_keys(location[:-1])}"
    if fault["type"] == "missing":
        return f"{key}missing; valid: {_valid_value(location)}"
    return f"{key}given {shown(fault['input'])}; valid: {_valid_value(location)}"


def _valid_keys(location: Location) -> str:
    """The keys of the part at `location`."""
    part: type[Part] = Fleet
    for step in location:
        part = _PARTS.get(str(step), part)
    return ", ".join(name for name, field in part.model_fields.items() if not field.exclude)


def _valid_value(location: Location) -> str:
    """What would be valid at `location`: the description of the innermost field on the way there."""
    part: type[Part] | None = Fleet
    valid = f"a mapping with the keys {_valid_keys(())}"
    for step in location:
        if isinstance(step, int):
            continue
        field = part.model_fields.get(step) if part else None
        if field is None or field.description is None:
            break
        valid = field.description
        part = _PARTS.get(step)
    return valid


def _is_pool_unit(location: Location) -> bool:
    match location:
        case (*_, "pools", int(), "unit"):
            return True
        case _:
            return False
