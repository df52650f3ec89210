"""What AWS charges for the fleet's pools now, in USD per hour."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Final

from control_lambda.aws.validity import is_price
from control_lambda.core.fleet import Fleet, Pool
from control_lambda.errors import FAILED_CALL, IncompleteAnswerError, code_of

LINUX: Final = "Linux/UNIX"
# What tells the plain hourly price of an instance type from its many variants.
ON_DEMAND: Final = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}


class PriceReader:
    """Reads the Price List and the spot price history of one region."""

    def __init__(self, pricing: Any, ec2: Any) -> None:
        self._pricing = pricing
        self._ec2 = ec2
        self._region = str(ec2.meta.region_name)

    def read(self, fleet: Fleet, at: float) -> tuple[dict[str, float], tuple[str, ...]]:
        """The price of every pool at `at`, and a line for each that could not be read."""
        prices: dict[str, float] = {}
        failures: list[str] = []
        for pool in fleet.pools:
            try:
                prices[pool.name] = self._price(pool, fleet.unit_of[pool.name].instance_type, at)
            except (*FAILED_CALL, ValueError) as error:  # ValueError: a text that is no number
                failures.append(f"price of {pool.name}: {code_of(error)}")
        return prices, tuple(failures)

    def _price(self, pool: Pool, instance_type: str, at: float) -> float:
        if pool.market == "spot":
            return self._spot_price(instance_type, at)
        return self._on_demand_price(instance_type)

    def _on_demand_price(self, instance_type: str) -> float:
        wanted = {**ON_DEMAND, "instanceType": instance_type, "regionCode": self._region}
        answer = self._pricing.get_products(
            ServiceCode="AmazonEC2",
            Filters=[{"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in wanted.items()],
        )
        prices = {
            float(rate["pricePerUnit"]["USD"])
            for product in answer["PriceList"]
            for term in json.loads(product)["terms"].get("OnDemand", {}).values()
            for rate in term["priceDimensions"].values()
        }
        prices = {price for price in prices if is_price(price)}  # 0: reservations' own entries
        if len(prices) != 1:
            raise IncompleteAnswerError(f"the Price List holds {len(prices)} prices of {instance_type}")
        return prices.pop()

    def _spot_price(self, instance_type: str, at: float) -> float:
        """The mean over the region's zones, each at its latest price: nodes are spread over the zones."""
        now = datetime.fromtimestamp(at, UTC)
        pages = self._ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[instance_type], ProductDescriptions=[LINUX], StartTime=now, EndTime=now
        )
        latest: dict[str, Mapping[str, Any]] = {}
        for page in pages:
            for entry in page["SpotPriceHistory"]:
                known = latest.get(entry["AvailabilityZone"])
                if known is None or entry["Timestamp"] > known["Timestamp"]:
                    latest[entry["AvailabilityZone"]] = entry
        prices = [float(entry["SpotPrice"]) for entry in latest.values()]
        if not any(is_price(price) for price in prices):
            raise IncompleteAnswerError(f"no spot price of {instance_type}")
        return fmean(price for price in prices if is_price(price))
