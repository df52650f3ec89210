"""The loop's policies in one table: who chooses the sizes, how traffic is shared, and in words what it does.

`fleet.Policy` is the list of their names; here each of them has its row, and none stands in for another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from control_lambda.core.fleet import Policy, Unit
from control_lambda.core.traffic import weights

# Shares in cost mode of units, their prices (USD per hour) and which of them are available.
Formula = Callable[[Sequence[Unit], Mapping[str, float], Mapping[str, bool]], weights.Shares]


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """What a policy does, in `words`, and its `formula` for the shares.

    Sizes follow the formula's shares. Without a formula the planner chooses sizes freely, and shares follow
    what is ready in merit order.
    """

    words: str
    formula: Formula | None


def _equal(_: Sequence[Unit], __: Mapping[str, float], available: Mapping[str, bool]) -> weights.Shares:
    return weights.equal(available)


def _cost(
    units: Sequence[Unit], prices: Mapping[str, float], available: Mapping[str, bool]
) -> weights.Shares:
    costs = {unit.name: prices[unit.name] / unit.profile.throughput_rpm for unit in units}
    return weights.paper_cost(units, costs, available)


POLICIES: Final[Mapping[Policy, PolicyRules]] = MappingProxyType(
    {
        "merit-order": PolicyRules("the cheapest nodes that carry the forecast, filled cheapest first", None),
        "paper-optimal": PolicyRules("the paper's general weights: T / (C L)", weights.paper_optimal),
        "paper-cost": PolicyRules("the paper's cost mode as printed, which is inverted: C / L", _cost),
        "paper-capacity": PolicyRules("the paper's capacity mode for ever: an equal share each", _equal),
        "equal": PolicyRules("an equal share for each available unit", _equal),
    }
)
