"""What each pool has and may get: the snapshot seen through memory, one frozen value per pool."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from control_lambda.core.fleet import Fleet, Pool, Unit
from control_lambda.core.model import PoolSignals, Refusal, Snapshot, State, Suspension
from control_lambda.core.supply import losses, refusals
from control_lambda.core.supply.nodes import Census, censuses
from control_lambda.core.supply.replacing import Replacing, plan_replacing

# Unit name to what it carries within the objective (rpm), by its number of nodes.
Tables = Mapping[str, Sequence[float]]


class Supply(NamedTuple):
    """One pool at a tick. Nodes that are dead or hung are no capacity: all counts are without them.

    `ready` nodes serve and are not about to be taken away, `leaving` ones serve until they are;
    `starting` ones are expected to serve; `in_service` counts all that the group holds, suspects included,
    and `desired` all that it wants, in place of the doomed, too. `most` is how many nodes may be planned,
    `limit` how many the group may ever hold; `fixed` says that the size cannot be changed now (node group
    changing or gone, or not `sensed`: who serves is not known). `price` is USD per node and hour, `risk` what
    its losses cost on top of that. `awaits_build` says that there is no image or artifact yet that its nodes
    could run, `stopped` that a person suspended its launches.

    The `doomed` nodes, of no use or slow, are terminated in this tick, `useless` more are held and paid for;
    under the breaker what looks dead is `spared`, and counts as in service. `census` tells nodes by state.
    """

    pool: Pool
    unit: Unit
    price: float
    risk: float
    ready: int
    leaving: int
    starting: int
    in_service: int
    desired: int
    most: int
    limit: int
    refusal: Refusal | None
    sensed: bool
    fixed: bool
    awaits_build: bool = False
    stopped: bool = False
    useless: int = 0
    doomed: tuple[str, ...] = ()
    spared: bool = False
    census: Census = Census()

    @property
    def least(self) -> int:
        """The fewest nodes that fleet.yaml allows; none while there is nothing that they could run."""
        return 0 if self.awaits_build else min(self.pool.nodes.min, self.highest)

    @property
    def coming(self) -> int:
        """Nodes that serve or will."""
        return self.ready + self.starting

    @property
    def highest(self) -> int:
        """The most nodes of use within the limit: those of none take their room until they are gone."""
        return max(self.limit - self.useless, min(self.in_service, self.limit))

    def group_size(self, nodes: int) -> int:
        """What the group has to want for so many nodes of use."""
        wanted = nodes + self.useless
        return wanted if self.fixed else min(wanted, self.limit)

    @property
    def members(self) -> int:
        """All nodes that the group holds, whatever their state."""
        return self.in_service + self.useless + len(self.doomed)


def supplies_of(
    snapshot: Snapshot, state: State, fleet: Fleet, usd_per_late_request: float
) -> tuple[Supply, ...]:
    """Every pool's supply, in the order of fleet.yaml; `state` is already brought up to the snapshot."""
    found = censuses(snapshot, state, fleet)
    replacing = plan_replacing(snapshot, state, fleet, found)
    probed = _probed(snapshot, state, fleet, found)
    return tuple(
        _supply(
            pool,
            fleet.unit_of[pool.name],
            _Seen(snapshot, state, replacing, found.get(pool.name, Census()), pool.name in probed),
            usd_per_late_request,
        )
        for pool in fleet.pools
    )


def rpm_of(table: Sequence[float], nodes: int) -> float:
    """What `nodes` nodes carry (rpm); at the most what the table ends with."""
    return table[min(nodes, len(table) - 1)]


def cost_per_hour(supplies: Sequence[Supply], nodes: Mapping[str, int]) -> float:
    """USD per hour of the given nodes by pool, and of those of no use that are paid for beside them."""
    return sum(supply.price * (nodes[supply.pool.name] + supply.useless) for supply in supplies)


def spendable(supplies: Sequence[Supply], fleet: Fleet) -> float:
    """What of the budget is left for nodes that are of use, in USD per hour."""
    return max(0.0, fleet.budget_usd_per_hour - sum(supply.price * supply.useless for supply in supplies))


class _Seen(NamedTuple):
    """What a tick knows, of all pools and of one: its census, and whether a probe is out for it."""

    snapshot: Snapshot
    state: State
    replacing: Replacing
    census: Census
    probing: bool


