"""The bench's results as Markdown tables, ready for docs/evaluation.md."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isclose
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Final

from control_lambda.core.demand import worth
from twin.bench.cases import Struck
from twin.bench.core import DecisionTimes, ForecastErrors, Histories
from twin.bench.matrix import Cell, MatrixRow
from twin.bench.replays import OURS, POLLING, Bounded, Replayed
from twin.world.nodes import NOTICE_SECONDS

MISSING: Final = "–"


@dataclass(frozen=True, slots=True)
class Target:
    """What the loop shall reach on a scenario: share within the objective, USD per thousand, flips."""

    attainment: float
    cost_per_thousand_usd: float
    flips: int | None = None


TARGETS: Final = MappingProxyType(
    {
        "D2m": Target(0.995, 0.38),
        "D2L": Target(0.985, 0.23),
        "D2s": Target(0.95, 0.35, flips=150),
        "D3c": Target(0.975, 0.24),
        "D4": Target(0.90, 0.60, flips=350),
    }
)
# Measured once in a comparable plant of its own, one seed: % within 2 s @ USD per thousand.
REFERENCE: Final = MappingProxyType(
    {
        "D2m": {"sample-loop": "92.6 @ 1.340", "reactive": "97.9 @ 0.344"},
        "D2L": {"sample-loop": "81.5 @ 0.405", "reactive": "92.5 @ 0.214"},
        "D2s": {"sample-loop": "75.5 @ 0.931", "reactive": "84.5 @ 0.162"},
        "D3c": {"sample-loop": "92.0 @ 0.304", "reactive": "95.3 @ 0.216"},
        "D4": {"sample-loop": "79.5 @ 0.929", "reactive": "84.4 @ 0.338"},
    }
)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that the bench has measured; what was not run is empty."""

    replays: tuple[Replayed, ...] = ()
    bounds: tuple[Bounded, ...] = ()
    decisions: tuple[DecisionTimes, ...] = ()
    forecasts: tuple[ForecastErrors, ...] = ()
    histories: tuple[Histories, ...] = ()
    cases: tuple[Struck, ...] = ()
    matrix: tuple[MatrixRow, ...] = ()

    @property
    def scenarios(self) -> list[str]:
        """The replayed scenarios, each once, in the order of their first replay."""
        return list(dict.fromkeys(one.job.scenario for one in self.replays))

    def of(self, scenario: str, policy: str, value: float | None = None) -> list[Replayed]:
        """The replays of the policy on the scenario, at the given worth (None: the loop's own)."""
        wanted = (scenario, policy, value)
        replays = [one for one in self.replays if (one.job.scenario, one.job.policy, one.job.worth) == wanted]
        return sorted(replays, key=lambda one: one.job.seed)


def tables(results: Results) -> str:
    """All tables, each under its heading; a table without a row is left out."""
    steered = [name for name in results.scenarios if results.of(name, OURS)]
    parts = [
        ("The loop against its targets", _HEAD_OURS, [_ours(results, name) for name in steered]),
        ("Other policies, one seed", *_others(results)),
        ("Two of them beside reference figures", _HEAD_REFERENCE, _reference(results)),
        ("What another worth of a late request would give, one seed", *_sweep(results)),
        ("Failover", _HEAD_FAILOVER, _failover(results)),
        ("Speed", _HEAD_SPEED, _speed(results)),
        ("Forecast against the last value", _HEAD_FORECAST, [_forecast(one) for one in results.forecasts]),
        ("Rules in random histories", _HEAD_HISTORIES, _histories(results)),
        ("Cases of trouble", _HEAD_CASES, [_case(one) for one in results.cases]),
        ("Every kind of trouble, the worst first", _HEAD_MATRIX, _matrix(results)),
    ]
    return "\n".join(_table(title, header, rows) for title, header, rows in parts if rows)


