"""Fast starters for a gap, where they pay for themselves before the plan's own nodes serve."""

import pytest

from control_lambda.core.model import EvidenceKind, Refusal, Snapshot, State
from control_lambda.core.plan.bridging import bridged
from control_lambda.core.plan.planner import Plan
from control_lambda.core.supply.supply import Supply, supplies_of
from tests.control_lambda.core.examples import NOON, fleet, group, unit

FLEET = fleet(unit("slow", price=0.5, start=600.0), unit("fast", price=1.0, start=300.0))
SLOW, FAST = (pool.name for pool in FLEET.pools)
TABLES = {name: tuple(100.0 * nodes for nodes in range(11)) for name in ("slow", "fast")}
# A fast node at one dollar is kept for eleven minutes and saves 100 rpm for five of them.
BREAK_EVEN_USD = 1.0 * 660 / 3600 / 500


def found(*, slow: int = 2, starting: int = 0, refused: bool = False) -> tuple[Supply, ...]:
    """The supplies with some slow nodes ready or starting and no fast one."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, FAST, NOON - 60, NOON + 60, 1)} if refused else {}
    pools = {SLOW: group(SLOW, slow, starting=[NOON - 60] * starting), FAST: group(FAST)}
    return supplies_of(Snapshot(NOON, pools=pools), State(refusals=refusals), FLEET, 0.0)


def bought(
    supplies: tuple[Supply, ...], *, late_usd: float = 1.0, now: float = 500.0, budget: float = 1000.0
) -> int:
    """The fast nodes beside a plan of five slow ones."""
    plan = Plan({SLOW: 5, FAST: 0}, 500.0, 500.0, 2.5, 0.0)
    return bridged(supplies, plan, TABLES, budget, now, late_usd).nodes[FAST]


def test_fast_starters_fill_the_gap_until_the_slow_ones_serve() -> None:
    """Two of five nodes serve: three hundred requests a minute would come late for five minutes."""
    assert bought(found()) == 3


@pytest.mark.parametrize(("late_usd", "nodes"), [(1.01 * BREAK_EVEN_USD, 3), (0.99 * BREAK_EVEN_USD, 0)])
def test_they_are_bought_while_they_save_more_than_they_cost(late_usd: float, nodes: int) -> None:
    """What the requests are worth that come in time, against the price until the last late node serves."""
    assert bought(found(), late_usd=late_usd) == nodes


def test_a_node_that_would_fill_half_of_its_part_has_to_pay_by_that_half() -> None:
    """Of the second fast node only fifty requests a minute are needed."""
    assert bought(found(), now=350.0, late_usd=1.5 * BREAK_EVEN_USD) == 1
    assert bought(found(), now=350.0, late_usd=2.5 * BREAK_EVEN_USD) == 2


def test_nothing_is_bridged_where_all_that_comes_is_carried() -> None:
    """The plan grows for what is expected, and nothing is late yet."""
    assert bought(found(), now=200.0) == 0


def test_nodes_that_start_already_close_the_gap() -> None:
    """What they come too late for was weighed when they were launched."""
    assert bought(found(starting=3)) == 0


def test_the_budget_bounds_the_bridge() -> None:
    """The plan costs two and a half dollars of four."""
    assert bought(found(), budget=4.0) == 1


def test_a_pool_that_is_refused_bridges_nothing() -> None:
    """Its probe is not due."""
    assert bought(found(refused=True)) == 0


def test_what_is_about_to_be_lost_is_bridged_at_its_notice() -> None:
    """The group replaces a node only once it is gone, two minutes later: others can start now."""
    alike = fleet(unit("slow", price=0.5, start=600.0), unit("fast", price=0.5, start=600.0))
    pools = {SLOW: group(SLOW, 5), FAST: group(FAST)}
    gone = {f"i-{SLOW}-{number}": NOON + 300.0 for number in range(5)}
    supplies = supplies_of(Snapshot(NOON, pools=pools), State(leaving=gone), alike, 0.0)

    assert bought(supplies) == 5
    assert bought(tuple(replace_leaving(supply) for supply in supplies)) == 0


def replace_leaving(supply: Supply) -> Supply:
    """The same nodes, none of them announced to go."""
    return supply._replace(ready=supply.ready + supply.leaving, leaving=0)
