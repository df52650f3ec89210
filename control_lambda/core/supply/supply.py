"""What each pool has and may get: the snapshot seen through memory, one frozen value per pool."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from control_lambda.core.fleet import Fleet, Pool, Unit
from control_lambda.core.model import PoolSignals, Refusal, Snapshot, State
from control_lambda.core.supply import losses, refusals

# Unit name to what it carries within the objective (rpm), by its number of nodes.
Tables = Mapping[str, Sequence[float]]


class Supply(NamedTuple):
    """One pool at a tick.

    `ready` nodes serve and are not about to be taken away, `leaving` ones serve until they are;
    `starting` ones are expected to serve; `in_service` counts all that the group holds. `most` is how
    many nodes may be planned, `fixed` says that the size cannot be changed now (node group changing or gone,
    or not `sensed`: who serves is not known). `price` is USD per node and hour, `risk` what its losses cost
    on top of that. `awaits_build` says that there is no image or artifact yet that its nodes could run.
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
    refusal: Refusal | None
    sensed: bool
    fixed: bool
    awaits_build: bool = False

    @property
    def least(self) -> int:
        """The fewest nodes that fleet.yaml allows; none while there is nothing that they could run."""
        return 0 if self.awaits_build else self.pool.nodes.min

    @property
    def coming(self) -> int:
        """Nodes that serve or will."""
        return self.ready + self.starting


def supplies_of(
    snapshot: Snapshot, state: State, fleet: Fleet, usd_per_late_request: float
) -> tuple[Supply, ...]:
    """Every pool's supply, in the order of fleet.yaml; `state` is already brought up to the snapshot."""
    return tuple(
        _supply(pool, fleet.unit_of[pool.name], snapshot, state, usd_per_late_request) for pool in fleet.pools
    )


def rpm_of(table: Sequence[float], nodes: int) -> float:
    """What `nodes` nodes carry (rpm); at the most what the table ends with."""
    return table[min(nodes, len(table) - 1)]


def cost_per_hour(supplies: Sequence[Supply], nodes: Mapping[str, int]) -> float:
    """USD per hour of the given nodes by pool."""
    return sum(supply.price * nodes[supply.pool.name] for supply in supplies)


def _supply(pool: Pool, unit: Unit, snapshot: Snapshot, state: State, usd_per_late_request: float) -> Supply:
    signals = snapshot.pools.get(pool.name)
    if signals is None or not signals.health_known:
        return _as_remembered(pool, unit, signals, state, usd_per_late_request)
    return _as_sensed(pool, unit, signals, snapshot, state, usd_per_late_request)


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
        refusal=refusals.refusal_of(state.refusals, pool, unit),
        sensed=False,
        fixed=True,
    )


def _as_sensed(
    pool: Pool,
    unit: Unit,
    signals: PoolSignals,
    snapshot: Snapshot,
    state: State,
    usd_per_late_request: float,
) -> Supply:
    """A pool whose nodes were seen, without those that are about to go or come too late."""
    refusal = refusals.refusal_of(state.refusals, pool, unit)
    leaving = sum(1 for node in state.leaving if node in signals.ready)
    late = len(refusals.overdue(signals, unit, snapshot.at))
    awaits_build = _awaits_build(unit, snapshot, state)
    return Supply(
        pool=pool,
        unit=unit,
        price=_price(pool, state),
        risk=_risk(pool, unit, state, usd_per_late_request),
        ready=len(signals.ready) - leaving,
        leaving=leaving,
        starting=len(signals.starting) - late,
        in_service=signals.in_service,
        desired=signals.desired,
        most=0 if awaits_build else _most(pool, signals, refusal, snapshot.at),
        refusal=refusal,
        sensed=True,
        fixed=not signals.sizable,
        awaits_build=awaits_build,
    )


def _price(pool: Pool, state: State) -> float:
    """The last good live price, or fleet.yaml's."""
    return state.prices.get(pool.name, pool.price_usd_per_hour)


def _risk(pool: Pool, unit: Unit, state: State, usd_per_late_request: float) -> float:
    rate = losses.rate_per_hour(state.losses.get(pool.name), pool.market)
    return losses.risk_usd_per_hour(rate, unit, usd_per_late_request)


def _awaits_build(unit: Unit, snapshot: Snapshot, state: State) -> bool:
    """A unit that has served has its image, whatever became of the word that it was built."""
    return unit.name in snapshot.unbuilt and unit.name not in state.served


def _most(pool: Pool, signals: PoolSignals, refusal: Refusal | None, at: float) -> int:
    limit = refusals.launch_limit(refusal, signals, pool.nodes.max, at)
    return max(pool.nodes.min, min(limit, pool.nodes.max))
