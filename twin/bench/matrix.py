"""Every kind of trouble on three fleets under steady and daily demand, against the same without trouble."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_lambda.core.fleet import Fleet
from control_lambda.fleet_file import load_fleet
from twin.bench.cases import DEFAULT, FLEETS, attainment, demand_of, usd_per_hour
from twin.bench.scenarios import ROOT
from twin.errors import InputError
from twin.steering.replay import UNSCORED_MINUTES, replay
from twin.steering.steering import CoreSteering
from twin.world.kinds import KINDS
from twin.world.trace import CapacityTrace, PriceTrace
from twin.world.trouble import NO_TROUBLE, Trouble
from twin.world.world import Past, Scenario

FLEETS_OF_THE_MATRIX: Final = {
    "default": DEFAULT,
    "inf2 alone": FLEETS / "inf2-alone.yaml",
    "spot twins": ROOT / "fleets" / "spot-twins.yaml",
}
STEADY: Final = "steady"
DAILY: Final = "daily"
RPM: Final = 600.0
MINUTES: Final = 360
BEGIN: Final = 120
LASTS: Final = 60
SEED: Final = 1


@dataclass(frozen=True, slots=True)
class MatrixJob:
    """One fleet under one demand: every kind of trouble that can befall it, each alone, for an hour."""

    fleet: str
    demand: str

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        return f"every kind of trouble, {self.fleet}, {self.demand} demand"

    def run(self) -> "MatrixRow":
        """Replay each kind, and none."""
        fleet = load_fleet(FLEETS_OF_THE_MATRIX[self.fleet])
        calm = self._replayed(fleet, NO_TROUBLE)
        cells = tuple(
            _cell(what, self._replayed(fleet, trouble), calm, fleet) for what, trouble in troubles(fleet)
        )
        return MatrixRow(self, cells)

    def _replayed(self, fleet: Fleet, trouble: Trouble) -> list[Past]:
        levels = [(0, RPM)] if self.demand == STEADY else None
        demand = demand_of(levels, MINUTES, SEED)
        scenario = Scenario(
            fleet, demand, CapacityTrace({}), PriceTrace({}), SEED, trouble=trouble, servers="refuse"
        )
        return replay(scenario, "merit-order", CoreSteering).past


@dataclass(frozen=True, slots=True)
class Cell:
    """What a kind of trouble does to attainment (shares) and cost (USD per hour), from its beginning on."""

    what: str
    attainment: float
    calm_attainment: float
    usd_per_hour: float
    calm_usd_per_hour: float

    @property
    def loss(self) -> float:
        """The share of requests that trouble makes late or lost."""
        return self.calm_attainment - self.attainment


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A fleet and a demand under every kind of trouble."""

    job: MatrixJob
    cells: tuple[Cell, ...]

    def told(self) -> str:
        """The outcome in a few words."""
        worst = max(self.cells, key=lambda cell: cell.loss)
        return f"{len(self.cells)} kinds, worst {worst.what}: {worst.attainment:.1%}"


def matrix_jobs() -> list[MatrixJob]:
    """Every fleet under every demand."""
    return [MatrixJob(fleet, demand) for fleet in FLEETS_OF_THE_MATRIX for demand in (STEADY, DAILY)]


def troubles(fleet: Fleet) -> Iterator[tuple[str, Trouble]]:
    """Each kind's example, fitted to the fleet; kinds that cannot befall it are left out."""
    for what, kind in KINDS.items():
        entry: dict[str, Any] = {"at": BEGIN, "what": what, **_fitted(kind.example, fleet)}
        if not kind.once:
            entry["minutes"] = LASTS
        try:
            yield what, Trouble.parse({"trouble": [entry]}, fleet, MINUTES)
        except InputError:
            continue


def _fitted(example: Mapping[str, Any], fleet: Fleet) -> dict[str, Any]:
    """The example with the fleet's first pool and units where it names others; spot where it asks for it."""
    fitted = dict(example)
    first = fleet.pools[0].name
    if fitted.get("pool") and not str(fitted["pool"]).endswith("-spot"):
        fitted["pool"] = first
    if "units" in fitted:
        fitted["units"] = [unit.name for unit in fleet.units][: len(fitted["units"])]
    if "weights" in fitted:
        names = [unit.name for unit in fleet.units][-2:]
        fitted["weights"] = dict.fromkeys(names, 0) | {names[-1]: 100}
    return fitted


def _cell(what: str, past: list[Past], calm: list[Past], fleet: Fleet) -> Cell:
    begin = max(BEGIN, UNSCORED_MINUTES)
    return Cell(
        what,
        attainment(past[begin:], fleet),
        attainment(calm[begin:], fleet),
        usd_per_hour(past[begin:]),
        usd_per_hour(calm[begin:]),
    )
