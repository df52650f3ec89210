"""How far each unit's profile is trusted: profiles drift, and latency tells.

Trust is the share of its profile's throughput that a unit is planned with, 1 at most.
"""

from collections.abc import Collection, Mapping
from typing import Final

from control_lambda.core.fleet import Fleet, Objective, Unit
from control_lambda.core.model import Minute

# One minute above the objective costs a tenth; what was lost is regained in about an hour.
LOWER: Final = 0.9
RAISE: Final = 0.01
# A unit without traffic is given another chance within half a day.
IDLE_RAISE: Final = 0.001
LEAST: Final = 0.25
# Fewer requests than this say little about a percentile.
ENOUGH_SAMPLES: Final = 20
# Above this share of errors the latency percentile is not trusted: errors are often fast.
TRUSTED_ERRORS: Final = 0.01
# Trust is planned with in steps of a twentieth, and up to nine tenths of the objective per request.
STEPS: Final = 20
SLOWEST_SHARE: Final = 0.9
# Above this part of what the unit is planned for, lateness is the queue's doing and not the profile's.
FAIR_LOAD: Final = 0.7


def learn(
    trust: Mapping[str, float],
    minutes: Mapping[str, tuple[Minute, ...]],
    tables: Mapping[str, tuple[float, ...]],
    fleet: Fleet,
    since: int,
    *,
    learning: Collection[str] = (),
) -> dict[str, float]:
    """Trust by unit after the minutes that start after `since` (seconds).

    `tables` says what each unit carries (rpm) by healthy nodes. A minute lowers trust when the unit
    missed the objective at a load that it should have carried, in that minute and the one before. Units
    whose service time is being learned anew are left alone: the table is about to say so.
    """
    learned = dict(trust)
    for unit in fleet.units:
        if unit.name in learning:
            continue
        table, level = tables[unit.name], trust.get(unit.name, 1.0)
        shown = minutes.get(unit.name, ())
        known = sum(1 for minute in shown if minute.at <= since)
        before = _load(shown[known - 1], table) if known else 0.0
        for minute in shown[known:]:
            load = _load(minute, table)
            level = _after(level, minute, max(load, before), fleet.objective)
            before = load
        learned[unit.name] = level
    return learned


def _load(minute: Minute, table: tuple[float, ...]) -> float:
    hosts = min(int(minute.healthy_hosts or 0), len(table) - 1)
    return (minute.requests or 0.0) / table[hosts] if hosts and table[hosts] > 0 else 0.0


def _after(level: float, minute: Minute, load: float, objective: Objective) -> float:
    samples = minute.samples or 0.0
    if samples < ENOUGH_SAMPLES or minute.latency_seconds is None:
        return min(1.0, level + IDLE_RAISE)
    errors = (minute.errors or 0.0) / max(minute.requests or 0.0, samples)
    failing = errors > 1 - objective.percentile / 100
    if errors > TRUSTED_ERRORS and not failing:
        return level
    if failing or minute.latency_seconds > objective.latency_seconds:
        return max(LEAST, level * LOWER) if load <= FAIR_LOAD else level
    return min(1.0, level + RAISE)


def trusted_service_seconds(
    unit: Unit, seconds: float, trust: Mapping[str, float], objective: Objective
) -> float:
    """The service time that a unit is planned with whose requests take `seconds`; in steps: plans are steady.

    Distrust alone never says that a unit cannot meet the objective: it would get no traffic, and so
    no chance to prove otherwise.
    """
    steps = max(1, round(trust.get(unit.name, 1.0) * STEPS))
    slowest = max(unit.profile.service_seconds, SLOWEST_SHARE * objective.latency_seconds)
    return min(seconds * STEPS / steps, slowest)
