"""Everything that can steer a replay, by name: the loop under each of its policies, and the baselines."""

from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Final, Literal

from control_lambda.core.traffic.policies import POLICIES
from twin.errors import InputError
from twin.inputs import with_policy
from twin.steering.baselines import BASELINES
from twin.steering.replay import Progress, Run, replay
from twin.steering.steering import CoreSteering, Steering
from twin.world.world import Scenario, World

Through = Literal["core", "aws"]

LOOP: Final[tuple[str, ...]] = tuple(POLICIES)
ALL: Final[tuple[str, ...]] = (*LOOP, *BASELINES)


def check_policy(policy: str) -> None:
    """Refuse what cannot steer.

    Raises:
        InputError: naming the valid policies.
    """
    if policy not in ALL:
        raise InputError(f"policy: {policy!r}; valid: {', '.join(ALL)}")


def run_policy(scenario: Scenario, policy: str, through: Through, progress: Progress) -> Run:
    """Replay the scenario under the policy; only the loop's policies can run through AWS.

    Raises:
        InputError: there is no such policy.
    """
    check_policy(policy)
    if policy not in LOOP:
        return replay(scenario, policy, BASELINES[policy], progress)
    steered = replace(scenario, fleet=with_policy(scenario.fleet, policy))
    if through == "core":
        return replay(steered, policy, CoreSteering, progress)
    return _replay_through_aws(steered, policy, progress)


def _replay_through_aws(scenario: Scenario, policy: str, progress: Progress) -> Run:
    # moto takes seconds to import, and only this way needs it.
    from twin.steering.aws import AwsSteering  # noqa: PLC0415

    with ExitStack() as until_replayed:

        def steer(world: World) -> Steering:
            return until_replayed.enter_context(closing(AwsSteering(world)))

        return replay(scenario, policy, steer, progress)
