"""One round of reading, side by side: every source may fail alone, and is then named.

`AwsSensors` reads AWS with it, the twin its own world: the same failures leave both with the same snapshot.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from control_lambda.aws.calls import Asked, Calls
from control_lambda.aws.joining import (
    NO_NODE_GROUP,
    Answers,
    Group,
    Instance,
    Joined,
    NodeGroup,
    Target,
    by_node,
    healthy_of,
    join,
)
from control_lambda.aws.metrics import MINUTE_SECONDS, PRICE_READ_SECONDS, Counts, Prices
from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, PoolSignals, Snapshot
from control_lambda.core.reasons import Failure
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.ports import Settings

# A health issue carries no time: it counts as observed once in this period, not anew in every tick.
ISSUE_SECONDS: Final = 900.0
# What the pause parameter may hold.
NO_PAUSE: Final = ""
OBSERVE: Final = "observe"

Join = Callable[[Answers, Fleet, float], Joined]


class Sources(Protocol):
    """Everything that a tick reads; each call may raise what `errors.FAILED_CALL` names."""

    @property
    def units(self) -> Sequence[str]:
        """The units that are deployed."""
        ...

    @property
    def pools(self) -> Sequence[str]:
        """The pools that are deployed."""
        ...

    def fleet_json(self) -> str:
        """The fleet parameter."""
        ...

    def pause(self) -> str:
        """What the pause parameter holds; empty when there is none."""
        ...

    def traffic(self, fleet: Fleet, at: float) -> Counts:
        """The load balancer's counts, what slow nodes say, and the launches counted as refused."""
        ...

    def prices(self, fleet: Fleet, at: float) -> Prices:
        """The pools' live prices."""
        ...

    def weights(self, fleet: Fleet) -> Mapping[str, int]:
        """The rule as it stands."""
        ...

    def class_weights(self, fleet: Fleet) -> Mapping[str, Mapping[str, int]]:
        """The rules of the query classes before the last."""
        ...

    def rows(self) -> Mapping[str, Mapping[str, int]]:
        """The weights of every rule that forwards to units alone, by its priority."""
        ...

    def instances(self) -> Mapping[str, Instance]:
        """Every instance of the cluster, by id."""
        ...

    def groups(self) -> Mapping[str, Group]:
        """Every Auto Scaling group of the fleet, by pool."""
        ...

    def node_group(self, pool: str) -> NodeGroup:
        """The pool's node group."""
        ...

    def targets(self, unit: str) -> Mapping[str, Target]:
        """The unit's targets, by address."""
        ...

    def refusals(self, pool: str, group: str, at: float) -> tuple[Evidence, ...]:
        """The recent refused launches of the pool's group, latest first."""
        ...


@dataclass(frozen=True, slots=True)
class Sensed:
    """What a round brought: the snapshot, and the names of the pools' Auto Scaling groups."""

    snapshot: Snapshot
    group_names: Mapping[str, str]


def sense(
    sources: Sources,
    calls: Calls,
    fleet: Fleet,
    at: float,
    evidence: Sequence[Evidence],
    joining: Join = join,
) -> Sensed:
    """Read everything; what fails is left out and named."""
    asked_traffic = calls.ask("metrics", sources.traffic, fleet, at)
    asked_prices = calls.ask("prices", sources.prices, fleet, at) if prices_due(at) else None
    asked_weights = calls.ask("weights", sources.weights, fleet)
    has_rows = len(fleet.classes) > 1
    asked_rows = calls.ask("weights of classes", sources.class_weights, fleet) if has_rows else None
    answers = _answers(sources, calls, fleet, asked_prices)
    joined = joining(answers, fleet, at)
    refused = _refusals(sources, calls, joined.pools, answers, at)
    traffic = calls.answer(asked_traffic) or Counts({}, {}, ())
    calls.failures.extend(traffic.invalid)
    snapshot = Snapshot(
        at=at,
        minutes=traffic.minutes,
        untargeted=traffic.untargeted,
        pools=joined.pools,
        healthy=joined.healthy,
        targets=joined.registered,
        node_seconds=by_node(traffic.node_seconds, answers.instances),
        weights=calls.answer(asked_weights),
        class_weights=(calls.answer(asked_rows) or {}) if asked_rows else {},
        evidence=(*evidence, *traffic.refused, *refused),
        failures=tuple(calls.failures),
    )
    return Sensed(snapshot, {pool: group.name for pool, group in (answers.groups or {}).items()})


