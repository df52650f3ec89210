"""The measured figures of a run in words: the headline, and the lines of a comparison table."""

from collections.abc import Sequence
from math import floor
from typing import Final

from control_lambda.core.fleet import Objective
from twin.report.results import Summary

REFERENCE: Final = "sample-loop"
MISSING: Final = "–"
# From here on two decimals tell enough, USD.
CENTS: Final = 0.1

TABLE_HEADER: Final = (
    "policy",
    "within objective",
    "USD per 1,000",
    "× minimum",
    "p95",
    "failed",
    "launches",
    "flips",
)


def headline(summary: Summary, objective: Objective, comparison: Sequence[Summary] = ()) -> str:
    """What the run achieved, in one sentence; what was not measured is left out."""
    parts = [f"{_attainment(summary)} within {objective.latency_seconds:g} s"]
    if summary["cost_per_thousand_usd"] is not None:
        parts[0] += f" at ${_significant(summary['cost_per_thousand_usd'])} per 1,000 images"
    parts += _against_reference(summary, comparison)
    if summary.get("cost_over_oracle") is not None:
        parts.append(f"{summary['cost_over_oracle']:.2g} × the possible minimum")
    return ", ".join(parts)


def table_rows(comparison: Sequence[Summary]) -> list[tuple[str, ...]]:
    """A row per policy, in the order of `TABLE_HEADER`."""
    return [
        (
            summary["policy"],
            _attainment(summary),
            _or_missing(summary["cost_per_thousand_usd"], "${:.3f}"),
            _or_missing(summary["cost_over_oracle"], "{:.2f}"),
            _or_missing(summary["p95_seconds"], "{:.2f} s"),
            f"{summary['failed']:,}",
            f"{summary['node_launches']:,}",
            f"{summary['flips']:,}",
        )
        for summary in comparison
    ]


def _attainment(summary: Summary) -> str:
    """The share within the objective, rounded down: 99.97 % is no 100 %."""
    share = summary["slo_attainment"]
    return "no request" if share is None else f"{floor(share * 1000) / 10:.1f} %"


def _against_reference(summary: Summary, comparison: Sequence[Summary]) -> list[str]:
    costs = {other["policy"]: other["cost_per_thousand_usd"] for other in comparison}
    ours, reference = summary["cost_per_thousand_usd"], costs.get(REFERENCE)
    if not ours or not reference or summary["policy"] == REFERENCE:
        return []
    change = ours / reference - 1
    return [f"{abs(change):.0%} {'below' if change <= 0 else 'above'} the reference loop".replace("%", " %")]


def _significant(usd: float) -> str:
    """Cents, or three decimals below ten cents."""
    return f"{usd:.2f}" if usd >= CENTS else f"{usd:.3f}"


def _or_missing(value: float | None, form: str) -> str:
    return MISSING if value is None else form.format(value)
