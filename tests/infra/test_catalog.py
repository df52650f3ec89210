"""The dated tables: complete for what the project uses, and in the form that AWS gives."""

import csv
import re
from pathlib import Path
from typing import get_args

import pytest

from control_lambda.core.fleet import Fleet, Market
from control_lambda.core.supply.refusals import family
from control_lambda.fleet_file import load_fleet
from infra import catalog
from infra.settings import SYSTEM_INSTANCE_TYPE

MARKETS = get_args(Market)
ROOT = Path(__file__).parents[2]
FLEETS = [load_fleet(path) for path in (ROOT / "fleet.yaml", *sorted((ROOT / "fleets").glob("*.yaml")))]
TYPES = sorted({unit.instance_type for fleet in FLEETS for unit in fleet.units})


@pytest.mark.parametrize("name", [*TYPES, SYSTEM_INSTANCE_TYPE])
def test_every_type_that_the_project_uses_is_in_every_table(name: str) -> None:
    """Shipped fleets can be deployed and estimated in us-east-1, the default region."""
    assert catalog.vcpus(name) > 0
    assert catalog.zones_offering("us-east-1", name)
    assert catalog.price_usd_per_hour("us-east-1", name, "on-demand")
    assert catalog.quota_code(name, "on-demand") != catalog.quota_code(name, "spot")


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.fleet)
def test_every_shipped_unit_names_the_accelerator_that_its_type_has(fleet: Fleet) -> None:
    """The tables and the shipped fleets agree; a type with an accelerator has at least one device."""
    for unit in fleet.units:
        known = catalog.instance_type(unit.instance_type)
        assert known.accelerator == unit.accelerator
        assert (known.devices > 0) == (known.accelerator != "cpu")


def test_prices_are_those_of_the_paper_to_the_cent() -> None:
    """The default fleet's fallback prices (USD per hour, rounded there) and the table are the same ones."""
    for fleet in FLEETS:
        for pool in fleet.pools:
            known = catalog.price_usd_per_hour(
                "us-east-1", fleet.unit_of[pool.name].instance_type, pool.market
            )
            if known is not None and fleet.fleet != "tiny-cpu":
                assert pool.price_usd_per_hour == pytest.approx(known, abs=1e-4)


def test_spot_costs_no_more_than_on_demand() -> None:
    """AWS caps the spot price at the on-demand price."""
    for region in catalog.regions():
        for name in TYPES:
            spot = catalog.price_usd_per_hour(region, name, "spot")
            on_demand = catalog.price_usd_per_hour(region, name, "on-demand")
            assert spot is None or (on_demand is not None and spot <= on_demand)


def test_zones_are_zone_ids_and_can_hold_a_cluster() -> None:
    """Names such as us-east-1a would mean another place in every account."""
    for region in catalog.regions():
        for name in [*TYPES, SYSTEM_INSTANCE_TYPE]:
            for zone in catalog.zones_offering(region, name):
                assert re.fullmatch(r"[a-z]+[0-9]+-az[0-9]+", zone)
                assert zone not in catalog.WITHOUT_EKS


def test_every_region_can_hold_the_system_nodes_in_two_zones() -> None:
    """A region of the table without them could not hold a cluster."""
    for region in catalog.regions():
        assert len(catalog.zones_offering(region, SYSTEM_INSTANCE_TYPE)) >= 2, region


def test_the_zones_of_trainium_in_virginia() -> None:
    """One row as AWS answers it, so that a shifted column would be seen."""
    assert catalog.zones_offering("us-east-1", "trn1.2xlarge") == ("use1-az5", "use1-az6")
    assert catalog.zones_offering("eu-west-1", "trn1.2xlarge") == ()
    assert catalog.regions_offering("trn1.2xlarge") == ("us-east-1", "us-east-2", "us-west-2")


def quotas() -> list[dict[str, str]]:
    """The rows of the table of quotas."""
    with (catalog.TABLES / "quotas.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_family_of_quotas_has_a_code_in_each_market_and_a_source() -> None:
    """Codes are those of Service Quotas, and whoever doubts one finds the page that it was read on."""
    rows = quotas()
    families = {row["family"] for row in rows}
    assert sorted((row["family"], row["market"]) for row in rows) == sorted(
        (family, market) for family in families for market in MARKETS
    )
    for row in rows:
        assert re.fullmatch(r"L-[0-9A-F]{8}", row["code"])
        assert row["source"].startswith("https://docs.aws.amazon.com/")


def test_every_type_counts_against_a_quota_of_the_table() -> None:
    """And every family has a type that counts against it: no row is left over."""
    with (catalog.TABLES / "instance_types.csv").open(encoding="utf-8", newline="") as file:
        used = {row["quota_family"] for row in csv.DictReader(file)}
    assert used == {row["family"] for row in quotas()}


@pytest.mark.parametrize("name", TYPES)
def test_the_catalogue_and_the_loop_name_the_same_family(name: str) -> None:
    """A quota refusal blocks exactly the types that preflight counts together."""
    assert catalog.instance_type(name).quota_family == family(name)


def test_p4_and_p5_share_their_quota_on_demand_but_not_on_spot() -> None:
    """AWS counts all P instances together on demand, and P5 by itself on spot."""
    p4, p5 = "p4d.24xlarge", "p5.4xlarge"
    assert catalog.quota_code(p4, "on-demand") == catalog.quota_code(p5, "on-demand") == "L-417A185B"
    assert catalog.quota_code(p4, "spot") == "L-7212CCBC"
    assert catalog.quota_code(p5, "spot") == "L-C4BD4855"


def test_an_unknown_type_is_refused_with_those_that_are_known() -> None:
    """The message says where a type would have to be added."""
    with pytest.raises(
        catalog.UnknownInstanceTypeError, match=r"'g7\.xlarge' is not in infra/tables/.*; valid: .*g6"
    ):
        catalog.vcpus("g7.xlarge")


def test_a_price_that_nobody_recorded_is_none() -> None:
    """An estimate says that it does not know rather than zero."""
    assert catalog.price_usd_per_hour("eu-west-1", "trn1.2xlarge", "on-demand") is None
    assert catalog.price_usd_per_hour("us-east-1", "c7i.xlarge", "spot") is None
