"""Query classes: what fleet.yaml may say of them, and the row of weights that each gets."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.decide import decide
from control_lambda.core.fleet import Fleet, FleetError, fleet_from_json
from control_lambda.core.model import Snapshot, State
from tests.control_lambda.core.examples import NOON, fleet, snapshot, unit

UNITS = (unit("cheap", price=0.5), unit("strong", price=2.0, least=10))
LARGE = {"name": "large", "from_size": 121.0, "weights": {"strong": 800, "cheap": 200}}
FLEET = fleet(*UNITS, classes=[LARGE, "rest"])
CHEAP, STRONG = (pool.name for pool in FLEET.pools)


def large_row(
    ready: Mapping[str, int], rpm: float = 300.0, steered: Fleet = FLEET, **told: Any
) -> Mapping[str, int]:
    """The row that one tick decides on for the class `large`."""
    seen: Snapshot = snapshot(steered, ready, rpm, **told)
    decision, _ = decide(seen, State(), steered)
    row: Mapping[str, int] = decision.class_weights.get("large", seen.class_weights.get("large", {}))
    return row


def test_a_name_alone_is_a_class() -> None:
    """Its condition is then the header x-query-class with that name."""
    short, rest = fleet(*UNITS, classes=["short", "rest"]).classes
    assert (short.name, short.path, short.header, short.weights) == ("short", None, "x-query-class", {})
    assert rest.name == "rest"


def test_classes_survive_the_parameter() -> None:
    """What SSM holds reads back to the same fleet."""
    assert fleet_from_json(FLEET.to_json()) == FLEET


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a1", "a1"], "a1 stands twice"),
        ([{"name": "a1", "weights": {"x": 1}}, "b1"], "a1: weights: x is no unit; valid: cheap, strong"),
        ([{"name": "a1", "weights": {"cheap": 0}}, "b1"], "every weight is 0; valid: at least one above 0"),
        ([{"name": "a1", "weights": {"cheap": 1000}}, "b1"], "valid: a whole number from 0 to 999"),
        (["a1", {"name": "b1", "weights": {"cheap": 1}}], "b1 is the last class and takes what is left"),
        ([{"name": "a1", "path": "large"}, "b1"], "valid: a path pattern such as /v1/large/"),
        (
            [{"name": "a1", "colour": "red"}, "b1"],
            "classes.0..colour: unknown key; valid: name, path, header",
        ),
    ],
)
def test_a_class_that_makes_no_sense_is_refused(classes: list[Any], message: str) -> None:
    """The message names the key and what would be valid."""
    with pytest.raises(FleetError, match=message):
        fleet(*UNITS, classes=classes)


def test_a_fleet_without_classes_gets_no_rows() -> None:
    """Nothing about such a fleet changes."""
    decision, _ = decide(snapshot(fleet(*UNITS), {CHEAP: 4}, 300.0), State(), fleet(*UNITS))
    assert decision.class_weights == {}


def test_one_class_is_all_traffic() -> None:
    """The last class is shared as traffic without classes is: the one rule is enough."""
    alone = fleet(*UNITS, classes=["all-of-it"])
    decision, _ = decide(snapshot(alone, {CHEAP: 4}, 300.0), State(), alone)
    assert decision.class_weights == {}


def test_a_class_gets_its_planned_shares_when_the_planned_nodes_are_ready() -> None:
    """All of both units' maximum: 800 to 200, with every unit listed and 999 in sum."""
    row = large_row({CHEAP: 10, STRONG: 10}, rpm=1900.0)
    assert row == {"cheap": 200, "strong": 799}


def test_a_planned_weight_shrinks_with_the_nodes_that_are_ready() -> None:
    """Otherwise the first node of a unit would get what ten were planned for."""
    row = large_row({CHEAP: 10, STRONG: 1})
    assert row["strong"] / row["cheap"] == pytest.approx(0.4, abs=0.01)


def test_no_weight_goes_to_a_unit_that_is_about_to_go() -> None:
    """The planner does not need `strong`, and no minimum keeps it: it leaves the row before its nodes go."""
    free = fleet(unit("cheap", price=0.5), unit("strong", price=2.0), classes=[LARGE, "rest"])
    assert large_row({CHEAP: 10, STRONG: 10}, steered=free) == {"cheap": 999, "strong": 0}


