"""Zero demand is believed slowly, and given way to reversibly."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.demand import idle
from control_lambda.core.model import Idleness
from tests.control_lambda.core.examples import NOON

MINUTE = 60


def after(minutes: int, nodes: int, idle_before: Idleness = Idleness()) -> Idleness:  # noqa: B008 - frozen
    """The memory after so many ticks without a request, with that many nodes in the beginning."""
    memory, held = idle_before, nodes
    for minute in range(minutes):
        at = NOON + MINUTE * minute
        memory = idle.learn(memory, {at: 0.0}, held, at)
        held = min(held, idle.kept_nodes(memory) or held)
    return memory


def sparse(hours: int) -> Idleness:
    """The memory of a fleet that gets a request every other minute."""
    memory = Idleness()
    for minute in range(-60 * hours, 0):
        at = NOON + MINUTE * minute
        memory = idle.learn(memory, {at: float(minute % 2)}, 5, at)
    return memory


def test_while_something_comes_nothing_is_kept_for_its_own_sake() -> None:
    """The plan alone decides."""
    assert idle.kept_nodes(idle.learn(Idleness(), {NOON: 5.0}, 8, NOON)) == 0


def test_all_nodes_stay_for_half_an_hour() -> None:
    """Counts that are lost look like this, too."""
    assert idle.kept_nodes(after(30, nodes=13)) == 13


def test_then_at_most_a_tenth_goes_every_ten_minutes() -> None:
    """20, 18, 17, 16: reversible for hours."""
    assert [idle.kept_nodes(after(minutes, nodes=20)) for minutes in (31, 40, 41, 51)] == [18, 18, 17, 16]


def test_one_request_ends_it() -> None:
    """The plan decides again, and the next silence begins anew."""
    busy = idle.learn(after(40, nodes=20), {NOON + 3600: 5.0}, 18, NOON + 3600)
    assert idle.kept_nodes(busy) == 0
    assert busy.since == 0.0


def test_no_counts_at_all_change_nothing() -> None:
    """Absence is no evidence."""
    memory = after(10, nodes=5)
    assert idle.learn(memory, {}, 5, NOON + 3600) == memory


@given(st.integers(0, 300), st.integers(0, 400))
def test_what_is_kept_never_grows_and_never_is_negative(nodes: int, minutes: int) -> None:
    """And it never falls by more than a tenth, or one node, in ten minutes."""
    before, now = (idle.kept_nodes(after(count, nodes)) for count in (minutes, minutes + 10))
    assert now >= 0
    if minutes:
        assert now <= before
        assert before - now <= 2 * max(1, before // 10)


def test_where_empty_minutes_are_ordinary_a_few_of_them_are_no_zero_demand() -> None:
    """A run has to be longer than those of the last day, and by far."""
    memory = sparse(hours=24)
    assert idle.often_empty(memory)
    assert idle.kept_nodes(after(2, 5, memory)) == 0
    assert idle.kept_nodes(after(3, 5, memory)) == 5


def test_last_night_is_what_tonight_may_be_like() -> None:
    """A run of twenty empty minutes leaves one of forty without notice, for about a day."""
    memory = idle.learn(after(20, 5), {NOON + MINUTE * 20: 5.0}, 5, NOON + MINUTE * 20)
    busy = Idleness(minute=memory.minute, longest=memory.longest)
    quiet = replace(busy, run=39)
    assert idle.kept_nodes(idle.learn(quiet, {memory.minute + 60: 0.0}, 5, NOON)) == 0
    assert idle.kept_nodes(idle.learn(replace(busy, run=40), {memory.minute + 60: 0.0}, 5, NOON)) == 5


def test_a_minute_is_counted_once() -> None:
    """However often it is read."""
    once = idle.learn(Idleness(), {NOON: 0.0}, 5, NOON)
    assert idle.learn(once, {NOON: 0.0}, 5, NOON + 30).run == 1
