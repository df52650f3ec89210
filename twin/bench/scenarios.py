"""The evaluation's scenarios: the paper's five units under recorded demand and recorded capacity.

The recorded traces are no part of the project: they lie in the folder that FULCRUM_DATA names, by
default in ../shared/data, seen from the checkout. No capacity trace of these accelerators, nor of
on-demand nodes, has been published. That a pool follows another accelerator's spot column is an
assumption of every result.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from control_lambda.core.fleet import Fleet, Market, Unit, parse_fleet
from control_lambda.fleet_file import load_fleet
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PoolColumn, PriceTrace, TraceError
from twin.world.world import EPOCH, Scenario

ROOT: Final = Path(__file__).resolve().parents[2]
DATA_VARIABLE: Final = "FULCRUM_DATA"
DATA_DEFAULT: Final = ROOT.parent / "shared" / "data"
SPOT_PRICES: Final = "common/price_aws_catalog_snapshot.csv"
SPOT_REGION: Final = "us-east-1"

# Far above what any policy can spend, so that the budget never binds.
UNLIMITED_USD_PER_HOUR: Final = 100_000.0
SPOT_RESERVE: Final = 0.5
OBJECTIVE_SECONDS: Final = 2.0
# Full demand fits into the cheapest unit alone when it can be had; each other unit carries a part of it.
CHEAPEST: Final = "inf2-neuron"
CHEAPEST_HEADROOM: Final = 1.25
OTHER_HEADROOM: Final = 0.35
PEAK_MINUTES: Final = 10
PEAK_UTILISATION: Final = 0.85

MINUTES_PER_DAY: Final = 1440


@dataclass(frozen=True, slots=True)
class Followed:
    """The capacity column that a unit's first market follows; later markets are never short."""

    column: str
    roll_minutes: int = 0
    markets: Sequence[Market] = ("on-demand",)


@dataclass(frozen=True, slots=True)
class Setting:
    """One scenario as the evaluation defines it: files below the data folder, and how they are read."""

    demand: str
    options: DemandOptions
    start_seconds: float
    capacity: str
    units: Mapping[str, Followed] = field(default_factory=dict)


_ZONES: Final = {
    "inf2-neuron": "us-east-2a_v100_1",
    "trn1-neuron": "us-east-1f_v100_1",
    "g5-inductor": "us-west-2a_v100_1",
    "g6-inductor": "us-west-2b_v100_1",
    "g5-eager": "us-west-2c_v100_1",
}
_SMOOTHED: Final = Setting(
    demand="dev/sd_rpm.csv",
    options=DemandOptions(scale=100, smooth=30),
    start_seconds=600.0,
    capacity="dev/cap_aws_2023_9zone.csv",
    units={unit: Followed(column) for unit, column in _ZONES.items()},
)
SETTINGS: Final[Mapping[str, Setting]] = MappingProxyType(
    {
        "D2m": _SMOOTHED,
        "D2L": replace(_SMOOTHED, options=DemandOptions(scale=600, smooth=30)),
        # The trace's busiest day: its first ones hold some 80 requests each.
        "D2X": replace(
            _SMOOTHED,
            options=DemandOptions(scale=3000, smooth=30, start=13 * MINUTES_PER_DAY, minutes=MINUTES_PER_DAY),
        ),
        "D2s": replace(
            _SMOOTHED,
            options=DemandOptions(scale=100),
            units={unit: Followed(column, markets=("spot", "on-demand")) for unit, column in _ZONES.items()},
        ),
        "D3c": Setting(
            demand="dev/twitter_rpm.csv",
            options=DemandOptions(scale=0.3, clip=5000, minutes=18_320),
            start_seconds=300.0,
            capacity="dev/cap_aws_2023_4node.csv",
            units={
                "inf2-neuron": Followed("us-east-2a_v100_1"),
                "trn1-neuron": Followed("us-east-1f_v100_1"),
                "g5-inductor": Followed("us-west-2c_v100_1"),
                "g6-inductor": Followed("us-east-2a_v100_1", roll_minutes=3 * MINUTES_PER_DAY),
                "g5-eager": Followed("us-west-2c_v100_1", roll_minutes=4 * MINUTES_PER_DAY),
            },
        ),
        "D4": Setting(
            demand="dev/sd_rpm.csv",
            options=DemandOptions(scale=50, minutes=20_160),
            start_seconds=180.0,
            capacity="dev/cap_aws_2022_k80_v100.csv",
            units={
                "inf2-neuron": Followed("us-west-2a_v100_8", markets=("spot",)),
                "trn1-neuron": Followed("us-west-2b_k80_8", markets=("spot",)),
                "g5-inductor": Followed("us-west-2b_v100_8", markets=("spot", "on-demand")),
                "g6-inductor": Followed("us-west-2a_k80_1", markets=("spot",)),
                "g5-eager": Followed("us-west-2b_v100_1", markets=("spot",)),
            },
        ),
    }
)
NAMES: Final = tuple(SETTINGS)


