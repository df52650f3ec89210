"""The state, the lease and the evidence in DynamoDB, against the embedded AWS."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from control_lambda.aws.memory import DynamoMemory
from control_lambda.aws.world import CONFIG
from control_lambda.core.model import Evidence, EvidenceKind, State
from control_lambda.core.names import STATE_TABLE
from control_lambda.core.reasons import Failure
from control_lambda.errors import FAILED_CALL, NotSavedError
from control_lambda.ports import LeaseHeldError, LeaseLostError, NewEvidenceError, Remembered
from tests.control_lambda.conftest import NOON
from twin.cloud import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from control_lambda.core.fleet import Fleet

FAST, FAST_SPOT = "fast-on-demand", "fast-spot"
WEIGHTS = {"fast": 700, "slow": 0}
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Item:
    """One fleet's item in the state table."""

    cloud: embedded.Cloud
    client: Any
    table: str
    fleet: str

    def memory(self) -> DynamoMemory:
        """A memory over the item, as each Lambda process has its own."""
        return DynamoMemory(self.client, self.table, self.fleet)

    def read(self) -> dict[str, Any]:
        """The item as DynamoDB holds it."""
        found: dict[str, Any] = self.client.get_item(TableName=self.table, Key=self._key)["Item"]
        return found

    def write(self, attributes: dict[str, Any]) -> None:
        """Replace the item."""
        self.client.put_item(TableName=self.table, Item={**self._key, **attributes})

    @property
    def _key(self) -> dict[str, Any]:
        return {"fleet": {"S": self.fleet}}


@pytest.fixture(scope="module")
def table(fleet: Fleet) -> Iterator[tuple[embedded.Cloud, Any, str]]:
    """An embedded cloud's state table; every test uses an item of its own."""
    with embedded.start() as cloud:
        name = cloud.provision(fleet)[STATE_TABLE]
        yield cloud, boto3.client("dynamodb", endpoint_url=cloud.endpoint_url, config=CONFIG), name


@pytest.fixture
def item(table: tuple[embedded.Cloud, Any, str]) -> Item:
    """An item that does not exist yet."""
    cloud, client, name = table
    return Item(cloud, client, name, f"fleet-{next(NUMBERS)}")


SHORTAGE = Evidence(FAST, EvidenceKind.SHORTAGE, NOON - 5, zone="us-east-1a")
INTERRUPTION = Evidence(FAST_SPOT, EvidenceKind.INTERRUPTION, NOON - 4.5, node="i-7")


def test_the_state_survives_from_one_tick_to_the_next(item: Item) -> None:
    """What was saved is what is remembered; the item counts its versions."""
    memory = item.memory()
    assert memory.acquire(NOON).state is None
    state = State(tick=1, at=NOON, weights=WEIGHTS)
    memory.save(state, ())
    assert item.memory().acquire(NOON + 60).state == state
    assert item.read()["version"] == {"N": "1"}


def test_a_lease_is_held_until_it_expires(item: Item) -> None:
    """45 seconds of event time, then the next tick takes over."""
    memory = item.memory()
    memory.acquire(NOON)
    with pytest.raises(LeaseHeldError):
        item.memory().acquire(NOON + 44)
    item.memory().acquire(NOON + 45)


def test_a_released_lease_is_free_and_the_state_unchanged(item: Item) -> None:
    """Release gives back nothing but the lease."""
    memory = item.memory()
    memory.acquire(NOON)
    memory.release()
    assert item.memory().acquire(NOON + 1).state is None


def test_a_lease_from_a_clock_that_had_jumped_ahead_does_not_count(item: Item) -> None:
    """Else one tick with a wrong time that crashed would lock all others out."""
    memory = item.memory()
    memory.acquire(NOON + 86_400)
    item.memory().acquire(NOON)


def test_a_tick_that_lost_its_lease_saves_nothing_and_releases_nothing(item: Item) -> None:
    """The token fences the late tick off."""
    memory = item.memory()
    memory.acquire(NOON)
    other = item.memory()
    other.acquire(NOON + 50)
    with pytest.raises(LeaseLostError):
        memory.save(State(tick=1), ())
    memory.release()
    other.save(State(tick=2), ())
    assert memory.acquire(NOON + 120).state == State(tick=2)


def test_a_save_whose_answer_was_lost_counts_when_it_is_repeated(item: Item) -> None:
    """A retried call finds its own work."""
    memory = item.memory()
    memory.acquire(NOON)
    memory.save(State(tick=1), ())
    memory.save(State(tick=1), ())
    with pytest.raises(LeaseLostError):
        memory.save(State(tick=2), ())


def test_evidence_waits_for_the_next_tick_and_is_forgotten_once_seen(item: Item) -> None:
    """The same observation twice is one; every field survives."""
    memory = item.memory()
    for evidence in (SHORTAGE, INTERRUPTION, SHORTAGE):
        assert item.memory().add_evidence(evidence)
    remembered = memory.acquire(NOON)
    assert remembered.evidence == (SHORTAGE, INTERRUPTION)
    memory.save(State(tick=1), remembered.evidence)
    assert memory.acquire(NOON + 60).evidence == ()