def test_no_weight_goes_to_a_unit_without_a_ready_node() -> None:
    """The other planned unit takes the class."""
    assert large_row({CHEAP: 3, STRONG: 0}) == {"cheap": 999, "strong": 0}


def test_a_class_none_of_whose_units_is_ready_is_shared_like_the_rest() -> None:
    """An answer from another unit is better than a 503."""
    only_strong = fleet(*UNITS, classes=[{"name": "large", "weights": {"strong": 1}}, "rest"])
    assert large_row({CHEAP: 3, STRONG: 0}, steered=only_strong) == {"cheap": 999, "strong": 0}


def test_a_class_without_a_plan_is_shared_like_the_rest() -> None:
    """Its row follows the weights of all other traffic."""
    unplanned = fleet(*UNITS, classes=["large", "rest"])
    decision, _ = decide(snapshot(unplanned, {CHEAP: 4, STRONG: 4}, 300.0), State(), unplanned)
    assert decision.weights
    assert decision.class_weights["large"] == decision.weights


def test_a_row_that_stands_is_not_written_again() -> None:
    """Only rows that change are in the decision."""
    decided = large_row({CHEAP: 10, STRONG: 10})
    seen = snapshot(FLEET, {CHEAP: 10, STRONG: 10}, 300.0, class_weights={"large": dict(decided)})
    decision, _ = decide(seen, State(), FLEET)
    assert decision.class_weights == {}


def test_a_row_moves_by_twenty_points_a_tick_at_most() -> None:
    """A unit that comes back proves itself on little traffic, in every class."""
    kept = fleet(unit("cheap", least=10), unit("strong", least=10), classes=[LARGE, "rest"])
    stands = {"large": {"cheap": 999, "strong": 0}}
    row = large_row({CHEAP: 10, STRONG: 10}, steered=kept, class_weights=stands)
    assert 0 < row["strong"] <= 200


@given(
    ready=st.tuples(st.integers(0, 10), st.integers(0, 10)),
    planned=st.tuples(st.integers(0, 999), st.integers(0, 999)).filter(any),
    stands=st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999)),
    rpm=st.floats(0.0, 3000.0),
)
def test_no_row_breaks_the_rules_of_weights(
    ready: tuple[int, int], planned: tuple[int, int], stands: tuple[int, int] | None, rpm: float
) -> None:
    """Integers 0 to 999, every unit listed, none for a unit that is not ready; with none ready as it is."""
    both = fleet(
        unit("cheap", least=10),
        unit("strong", least=10),
        classes=[{"name": "large", "weights": dict(zip(("cheap", "strong"), planned, strict=True))}, "rest"],
    )
    row_before = {} if stands is None else {"large": dict(zip(("cheap", "strong"), stands, strict=True))}
    nodes = dict(zip((CHEAP, STRONG), ready, strict=True))
    row = large_row(nodes, rpm, both, class_weights=row_before)
    if not any(ready):
        assert row == row_before.get("large", {})
        return
    assert set(row) == {"cheap", "strong"}
    assert all(0 <= weight <= 999 for weight in row.values())
    assert all(not row[name] for name, count in zip(("cheap", "strong"), ready, strict=True) if not count)
    assert any(row.values())


def test_a_row_reaches_its_plan_in_steps_of_twenty_points() -> None:
    """Tick by tick from where it stands; within the deadband of two points of the plan it is left alone."""
    kept = fleet(unit("cheap", least=10), unit("strong", least=10), classes=[LARGE, "rest"])
    row: Mapping[str, int] = {"cheap": 999, "strong": 0}
    state, rows = State(), [row["strong"]]
    for minute in range(1, 7):
        seen = snapshot(
            kept, {CHEAP: 10, STRONG: 10}, 300.0, at=NOON + 60.0 * minute, class_weights={"large": row}
        )
        decision, state = decide(seen, state, kept)
        row = decision.class_weights.get("large", row)
        rows.append(row["strong"])

    assert rows == [0, 199, 398, 597, 796, 796, 796]