def scenario(name: str, seed: int, *, minutes: int | None = None) -> Scenario:
    """The scenario called `name`; with `minutes`, only that many from its beginning, on the same fleet.

    Raises:
        TraceError: no such scenario, too many minutes, or the recorded data is absent or unusable.
        FleetError: the project's fleet.yaml cannot be used.
    """
    if name not in SETTINGS:
        raise TraceError(f"scenario: {name!r}; valid: {', '.join(NAMES)}")
    setting, data = SETTINGS[name], data_folder()
    whole = Demand.read(data / setting.demand, setting.options, seed=seed, epoch=EPOCH)
    fleet = fleet_for(setting, peak_rpm(whole), data / SPOT_PRICES)
    columns = [
        PoolColumn(f"{unit}-{followed.markets[0]}", followed.column, followed.roll_minutes)
        for unit, followed in setting.units.items()
    ]
    capacity = CapacityTrace.read(data / setting.capacity, fleet, columns)
    demand = _first(whole, setting, minutes, data, seed)
    return Scenario(fleet, demand, capacity, PriceTrace({}), seed, servers="queue")


def data_folder() -> Path:
    """The folder of the recorded traces.

    Raises:
        TraceError: it is absent.
    """
    folder = Path(os.environ.get(DATA_VARIABLE, DATA_DEFAULT))
    if not (folder / "dev").is_dir():
        raise TraceError(
            f"{DATA_VARIABLE}: {folder} holds no recorded traces; valid: a folder with dev/ and common/ in it"
        )
    return folder


def peak_rpm(demand: Demand) -> float:
    """The highest mean demand over `PEAK_MINUTES` in a row, requests per minute."""
    rpm = demand.rpm()
    window = min(PEAK_MINUTES, len(rpm))
    return float(np.convolve(rpm, np.full(window, 1 / window), "valid").max())


def most_nodes(unit: str, service_seconds: float, peak: float) -> int:
    """`nodes.max` of each of the unit's pools: ceil(headroom · peak · service_seconds / 60 / 0.85).

    The headroom is 1.25 for the cheapest unit and 0.35 for every other; `peak` in requests per minute.
    """
    headroom = CHEAPEST_HEADROOM if unit == CHEAPEST else OTHER_HEADROOM
    return ceil(headroom * peak * service_seconds / 60 / PEAK_UTILISATION)


def fleet_for(setting: Setting, peak: float, spot_prices: Path) -> Fleet:
    """The project's fleet with the setting's markets, start times and sizes for `peak` (rpm).

    Raises:
        TraceError: the fleet lacks one of the setting's units, or a spot price is not to be had.
        FleetError: the project's fleet.yaml cannot be used.
    """
    path = ROOT / "fleet.yaml"
    fleet = load_fleet(path)
    names = {unit.name for unit in fleet.units}
    if names != set(setting.units):
        raise TraceError(f"{path}: units {', '.join(sorted(names))}; valid: {', '.join(setting.units)}")
    raw = fleet.model_dump(mode="json", exclude_defaults=True)
    raw |= {"budget_usd_per_hour": UNLIMITED_USD_PER_HOUR, "reserve": {"spot": SPOT_RESERVE}}
    raw["objective"]["latency_seconds"] = OBJECTIVE_SECONDS
    prices = spot_usd_per_hour(spot_prices)
    for unit, described in zip(fleet.units, raw["units"], strict=True):
        described["profile"]["start_seconds"] = setting.start_seconds
        described["pools"] = [
            _pool(unit, market, peak, prices) for market in setting.units[unit.name].markets
        ]
    return parse_fleet(raw)


def spot_usd_per_hour(path: Path) -> dict[str, float]:
    """Each instance type's mean spot price over the zones of `SPOT_REGION`, USD per hour.

    Raises:
        TraceError: the file cannot be read or a price in it is no number.
    """
    zones: dict[str, list[float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["region"] == SPOT_REGION:
                    zones.setdefault(row["instance_type"], []).append(float(row["spot_usd_per_hour"]))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); valid: a CSV file") from None
    except (KeyError, ValueError) as error:
        raise TraceError(
            f"{path}: {error}; valid: the columns instance_type, region and spot_usd_per_hour, a number"
        ) from None
    return {instance_type: fmean(prices) for instance_type, prices in zones.items()}


def _pool(unit: Unit, market: Market, peak: float, spot_prices: Mapping[str, float]) -> dict[str, Any]:
    prices: dict[str, float] = {pool.market: pool.price_usd_per_hour for pool in unit.pools}
    if unit.instance_type in spot_prices:
        prices["spot"] = spot_prices[unit.instance_type]
    if market not in prices:
        raise TraceError(
            f"{market} price of {unit.instance_type}: unknown; valid: in fleet.yaml or {SPOT_PRICES}"
        )
    most = most_nodes(unit.name, unit.profile.service_seconds, peak)
    return {"market": market, "nodes": {"min": 0, "max": most}, "price_usd_per_hour": prices[market]}


def _first(whole: Demand, setting: Setting, minutes: int | None, data: Path, seed: int) -> Demand:
    """The first `minutes` of the setting's demand; None = all of them."""
    if minutes is None:
        return whole
    if not 1 <= minutes <= whole.minutes:
        raise TraceError(f"minutes: {minutes}; valid: 1 to {whole.minutes}")
    options = replace(setting.options, minutes=minutes)
    return Demand.read(data / setting.demand, options, seed=seed, epoch=EPOCH)
