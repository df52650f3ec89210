"""The time axis that all panels share, and what is drawn on it: thinned lines and areas, colours, notes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from statistics import fmean
from typing import Any, Final

from control_lambda.core.fleet import Fleet
from twin.report.results import Minutes
from twin.world.plant import MINUTE_SECONDS
from twin.world.world import EPOCH

Json = dict[str, Any]
Values = Sequence[float | None]

# Okabe and Ito's palette, told apart with every kind of colour blindness; one fixed colour per unit.
UNIT_COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
DARK_COLOURS: Final = frozenset({"#0072B2", "#009E73"})
ALARM: Final = "#D55E00"
# Lines of this meta are drawn in the page's text colour, which the reader's light or dark setting decides.
INK: Final = "ink"

MOST_POINTS: Final = 1500


def unit_colours(fleet: Fleet) -> dict[str, str]:
    """The unit's colour in every panel."""
    return dict(zip((unit.name for unit in fleet.units), UNIT_COLOURS, strict=False))


def axis_name(panel: int) -> str:
    """The name of the panel's value axis as traces and notes refer to it."""
    return f"y{panel + 1}" if panel else "y"


def note(text: str, **place: Any) -> Json:
    """A piece of text in the figure."""
    return {"text": text, "showarrow": False, "font": {"size": 12}, **place}


@dataclass(frozen=True, slots=True)
class Axis:
    """The minutes of a replay, thinned for drawing: every `step` of them become one point."""

    minutes: Minutes
    fleet: Fleet

    @property
    def step(self) -> int:
        """How many minutes one drawn point stands for."""
        return ceil(len(self.minutes.requests) / MOST_POINTS)

    @property
    def begin(self) -> int:
        """The trace's first minute that was replayed."""
        return self.minutes.first_minute

    @property
    def end(self) -> int:
        """The trace's first minute that was not replayed any more."""
        return self.begin + len(self.minutes.requests)

    def time(self, minute: float) -> str:
        """The trace's minute as the date axis takes it."""
        return datetime.fromtimestamp(EPOCH + minute * MINUTE_SECONDS, UTC).strftime("%Y-%m-%d %H:%M:%S")

    def capacity_rpm(self) -> list[float]:
        """What the ready nodes answer when none of them rests, requests per minute."""
        per_node = {pool: 60 / unit.profile.service_seconds for pool, unit in self.fleet.unit_of.items()}
        count = len(self.minutes.requests)
        return [
            sum(nodes[minute] * per_node[pool] for pool, nodes in self.minutes.ready.items())
            for minute in range(count)
        ]

    def thin(self, values: Values, merge: Callable[[list[float]], float] = fmean) -> list[float | None]:
        """One value per point: the known ones of its minutes, merged."""
        groups = (values[first : first + self.step] for first in range(0, len(values), self.step))
        known = ([value for value in group if value is not None] for group in groups)
        return [round(merge(group), 4) if group else None for group in known]

    def line(self, panel: int, name: str, values: Values, **style: Any) -> Json:
        """A line through thinned values."""
        return {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x0": self.time(self.begin),
            "dx": self.step * MINUTE_SECONDS * 1000,
            "y": list(values),
            "yaxis": axis_name(panel),
            **style,
        }

    def area(self, panel: int, name: str, values: Values, colour: str, **style: Any) -> Json:
        """An area on top of those before it in the panel."""
        return self.line(
            panel,
            name,
            self.thin(values),
            stackgroup=f"panel {panel}",
            line={"width": 0, "shape": "hv", "color": colour},
            fillcolor=colour,
            **style,
        )
