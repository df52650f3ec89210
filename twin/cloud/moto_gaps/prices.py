"""What the cloud charges by instance type and market, and Gap: the Price List.

Moto implements nothing of Pricing. Restored: GetProducts for EC2 in the shape that the Price List Query
API answers with, one JSON document in a string for each product.
"""

import json
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from control_lambda.core.fleet import Fleet, Market
from twin.cloud.moto_gaps.protocol import (
    REGION,
    AwsError,
    Operation,
    Parameters,
    Result,
    iso,
    page,
    refuse_unknown,
)

PAGE: Final = 100
ON_DEMAND_TERM: Final = "JRTCKXETXF"  # the offer term code of on-demand in every price list
HOURLY_RATE: Final = "6YS6EN2CT7"  # its rate code for an hourly price


Quoted = float | str


def quoted(price: Quoted, decimals: int) -> str:
    """A price as AWS writes it; a text that is none, as it stands."""
    return price if isinstance(price, str) else f"{price:.{decimals}f}"


class Prices:
    """Price changes (epoch seconds, what is quoted: USD per hour, valid or not) by instance type and market.

    A pool's price is its type's: pools that share type and market share it too.
    """

    def __init__(self, fleet: Fleet, at: float) -> None:
        self._fleet = fleet
        self._changes: dict[tuple[str, Market], list[tuple[float, Quoted]]] = {}
        for pool in fleet.pools:
            self.set(pool.name, pool.price_usd_per_hour, at)

    def set(self, pool: str, usd_per_hour: Quoted, at: float) -> None:
        """Change the price of the pool's instance type in its market from `at` on."""
        key = (self._fleet.unit_of[pool].instance_type, self._fleet.pool_named[pool].market)
        changes = self._changes.setdefault(key, [])
        if not changes or changes[-1][1] != usd_per_hour:
            changes.append((at, usd_per_hour))

    def types(self, market: Market) -> list[str]:
        """The instance types that have a price in the market."""
        return [instance_type for instance_type, priced in self._changes if priced == market]

    def now(self, instance_type: str, market: Market) -> Quoted:
        """The last price set."""
        return self._changes[instance_type, market][-1][1]

    def between(
        self, instance_type: str, market: Market, start: float, end: float
    ) -> Sequence[tuple[float, Quoted]]:
        """The changes from `start` to `end`, and the one in force at `start`."""
        changes = [change for change in self._changes.get((instance_type, market), ()) if change[0] <= end]
        before = max((at for at, _ in changes if at <= start), default=-inf)
        return [change for change in changes if change[0] >= before]


class Pricing:
    """The Price List of the fleet's on-demand instance types."""

    service = "pricing"

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is answered here; nothing of this service is left to moto."""
        return {"GetProducts": self.get_products}

    def get_products(self, parameters: Parameters) -> Result:
        """EC2 products whose attributes equal every filter's value.

        Raises:
            AwsError: NotFoundException for a service other than EC2, InvalidParameterException for a
                filter on an attribute that no product has.
        """
        known = ("ServiceCode", "Filters", "FormatVersion", "NextToken", "MaxResults")
        refuse_unknown(parameters, "GetProducts", *known)
        if parameters["ServiceCode"] != "AmazonEC2":
            raise AwsError("NotFoundException", f"Service {parameters['ServiceCode']} not found")
        products = [
            product
            for product in (self._product(name) for name in self._prices.types("on-demand"))
            if _matches(product["product"]["attributes"], parameters.get("Filters", ()))
        ]
        size = int(parameters.get("MaxResults", PAGE))
        shown, token = page(products, parameters.get("NextToken"), size, "InvalidNextTokenException")
        answer: dict[str, Any] = {
            "FormatVersion": "aws_v1",
            "PriceList": [json.dumps(item) for item in shown],
        }
        return answer | {"NextToken": token} if token else answer

    def _product(self, instance_type: str) -> dict[str, Any]:
        sku = instance_type.upper().replace(".", "")
        offer = {
            "sku": sku,
            "offerTermCode": ON_DEMAND_TERM,
            "effectiveDate": iso(0),
            "termAttributes": {},
            "priceDimensions": self._hourly_rate(sku, instance_type),
        }
        product = {
            "sku": sku,
            "productFamily": "Compute Instance",
            "attributes": _attributes(instance_type),
        }
        return {
            "serviceCode": "AmazonEC2",
            "product": product,
            "terms": {"OnDemand": {f"{sku}.{ON_DEMAND_TERM}": offer}},
        }

    def _hourly_rate(self, sku: str, instance_type: str) -> Mapping[str, Any]:
        code = f"{sku}.{ON_DEMAND_TERM}.{HOURLY_RATE}"
        price = self._prices.now(instance_type, "on-demand")
        rate = {
            "unit": "Hrs",
            "beginRange": "0",
            "endRange": "Inf",
            "description": f"${price} per On Demand Linux {instance_type} Instance Hour",
            "appliesTo": [],
            "rateCode": code,
            "pricePerUnit": {"USD": quoted(price, 10)},
        }
        return {code: rate}


def _attributes(instance_type: str) -> Mapping[str, str]:
    return {
        "instanceType": instance_type,
        "regionCode": REGION,
        "location": "US East (N. Virginia)",
        "locationType": "AWS Region",
        "marketoption": "OnDemand",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "licenseModel": "No License required",
        "operation": "RunInstances",
        "servicecode": "AmazonEC2",
    }


def _matches(attributes: Mapping[str, str], filters: Sequence[Parameters]) -> bool:
    for item in filters:
        if item["Type"] != "TERM_MATCH" or item["Field"] not in {*attributes, "productFamily", "ServiceCode"}:
            raise AwsError("InvalidParameterException", f"Input Parameters are invalid: {item['Field']}")
    known = {**attributes, "productFamily": "Compute Instance", "ServiceCode": "AmazonEC2"}
    return all(known[item["Field"]].lower() == item["Value"].lower() for item in filters)
