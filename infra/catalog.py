"""What AWS offers where, at which price and under which quota: dated tables, read without calling AWS.

The tables and their sources stand in `infra/tables/` (its README dates them). Zones are zone ids
such as use1-az4, which mean the same place in every account.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, get_args

from control_lambda.core.fleet import Accelerator, Market
from infra import pins

TABLES: Final = Path(__file__).parent / "tables"
PRICES_DATE: Final = pins.version("prices", "prices.csv")

# Where EKS puts no control plane; node groups follow it, so that every subnet serves both.
# https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html, read 2026-11-22.
WITHOUT_EKS: Final = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})


# What EKS's managed node groups cap the pods of a node at, by its size.
LARGE_VCPUS: Final = 30
MAX_PODS: Final = 110
MAX_PODS_LARGE: Final = 250


class UnknownInstanceTypeError(ValueError):
    """The tables hold nothing about this instance type; the message lists those that they hold."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An EC2 instance type: `devices` accelerators of the family `accelerator`, `memory_mib` of RAM.

    `quota_family` is the family of `quotas.csv` whose vCPU quota it counts against. `ebs_mbps` (MB/s) and
    `ebs_iops` are the most that it takes from its volumes, in bursts where it is small.
    """

    name: str
    accelerator: Accelerator
    devices: int
    vcpus: int
    memory_mib: int
    quota_family: str
    ebs_mbps: float
    ebs_iops: int
    interfaces: int
    addresses_per_interface: int

    @property
    def max_pods(self) -> int:
        """How many pods EKS lets onto a node: an address for each, two on the host's, within its own cap."""
        addresses = self.interfaces * (self.addresses_per_interface - 1) + 2
        return min(addresses, MAX_PODS_LARGE if self.vcpus >= LARGE_VCPUS else MAX_PODS)


@dataclass(frozen=True, slots=True)
class Price:
    """USD per hour for Linux; `spot` is the mean over the region's zones, None where not recorded."""

    on_demand: float
    spot: float | None


def instance_type(name: str) -> InstanceType:
    """The instance type of that name.

    Raises:
        UnknownInstanceTypeError: the tables do not hold it.
    """
    known = _instance_types()
    if name not in known:
        raise UnknownInstanceTypeError(
            f"{name!r} is not in infra/tables/instance_types.csv; valid: {', '.join(known)}"
        )
    return known[name]


def instance_types() -> tuple[str, ...]:
    """The names of the instance types that the tables hold."""
    return tuple(_instance_types())


def vcpus(name: str) -> int:
    """The vCPUs of the instance type, in which EC2 counts its quotas."""
    return instance_type(name).vcpus


def types_with(accelerator: Accelerator) -> tuple[InstanceType, ...]:
    """The types with that accelerator, the smallest memory first."""
    found = (known for known in _instance_types().values() if known.accelerator == accelerator)
    return tuple(sorted(found, key=lambda known: known.memory_mib))


def devices(name: str) -> int:
    """How many accelerators the instance type has; 0 for one without."""
    return instance_type(name).devices


def regions() -> tuple[str, ...]:
    """The regions that the table of zones knows."""
    return tuple(sorted({region for region, _ in _zones()}))


def zones_offering(region: str, name: str) -> tuple[str, ...]:
    """The zone ids of `region` that offer the instance type and can hold an EKS cluster; may be empty."""
    return _zones().get((region, name), ())


def regions_offering(name: str) -> tuple[str, ...]:
    """The regions with at least one zone that offers the instance type."""
    return tuple(region for region in regions() if zones_offering(region, name))


def price_usd_per_hour(region: str, name: str, market: Market) -> float | None:
    """The recorded price in USD per hour; None where none is recorded."""
    price = _prices().get((region, name))
    if price is None:
        return None
    return price.spot if market == "spot" else price.on_demand


def quota_code(name: str, market: Market) -> str:
    """The Service Quotas code (service `ec2`) whose vCPUs an instance of this type counts against.

    Raises:
        UnknownInstanceTypeError: the tables do not hold the type.
    """
    return _quota_codes()[instance_type(name).quota_family, market]


@cache
def _instance_types() -> Mapping[str, InstanceType]:
    return {
        row["instance_type"]: InstanceType(
            row["instance_type"],
            _accelerator(row["accelerator"]),
            int(row["devices"]),
            int(row["vcpus"]),
            int(row["memory_mib"]),
            row["quota_family"],
            float(row["ebs_mbps"]),
            int(row["ebs_iops"]),
            int(row["interfaces"]),
            int(row["addresses_per_interface"]),
        )
        for row in _rows("instance_types.csv")
    }


def _accelerator(text: str) -> Accelerator:
    known: Accelerator
    for known in get_args(Accelerator):
        if known == text:
            return known
    valid = ", ".join(get_args(Accelerator))
    raise ValueError(f"infra/tables/instance_types.csv: accelerator: {text!r}; valid: {valid}")


@cache
def _quota_codes() -> Mapping[tuple[str, str], str]:
    return {(row["family"], row["market"]): row["code"] for row in _rows("quotas.csv")}


@cache
def _zones() -> Mapping[tuple[str, str], tuple[str, ...]]:
    return {
        (row["region"], row["instance_type"]): tuple(
            zone for zone in row["zones"].split() if zone not in WITHOUT_EKS
        )
        for row in _rows("zones.csv")
    }


@cache
def _prices() -> Mapping[tuple[str, str], Price]:
    return {
        (row["region"], row["instance_type"]): Price(
            float(row["on_demand_usd_per_hour"]),
            float(row["spot_usd_per_hour"]) if row["spot_usd_per_hour"] else None,
        )
        for row in _rows("prices.csv")
    }


def _rows(name: str) -> Iterator[Mapping[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
