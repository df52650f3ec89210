"""A full budget is no deadlock: nodes are exchanged towards the plan, a few at a time."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, EvidenceKind, PoolSignals, Refusal, Snapshot, State
from control_lambda.core.plan import sizes
from control_lambda.core.plan.planner import Plan
from control_lambda.core.plan.staffing import carried_table
from control_lambda.core.supply.refusals import forget_proven, remember
from control_lambda.core.supply.supply import Supply, cost_per_hour, supplies_of
from tests.control_lambda.core.examples import NOON, fleet, group, unit

FLEET = fleet(unit("cheap", price=0.5), unit("dear", price=2.0), budget_usd_per_hour=8.4)
CHEAP, DEAR = (pool.name for pool in FLEET.pools)
TABLES = {name: tuple(100.0 * nodes for nodes in range(21)) for name in ("cheap", "dear")}
# As of a queue: the first node carries little, so that the cheapest plan has no use for a probe.
QUEUES = {name: (0.0, *(100.0 * nodes - 80.0 for nodes in range(1, 21))) for name in TABLES}

# One exchange at a time, each for as long as a node starts.
MOST_TICKS = 100
START_TICKS = 2
REFUSED_TICKS = 30


def found(
    pools: Mapping[str, PoolSignals], steered: Fleet = FLEET, refusals: Mapping[str, Refusal] | None = None
) -> tuple[Supply, ...]:
    """The supplies of these groups."""
    return supplies_of(Snapshot(NOON, pools=pools), State(refusals=refusals or {}), steered, 0.0)


def wanted(
    pools: Mapping[str, PoolSignals], plan: Mapping[str, int], demand: float = 500.0
) -> dict[str, int]:
    """The sizes of this tick on the way to the plan."""
    return sizes.desired(found(pools), Plan(plan, 0.0, 0.0, 0.0, 0.0), TABLES, FLEET, demand)


def test_at_a_full_budget_one_node_leaves_for_one_of_the_plan() -> None:
    """Four dear nodes cannot be spared and leave no room: nothing would ever change."""
    assert wanted({CHEAP: group(CHEAP), DEAR: group(DEAR, 4)}, {CHEAP: 5, DEAR: 0}) == {CHEAP: 1, DEAR: 3}


def test_the_next_exchange_waits_until_the_new_node_serves() -> None:
    """What starts is paid for and carries nothing: a fleet of such nodes would serve nobody."""
    pools = {CHEAP: group(CHEAP, 0, starting=[NOON - 60]), DEAR: group(DEAR, 3)}
    after = wanted(pools, {CHEAP: 5, DEAR: 0})

    assert after[DEAR] == 3


def test_above_the_budget_only_so_many_leave_that_it_pays() -> None:
    """A price has risen: the rest of the surplus still carries demand."""
    assert wanted({CHEAP: group(CHEAP, 1), DEAR: group(DEAR, 5)}, {CHEAP: 5, DEAR: 0}) == {CHEAP: 1, DEAR: 3}


def test_a_probe_takes_the_place_of_a_dear_node() -> None:
    """The budget is full of dear nodes when the cheap pool may be back."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, CHEAP, NOON - 180, NOON - 60, 1)}
    pools = {CHEAP: group(CHEAP), DEAR: group(DEAR, 4)}
    plan = sizes.target(found(pools, refusals=refusals), QUEUES, FLEET, 320.0, 0.0)

    assert plan.nodes == {CHEAP: 1, DEAR: 3}
    assert wanted(pools, plan.nodes) == {CHEAP: 1, DEAR: 3}


def test_no_probe_takes_a_place_while_a_node_starts() -> None:
    """The node that makes up for a probe that was refused has to serve first."""
    refusals = {"x": Refusal(EvidenceKind.SHORTAGE, CHEAP, NOON - 180, NOON - 60, 1)}
    pools = {CHEAP: group(CHEAP), DEAR: group(DEAR, 3, starting=[NOON - 60])}

    assert sizes.target(found(pools, refusals=refusals), QUEUES, FLEET, 320.0, 0.0).nodes == {
        CHEAP: 0,
        DEAR: 4,
    }


