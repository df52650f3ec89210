"""Who may talk to whom inside the namespace: nobody, but for what is said here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from infra.manifests.common import (
    COMPONENT_LABEL,
    POOL_AUTOSCALER,
    PORT,
    ROUTER,
    SERVER,
    Manifest,
    labels,
    manifest,
)

# https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
POD_IDENTITY_AGENT: Final = "169.254.170.23/32"
ANYWHERE: Final = "0.0.0.0/0"
METADATA_SERVICE: Final = "169.254.169.254/32"


def network_policies(*, load_balancer_cidrs: Sequence[str]) -> list[Manifest]:
    """The policies: all closed, then what servers and pool autoscalers need.

    `load_balancer_cidrs` are the address ranges of the subnets that the load balancer stands in.
    """
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return [
        _named("closed", closed),
        _named(SERVER, _policy(SERVER, ingress=[_served(load_balancer_cidrs)], egress=_aws())),
        _named(POOL_AUTOSCALER, _policy(POOL_AUTOSCALER, ingress=[], egress=[_https()])),
    ]


def router_network_policies(*, load_balancer_cidrs: Sequence[str]) -> list[Manifest]:
    """What the router needs, and the way for its requests into the servers and to its peers."""
    to_pods = {"to": [_pods(SERVER), _pods(ROUTER)], "ports": [_port(PORT)]}
    from_peers = {"from": [_pods(ROUTER)], "ports": [_port(PORT)]}
    into_servers = {
        "podSelector": {"matchLabels": {COMPONENT_LABEL: SERVER}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [_pods(ROUTER)], "ports": [_port(PORT)]}],
    }
    router = _policy(ROUTER, ingress=[_served(load_balancer_cidrs), from_peers], egress=[*_aws(), to_pods])
    return [_named(ROUTER, router), _named(f"{ROUTER}-to-{SERVER}", into_servers)]


def _named(name: str, spec: Mapping[str, Any]) -> Manifest:
    body = {"spec": spec}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, body, labelled=labels("network-policy"))


def _policy(component: str, *, ingress: list[Manifest], egress: list[Manifest]) -> Mapping[str, Any]:
    return {
        "podSelector": {"matchLabels": {COMPONENT_LABEL: component}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }


def _served(cidrs: Sequence[str]) -> Manifest:
    return {"from": [_block(cidr) for cidr in cidrs], "ports": [_port(PORT)]}


def _aws() -> list[Manifest]:
    """Names, credentials, and AWS or a model hub over HTTPS."""
    agent = {"to": [_block(POD_IDENTITY_AGENT)], "ports": [_port(80)]}
    return [_dns(), agent, _https()]


def _dns() -> Manifest:
    server = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    return {"to": [server], "ports": [_port(53, "UDP"), _port(53)]}


def _https() -> Manifest:
    """Also the way to the Kubernetes API. Instance credentials are out of reach."""
    anywhere = {"ipBlock": {"cidr": ANYWHERE, "except": [METADATA_SERVICE]}}
    return {"to": [anywhere], "ports": [_port(443)]}


def _block(cidr: str) -> Mapping[str, Any]:
    return {"ipBlock": {"cidr": cidr}}


def _pods(component: str) -> Mapping[str, Any]:
    return {"podSelector": {"matchLabels": {COMPONENT_LABEL: component}}}


def _port(port: int, protocol: str = "TCP") -> Mapping[str, Any]:
    return {"protocol": protocol, "port": port}