def missed(results: Results, scenario: str) -> list[str]:
    """Which of the scenario's targets the mean over the seeds misses, in words; empty: all are met."""
    target, replays = TARGETS[scenario], results.of(scenario, OURS)
    attainment, cost, flips = (_mean(replays, value) for value in (_percent, _usd, _flips))
    short = []
    if attainment < 100 * target.attainment:
        short.append("attainment")
    if cost > target.cost_per_thousand_usd:
        short.append("cost")
    if target.flips is not None and flips > target.flips:
        short.append("flips")
    return short


_HEAD_OURS: Final = (
    "scenario",
    "to reach",
    "within 2 s, %",
    "USD per 1,000",
    "flips",
    "failed requests",
    "seeds",
    "reached",
    "least possible",
    "× least",
)
_HEAD_REFERENCE: Final = ("scenario", "sample-loop", "reference", "reactive", "reference")
_HEAD_FAILOVER: Final = (
    "scenario",
    "how the loop learns of it",
    "failovers",
    "longest, s",
    "after the node went, s",
)
_HEAD_SPEED: Final = ("what", "measured")
_HEAD_FORECAST: Final = ("demand", "horizon, min", "MAE, rpm", "last value", "MSE, rpm²", "last value")
_HEAD_HISTORIES: Final = ("histories", "violations")


_HEAD_CASES: Final = ("case", "servers", "within the objective, %", "to reach, %", "reached")
_HEAD_MATRIX: Final = (
    "kind",
    "fleet",
    "demand",
    "within the objective, %",
    "without trouble",
    "USD per hour",
    "without trouble",
)


def _case(one: Struck) -> tuple[str, ...]:
    told = "yes" if one.reached else f"no{': ' if one.missed else ''}{one.missed}"
    return one.job.case, one.job.servers, f"{100 * one.attainment:.1f}", f"{100 * one.bar:.0f}", told


def _matrix(results: Results) -> list[tuple[str, ...]]:
    cells = [(row, cell) for row in results.matrix for cell in row.cells]
    cells.sort(key=lambda item: -item[1].loss)
    return [_cell(row, cell) for row, cell in cells]


def _cell(row: MatrixRow, cell: Cell) -> tuple[str, ...]:
    return (
        cell.what,
        row.job.fleet,
        row.job.demand,
        f"{100 * cell.attainment:.2f}",
        f"{100 * cell.calm_attainment:.2f}",
        f"{cell.usd_per_hour:.2f}",
        f"{cell.calm_usd_per_hour:.2f}",
    )


def _ours(results: Results, name: str) -> tuple[str, ...]:
    replays = results.of(name, OURS)
    least = next((one.cost_per_thousand_usd for one in results.bounds if one.job.scenario == name), None)
    cost = _mean(replays, _usd)
    return (
        name,
        _target(name),
        _spread(replays, _percent, 2),
        _spread(replays, _usd, 3),
        _spread(replays, _flips, 0),
        _spread(replays, lambda one: one.failed, 0),
        str(len(replays)),
        _reached(results, name),
        MISSING if least is None else f"{least:.3f}",
        MISSING if least is None else f"{cost / least:.2f}",
    )


def _target(name: str) -> str:
    if name not in TARGETS:
        return MISSING
    target = TARGETS[name]
    flips = "" if target.flips is None else f", ≤ {target.flips} flips"
    return f"≥ {100 * target.attainment:g} @ ≤ {target.cost_per_thousand_usd:.2f}{flips}"


def _reached(results: Results, name: str) -> str:
    if name not in TARGETS:
        return MISSING
    short = missed(results, name)
    return f"no: {', '.join(short)}" if short else "yes"


