"""What servers do under overload is seen in their answers."""

from typing import Any

import pytest

from control_lambda.core.model import Minute
from control_lambda.core.supply import overload
from tests.control_lambda.core.examples import NOON, fleet, unit

FLEET = fleet(unit("aa"), unit("bb"))
TABLES = {"aa": (0.0, 100.0, 220.0), "bb": (0.0, 100.0, 220.0)}
START = int(NOON)
LATE, IN_TIME = 2.5, 1.5


def learned(known: dict[str, bool] | None = None, **minute: Any) -> dict[str, bool]:
    """What one minute of two nodes of the first unit teaches."""
    seen = Minute(at=START, healthy_hosts=2.0, **minute)
    return overload.learn(known or {}, {"aa": (seen,)}, TABLES, FLEET, START - 60)


def test_errors_beside_answers_in_time_are_refusals() -> None:
    """300 came to two nodes that answer 220."""
    refusing = learned(requests=300, errors=80, samples=220, latency_seconds=IN_TIME)

    assert refusing == {"aa": False}
    assert overload.queueing(refusing, FLEET) == frozenset()


def test_late_answers_are_a_queue() -> None:
    """Whatever the errors; and the other unit, of which nothing is known, is believed to do the same."""
    queueing = learned({"aa": False}, requests=300, errors=80, samples=220, latency_seconds=LATE)

    assert queueing == {"aa": True}
    assert overload.queueing(queueing, FLEET) == {"aa", "bb"}


@pytest.mark.parametrize(
    "minute",
    [
        {"requests": 200, "errors": 9, "samples": 191, "latency_seconds": LATE},
        {"requests": 300, "samples": 220, "latency_seconds": IN_TIME},
        {"requests": 300, "errors": 290, "samples": 10, "latency_seconds": LATE},
        {"requests": 300, "errors": 300},
    ],
    ids=["not-overloaded", "neither-late-nor-refused", "few-answers", "no-answers"],
)
def test_other_minutes_tell_nothing(minute: dict[str, float]) -> None:
    """What was believed stays believed."""
    assert learned({"aa": True}, **minute) == {"aa": True}


def test_servers_are_believed_to_refuse_before_anything_is_known() -> None:
    """The product's own server does; and where some refuse, nothing is concluded from one that queues."""
    assert overload.queueing({}, FLEET) == frozenset()
    assert overload.queueing({"aa": True, "bb": False}, FLEET) == {"aa"}


def test_a_minute_teaches_once() -> None:
    """What was known before the last tick is not read again."""
    late = Minute(START, 300, None, LATE, 220, 2)

    assert overload.learn({"aa": False}, {"aa": (late,)}, TABLES, FLEET, START) == {"aa": False}