def test_the_text_of_an_unknown_refusal_waits_with_it_and_makes_no_second_one(item: Item) -> None:
    """The tick that takes it shows it."""
    memory = item.memory()
    bare = Evidence(FAST, EvidenceKind.UNKNOWN, NOON - 5)
    for evidence in (bare, replace(bare, text="Tea is out.")):
        assert memory.add_evidence(evidence)
    (kept,) = memory.acquire(NOON).evidence
    assert (kept, kept.text) == (bare, "Tea is out.")
    memory.save(State(tick=1), (bare,))
    assert memory.acquire(NOON + 60).evidence == ()


def test_evidence_that_arrives_during_a_tick_stops_the_save(item: Item) -> None:
    """The save names what is new and keeps the lease; the next save goes through."""
    memory = item.memory()
    item.memory().add_evidence(SHORTAGE)
    seen = memory.acquire(NOON).evidence
    item.memory().add_evidence(INTERRUPTION)
    with pytest.raises(NewEvidenceError) as arrived:
        memory.save(State(tick=1), seen)
    assert arrived.value.evidence == (INTERRUPTION,)
    with pytest.raises(LeaseHeldError):
        item.memory().acquire(NOON + 1)
    memory.save(State(tick=1), (*seen, INTERRUPTION))
    assert memory.acquire(NOON + 60).evidence == ()


def test_evidence_that_the_tick_has_from_its_event_does_not_stop_the_save(item: Item) -> None:
    """Signals may write the item only after it was read, and bring the same in the event."""
    memory = item.memory()
    memory.acquire(NOON)
    item.memory().add_evidence(SHORTAGE)
    memory.save(State(tick=1), (SHORTAGE,))
    assert memory.acquire(NOON + 60) == Remembered(State(tick=1), ())


def test_a_burst_of_evidence_is_bounded(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item never outgrows DynamoDB's 400 KB."""
    monkeypatch.setattr("control_lambda.aws.memory.MAX_EVIDENCE", 2)
    memory = item.memory()
    kept = [memory.add_evidence(Evidence(FAST, EvidenceKind.SHORTAGE, NOON + n)) for n in range(3)]
    assert kept == [True, True, False]


def test_a_state_that_does_not_parse_is_reported_and_forgotten(item: Item) -> None:
    """The tick starts afresh; the next save repairs the item."""
    memory = item.memory()
    item.write(
        {"state": {"S": "garbage"}, "evidence": {"M": {"x": {"M": {"pool": {"S": FAST}}}}}},
    )
    remembered = memory.acquire(NOON)
    assert (remembered.state, remembered.evidence) == (None, ())
    assert [problem.split(":")[0] for problem in remembered.problems] == [
        Failure.EVIDENCE_UNREADABLE,
        Failure.STATE_UNREADABLE,
    ]
    memory.save(State(tick=1), ())
    assert memory.acquire(NOON + 60).problems == ()


def test_an_unreachable_table_is_no_lease_conflict(item: Item) -> None:
    """Other errors of DynamoDB go through as they are."""
    memory = item.memory()
    item.cloud.throttle("UpdateItem", 2)
    with pytest.raises(ClientError, match="ThrottlingException"):
        memory.acquire(NOON)


@dataclass
class Refusing:
    """A DynamoDB that refuses every write on its condition, and shows the same item each time."""

    item: dict[str, Any]
    writes: list[str] = field(default_factory=list)

    def update_item(self, **request: Any) -> dict[str, Any]:
        """Only the lease is granted."""
        if request["UpdateExpression"].startswith("SET lease_token"):
            self.item["lease_token"] = request["ExpressionAttributeValues"][":token"]
            return {"Attributes": self.item}
        self.writes.append(request["UpdateExpression"])
        if "ConditionExpression" not in request:
            return {"Attributes": self.item}
        answer: Any = {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": self.item}
        raise ClientError(answer, "UpdateItem")


def test_a_save_that_is_refused_without_a_reason_ends() -> None:
    """Neither the lease nor new evidence explains it: after some attempts the error says so."""
    table = Refusing({})
    memory = DynamoMemory(table, "table", "fleet")
    memory.acquire(NOON)
    with pytest.raises(NotSavedError, match="refused 3 times, though the lease is ours and nothing is new"):
        memory.save(State(tick=1), ())
    assert len(table.writes) == 3


def test_a_build_that_is_refused_without_a_reason_ends() -> None:
    """The item never shows the map of builds that was just made."""
    table = Refusing({})
    with pytest.raises(NotSavedError, match="the build was refused 3 times"):
        DynamoMemory(table, "table", "fleet").put_build("project", "FAILED")
    assert table.writes.count("SET builds.#project = :status") == 3


def test_evidence_that_was_seen_is_saved_over_at_the_second_attempt(item: Item) -> None:
    """The first one learns how much evidence the item holds by now."""
    memory = item.memory()
    memory.acquire(NOON)
    for evidence in (SHORTAGE, INTERRUPTION):
        item.memory().add_evidence(evidence)
    memory.save(State(tick=1), (SHORTAGE, INTERRUPTION))
    assert item.read()["version"] == {"N": "1"}


def test_a_table_that_does_not_answer_is_a_failed_call(item: Item) -> None:
    """The tick can tell it from a lease that another one holds."""
    item.cloud.fail("UpdateItem", "InternalServerError", -1)
    try:
        with pytest.raises(FAILED_CALL, match="InternalServerError"):
            item.memory().acquire(NOON)
    finally:
        item.cloud.fail("UpdateItem", "", 0)