def _others(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row per scenario, a column per baseline: attainment @ cost."""
    policies = list(
        dict.fromkeys(one.job.policy for one in results.replays if one.job.policy not in {OURS, POLLING})
    )
    rows = [
        (name, *(_point(results.of(name, policy)) for policy in policies))
        for name in results.scenarios
        if any(results.of(name, policy) for policy in policies)
    ]
    return ("scenario", *policies), rows


def _reference(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            name,
            _point(results.of(name, "sample-loop")),
            REFERENCE[name]["sample-loop"],
            _point(results.of(name, "reactive")),
            REFERENCE[name]["reactive"],
        )
        for name in results.scenarios
        if name in REFERENCE and (results.of(name, "sample-loop") or results.of(name, "reactive"))
    ]


def _sweep(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A row per scenario, a column per worth, the loop's own among them: attainment @ cost."""
    values = sorted({one.job.worth for one in results.replays if one.job.worth is not None})
    if not values:
        return (), []
    columns = sorted({*values, worth.WORTH})
    header = ("scenario", *(_worth_name(value) for value in columns))
    rows = [
        (name, *(_point(_at_worth(results, name, value)) for value in columns))
        for name in results.scenarios
        if name in TARGETS
    ]
    return header, rows


def _worth_name(value: float) -> str:
    return f"{value:g} (the loop's)" if isclose(value, worth.WORTH) else f"{value:g}"


def _at_worth(results: Results, name: str, value: float) -> list[Replayed]:
    return results.of(name, OURS, None if isclose(value, worth.WORTH) else value)[:1]


def _failover(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in results.scenarios:
        for policy, how in ((OURS, "events"), (POLLING, "polling alone")):
            seconds = [value for one in results.of(name, policy) for value in one.failover_seconds]
            if seconds:
                after = max(0.0, max(seconds) - NOTICE_SECONDS)
                rows.append((name, how, f"{len(seconds):,}", f"{max(seconds):.0f}", f"{after:.0f}"))
    return rows


def _speed(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in ("D2m", "D2L"):
        walls = [one.wall_seconds for one in results.of(name, OURS)]
        if walls:
            told = f"{fmean(walls):.0f} s, at most {max(walls):.0f} s"
            rows.append((f"replay of {name} through core, {len(walls)} seeds, two replays at a time", told))
    for times in results.decisions:
        what = f"decision, {times.pools} pools × 100 nodes ({times.nodes} in use), processor time"
        rows.append((what, times.told()))
    return rows


def _forecast(errors: ForecastErrors) -> tuple[str, ...]:
    return (
        errors.job.name,
        str(errors.job.horizon),
        f"{errors.mae:.4g}",
        f"{errors.mae_last_value:.4g}",
        f"{errors.mse:.4g}",
        f"{errors.mse_last_value:.4g}",
    )


def _histories(results: Results) -> list[tuple[str, ...]]:
    if not results.histories:
        return []
    count = sum(one.count for one in results.histories)
    return [(f"{count:,}", f"{sum(len(one.violations) for one in results.histories):,}")]


def _point(replays: Sequence[Replayed]) -> str:
    """The first seed's attainment in percent @ USD per thousand."""
    if not replays:
        return MISSING
    return f"{_percent(replays[0]):.1f} @ {_usd(replays[0]):.3f}"


def _percent(one: Replayed) -> float:
    return 100 * (one.attainment or 0.0)


def _usd(one: Replayed) -> float:
    return float("inf") if one.cost_per_thousand_usd is None else one.cost_per_thousand_usd


def _flips(one: Replayed) -> float:
    return one.flips


def _mean(replays: Sequence[Replayed], value: Callable[[Replayed], float]) -> float:
    return fmean(value(one) for one in replays)


def _spread(replays: Sequence[Replayed], value: Callable[[Replayed], float], digits: int) -> str:
    """Mean ± standard deviation over the seeds."""
    mean = f"{_mean(replays, value):,.{digits}f}"
    if len(replays) < 2:  # noqa: PLR2004 - a single value has no spread
        return mean
    return f"{mean} ± {stdev(value(one) for one in replays):,.{digits}f}"


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"### {title}", "", _line(header), _line(["---"] * len(header))]
    return "\n".join([*lines, *(_line(row) for row in rows), ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
