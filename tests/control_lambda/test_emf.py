from collections.abc import Mapping
from typing import Any

import pytest

from control_lambda.core.metrics import OF_FLEET, OF_POOL, OF_UNIT, Metric, Owner
from control_lambda.core.reasons import Code, Failure, Skip
from control_lambda.core.record import answer_from_plain
from control_lambda.emf import metrics_of

CLUSTER = "fulcrum-sd21"
UNIT = {
    "ready": 2,
    "weight": 999,
    "previous_weight": 999,
    "latency_seconds": 0.9,
    "trusted_rpm": 200.0,
    "signal_age_seconds": 120.0,
}
POOL = {"ready": 2, "desired": 2, "planned": 2, "price": 0.7582, "available": True, "evidence": ""}
RECORD: Mapping[str, Any] = {
    "tick": 7,
    "at": 1767225600.0,
    "mode": "cost",
    "reasons": [],
    "demand_rpm": 812.0,
    "forecast_rpm": 1011.4,
    "cost_usd_per_hour": 7.582,
    "savings_usd_per_hour": 1.0,
    "budget_usd_per_hour": 40.0,
    "signal_age_seconds": 120.0,
    "units": {"inf2": UNIT},
    "pools": {"inf2-spot": POOL, "inf2-on-demand": POOL},
    "writes": [],
    "failures": [],
}
FLEET_FLAGS = (
    "Paused",
    "BudgetReached",
    "Shortfall",
    "PoolsShort",
    "QuotaReached",
    "ForeignWeights",
    "LeaseHeld",
)


def put(record: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, float]]:
    """The record's metrics by the values of their dimensions after the fleet's."""
    return {
        tuple(dimensions.values())[1:]: {metric.metric_name: value for metric, value in values.items()}
        for dimensions, values in metrics_of(answer_from_plain(record), CLUSTER)
    }


def of_loop(dimensions: tuple[str, ...]) -> set[Metric]:
    """The loop's metrics of these dimensions in the table."""
    return {one for one in Metric if one.owner is Owner.LOOP and one.dimensions == dimensions}


def reason(code: Code, subject: str = "") -> dict[str, str]:
    """A reason as a record tells it."""
    return {"code": code.value, "text": "said in words", "subject": subject}


def test_every_tick_puts_every_metric_of_the_loop_for_the_fleet_each_unit_and_each_pool() -> None:
    """Zeros included: an alarm takes absence for a tick that did not run."""
    found = {
        tuple(dimensions): set(values)
        for dimensions, values in metrics_of(answer_from_plain(RECORD), CLUSTER)
    }
    for dimensions in (OF_FLEET, OF_UNIT, OF_POOL):
        assert found.pop(dimensions) ^ of_loop(dimensions) == set()
    assert not found
    assert {one.cadence for one in Metric if one.owner is Owner.LOOP} == {"tick"}


def test_each_unit_and_each_pool_puts_the_same_metrics_whatever_it_does() -> None:
    """One without nodes, weight or capacity too."""
    idle = {**UNIT, "ready": 0, "weight": 0}
    refused = {**POOL, "ready": 0, "desired": 0, "available": False, "evidence": "shortage"}
    record = {**RECORD, "units": {"inf2": UNIT, "g5": idle}, "pools": {"inf2-spot": POOL, "g5-spot": refused}}
    told = put(record)
    assert told[("g5",)].keys() == told[("inf2",)].keys()
    assert told[("g5-spot",)].keys() == told[("inf2-spot",)].keys()


def test_a_quiet_tick_raises_no_flag() -> None:
    """Every flag is put as zero, so that its absence means that no tick ran."""
    told = put(RECORD)
    assert {flag: told[()][flag] for flag in FLEET_FLAGS} == dict.fromkeys(FLEET_FLAGS, 0)
    assert told[("inf2-spot",)]["NodeGroupHeld"] == 0


@pytest.mark.parametrize(
    ("code", "metric"),
    [
        (Code.PAUSED, "Paused"),
        (Code.BUDGET, "BudgetReached"),
        (Code.SHORTFALL, "Shortfall"),
        (Code.FOREIGN_WEIGHTS, "ForeignWeights"),
    ],
)
def test_a_reason_raises_its_own_flag_and_no_other(code: Code, metric: str) -> None:
    """An alarm watches exactly what the record tells."""
    told = put({**RECORD, "reasons": [reason(code)]})[()]
    assert {flag for flag in FLEET_FLAGS if told[flag]} == {metric}


def test_weights_overwritten_between_write_and_reading_back_are_foreign_too() -> None:
    """The record tells these as a failure; the hand is the same."""
    told = put({**RECORD, "failures": [Failure.FOREIGN_WEIGHTS.told("read back {}, wrote {'inf2': 999}")]})[
        ()
    ]
    assert (told["ForeignWeights"], told["TickFailures"]) == (1, 1)


def test_a_held_node_group_is_flagged_on_its_own_pool() -> None:
    """The alarm names the pool."""
    told = put({**RECORD, "reasons": [reason(Code.HELD, "inf2-spot")]})
    assert told[("inf2-spot",)]["NodeGroupHeld"] == 1
    assert told[("inf2-on-demand",)]["NodeGroupHeld"] == 0


@pytest.mark.parametrize(
    ("evidence", "quota", "short"), [("quota", 1, 0), ("shortage", 0, 2), ("never-ready", 0, 0), ("", 0, 0)]
)
def test_what_refuses_a_pool_is_told_by_its_kind(evidence: str, quota: int, short: int) -> None:
    """A shortage passes by itself; a quota has to be raised by somebody."""
    refused = {**POOL, "available": not evidence, "evidence": evidence}
    told = put({**RECORD, "pools": {"inf2-spot": refused, "g5-spot": refused, "g5-on-demand": POOL}})[()]
    assert (told["QuotaReached"], told["PoolsShort"]) == (quota, short)


def test_a_tick_that_finds_the_lease_held_says_that_alone() -> None:
    """It decided nothing, but an alarm has to see that ticks come to nothing."""
    assert put({"skipped": Skip.LEASE_HELD.told()}) == {(): {"LeaseHeld": 1}}


def test_a_tick_that_comes_twice_says_nothing() -> None:
    """A duplicate is no news."""
    assert put({"skipped": Skip.NOT_LATER.told(time="2026-01-01T00:00:00Z")}) == {}
