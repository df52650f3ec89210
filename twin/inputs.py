"""From the command line's files and choices to a scenario, everything checked before anything runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.fleet_file import load_fleet
from twin.errors import InputError
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace, parse_map
from twin.world.trouble import NO_TROUBLE, Trouble
from twin.world.world import EPOCH, Scenario, ServersRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a replay is made from. `columns` holds `pool=column[@roll_minutes]` for the capacity file.

    `start_seconds` replaces every unit's own; None keeps them. `servers` refuse or queue what they cannot
    answer in time; a failed request comes up to `retries` times again.
    """

    fleet: Path
    demand: Path
    capacity: Path | None = None
    columns: Sequence[str] = ()
    prices: Path | None = None
    options: DemandOptions = field(default_factory=DemandOptions)
    start_seconds: float | None = None
    seed: int = 0
    trouble: Path | None = None
    servers: ServersRule = "refuse"
    retries: int = 0


def load_scenario(inputs: Inputs) -> Scenario:
    """Read and check every file.

    Raises:
        FleetError: the fleet file cannot be used.
        TraceError: a trace, or a choice of what to read from it, cannot be used.
        InputError: choices do not fit together, or the trouble file cannot be used.
    """
    if inputs.seed < 0:
        raise InputError(f"seed: {inputs.seed}; valid: a whole number of 0 or more")
    if inputs.retries < 0:
        raise InputError(f"retries: {inputs.retries}; valid: a whole number of 0 or more")
    fleet = load_fleet(inputs.fleet)
    if inputs.start_seconds is not None:
        fleet = with_start_seconds(fleet, inputs.start_seconds)
    demand = Demand.read(inputs.demand, inputs.options, seed=inputs.seed, epoch=EPOCH)
    return Scenario(
        fleet=fleet,
        demand=demand,
        capacity=_capacity(inputs, fleet),
        prices=PriceTrace.read(inputs.prices, fleet) if inputs.prices else PriceTrace({}),
        seed=inputs.seed,
        trouble=Trouble.read(inputs.trouble, fleet, demand.minutes) if inputs.trouble else NO_TROUBLE,
        servers=inputs.servers,
        retries=inputs.retries,
    )


def with_policy(fleet: Fleet, policy: str) -> Fleet:
    """The fleet under another of the loop's policies.

    Raises:
        FleetError: the loop has no such policy.
    """
    return parse_fleet({**_plain(fleet), "policy": policy})


def with_start_seconds(fleet: Fleet, seconds: float) -> Fleet:
    """The fleet with nodes that all take `seconds` from launch to ready.

    Raises:
        InputError: `seconds` is not above 0.
    """
    if not (isfinite(seconds) and seconds > 0):
        raise InputError(f"start-seconds: {seconds:g}; valid: a number above 0")
    raw = _plain(fleet)
    units = [
        {**unit, "profile": {**unit["profile"], "start_seconds": float(seconds)}} for unit in raw["units"]
    ]
    return parse_fleet({**raw, "units": units})


def describe(inputs: Inputs) -> dict[str, str]:
    """The choices in words, for whoever reads the results later; files by name alone."""
    options = inputs.options
    told = {
        "fleet": inputs.fleet.name,
        "demand": inputs.demand.name + _scaling(options),
        "capacity": f"{inputs.capacity.name}: {', '.join(inputs.columns)}"
        if inputs.capacity
        else "never short",
        "prices": inputs.prices.name if inputs.prices else "those of the fleet file",
        "seed": str(inputs.seed),
        "trouble": inputs.trouble.name if inputs.trouble else "none",
        "servers": "refuse what they cannot answer in time"
        if inputs.servers == "refuse"
        else "queue whatever comes",
    }
    if inputs.retries:
        told["retries"] = f"a failed request comes up to {inputs.retries} times again"
    if inputs.start_seconds is not None:
        told["start"] = f"{inputs.start_seconds:g} s from launch to ready"
    return told


def _scaling(options: DemandOptions) -> str:
    parts = [
        f" × {options.scale:g}" if options.scale != 1 else "",
        f", smoothed over ±{options.smooth} min" if options.smooth else "",
        f", at most {options.clip} requests/min before scaling" if options.clip is not None else "",
        f", from minute {options.start}" if options.start else "",
    ]
    return "".join(parts)


def _capacity(inputs: Inputs, fleet: Fleet) -> CapacityTrace:
    columns = [parse_map(text) for text in inputs.columns]
    if inputs.capacity is None:
        if columns:
            raise InputError("map: given without --capacity; valid: a capacity CSV for its columns")
        return CapacityTrace({})
    if not columns:
        raise InputError(
            f"map: missing; valid: pool=column for the pools that follow {inputs.capacity}, such as "
            f"{fleet.pools[0].name}=<column>"
        )
    return CapacityTrace.read(inputs.capacity, fleet, columns)


def _plain(fleet: Fleet) -> Mapping[str, Any]:
    described: Mapping[str, Any] = json.loads(fleet.to_json())
    return described
