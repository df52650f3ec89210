"""`make demo`: six simulated hours, a node that dies, a shortage at the busiest time, and what others do."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from control_lambda.fleet_file import load_fleet
from twin import traces
from twin.bench.scenarios import ROOT, data_folder
from twin.cli.commands import compare, tell
from twin.inputs import Inputs, describe
from twin.report import results
from twin.report.report import report
from twin.steering.policies import Through
from twin.world.trace import CapacityTrace, Demand, DemandOptions, PriceTrace, TraceError
from twin.world.trouble import Trouble
from twin.world.world import EPOCH, Scenario, ServersRule

SEED: Final = 1
POLICY: Final = "merit-order"
THROUGH: Final[Through] = "aws"
BASELINES: Final = ("sample-loop", "reactive", "gpu-only")
SHORT_POOL: Final = "inf2-neuron-on-demand"
SHORTAGE_MINUTES: Final = 90
BUSIEST_MINUTES: Final = 30
# Long after the start, long before the shortage.
DEATH_MINUTE: Final = 45

RECORDED: Final = "dev/sd_rpm.csv"
# From 18:00 on the trace's twelfth day; at this scale the peak needs about a dozen nodes.
RECORDED_OPTIONS: Final = DemandOptions(start=11 * 1440 + 18 * 60, minutes=360, scale=250, smooth=30)
# The six hours around the evening's peak.
SHIPPED_OPTIONS: Final = DemandOptions(start=16 * 60, minutes=360)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a demo may be told: a trouble file instead of its own, and what servers and clients do."""

    trouble: Path | None = None
    servers: ServersRule = "refuse"
    retries: int = 0


def demo_command(out: Path, console: Console, choices: Choices) -> None:
    """Replay the demo's scenario, write the results to `out` and tell what came of it.

    Raises:
        InputError: `out` cannot be written, or the trouble file cannot be used.
    """
    results.check_out(out)
    inputs = replace(demo_inputs(console), **asdict(choices))
    scenario = demo_scenario(inputs)
    begin, end = shortage(scenario.demand)
    shown = f"{_clock(begin)} to {_clock(end)}"
    trouble = inputs.trouble.name if inputs.trouble else _death(scenario)
    console.print(
        f"Six simulated hours of the paper's five units; no new inf2 node can be had from {shown}. "
        f"Trouble: {trouble}.",
        highlight=False,
        soft_wrap=True,
    )
    setting = {
        **describe(inputs),
        "capacity": f"no launch of {SHORT_POOL} from {shown}",
        "trouble": trouble,
        "through": THROUGH,
    }
    result = compare(scenario, (POLICY, *BASELINES), THROUGH, setting, console)
    results.save(result, report(result), out)
    tell(result, out, console)


def demo_inputs(console: Console) -> Inputs:
    """The recorded Stable Diffusion trace where the data is at hand, else the one that is shipped."""
    fleet = ROOT / "fleet.yaml"
    try:
        recorded = data_folder() / RECORDED
    except TraceError as error:
        console.print(
            f"The shipped synthetic demand stands in for the recorded one ({error}).", highlight=False
        )
        return Inputs(fleet=fleet, demand=traces.DEMAND, options=SHIPPED_OPTIONS, seed=SEED)
    return Inputs(fleet=fleet, demand=recorded, options=RECORDED_OPTIONS, seed=SEED)


def demo_scenario(inputs: Inputs) -> Scenario:
    """The inputs with the shortage, and with a node that dies unless they name other trouble.

    Raises:
        FleetError: the fleet file is invalid.
        TraceError: the demand trace cannot be used.
        InputError: the trouble file cannot be used.
    """
    fleet = load_fleet(inputs.fleet)
    demand = Demand.read(inputs.demand, inputs.options, seed=inputs.seed, epoch=EPOCH)
    begin, end = shortage(demand)
    most = fleet.pool_named[SHORT_POOL].nodes.max
    limits = [0 if begin <= minute < end else most for minute in range(demand.start + demand.minutes)]
    dies = {"at": DEATH_MINUTE, "what": "node-dead", "pool": SHORT_POOL, "nodes": 1}
    trouble = (
        Trouble.read(inputs.trouble, fleet, demand.minutes)
        if inputs.trouble
        else Trouble.parse({"trouble": [dies]}, fleet, demand.minutes)
    )
    return Scenario(
        fleet,
        demand,
        CapacityTrace({SHORT_POOL: limits}),
        PriceTrace({}),
        inputs.seed,
        trouble,
        inputs.servers,
        inputs.retries,
    )


def shortage(demand: Demand) -> tuple[int, int]:
    """The trace's minutes, from and up to, around the busiest half hour."""
    means = np.convolve(demand.rpm(), np.full(BUSIEST_MINUTES, 1 / BUSIEST_MINUTES), "valid")
    busiest = demand.start + int(np.argmax(means)) + BUSIEST_MINUTES // 2
    begin = max(busiest - 2 * SHORTAGE_MINUTES // 3, demand.start)
    return begin, min(begin + SHORTAGE_MINUTES, demand.start + demand.minutes)


def _death(scenario: Scenario) -> str:
    """The demo's own trouble in words."""
    return f"one node of {SHORT_POOL} dies at {_clock(scenario.demand.start + DEATH_MINUTE)}"


def _clock(minute: int) -> str:
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"
