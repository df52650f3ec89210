"""A tick that knows too little to decide: weight leaves what has nothing healthy, and that is told."""

from dataclasses import dataclass

from control_lambda.act import Outcome, keep_alive
from control_lambda.core.model import Reason
from control_lambda.core.reasons import EVERYWHERE, Code
from control_lambda.core.traffic.survival import VitalSigns
from control_lambda.ports import Actuators, Sensors


@dataclass(frozen=True, slots=True)
class Survival:
    """What was read, what was written, and why."""

    signs: VitalSigns
    outcome: Outcome
    reasons: tuple[Reason, ...]


def survive(sensors: Sensors, actuators: Actuators) -> Survival:
    """Read the vital signs and write what follows from them alone, however little time is left."""
    signs = sensors.vital_signs()
    outcome = keep_alive(signs, actuators)
    return Survival(signs, outcome, tuple(_reasons(signs, outcome)))


def _reasons(signs: VitalSigns, outcome: Outcome) -> list[Reason]:
    if not signs.healthy:
        return [Code.HEALTH_UNKNOWN.reason(case=EVERYWHERE)]
    lost = {
        unit: None
        for write in outcome.writes
        for unit, weight in write.before.items()
        if weight and not write.after.get(unit)
    }
    return [Code.FAILOVER.reason(unit) for unit in lost]
