"""Remembered plans against fresh ones: whatever is used again is what the planner would say."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from control_lambda.core.plan.memory import PlanMemory, PlanQuestion, still_best
from control_lambda.core.plan.planner import Need, PoolOption, plan
from control_lambda.core.plan.staffing import carried_table

TABLES: Final = {"inf2": carried_table(0.50, 2.0, 0.005, 24), "g5": carried_table(0.60, 2.0, 0.005, 24)}
RESERVE: Final = {"spot": 0.5}


def _option(unit: str, market: str, price: float, in_service: int = 0, high: int = 12) -> PoolOption:
    return PoolOption(f"{unit}-{market}", unit, market, price, 0, high, in_service, 0.3)


OPTIONS: Final = (
    _option("inf2", "on-demand", 0.7582),
    _option("inf2", "spot", 0.30),
    _option("g5", "on-demand", 1.006),
    _option("g5", "spot", 0.42),
)
QUESTION: Final = PlanQuestion(OPTIONS, dict(TABLES), Need(900.0, 500.0, RESERVE, 1000.0))


def _with_in_service(options: Sequence[PoolOption], in_service: Sequence[int]) -> tuple[PoolOption, ...]:
    return tuple(replace(option, in_service=count) for option, count in zip(options, in_service, strict=True))


def drifted(question: PlanQuestion, draw: random.Random) -> PlanQuestion:
    """The question a tick later: nodes came or went, demand moved a little, at times a bound did."""
    options = tuple(
        replace(one, in_service=min(one.high, max(0, one.in_service + draw.choice((-1, 0, 0, 1, 2)))))
        for one in question.options
    )
    if draw.random() < 0.2:
        place = draw.randrange(len(options))
        high = draw.randint(max(options[place].in_service, 1), 12)
        options = (*options[:place], replace(options[place], high=high), *options[place + 1 :])
    demand = question.need.demand_rpm * draw.uniform(0.99, 1.02)
    survival = min(demand, question.need.survival_rpm * draw.choice((1.0, 1.0, 0.95, 1.05)))
    return PlanQuestion(
        options, question.tables, replace(question.need, demand_rpm=demand, survival_rpm=survival)
    )


@pytest.mark.parametrize("seed", range(6))
def test_over_a_long_drift_every_answer_is_a_fresh_one(seed: int) -> None:
    """A plan is used again only where the planner would choose it again, node for node."""
    draw, memory, question, reused = random.Random(seed), PlanMemory(), QUESTION, 0
    for _ in range(60):
        question = drifted(question, draw)
        reused += any(still_best(best, before, question) for before, best in memory.answered)
        fresh = plan(question.options, question.tables, question.need)
        assert memory.plan(question).nodes == fresh.nodes
    assert reused > 0


def test_nodes_that_start_towards_the_plan_leave_it_the_cheapest() -> None:
    """The premiums that the plan's own nodes save by starting, no other plan saves more of."""
    best = plan(QUESTION.options, QUESTION.tables, QUESTION.need)
    started = _with_in_service(OPTIONS, [max(0, best.nodes[one.name] - 1) for one in OPTIONS])
    assert still_best(best, QUESTION, replace(QUESTION, options=started))


def test_nodes_beyond_the_plan_make_it_be_asked_anew() -> None:
    """Nodes that run already may be cheaper to keep than those of the plan to start."""
    best = plan(QUESTION.options, QUESTION.tables, QUESTION.need)
    beyond = _with_in_service(OPTIONS, [best.nodes[one.name] + 1 for one in OPTIONS])
    assert not still_best(best, QUESTION, replace(QUESTION, options=beyond))


def test_a_higher_need_that_the_plan_meets_is_answered_by_it_and_a_lower_one_is_not() -> None:
    """What meets the higher need was dearer before; for the lower one there may be something cheaper."""
    best = plan(QUESTION.options, QUESTION.tables, QUESTION.need)
    higher = replace(QUESTION.need, demand_rpm=best.carried_rpm)
    lower = replace(QUESTION.need, demand_rpm=QUESTION.need.demand_rpm - 1.0)
    beyond = replace(QUESTION.need, demand_rpm=best.carried_rpm + 1.0)
    assert still_best(best, QUESTION, replace(QUESTION, need=higher))
    assert not still_best(best, QUESTION, replace(QUESTION, need=lower))
    assert not still_best(best, QUESTION, replace(QUESTION, need=beyond))


def test_a_plan_that_lacked_money_is_used_again_only_for_the_very_same_problem() -> None:
    """Without premiums in the comparison, nothing can be said about nodes that start."""
    poor = replace(QUESTION, need=replace(QUESTION.need, budget_usd_per_hour=2.0))
    best = plan(poor.options, poor.tables, poor.need)
    assert best.thrifty
    assert still_best(best, poor, poor)
    assert not still_best(best, poor, replace(poor, options=_with_in_service(OPTIONS, [1, 1, 0, 0])))


def test_only_the_last_few_plans_are_kept() -> None:
    """The memory does not grow."""
    memory = PlanMemory(kept=2)
    for demand in (100.0, 300.0, 600.0, 900.0):
        memory.plan(replace(QUESTION, need=replace(QUESTION.need, demand_rpm=demand, survival_rpm=0.0)))
    assert len(memory.answered) == 2