def prices_due(at: float) -> bool:
    """Whether a tick at `at` reads prices: in one minute of ten, as they are put every hour and reads cost.

    Between reads the state's last good ones hold.
    """
    return int(at) // MINUTE_SECONDS * MINUTE_SECONDS % PRICE_READ_SECONDS == 0


def settings(sources: Sources, calls: Calls) -> Settings:
    """The fleet parameter and the pause parameter; each may fail without the other.

    A pause parameter that holds what is not valid was meant to pause.
    """
    asked_fleet = calls.ask("fleet-parameter", sources.fleet_json)
    asked_pause = calls.ask("pause-parameter", sources.pause)
    fleet_json, pause = calls.answer(asked_fleet), calls.answer(asked_pause)
    if pause not in {None, NO_PAUSE, OBSERVE}:
        calls.failures.append(Failure.PAUSE_PARAMETER.told(f"{pause!r}; valid: {OBSERVE}"))
    return Settings(fleet_json, None if pause is None else pause != NO_PAUSE, tuple(calls.failures))


def vital_signs(sources: Sources, calls: Calls) -> VitalSigns:
    """What survival needs, of every unit that is deployed; what fails is left out and named."""
    asked_rows = calls.ask("weights", sources.rows)
    asked_targets = {
        unit: calls.ask(f"target-health {unit}", sources.targets, unit) for unit in sources.units
    }
    rows = calls.answer(asked_rows)
    targets = {unit: calls.answer(asked) for unit, asked in asked_targets.items()}
    healthy = {unit: healthy_of(found) for unit, found in targets.items() if found is not None}
    return VitalSigns(rows, healthy, tuple(calls.failures))


def _answers(sources: Sources, calls: Calls, fleet: Fleet, asked_prices: Asked[Prices] | None) -> Answers:
    """What the nodes' sources say; a pool without an Auto Scaling group is named."""
    asked_instances = calls.ask("instances", sources.instances)
    asked_groups = calls.ask("groups", sources.groups)
    asked_targets = {
        unit.name: calls.ask(f"target-health {unit.name}", sources.targets, unit.name)
        for unit in fleet.units
        if unit.name in sources.units
    }
    asked_node_groups = {
        pool.name: calls.ask(f"node-group {pool.name}", sources.node_group, pool.name)
        for pool in fleet.pools
        if pool.name in sources.pools
    }
    prices = (calls.answer(asked_prices) if asked_prices else None) or Prices({})
    calls.failures.extend(prices.invalid)
    instances, groups = calls.answer(asked_instances), calls.answer(asked_groups)
    targets = {unit: calls.answer(asked) for unit, asked in asked_targets.items()}
    node_groups = {pool: calls.answer(asked) for pool, asked in asked_node_groups.items()}
    if groups is not None:
        missing = [pool.name for pool in fleet.pools if pool.name not in groups]
        calls.failures.extend(f"{pool}: no Auto Scaling group" for pool in missing)
    return Answers(
        instances=instances,
        groups=groups,
        node_groups={pool: found for pool, found in node_groups.items() if found is not None},
        targets={unit: found for unit, found in targets.items() if found is not None},
        prices=prices.known,
    )


def _refusals(
    sources: Sources, calls: Calls, pools: Mapping[str, PoolSignals], answers: Answers, at: float
) -> list[Evidence]:
    """Why the pools that hold fewer nodes than they want do: the group's word, or else EKS's."""
    groups = answers.groups or {}
    asked = {
        pool: calls.ask(f"scaling-activities {pool}", sources.refusals, pool, groups[pool].name, at)
        for pool, signals in pools.items()
        if signals.desired > signals.in_service
    }
    found: list[Evidence] = []
    for pool, waiting in asked.items():
        refused = calls.answer(waiting)
        found.extend(refused or _issues(pool, answers.node_groups.get(pool, NO_NODE_GROUP), at))
    return found


def _issues(pool: str, node_group: NodeGroup, at: float) -> list[Evidence]:
    """EKS's health issues as evidence."""
    observed = at // ISSUE_SECONDS * ISSUE_SECONDS
    return [Evidence(pool, issue.kind, observed, text=issue.text) for issue in node_group.issues]