def _probed(snapshot: Snapshot, state: State, fleet: Fleet, found: Mapping[str, Census]) -> frozenset[str]:
    """The pools that get no probe now, because one is out.

    While the nodes of two or more pools never get ready, something that they share is to blame: they have one
    probe together, in the pool that is cheapest per request of those whose turn it is.
    """
    probed = {name for name, census in found.items() if census.starting}
    hanging = refusals.hanging_pools(state.refusals) & found.keys()
    if len(hanging) > 1:
        due = [
            pool
            for pool in fleet.pools
            if pool.name in hanging
            and (refusal := refusals.refusal_of(state.refusals, pool, fleet.unit_of[pool.name])) is not None
            and snapshot.at >= refusal.until
        ]
        due.sort(key=lambda pool: (_price(pool, state) * _seconds(fleet, pool), pool.name))
        one_out = bool(hanging & probed)
        probed |= hanging if one_out or not due else hanging - {due[0].name}
    return frozenset(probed)


def _seconds(fleet: Fleet, pool: Pool) -> float:
    return fleet.unit_of[pool.name].profile.service_seconds


def _supply(pool: Pool, unit: Unit, seen: _Seen, usd_per_late_request: float) -> Supply:
    signals = seen.snapshot.pools.get(pool.name)
    if signals is None or not signals.health_known:
        return _as_remembered(pool, unit, signals, seen.state, usd_per_late_request)
    return _as_sensed(pool, unit, signals, seen, usd_per_late_request)


def _as_remembered(
    pool: Pool, unit: Unit, signals: PoolSignals | None, state: State, usd_per_late_request: float
) -> Supply:
    """A pool whose nodes were not seen: no change to it. What of it serves, `health` says."""
    known = state.desired.get(pool.name, pool.nodes.min) if signals is None else signals.in_service
    return Supply(
        pool=pool,
        unit=unit,
        price=_price(pool, state),
        risk=_risk(pool, unit, state, usd_per_late_request),
        ready=0,
        leaving=0,
        starting=0,
        in_service=known,
        desired=known if signals is None else signals.desired,
        most=known,
        limit=pool.nodes.max,
        refusal=refusals.refusal_of(state.refusals, pool, unit),
        sensed=False,
        fixed=True,
    )


def _as_sensed(
    pool: Pool, unit: Unit, signals: PoolSignals, seen: _Seen, usd_per_late_request: float
) -> Supply:
    """A pool whose nodes were seen, without those that are about to go, come too late or serve no more."""
    state, census = seen.state, seen.census
    refusal = refusals.refusal_of(state.refusals, pool, unit)
    spared = unit.name in seen.replacing.breaker
    doomed = seen.replacing.doomed.get(pool.name, ())
    held = census.hung if spared else census.useless
    useless = sum(1 for node in held if node not in doomed)
    in_service = signals.in_service - useless - len(doomed)
    leaving = sum(1 for node in state.leaving if node in signals.ready)
    awaits_build = _awaits_build(unit, seen.snapshot, state)
    supply = Supply(
        pool=pool,
        unit=unit,
        price=_price(pool, state),
        risk=_risk(pool, unit, state, usd_per_late_request),
        ready=len(signals.ready.difference(doomed)) - leaving,
        leaving=leaving,
        starting=len(census.starting),
        in_service=in_service,
        desired=max(0, signals.desired - useless),
        most=0,
        limit=_limit(pool, signals, state, seen.snapshot.at),
        refusal=refusal,
        sensed=True,
        fixed=not signals.sizable,
        awaits_build=awaits_build,
        stopped=signals.launch_suspended is Suspension.PERSON,
        useless=useless,
        doomed=doomed,
        spared=spared,
        census=census,
    )
    return supply if awaits_build else supply._replace(most=_most(supply, seen))


def _limit(pool: Pool, signals: PoolSignals, state: State, at: float) -> int:
    """The most nodes that its owner, a person, and what a refused write taught leave the group."""
    limits = [pool.nodes.max]
    if signals.maximum is not None:
        limits.append(signals.maximum)
    learned = state.limits.get(pool.name)
    if learned is not None and at < learned.until:
        limits.append(learned.nodes)
    return min(limits)


def _most(supply: Supply, seen: _Seen) -> int:
    if supply.stopped:
        return min(supply.in_service, supply.highest)
    limit = refusals.launch_limit(
        supply.refusal, supply.in_service, supply.highest, seen.snapshot.at, probing=seen.probing
    )
    return max(supply.least, min(limit, supply.highest))


def _price(pool: Pool, state: State) -> float:
    """The last good live price, or fleet.yaml's."""
    return state.prices.get(pool.name, pool.price_usd_per_hour)


def _risk(pool: Pool, unit: Unit, state: State, usd_per_late_request: float) -> float:
    rate = losses.rate_per_hour(state.losses.get(pool.name), pool.market)
    return losses.risk_usd_per_hour(rate, unit, usd_per_late_request)


def _awaits_build(unit: Unit, snapshot: Snapshot, state: State) -> bool:
    """A unit that has served has its image, whatever became of the word that it was built."""
    return unit.name in snapshot.unbuilt and unit.name not in state.served
