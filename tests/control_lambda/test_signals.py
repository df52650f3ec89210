"""The second Lambda on the embedded AWS: events in; evidence, ticks and metrics out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from control_lambda import signals
from control_lambda.core.fleet import FleetError
from control_lambda.core.model import Evidence, EvidenceKind
from control_lambda.trigger import iso_time
from tests.control_lambda.conftest import NOON

if TYPE_CHECKING:
    from tests.control_lambda.conftest import Shell

FAST, FAST_SPOT, SLOW = "fast-on-demand", "fast-spot", "slow-on-demand"


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Every test is a cold start."""
    signals.shared_signals.cache_clear()
    yield
    signals.shared_signals.cache_clear()


def launch_failure(shell: Shell, pool: str = FAST) -> Mapping[str, Any]:
    """Let the pool's launch be refused; the event that EventBridge delivers."""
    shell.cloud.set_capacity(pool, 0)
    shell.sensors.sense(shell.fleet, NOON, ())
    shell.actuators.set_desired(pool, 1)
    return shell.cloud.events()[0]


def interruption(shell: Shell) -> Mapping[str, Any]:
    """Let AWS take back the only spot node; the event that EventBridge delivers."""
    shell.cloud.set_ready(FAST_SPOT, 1)
    shell.cloud.set_capacity(FAST_SPOT, 0)
    return next(event for event in shell.cloud.events() if event["detail-type"] == signals.INTERRUPTION)


def test_a_refused_launch_becomes_evidence_a_metric_and_a_tick(shell: Shell) -> None:
    """The tick carries the event's own time; the evidence waits in memory as well."""
    event = launch_failure(shell)
    assert signals.handler(event, None) == {
        "pool": FAST,
        "kind": "shortage",
        "kept": True,
        "ticked": True,
    }
    told = Evidence(FAST, EvidenceKind.SHORTAGE, NOON, zone="us-east-1a")
    assert shell.memory.acquire(NOON).evidence == (told,)
    [payload] = shell.cloud.invocations()
    assert payload["time"] == event["time"]
    assert payload["cause"] == "event"
    assert payload["evidence"] == [
        {"pool": FAST, "kind": "shortage", "at": NOON, "zone": "us-east-1a", "node": "", "text": ""}
    ]
    shell.actuators.set_desired(FAST, 0)
    polled = shell.sensors.sense(shell.fleet, NOON + 60, ()).evidence
    assert polled == (Evidence(FAST, EvidenceKind.SHORTAGE, NOON),)


@pytest.mark.parametrize("told", [{"Details": None}, {"Details": {"Availability Zone": None}}])
def test_a_refused_launch_without_details_is_one_of_unknown_zone(
    shell: Shell, told: Mapping[str, Any]
) -> None:
    """AWS leaves them out where no zone was chosen yet."""
    event = launch_failure(shell)
    signals.handler({**event, "detail": {**event["detail"], **told}}, None)
    assert shell.memory.acquire(NOON).evidence == (Evidence(FAST, EvidenceKind.SHORTAGE, NOON),)


@pytest.mark.parametrize(("message", "text"), [("Tea is out.", "Tea is out."), (None, "")])
def test_a_refusal_that_nobody_can_read_brings_its_text(shell: Shell, message: str | None, text: str) -> None:
    """In the evidence that waits, and in the tick's event."""
    event = launch_failure(shell)
    signals.handler({**event, "detail": {**event["detail"], "StatusMessage": message}}, None)
    (kept,) = shell.memory.acquire(NOON).evidence
    assert (kept.kind, kept.text) == (EvidenceKind.UNKNOWN, text)
    [payload] = shell.cloud.invocations()
    assert [item["text"] for item in payload["evidence"]] == [text]


def test_the_evidence_is_written_before_the_tick_is_invoked(shell: Shell) -> None:
    """Else a tick that ends in between would not find it."""
    event = launch_failure(shell)
    shell.cloud.throttle("Invoke", -1)
    with pytest.raises(Exception, match="TooManyRequestsException"):
        signals.handler(event, None)
    assert len(shell.memory.acquire(NOON).evidence) == 1


def test_a_launch_failure_of_a_foreign_group_is_ignored(shell: Shell) -> None:
    """The account holds other groups."""
    event = launch_failure(shell)
    detail = {**event["detail"], "AutoScalingGroupName": "eks-elsewhere-0a1b"}
    assert "ignored" in signals.handler({**event, "detail": detail}, None)
    assert shell.cloud.invocations() == []


def test_an_interruption_names_the_node_that_goes(shell: Shell) -> None:
    """The pool comes from the instance's tags."""
    event = interruption(shell)
    signals.handler(event, None)
    [evidence] = shell.memory.acquire(NOON).evidence
    assert (evidence.pool, evidence.kind) == (FAST_SPOT, EvidenceKind.INTERRUPTION)
    assert evidence.node == event["detail"]["instance-id"]
    assert [payload["cause"] for payload in shell.cloud.invocations()] == ["event"]


