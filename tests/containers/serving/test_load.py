import asyncio
import socket
from itertools import pairwise
from math import inf, isinf

import pytest

from containers.serving.load import (
    NO_ANSWER,
    Answer,
    ImageClient,
    figures,
    offer,
    poisson_arrivals,
    saturate,
)
from tests.containers.serving.queueing_theory import mean_sojourn, share_within
from tests.containers.serving.virtual_time import OneAtATime, run

SERVICE_SECONDS = 0.5


def test_arrivals_are_repeatable_ascending_and_as_many_as_the_rate_says() -> None:
    """The same seed gives the same Poisson process: its counts have mean and variance rate × seconds."""
    arrivals = poisson_arrivals(rate=5.0, seconds=2_000, seed=1)
    assert arrivals == poisson_arrivals(rate=5.0, seconds=2_000, seed=1)
    assert arrivals != poisson_arrivals(rate=5.0, seconds=2_000, seed=2)
    assert arrivals == sorted(arrivals)
    assert len(arrivals) == pytest.approx(10_000, abs=4 * 10_000**0.5)
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)


def test_requests_are_sent_when_due_whether_or_not_earlier_ones_were_answered() -> None:
    """Open loop: a slow server doesn't slow the load down, and latencies hold the wait in its queue."""
    answers = run(offer(OneAtATime(10.0), [0.0, 1.0, 2.0]))
    assert [answer.sent for answer in answers] == [0.0, 1.0, 2.0]
    assert [answer.seconds for answer in answers] == [10.0, 19.0, 28.0]


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A late load generator is no excuse: its delay is in the latency, and is told as lateness."""
    late = [Answer(due=0.0, sent=0.4, answered=1.0, status=200)]
    shown = figures(late, since=0, until=1, objective=0.9)
    assert (shown.mean, shown.within_objective, shown.lateness) == (1.0, 0.0, 0.4)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_latencies_agree_with_queueing_theory(load: float) -> None:
    """On M/D/1, mean and distribution of the latency are as the theory says, within 5 %."""
    rate = load / SERVICE_SECONDS
    arrivals = poisson_arrivals(rate, seconds=10_000, seed=3)
    shown = figures(run(offer(OneAtATime(SERVICE_SECONDS), arrivals)), 500, 10_000, objective=2.0)
    assert shown.mean == pytest.approx(mean_sojourn(rate, SERVICE_SECONDS), rel=0.05)
    assert shown.within_objective == pytest.approx(share_within(2.0, rate, SERVICE_SECONDS), rel=0.05)
    assert share_within(shown.p95, rate, SERVICE_SECONDS) == pytest.approx(0.95, rel=0.05)
    assert shown.throughput == pytest.approx(rate, rel=0.05)


def test_refused_requests_are_infinitely_late() -> None:
    """A server doesn't keep its promise by refusing: refusals count in the percentiles, not in the mean."""
    answers = run(offer(OneAtATime(1.0, most_waiting=1), [0.0, 0.1, 0.2, 0.3]))
    assert [answer.status for answer in answers] == [200, 200, 503, 503]
    shown = figures(answers, since=0, until=1, objective=3.0)
    assert (shown.failed, shown.within_objective) == (2, 0.5)
    assert shown.mean == pytest.approx((1.0 + 1.9) / 2)
    assert shown.p50 == pytest.approx(1.9)
    assert isinf(shown.p95)


def test_only_the_window_counts() -> None:
    """What was due before the window is warm-up; throughput counts the answers given inside it."""
    answers = [
        Answer(due=0.0, sent=0.0, answered=9.0, status=200),
        Answer(due=5.0, sent=5.0, answered=6.0, status=200),
        Answer(due=6.0, sent=6.0, answered=16.0, status=200),
    ]
    shown = figures(answers, since=5, until=15, objective=2.0)
    assert (shown.requests, shown.offered, shown.throughput) == (2, 0.2, 0.2)


def test_a_window_without_requests_is_refused() -> None:
    """There are no figures of nothing."""
    with pytest.raises(ValueError, match="no request was due"):
        figures([], since=0, until=1, objective=1)


def test_a_closed_loop_finds_the_throughput_of_a_saturated_server() -> None:
    """With more clients than it serves at once, a server answers one request per service time."""
    answers = run(saturate(OneAtATime(SERVICE_SECONDS), clients=4, requests=40))
    assert len(answers) == 40
    assert max(answer.answered for answer in answers) == pytest.approx(40 * SERVICE_SECONDS)


def test_a_request_to_a_closed_port_has_no_answer() -> None:
    """A connection that fails is an outcome of the measurement, not a crash of the load generator."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        async def send() -> int:
            async with ImageClient(url, lambda index: {"seed": index}, timeout_seconds=5) as client:
                return await client(0)

        assert asyncio.run(send()) == NO_ANSWER
    assert Answer(0.0, 0.0, 1.0, NO_ANSWER).seconds == inf
