"""Who may talk to whom."""

from ipaddress import IPv4Network
from typing import Any

import pytest

from infra.manifests.common import Manifest
from infra.manifests.network_policies import network_policies, router_network_policies
from tests.infra.kubernetes_objects import of_kind
from tests.infra.manifests.examples import CIDRS, selects


def admits(policies: list[Manifest], component: str, direction: str, peer: dict[str, Any], port: int) -> bool:
    """Whether any policy that selects the component's pods admits the peer at the port (TCP)."""
    key = "from" if direction == "ingress" else "to"
    return any(
        any(_matches(block, peer) for block in rule[key]) and port in [item["port"] for item in rule["ports"]]
        for policy in policies
        if selects(policy["spec"]["podSelector"].get("matchLabels", {}), _labels(component))
        for rule in policy["spec"].get(direction, [])
    )


def _labels(component: str) -> dict[str, str]:
    return {"app.kubernetes.io/component": component}


def _matches(block: dict[str, Any], peer: dict[str, Any]) -> bool:
    if "ip" not in peer:
        chosen = block.get("podSelector", {}).get("matchLabels")
        return chosen is not None and selects(chosen, peer)
    if "ipBlock" not in block:
        return False
    address = IPv4Network(peer["ip"])
    excepted = [IPv4Network(cidr) for cidr in block["ipBlock"].get("except", [])]
    within = address.subnet_of(IPv4Network(block["ipBlock"]["cidr"]))
    return within and not any(address.subnet_of(cidr) for cidr in excepted)


IN_VPC = {"ip": "10.42.1.5"}
OUTSIDE = {"ip": "203.0.113.7"}
POD_IDENTITY = {"ip": "169.254.170.23"}
INSTANCE_METADATA = {"ip": "169.254.169.254"}
KUBERNETES_API = {"ip": "172.20.0.1"}
DNS = {"k8s-app": "kube-dns"}


def test_the_namespace_is_closed_but_for_what_is_said() -> None:
    """A policy that selects every pod and allows nothing stands beneath all others."""
    closed = of_kind(network_policies(load_balancer_cidrs=CIDRS), "NetworkPolicy")["closed"]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


POLICIES = [
    *network_policies(load_balancer_cidrs=CIDRS),
    *router_network_policies(load_balancer_cidrs=CIDRS),
]


@pytest.mark.parametrize(
    ("component", "direction", "peer", "port"),
    [
        ("server", "ingress", IN_VPC, 8000),
        ("server", "ingress", _labels("router"), 8000),
        ("server", "egress", DNS, 53),
        ("server", "egress", POD_IDENTITY, 80),
        ("server", "egress", OUTSIDE, 443),
        ("router", "ingress", IN_VPC, 8000),
        ("router", "egress", _labels("server"), 8000),
        ("router", "egress", _labels("router"), 8000),
        ("router", "ingress", _labels("router"), 8000),
        ("router", "egress", DNS, 53),
        ("pool-autoscaler", "egress", KUBERNETES_API, 443),
    ],
)
def test_what_is_needed_is_open(component: str, direction: str, peer: dict[str, Any], port: int) -> None:
    """Requests from the load balancer come in; DNS, credentials and HTTPS go out."""
    assert admits(POLICIES, component, direction, peer, port)


@pytest.mark.parametrize(
    ("component", "direction", "peer", "port"),
    [
        ("server", "ingress", IN_VPC, 22),
        ("server", "ingress", OUTSIDE, 8000),
        ("server", "egress", OUTSIDE, 80),
        ("server", "egress", INSTANCE_METADATA, 443),
        ("server", "egress", INSTANCE_METADATA, 80),
        ("server", "egress", _labels("server"), 8000),
        ("router", "ingress", OUTSIDE, 8000),
        ("pool-autoscaler", "ingress", IN_VPC, 8080),
        ("pool-autoscaler", "egress", POD_IDENTITY, 80),
    ],
)
def test_all_else_is_closed(component: str, direction: str, peer: dict[str, Any], port: int) -> None:
    """No other port, no other peer, and the node's own credentials are out of reach."""
    assert not admits(POLICIES, component, direction, peer, port)


def test_without_a_router_nothing_but_the_vpc_reaches_the_servers() -> None:
    """The way for the router's requests comes with the router."""
    policies = network_policies(load_balancer_cidrs=CIDRS)
    assert not admits(policies, "server", "ingress", _labels("router"), 8000)
