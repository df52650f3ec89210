"""Plans that are still the cheapest: what is asked of the planner hardly changes from tick to tick.

The cheapest plan for a need is the cheapest for every higher need that it meets as well, because whatever
else meets the higher need was dearer before. It also stays the cheapest while nodes are started or given
up on the way to it: no other plan saves more start premiums by that. So an answer is used again where
that is certain, and never otherwise.
"""

from collections import deque
from dataclasses import dataclass, field

from control_lambda.core.plan.planner import Need, Plan, PoolOption, plan
from control_lambda.core.plan.units import RPM_TOLERANCE

Table = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What the planner is asked: the arguments of `planner.plan`, as values that can be compared."""

    options: tuple[PoolOption, ...]
    tables: dict[str, Table]
    need: Need


@dataclass(slots=True)
class PlanMemory:
    """The last few questions with their plans; its answers are those of `planner.plan`."""

    kept: int = 16
    answered: deque[tuple[PlanQuestion, Plan]] = field(default_factory=deque)

    def plan(self, question: PlanQuestion) -> Plan:
        """The cheapest plan.

        Raises:
            ValueError: as `planner.plan` does.
        """
        for before, best in self.answered:
            if still_best(best, before, question):
                return best
        best = plan(question.options, question.tables, question.need)
        self.answered.appendleft((question, best))
        if len(self.answered) > self.kept:
            self.answered.pop()
        return best


def still_best(best: Plan, before: PlanQuestion, now: PlanQuestion) -> bool:
    """Whether `best`, the cheapest plan for `before`, is certainly the cheapest for `now`."""
    if now == before:
        return True
    if best.thrifty or best.shortfall_rpm or len(now.options) != len(before.options):
        return False
    return (
        now.tables == before.tables
        and _covers(best, before.need, now.need)
        and all(
            _on_the_way(best.nodes.get(option.name, -1), earlier, option)
            for earlier, option in zip(before.options, now.options, strict=True)
        )
    )


def _covers(best: Plan, before: Need, now: Need) -> bool:
    """Whether the plan meets the need, which is no lower than before."""
    return (
        (now.reserve, now.outlived, now.budget_usd_per_hour)
        == (before.reserve, before.outlived, before.budget_usd_per_hour)
        and now.demand_rpm <= best.outlives_rpm
        and before.demand_rpm <= now.demand_rpm <= best.carried_rpm + RPM_TOLERANCE
        and before.survival_rpm <= now.survival_rpm <= best.surviving_rpm + RPM_TOLERANCE
    )


def _on_the_way(planned: int, before: PoolOption, now: PoolOption) -> bool:
    """Whether the option is as it was, but for bounds and nodes in service that came closer to the plan."""
    if before is now:
        return True
    closer = before.in_service <= now.in_service <= planned or planned <= now.in_service <= before.in_service
    if not closer or not before.low <= now.low <= planned <= now.high <= before.high:
        return False
    return (
        before.price_usd_per_hour == now.price_usd_per_hour
        and before.risk_usd_per_hour == now.risk_usd_per_hour
        and before.start_premium == now.start_premium
        and (before.name, before.unit, before.market) == (now.name, now.unit, now.market)
    )
