"""The lease under which one tick acts at a time, where no table keeps it."""

from math import inf

from control_lambda.aws.memory import LEASE_SECONDS
from control_lambda.ports import LeaseHeldError


class Lease:
    """Held from `take` until `give_back`, or until it runs out: a function that died gives nothing back."""

    def __init__(self) -> None:
        self._until = -inf

    def take(self, at: float) -> None:
        """Take the lease.

        Raises:
            LeaseHeldError: somebody else has it at `at`.
        """
        if at < self._until:
            raise LeaseHeldError(f"the lease is held at {at}")
        self._until = at + LEASE_SECONDS

    def give_back(self) -> None:
        """Let others take it."""
        self._until = -inf