def test_an_interruption_of_a_foreign_or_vanished_instance_is_ignored(shell: Shell) -> None:
    """The event is account-wide."""
    event = {**interruption(shell), "detail": {"instance-id": "i-0123456789abcdef0"}}
    assert signals.handler(event, None) == {"ignored": "i-0123456789abcdef0 is none of this fleet's nodes"}
    assert shell.cloud.invocations() == []


def test_a_rebalance_recommendation_is_a_look_at_once_and_no_evidence(shell: Shell) -> None:
    """The node still serves; AWS may never take it."""
    shell.cloud.set_ready(FAST_SPOT, 1)
    node = shell.clients.ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]
    shell.cloud.recommend_rebalance(node)
    assert signals.handler(shell.cloud.events()[-1], None) == {"pool": FAST_SPOT, "ticked": True}
    assert [payload["evidence"] for payload in shell.cloud.invocations()] == [[]]
    assert shell.memory.acquire(NOON).evidence == ()


def test_prices_become_metrics_that_the_loop_reads(shell: Shell) -> None:
    """On-demand from the Price List, spot from the price history."""
    shell.cloud.advance(NOON + 60)
    shell.cloud.set_price(FAST, 1.25)
    shell.cloud.set_price(FAST_SPOT, 0.31)
    answer = signals.handler({"prices": True, "time": iso_time(NOON + 60)}, None)
    assert answer["prices"][FAST] == pytest.approx(1.25)
    pools = shell.sensors.sense(shell.fleet, NOON + 600, ()).pools
    assert [pools[pool].price for pool in (FAST, FAST_SPOT, SLOW)] == pytest.approx([1.25, 0.31, 0.805])


def test_prices_that_cannot_be_read_leave_the_last_good_ones_in_force(shell: Shell) -> None:
    """The others are put, and the invocation fails, which alarms."""
    signals.handler({"prices": True, "time": iso_time(NOON)}, None)
    shell.cloud.advance(NOON + 3600)
    shell.cloud.set_price(FAST_SPOT, 0.31)
    shell.cloud.throttle("GetProducts", -1)
    with pytest.raises(signals.PricesMissingError, match="price of fast-on-demand: ThrottlingException"):
        signals.handler({"prices": True, "time": iso_time(NOON + 3600)}, None)
    pools = shell.sensors.sense(shell.fleet, NOON + 3601, ()).pools
    assert [pools[pool].price for pool in (FAST, FAST_SPOT)] == pytest.approx([1.006, 0.31])


def test_prices_of_a_fleet_that_cannot_be_read_fail_the_invocation(shell: Shell) -> None:
    """There is nothing to price."""
    shell.put_fleet_parameter("garbage")
    with pytest.raises(FleetError):
        signals.handler({"prices": True}, None)


@pytest.mark.usefixtures("variables")
def test_an_event_of_another_kind_is_refused() -> None:
    """With a line that says what would be valid."""
    with pytest.raises(ValueError, match="event: detail-type: 'Tea Time'; valid: an EventBridge event"):
        signals.handler({"detail-type": "Tea Time"}, None)


@pytest.mark.usefixtures("variables")
def test_without_the_name_of_the_tick_nothing_can_be_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick's own Lambda does not need the variable, this one does."""
    monkeypatch.delenv("TICK_FUNCTION")
    with pytest.raises(ValueError, match="environment: TICK_FUNCTION: not set"):
        signals.handler({"prices": True}, None)


@pytest.mark.parametrize(
    ("region", "nearest"),
    [("us-west-2", "us-east-1"), ("eu-west-1", "eu-central-1"), ("ap-northeast-1", "ap-south-1")],
)
def test_the_price_list_is_asked_where_it_answers(region: str, nearest: str) -> None:
    """Only three regions have that API."""
    assert signals.price_list_region(region) == nearest


class Invoked:
    """Lambda's side of an asynchronous invocation: accepted, with an answer that is empty."""

    def __init__(self) -> None:
        self.answers: list[io.BytesIO] = []

    def invoke(self, **_: Any) -> Mapping[str, Any]:
        """The same answer at each call, not read to its end yet."""
        self.answers.append(io.BytesIO(b"{}"))
        return {"StatusCode": 202, "Payload": self.answers[-1]}


def test_the_answer_of_the_invoked_tick_is_read_to_its_end(shell: Shell) -> None:
    """Else its connection stays taken: each next invocation would open another one."""
    fake = Invoked()
    event = launch_failure(shell)
    signals.run(event, replace(signals.shared_signals(), lambda_=fake))
    assert [answer.read() for answer in fake.answers] == [b""]
