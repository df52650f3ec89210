"""The decision as it is told, the record that is kept of it, and the state that it leaves.

`model.plain` gives what a tick answers as JSON; `answer_from_plain` reads it back.
"""

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from control_lambda.core.model import (
    Decision,
    Minute,
    Mode,
    PoolReport,
    Reason,
    Report,
    State,
    Suspension,
    Termination,
    Trial,
    UnitReport,
)
from control_lambda.core.outlook import Outlook
from control_lambda.core.supply.rebalancing import Rebalancing
from control_lambda.core.supply.replacing import recent
from control_lambda.core.supply.supply import Supply, cost_per_hour
from control_lambda.core.supply.trust import TRUSTED_ERRORS
from control_lambda.core.traffic.survival import VitalSigns


@dataclass(frozen=True, slots=True)
class Write:
    """A write that was made: what kind of thing, which one, and what stood there before and after."""

    what: str
    subject: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class DecisionRecord(Report):
    """What a tick told, did and failed to do: returned, logged and kept."""

    writes: tuple[Write, ...]
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """The answer of a tick that did nothing: a code of `reasons.Skip` and its sentence."""

    skipped: str


Answer = DecisionRecord | Skipped


@dataclass(frozen=True, slots=True)
class Choice:
    """What a tick chose: the mode, the sizes planned for, the sizes and weights for now.

    Sizes are those of nodes that are of use. `class_weights` has a row for each query class before the last.
    `terminate` are the nodes that leave by id, `rebalancing` what becomes of the groups' own swaps.
    """

    mode: Mode
    planned: Mapping[str, int]
    sizes: Mapping[str, int]
    weights: Mapping[str, int]
    class_weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    terminate: tuple[Termination, ...] = ()
    rebalancing: Rebalancing = field(default_factory=Rebalancing)


def decision(outlook: Outlook, choice: Choice, reasons: Sequence[Reason]) -> Decision:
    """The decision record's values."""
    snapshot, fleet = outlook.snapshot, outlook.fleet
    cost = cost_per_hour(outlook.supplies, choice.sizes)
    return Decision(
        tick=outlook.before.tick + 1,
        at=snapshot.at,
        mode=choice.mode,
        reasons=tuple(reasons),
        demand_rpm=outlook.forecast.now,
        forecast_rpm=outlook.forecast.upper,
        cost_usd_per_hour=cost,
        savings_usd_per_hour=_gpu_only_cost(outlook) - cost,
        budget_usd_per_hour=fleet.budget_usd_per_hour,
        signal_age_seconds=_signal_age(outlook.state.demand.minute, snapshot.at),
        units={unit.name: _unit_report(outlook, choice, unit.name) for unit in fleet.units},
        pools={supply.pool.name: _pool_report(supply, choice) for supply in outlook.supplies},
        weights=_weights_to_write(outlook, choice),
        sizes=_group_sizes(outlook, choice),
        resume=tuple(
            supply.pool.name
            for supply in outlook.supplies
            if supply.pool.name in snapshot.pools
            and snapshot.pools[supply.pool.name].launch_suspended is Suspension.AWS
            and choice.sizes[supply.pool.name] > supply.in_service
        ),
        terminate=choice.terminate,
        suspend_rebalancing=choice.rebalancing.suspend,
        resume_rebalancing=choice.rebalancing.resume,
        class_weights={
            name: row
            for name, row in choice.class_weights.items()
            if dict(row) != snapshot.class_weights.get(name)
        },
    )


def _weights_to_write(outlook: Outlook, choice: Choice) -> Mapping[str, int] | None:
    """The weights where they change; they do not while nothing serves."""
    stand = not outlook.anything_serves or dict(choice.weights) == outlook.snapshot.weights
    return None if stand else choice.weights


def remembered(outlook: Outlook, choice: Choice) -> State:
    """The state for the next tick."""
    changed = choice.mode is not outlook.before.mode or not outlook.before.tick
    return replace(
        outlook.state,
        tick=outlook.before.tick + 1,
        at=outlook.snapshot.at,
        mode=choice.mode,
        mode_since=outlook.snapshot.at if changed else outlook.before.mode_since,
        weights=dict(choice.weights),
        desired={
            supply.pool.name: supply.group_size(choice.sizes[supply.pool.name]) for supply in outlook.supplies
        },
        in_service={supply.pool.name: supply.members for supply in outlook.supplies},
        nodes={
            pool: replace(known, terminated=_terminated(outlook, choice, pool))
            for pool, known in outlook.state.nodes.items()
        },
        rebalancing=choice.rebalancing.remembered,
        trial=_trial(outlook),
    )


def _group_sizes(outlook: Outlook, choice: Choice) -> dict[str, int]:
    """The sizes to be written: those that differ from what the groups want once the terminations are done."""
    given_up = Counter(item.pool for item in choice.terminate if item.decrement)
    sizes = {}
    for supply in outlook.supplies:
        name, size = supply.pool.name, supply.group_size(choice.sizes[supply.pool.name])
        if not supply.fixed and size != outlook.snapshot.pools[name].desired - given_up[name]:
            sizes[name] = size
    return sizes


def _trial(outlook: Outlook) -> Trial | None:
    """The replacement that is under way while the breaker is open."""
    spared = [supply for supply in outlook.supplies if supply.spared]
    begun = (
        Trial(supply.pool.name, outlook.snapshot.at)
        for supply in spared
        if not set(supply.doomed).isdisjoint(supply.census.dead)
    )
    return next(begun, outlook.state.trial if spared else None)


