"""The values of a tick: equal ones compare equal, and the way through JSON loses nothing."""

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_lambda.core.model import (
    DemandMemory,
    Evidence,
    EvidenceKind,
    Health,
    MarginMemory,
    Mode,
    NodeSignal,
    PoolSignals,
    Refusal,
    State,
    TargetHealth,
    evidence_from_plain,
    plain,
    state_from_json,
    state_to_json,
)
from tests.control_lambda.core.histories import histories
from twin.bench.histories import History

names = st.text("abc-", min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
rates = st.lists(numbers, max_size=4).map(tuple)
counts = st.integers(min_value=0, max_value=10**6)


def by_name(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Small mappings."""
    return st.dictionaries(names, values, max_size=3)


margins = st.builds(
    MarginMemory,
    squares=numbers,
    means=numbers,
    minutes=numbers,
    errors=rates,
    requests=rates,
    demanded=numbers,
)
memories = st.builds(
    DemandMemory,
    minute=counts,
    averages=rates,
    day=rates,
    quarter=st.none() | st.tuples(counts, numbers, counts),
    pending=st.lists(st.tuples(counts, rates), max_size=3).map(tuple),
    losses=rates,
    margin=margins,
)
refusals = st.builds(Refusal, st.sampled_from(EvidenceKind), names, numbers, numbers, counts)
states = st.builds(
    State,
    tick=counts,
    at=numbers,
    mode=st.sampled_from(Mode),
    mode_since=numbers,
    weights=by_name(counts),
    desired=by_name(counts),
    health=by_name(st.builds(Health, numbers, counts, numbers)),
    queueing=by_name(st.booleans()),
    prices=by_name(numbers),
    demand=memories,
    peaks=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    refusals=by_name(refusals),
    trust=by_name(numbers),
    leaving=by_name(numbers),
    last_good_fleet=names,
)


@given(states)
def test_a_state_survives_the_way_through_json(state: State) -> None:
    """Whatever is in it, to the last digit."""
    assert state_from_json(state_to_json(state)) == state


@settings(max_examples=15)
@given(histories)
def test_states_that_the_loop_leaves_survive_the_way_through_json(history: History) -> None:
    """And the JSON is the same again."""
    for tick in history.run(10):
        text = state_to_json(tick.after)
        assert state_to_json(state_from_json(text)) == text


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"mode": "panic"}', '{"tick": 1}', "{"])
def test_what_is_no_state_is_refused_in_one_line(text: str) -> None:
    """The loop starts afresh and says why."""
    with pytest.raises(ValueError, match=r"^state: .+") as caught:
        state_from_json(text)

    assert "\n" not in str(caught.value)


def test_a_state_with_an_unknown_key_is_refused() -> None:
    """It was written by another version."""
    raw = {**json.loads(state_to_json(State())), "surprise": 1}

    with pytest.raises(ValueError, match="surprise"):
        state_from_json(json.dumps(raw))


@given(st.builds(Evidence, names, st.sampled_from(EvidenceKind), numbers, names, names, names))
def test_evidence_survives_the_way_through_plain_values(item: Evidence) -> None:
    """Events and DynamoDB carry it, with its text, which does not count in comparisons."""
    read = evidence_from_plain(json.loads(json.dumps(plain(item))))
    assert (read, read.text) == (item, item.text)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("shortage", "no object"),
        ({"kind": "shortage", "at": 1}, "'pool' is missing"),
        ({"pool": "a", "at": 1}, "'kind' is missing"),
        ({"pool": "a", "kind": "shortage"}, "'at' is missing"),
        ({"pool": "a", "kind": "boredom", "at": 1}, "boredom"),
        ({"pool": "a", "kind": "shortage", "at": "noon"}, "noon"),
    ],
)
def test_bad_evidence_is_refused_with_its_fault(raw: object, fault: str) -> None:
    """Naming the key, or the value that is none."""
    with pytest.raises(ValueError, match=fault):
        evidence_from_plain(raw)


def test_a_node_is_ready_when_it_is_in_service_and_its_target_healthy() -> None:
    """Both; the others that the group holds are starting, and all count as in service."""
    healthy = TargetHealth.HEALTHY
    nodes = {
        "i-1": NodeSignal(1.0, target=healthy),
        "i-2": NodeSignal(2.0, in_service=False, target=healthy),
        "i-3": NodeSignal(3.0, target=TargetHealth.INITIAL),
        "i-4": NodeSignal(4.0),
    }
    signals = PoolSignals(5, nodes)

    assert signals.ready == {"i-1"}
    assert signals.starting == {"i-2": 2.0, "i-3": 3.0, "i-4": 4.0}
    assert signals.in_service == 4


def test_nodes_of_unknown_health_are_neither_ready_nor_starting() -> None:
    """The group holds them: that is all there is to know."""
    nodes = {"i-1": NodeSignal(1.0, target=TargetHealth.HEALTHY), "i-2": NodeSignal(2.0)}
    signals = PoolSignals(2, nodes, health_known=False)

    assert (signals.ready, signals.starting, signals.in_service) == (frozenset(), {}, 2)
    assert not signals.sizable


def test_plain_values_are_what_json_writes() -> None:
    """Sets are sorted, so that the same value gives the same text; what is derived is left out."""
    signals = PoolSignals(2, {"i-1": NodeSignal(1.5)})
    assert signals.starting

    assert plain(frozenset({"b", "a"})) == ["a", "b"]
    assert plain(signals) == {
        "desired": 2,
        "nodes": {
            "i-1": {"launched_at": 1.5, "zone": "", "in_service": True, "target": "none", "anomalous": False}
        },
        "terminating": 0,
        "maximum": None,
        "status": "",
        "launch_suspended": "",
        "rebalance_suspended": "",
        "health_known": True,
        "price": None,
        "zones": [],
    }


def test_values_are_frozen() -> None:
    """A decision cannot be changed by whoever carries it out."""
    with pytest.raises(FrozenInstanceError):
        State().tick = 5  # type: ignore[misc]
