"""Zero demand is believed slowly, and given way to reversibly."""

from hypothesis import given
from hypothesis import strategies as st

from control_lambda.core.demand import idle
from control_lambda.core.model import Idleness
from tests.control_lambda.core.examples import NOON

MINUTE = 60.0
QUIET = {NOON: 0.0}
BUSY = {NOON: 5.0}


def after(minutes: int, nodes: int) -> Idleness:
    """The memory after so many ticks without a request, with that many nodes in the beginning."""
    memory, held = Idleness(), nodes
    for minute in range(minutes):
        memory = idle.learn(memory, QUIET, held, NOON + MINUTE * minute)
        held = min(held, idle.kept_nodes(memory))
    return memory


def test_while_something_comes_nothing_is_kept_for_its_own_sake() -> None:
    """The plan alone decides."""
    assert idle.kept_nodes(idle.learn(Idleness(), BUSY, 8, NOON)) == 0


def test_all_nodes_stay_for_half_an_hour() -> None:
    """Counts that are lost look like this, too."""
    assert idle.kept_nodes(after(30, nodes=13)) == 13


def test_then_at_most_a_tenth_goes_every_ten_minutes() -> None:
    """20, 18, 17, 16: reversible for hours."""
    assert [idle.kept_nodes(after(minutes, nodes=20)) for minutes in (31, 40, 41, 51)] == [18, 18, 17, 16]


def test_one_request_ends_it() -> None:
    """The plan decides again, and the next silence begins anew."""
    assert idle.learn(after(40, nodes=20), BUSY, 18, NOON + 3600) == Idleness()


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
