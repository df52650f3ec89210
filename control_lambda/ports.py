"""What the loop needs from the world: something to sense with, act through and remember in.

`aws` implements the ports with boto3, the twin in memory. Every call may raise one of `errors.FAILED_CALL`;
`loop` decides what a failure means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from control_lambda.core.fleet import Fleet
from control_lambda.core.model import Evidence, Snapshot, State
from control_lambda.core.traffic.survival import VitalSigns


class LeaseHeldError(Exception):
    """Another tick holds the lease."""


class LeaseLostError(Exception):
    """The lease passed to another tick while this one ran; nothing was saved."""


class NewEvidenceError(Exception):
    """Evidence arrived since it was last read; the state was not saved and the lease is still held."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        super().__init__(f"{len(evidence)} new pieces of evidence")
        self.evidence = tuple(evidence)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the account says about the loop: the fleet as JSON, and whether to observe (None: unreadable)."""

    fleet_json: str | None
    observe: bool | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What `Memory.acquire` found: the state (None: first tick, or unreadable) and new evidence.

    `unbuilt` maps the units of which some build has never succeeded to those builds, in words.
    """

    state: State | None
    evidence: tuple[Evidence, ...]
    problems: tuple[str, ...] = ()
    unbuilt: Mapping[str, str] = field(default_factory=dict)


class Sensors(Protocol):
    """Reads the world."""

    def settings(self) -> Settings:
        """The fleet parameter and the pause parameter."""
        ...

    def sense(self, fleet: Fleet, at: float, evidence: Sequence[Evidence]) -> Snapshot:
        """Everything at `at`; `evidence` (from memory) joins what polling finds.

        What cannot be sensed is left out and named in `Snapshot.failures`.
        """
        ...

    def vital_signs(self) -> VitalSigns:
        """What survival needs, without a fleet.

        What cannot be read is left out and named in `VitalSigns.failures`.
        """
        ...


class Actuators(Protocol):
    """Changes the world."""

    def set_weights(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weighted rule, creating it where it is missing; return it as read back."""
        ...

    def set_row(self, row: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the weights of one of the rows of `VitalSigns`, and nothing else; return it as read back."""
        ...

    def set_class_weights(self, name: str, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Write the rule of one query class before the last; return it as read back."""
        ...

    def set_desired(self, pool: str, nodes: int) -> None:
        """Set the desired size of the pool's Auto Scaling group."""
        ...

    def terminate(self, node: str, *, decrement: bool) -> None:
        """Terminate a node; with `decrement` its group wants one less, else it launches another."""
        ...

    def resume_launches(self, pool: str) -> None:
        """Resume the launches of the pool's Auto Scaling group."""
        ...

    def suspend_rebalancing(self, pool: str) -> None:
        """Have the pool's Auto Scaling group swap no nodes to even out its zones."""
        ...

    def resume_rebalancing(self, pool: str) -> None:
        """Let the pool's Auto Scaling group even out its zones again."""
        ...


class Memory(Protocol):
    """Keeps the state under a lease, and the evidence that signals brings.

    While it does not answer, every method raises one of `errors.FAILED_CALL`, and nothing is known: neither
    the state, nor whether evidence waits, nor who holds the lease, so that two ticks may run at a time.
    """

    def acquire(self, at: float) -> Remembered:
        """Take the lease.

        Raises:
            LeaseHeldError: another tick holds it and it has not expired at `at`.
        """
        ...

    def save(self, state: State, seen: Sequence[Evidence]) -> None:
        """Save the state, forget the evidence `seen`, release the lease: one atomic write.

        Raises:
            NewEvidenceError: evidence beyond `seen` has arrived; the lease is still held.
            LeaseLostError: another tick took the lease.
        """
        ...

    def release(self) -> None:
        """Give the lease back with the state unchanged."""
        ...
