"""A plan as the fleet's owner would write it down: node counts and a row of weights per query class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.mix.estimate import Estimator
from control_lambda.core.mix.model import Mix, Problem
from control_lambda.core.traffic.weights import to_weights
from twin.plan.plan import MixPlan
from twin.report.results import read_text


def class_weights(fleet: Fleet, plan: MixPlan) -> dict[str, dict[str, int]]:
    """For each class that has a `from_size` and is not the last: its planned weight on every unit.

    The plan's stations at the demand, or else at the mix's throughput, say which unit answers which share
    of the class.
    """
    starts = [item.from_size for item in fleet.classes if item.from_size is not None]
    estimator = Estimator(plan.problem, starts)
    rpm = plan.chosen.throughput_rpm if plan.demand_rpm is None else plan.demand_rpm
    served = estimator.served(plan.chosen.mix, rpm)
    rows: dict[str, dict[str, int]] = {}
    taken: set[int] = set()
    for item in fleet.classes[:-1]:
        if item.from_size is None:
            continue
        groups = {
            group
            for group, largest in enumerate(estimator.largest)
            if largest >= item.from_size and group not in taken
        }
        taken |= groups
        shares = {
            plan.problem.names[index]: sum(answered[group] for group in groups)
            for index, answered in served.items()
        }
        if sum(shares.values()) > 0:
            rows[item.name] = to_weights(shares, [unit.name for unit in fleet.units])
    return rows


def proposed(path: Path, fleet: Fleet, plan: MixPlan, quiet: Mix | None) -> str:
    """The fleet file with the plan in it, as YAML; it is checked as any fleet file is.

    Units of the mix get its count as their maximum. The minimum is the `quiet` mix's, and at least one for
    a base. Without a quiet mix the units that a class of large queries is sent to keep their whole count: the
    loop sizes by all traffic together and would let them go. Units outside the mix keep their maximum: they
    are what the loop turns to when the mix can't be had.
    """
    described: dict[str, Any] = yaml.safe_load(read_text(path, "a fleet file"))
    problem = plan.problem
    rows = class_weights(fleet, plan)
    sent = {name for row in rows.values() for name, weight in row.items() if weight}
    for index, unit in enumerate(described["units"]):
        most = plan.chosen.mix[index]
        if most:
            least = _least(problem, index, most, quiet, kept=unit["name"] in sent)
            _bound_nodes(unit, least, most)
    described["objective"]["latency_seconds"] = problem.latency_seconds
    if rows:
        described["classes"] = [_class(item, rows) for item in described["classes"]]
    parse_fleet(described)
    head = f"# Proposed by `python -m twin plan` from {path.name}; comments are in that file.\n"
    return head + yaml.safe_dump(described, sort_keys=False, width=110)


def _least(problem: Problem, index: int, most: int, quiet: Mix | None, *, kept: bool) -> int:
    """The unit's minimum: of the quiet mix, or else all of its count if a class needs it, one for a base."""
    base = int(index in problem.bases)
    if quiet is not None:
        return min(most, max(quiet[index], base))
    return most if kept else base


def _bound_nodes(unit: dict[str, Any], least: int, most: int) -> None:
    """Give the unit's pools the counts; all of the minimum goes to the first, on-demand if there is one."""
    pools = sorted(unit["pools"], key=lambda pool: str(pool["market"]))
    for position, pool in enumerate(pools):
        high = min(int(pool["nodes"]["max"]), most)
        low = min(least, high) if position == 0 else 0
        pool["nodes"] = {"min": low, "max": high}


def _class(item: str | dict[str, Any], rows: Mapping[str, Mapping[str, int]]) -> Any:
    described: dict[str, Any] = {"name": item} if isinstance(item, str) else dict(item)
    if described["name"] in rows:
        described["weights"] = dict(rows[described["name"]])
    return described
