"""Step by step a tick knows less, and does less: without memory, fleet, pause or health."""

from dataclasses import replace
from typing import Any

import pytest

from control_lambda.core.model import State
from control_lambda.core.reasons import Code, Failure
from control_lambda.ports import Settings
from tests.control_lambda.fake_world import (
    FLEET,
    NOON,
    SIZES,
    WEIGHTS,
    Record,
    World,
    deciding,
    refused,
    run,
)

MOVED = {"aa": 0, "bb": 999, "cc": 0}
HEALTHY = {"aa": 0, "bb": 3, "cc": 0}
READABLE = Settings(FLEET.to_json(), observe=False)
PAUSED = Settings(FLEET.to_json(), observe=True)
UNKNOWN = Settings(FLEET.to_json(), observe=None)
STATE = State(tick=3, at=NOON - 60, weights={"aa": 100, "bb": 0, "cc": 0}, last_good_fleet=FLEET.to_json())


def codes(record: Record) -> list[str]:
    """The reasons' codes."""
    return [reason["code"] for reason in record["reasons"]]


def world(settings: Settings = READABLE, **told: Any) -> World:
    """The unit with all weight has nothing healthy."""
    return World(**{"healthy": dict(HEALTHY), "settings_now": settings, "state": STATE, **told})


def without_memory(settings: Settings = READABLE) -> World:
    """The table does not answer."""
    return world(settings, fails={f"acquire {NOON:.0f}": refused("InternalServerError")})


@pytest.mark.parametrize("settings", [READABLE, UNKNOWN, Settings(None, observe=False)])
def test_without_memory_weight_still_leaves_the_dead(settings: Settings) -> None:
    """Nothing else is written, nothing is saved; the record says what was done and why."""
    found = without_memory(settings)
    record = run(found, deciding(WEIGHTS, SIZES))

    assert found.weights == MOVED
    assert found.calls == [f"acquire {NOON:.0f}", "vital signs", "row 1"]
    assert codes(record)[0] == Code.NO_MEMORY
    assert codes(record)[-1] == Code.FAILOVER
    assert record["failures"][0] == Failure.MEMORY.told("InternalServerError")
    assert record["units"]["bb"]["weight"] == 999
    assert record["units"]["aa"]["previous_weight"] == 100


def test_of_two_ticks_without_memory_the_second_finds_nothing_to_do() -> None:
    """They may overlap: both write the same."""
    found = without_memory()
    run(found, deciding(WEIGHTS))

    assert run(found, deciding(WEIGHTS))["writes"] == []


def test_who_asked_not_to_act_is_heard_without_memory_too() -> None:
    """Explicit is explicit; nothing is even read."""
    found = without_memory(PAUSED)
    record = run(found, deciding(WEIGHTS, SIZES))

    assert found.calls == [f"acquire {NOON:.0f}"]
    assert codes(record) == [Code.NO_MEMORY, Code.PAUSED]


def test_without_any_fleet_weight_still_leaves_the_dead() -> None:
    """And the lease is given back."""
    found = world(Settings(None, observe=False), state=State(tick=3, at=NOON - 60))
    record = run(found, deciding(WEIGHTS, SIZES))

    assert found.weights == MOVED
    assert found.calls[-1] == "release"
    assert {Code.NO_FLEET, Code.FAILOVER} <= set(codes(record))


def test_without_any_fleet_a_paused_loop_writes_nothing() -> None:
    """Nobody needs a fleet to say stop."""
    found = world(Settings(None, observe=True), state=None)
    run(found, deciding(WEIGHTS, SIZES))

    assert found.calls == [f"acquire {NOON:.0f}", "release"]


def test_a_pause_that_cannot_be_read_leaves_survival_alone() -> None:
    """The decision is reported, not written; weight leaves the dead, and the next tick calls it its own."""
    found = world(UNKNOWN)
    record = run(found, deciding(WEIGHTS, SIZES))

    assert found.weights == MOVED
    assert [write["subject"] for write in record["writes"]] == ["rule 1"]
    assert codes(record) == [Code.PAUSE_UNREADABLE, Code.FAILOVER, "because"]
    assert found.state is not None
    assert found.state.weights == MOVED


def test_a_pause_that_cannot_be_read_while_all_is_well_writes_nothing() -> None:
    """The unit with weight has healthy targets."""
    found = world(UNKNOWN, healthy={"aa": 4, "bb": 3, "cc": 0})

    assert run(found, deciding(WEIGHTS, SIZES))["writes"] == []


def test_without_health_nothing_is_done() -> None:
    """The last step: what nobody knows moves no weight."""
    found = without_memory()
    found.healthy = {}
    record = run(found, deciding(WEIGHTS, SIZES))

    assert record["writes"] == []
    assert codes(record) == [Code.NO_MEMORY, Code.HEALTH_UNKNOWN]


def test_a_row_that_cannot_be_written_is_named_and_the_tick_goes_on() -> None:
    """The next tick tries again."""
    found = without_memory()
    found.fails["row 1"] = refused("Throttling")

    assert run(found, deciding(WEIGHTS))["failures"][-1] == Failure.WEIGHTS.told("Throttling", "of rule 1")


def test_a_row_that_reads_back_otherwise_was_overwritten() -> None:
    """A foreign hand is told."""
    found = replace(without_memory(), foreign_hand={"aa": 1, "bb": 1, "cc": 1})

    assert run(found, deciding(WEIGHTS))["failures"][-1].startswith(Failure.FOREIGN_WEIGHTS)