def _terminated(outlook: Outlook, choice: Choice, pool: str) -> tuple[float, ...]:
    """When nodes of the pool were terminated lately, this tick included."""
    before = recent(outlook.state.nodes[pool].terminated, outlook.snapshot.at)
    return before + tuple(outlook.snapshot.at for item in choice.terminate if item.pool == pool)


def record_of(
    decision: Decision, reasons: Sequence[Reason], writes: Sequence[Write], failures: Sequence[str]
) -> DecisionRecord:
    """The record of a decision; `reasons` come before its own."""
    told = {item.name: getattr(decision, item.name) for item in fields(Report)}
    told["reasons"] = (*reasons, *decision.reasons)
    return DecisionRecord(**told, writes=tuple(writes), failures=tuple(failures))


def record_without_decision(
    state: State,
    at: float,
    signs: VitalSigns,
    reasons: Sequence[Reason],
    writes: Sequence[Write],
    failures: Sequence[str],
) -> DecisionRecord:
    """The record of a tick that knew too little to decide: what it read, and what survival wrote."""
    return DecisionRecord(
        tick=state.tick,
        at=at,
        mode=state.mode,
        reasons=tuple(reasons),
        demand_rpm=None,
        forecast_rpm=None,
        cost_usd_per_hour=None,
        savings_usd_per_hour=None,
        budget_usd_per_hour=None,
        signal_age_seconds=None,
        units=_units_of(signs, writes),
        pools={},
        writes=tuple(writes),
        failures=tuple(failures),
    )


def _units_of(signs: VitalSigns, writes: Sequence[Write]) -> dict[str, UnitReport]:
    """The units whose health is known; their weights are those of all traffic, which the last row has."""
    row, before = max((signs.rows or {}).items(), key=lambda item: int(item[0]), default=("", {}))
    after = next((write.after for write in writes if write.subject == rule_subject(row)), before)
    return {
        unit: UnitReport(healthy, after.get(unit, 0), before.get(unit, 0), None, 0.0, None)
        for unit, healthy in signs.healthy.items()
    }


def rule_subject(row: str) -> str:
    """How a write of one row is told."""
    return f"rule {row}"


def answer_from_plain(raw: object) -> Answer:
    """Read what `plain` made of an answer; keys of a later version are left out.

    Raises:
        ValueError: naming the keys that are missing, or what is no answer.
    """
    if isinstance(raw, Mapping) and "skipped" in raw:
        return Skipped(str(raw["skipped"]))
    told = _known(DecisionRecord, raw, "")
    try:
        return DecisionRecord(
            **{
                **told,
                "mode": Mode(told["mode"]),
                "reasons": tuple(Reason(**_known(Reason, item, "reasons: ")) for item in told["reasons"]),
                "units": _reports(UnitReport, told["units"], "units"),
                "pools": _reports(PoolReport, told["pools"], "pools"),
                "writes": tuple(Write(**_known(Write, item, "writes: ")) for item in told["writes"]),
                "failures": tuple(told["failures"]),
            }
        )
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _reports(kind: type[Any], raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: kind(**_known(kind, line, f"{key}: {name}: ")) for name, line in raw.items()}


def _known(kind: type[Any], raw: object, where: str) -> dict[str, Any]:
    """The values of `kind`'s fields."""
    given = raw if isinstance(raw, Mapping) else {}
    missing = [item.name for item in fields(kind) if item.default is MISSING and item.name not in given]
    if missing:
        raise ValueError(f"{where}{', '.join(missing)} missing")
    return {item.name: given[item.name] for item in fields(kind) if item.name in given}


def _signal_age(minute: int, at: float) -> float | None:
    return at - (minute + 60) if minute else None


def _unit_report(outlook: Outlook, choice: Choice, name: str) -> UnitReport:
    latest = _latest(outlook.snapshot.minutes.get(name, ()))
    return UnitReport(
        ready=outlook.ready[name],
        weight=choice.weights.get(name, 0),
        previous_weight=outlook.before.weights.get(name, 0),
        latency_seconds=_trusted_latency(latest),
        trusted_rpm=outlook.tables[name][1] if len(outlook.tables[name]) > 1 else 0.0,
        signal_age_seconds=_signal_age(latest.at, outlook.snapshot.at) if latest else None,
    )


def _latest(minutes: Sequence[Minute]) -> Minute | None:
    return minutes[-1] if minutes else None


def _trusted_latency(minute: Minute | None) -> float | None:
    """The latency percentile (seconds), unless errors make it meaningless."""
    if minute is None or minute.latency_seconds is None:
        return None
    errors = (minute.errors or 0.0) / max(minute.requests or 0.0, 1.0)
    return None if errors > TRUSTED_ERRORS else minute.latency_seconds


def _pool_report(supply: Supply, choice: Choice) -> PoolReport:
    return PoolReport(
        ready=supply.ready,
        desired=supply.group_size(choice.sizes[supply.pool.name]),
        planned=choice.planned[supply.pool.name],
        price=supply.price,
        available=supply.refusal is None,
        evidence=supply.refusal.kind.value if supply.refusal else "",
    )


def _gpu_only_cost(outlook: Outlook) -> float:
    """USD per hour of carrying the same demand with the cheapest NVIDIA unit alone, on demand."""
    costs = [
        supply.price * _nodes_for(outlook.tables[supply.unit.name], outlook.demand_to_carry)
        for supply in outlook.supplies
        if supply.unit.accelerator == "nvidia" and supply.pool.market == "on-demand"
    ]
    return min(costs, default=0.0)


def _nodes_for(table: Sequence[float], rpm: float) -> float:
    """How many nodes carry `rpm`; beyond the table in proportion to its end."""
    full = table[-1]
    if rpm <= full:
        return bisect.bisect_left(table, rpm)
    return rpm / full * (len(table) - 1) if full > 0 else 0.0
