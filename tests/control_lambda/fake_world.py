"""Hand-written ports over plain values, and decisions made in advance, for the tests of the loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from control_lambda.core.fleet import Fleet, parse_fleet
from control_lambda.core.model import (
    Decision,
    Evidence,
    Mode,
    PoolReport,
    PoolSignals,
    Reason,
    Snapshot,
    State,
    UnitReport,
    plain,
)
from control_lambda.core.record import Answer
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.loop import Decide, tick
from control_lambda.ports import (
    LeaseHeldError,
    LeaseLostError,
    NewEvidenceError,
    Remembered,
    Settings,
)
from control_lambda.trigger import iso_time
from tests.control_lambda.core.examples import serving

NOON = 1_769_860_800.0

# A tick's answer as the Lambda returns it.
Record = dict[str, Any]


def unit(name: str) -> dict[str, Any]:
    """A unit with one pool of at most ten nodes."""
    return {
        "name": name,
        "instance_type": "inf2.xlarge",
        "accelerator": "neuron",
        "framework": "neuronx",
        "profile": {
            "service_seconds": 0.5,
            "throughput_rpm": 105,
            "latency_seconds": 0.67,
            "start_seconds": 600,
        },
        "pools": [{"market": "on-demand", "nodes": {"max": 10}, "price_usd_per_hour": 0.75}],
    }


FLEET = parse_fleet(
    {
        "fleet": "test-fleet",
        "model": "some/model",
        "objective": {"latency_seconds": 2.0},
        "budget_usd_per_hour": 40,
        "units": [unit("aa"), unit("bb"), unit("cc")],
    }
)
A, B, C = (pool.name for pool in FLEET.pools)


class Killed(BaseException):
    """The process ends here, as when Lambda kills it."""


def refused(code: str) -> ClientError:
    """The exception boto3 raises for an AWS error code."""
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Operation")


@dataclass
class World:
    """Ports over plain values. `fails` maps a call, such as `size aa-on-demand`, to what it raises."""

    weights: dict[str, int] | None = field(default_factory=lambda: {"aa": 100, "bb": 0, "cc": 0})
    desired: dict[str, int] = field(default_factory=lambda: {A: 4, B: 4, C: 4})
    settings_now: Settings = field(default_factory=lambda: Settings(FLEET.to_json(), observe=False))
    state: State | None = None
    evidence: tuple[Evidence, ...] = ()
    arriving: list[tuple[Evidence, ...]] = field(default_factory=list)
    fails: dict[str, BaseException] = field(default_factory=dict)
    healthy: dict[str, int] = field(default_factory=dict)
    foreign_hand: Mapping[str, int] | None = None
    lease: str = "free"
    calls: list[str] = field(default_factory=list)
    sense_failures: tuple[str, ...] = ()
    remembered_problems: tuple[str, ...] = ()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]

    def settings(self) -> Settings:
        """The settings, as they stand."""
        return self.settings_now

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """Every node that a group wants is ready."""
        self._call("sense")
        pools = {
            pool.name: PoolSignals(
                self.desired[pool.name],
                nodes=serving(f"i-{pool.name}-{number}" for number in range(self.desired[pool.name])),
            )
            for pool in fleet.pools
        }
        return Snapshot(
            at,
            pools=pools,
            weights=None if self.weights is None else dict(self.weights),
            evidence=tuple(evidence),
            failures=self.sense_failures,
        )

    def vital_signs(self) -> VitalSigns:
        """The weights as the only row, and the health that a test has set."""
        self._call("vital signs")
        return VitalSigns({"1": dict(self.weights)} if self.weights else None, self.healthy)

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights; a foreign hand may overwrite them before they are read back."""
        self._call("weights")
        self.weights = dict(self.foreign_hand or weights)
        self._call("read back")
        return self.weights

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights of the only row."""
        self._call(f"row {row}")
        self.weights = dict(self.foreign_hand or weights)
        return self.weights

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights of one query class; a foreign hand may overwrite them before they are read."""
        self._call(f"class {name}")
        return dict(self.foreign_hand or weights)

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set one group's size."""
        self._call(f"size {pool}")
        self.desired[pool] = nodes

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate one node."""
        self._call(f"terminate {node}{' with its place' if decrement else ''}")

    def resume_launches(self, pool: str) -> None:
        """Resume one group's launches."""
        self._call(f"resume {pool}")

    def suspend_rebalancing(self, pool: str) -> None:
        """Suspend one group's zone rebalancing."""
        self._call(f"suspend rebalancing {pool}")

    def resume_rebalancing(self, pool: str) -> None:
        """Resume one group's zone rebalancing."""
        self._call(f"resume rebalancing {pool}")

    def acquire(self, at: float) -> Remembered:
        """Take the lease unless another holds it."""
        self._call(f"acquire {at:.0f}")
        if self.lease != "free":
            raise LeaseHeldError
        self.lease = "ours"
        return Remembered(self.state, self.evidence, self.remembered_problems)

    def save(self, state: State, seen: Sequence[Evidence]) -> None:
        """Keep the state unless evidence arrived or the lease was lost."""
        self._call("save")
        if self.lease != "ours":
            raise LeaseLostError
        if self.arriving:
            self.evidence += self.arriving.pop(0)
        if new := [item for item in self.evidence if item not in seen]:
            raise NewEvidenceError(new)
        self.state, self.evidence, self.lease = state, (), "free"

    def release(self) -> None:
        """Give the lease back."""
        self._call("release")
        self.lease = "free"


def deciding(
    weights: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
    resume: tuple[str, ...] = (),
    seen: list[Snapshot] | None = None,
) -> Decide:
    """A decision made in advance; `seen` collects the snapshots it was asked about."""

    def decide(snapshot: Snapshot, state: State, fleet: Fleet) -> tuple[Decision, State]:
        if seen is not None:
            seen.append(snapshot)
        decision = Decision(
            tick=state.tick + 1,
            at=snapshot.at,
            mode=Mode.COST,
            reasons=(Reason("because", "It was decided in advance."),),
            demand_rpm=100.0,
            forecast_rpm=120.0,
            cost_usd_per_hour=9.0,
            savings_usd_per_hour=1.0,
            budget_usd_per_hour=fleet.budget_usd_per_hour,
            signal_age_seconds=60.0,
            units={"aa": UnitReport(4, 100, 100, 0.6, 105.0, 60.0)},
            pools={A: PoolReport(4, 4, 4, 0.75, available=True, evidence="")},
            weights=weights,
            sizes=sizes or {},
            resume=resume,
        )
        learned = replace(state, tick=state.tick + 1, at=snapshot.at)
        return decision, replace(learned, weights=weights or {}, desired=sizes or {})

    return decide


def run(
    world: World,
    decide: Decide,
    at: float = NOON,
    remaining: Callable[[], float] = lambda: 20.0,
    *,
    cause: str = "schedule",
    evidence: Sequence[Mapping[str, object]] = (),
) -> Record:
    """One tick at `at`, its answer as JSON."""
    event = {"time": iso_time(at), "cause": cause, "evidence": [*evidence]}
    answer = tick(event, world, world, world, decide, remaining)
    return as_json(answer)


def as_json(answer: Answer) -> Record:
    """A tick's answer as JSON."""
    told: Record = plain(answer)
    return told


# What the tests decide: one size that shrinks, two that grow.
WEIGHTS = {"aa": 60, "bb": 40, "cc": 0}
SIZES = {A: 2, B: 7, C: 5}