@dataclass
class World:
    """Groups that get what they ask for, but for one that is refused at first; nodes soon serve."""

    fleet: Fleet
    refused: str
    ready: dict[str, int]
    starting: dict[str, list[int]] = field(default_factory=dict)
    tick: int = 0
    state: State = field(default_factory=State)

    def supplies(self) -> tuple[Supply, ...]:
        """What a tick sees, with what it has learned of refusals."""
        at = NOON + 60.0 * self.tick
        pools = {
            name: group(name, count, starting=[NOON + 60.0 * since for since in self.starting.get(name, ())])
            for name, count in self.ready.items()
        }
        proven = forget_proven(self.state.refusals, pools, self.fleet, at, self.state.in_service)
        in_service = {name: pool.in_service for name, pool in pools.items()}
        self.state = replace(self.state, refusals=proven, in_service=in_service)
        return supplies_of(Snapshot(at, pools=pools), self.state, self.fleet, 0.0)

    def ask(self, desired: Mapping[str, int]) -> None:
        """Surplus leaves, what was launched long enough ago serves, what is new starts or is refused."""
        self.tick += 1
        for name, nodes in desired.items():
            launched = self.starting.get(name, [])
            coming = [at for at in launched if at + START_TICKS > self.tick]
            self.ready[name] += len(launched) - len(coming)
            new = max(0, nodes - self.ready[name] - len(coming))
            if new and name == self.refused and self.tick <= REFUSED_TICKS:
                self._refuse(name)
                new = 0
            self.ready[name] -= max(0, self.ready[name] + len(coming) - nodes)
            self.starting[name] = coming + [self.tick] * new

    def _refuse(self, name: str) -> None:
        evidence = Evidence(name, EvidenceKind.SHORTAGE, NOON + 60.0 * self.tick)
        known = remember(self.state.refusals, [evidence], self.fleet)
        self.state = replace(self.state, refusals=known)


def random_fleet(seed: int) -> Fleet:
    """Two to five units; the budget pays for a part of what the dearest of them would be filled with."""
    rng = random.Random(seed)
    units = [
        unit(
            f"u{number}",
            price=rng.uniform(0.3, 3.0),
            service=rng.uniform(0.3, 0.9),
            start=60.0,
            type=f"inf{number}.xlarge",
        )
        for number in range(rng.randint(2, 5))
    ]
    return fleet(*units, budget_usd_per_hour=rng.uniform(4.0, 15.0))


def filled_with_the_dearest(steered: Fleet, tables: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """As many nodes as the budget pays for, those first that cost most for what they carry."""
    order = sorted(
        steered.pools,
        key=lambda pool: -pool.price_usd_per_hour / max(1.0, tables[steered.unit_of[pool.name].name][-1]),
    )
    left, nodes = steered.budget_usd_per_hour, {}
    for pool in order:
        nodes[pool.name] = min(pool.nodes.max, int(left / pool.price_usd_per_hour))
        left -= nodes[pool.name] * pool.price_usd_per_hour
    return nodes


@pytest.mark.parametrize("seed", range(40))
def test_a_budget_full_of_dear_nodes_ends_at_the_cheapest_plan(seed: int) -> None:
    """Within bounded ticks once launches are granted, and never above the budget on the way."""
    steered = random_fleet(seed)
    tables = {each.name: carried_table(each.profile.service_seconds, 2.0, 0.05, 20) for each in steered.units}
    rng = random.Random(seed)
    world = World(steered, rng.choice(steered.pools).name, filled_with_the_dearest(steered, tables))
    four_each = {pool.name: 4 for pool in steered.pools}
    demand = rng.uniform(0.3, 1.2) * sizes.carried(world.supplies(), four_each, tables)
    for _ in range(REFUSED_TICKS + MOST_TICKS):
        supplies = world.supplies()
        plan = sizes.target(supplies, tables, steered, demand, 0.0)
        chosen = sizes.desired(supplies, plan, tables, steered, demand)
        assert cost_per_hour(supplies, chosen) <= steered.budget_usd_per_hour + 1e-9
        world.ask(chosen)

    supplies = world.supplies()
    cheapest = sizes.unconstrained_plan(supplies, tables, steered, demand)
    premium = max(sizes.start_premium(supply) for supply in supplies)
    assert sizes.carried(supplies, world.ready, tables) >= min(demand, cheapest.carried_rpm) - 0.1
    assert cost_per_hour(supplies, world.ready) <= cheapest.cost_usd_per_hour * (1 + premium) + 1e-9
