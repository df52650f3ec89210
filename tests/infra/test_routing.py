"""The front door as CloudFormation gets it."""

import json
from typing import Any

import pytest

from containers.serving.errors import error_body
from control_lambda.core import names
from tests.infra.conftest import settings_with
from tests.infra.control.control_stack import ControlStack, control_stack
from twin.cloud.embedded import start
from twin.cloud.moto_gaps import stack as embedded_stack

CERTIFICATE = "arn:aws:acm:us-east-1:111122223333:certificate/12345678-1234-1234-1234-123456789012"
V2 = "AWS::ElasticLoadBalancingV2"


@pytest.fixture(scope="module")
def stack() -> ControlStack:
    """The stack as cdk.json has it: internal, without a certificate."""
    return control_stack(settings_with())


@pytest.fixture(scope="module")
def tls() -> ControlStack:
    """The same with a certificate, for everybody."""
    return control_stack(settings_with(certificate_arn=CERTIFICATE, public=True))


def attributes(properties: dict[str, Any], key: str) -> dict[str, str]:
    """A load balancer's or target group's attributes."""
    return {item["Key"]: item["Value"] for item in properties[key]}


def listeners(stack: ControlStack) -> dict[int, dict[str, Any]]:
    """The listeners by their port."""
    found = [listener["Properties"] for listener in stack.of_type(f"{V2}::Listener").values()]
    return {listener["Port"]: listener for listener in found}


def test_idle_connections_outlive_the_slowest_request(stack: ControlStack) -> None:
    """Two minutes, and only well-formed headers."""
    found = attributes(stack.one(f"{V2}::LoadBalancer"), "LoadBalancerAttributes")
    assert found["idle_timeout.timeout_seconds"] == "120"
    assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"


def test_access_is_logged_into_a_bucket_that_nobody_else_reads(stack: ControlStack) -> None:
    """Encrypted, over TLS, and forgotten after a while; it outlives the stack."""
    found = attributes(stack.one(f"{V2}::LoadBalancer"), "LoadBalancerAttributes")
    assert found["access_logs.s3.enabled"] == "true"
    ((name, bucket),) = stack.of_type("AWS::S3::Bucket").items()
    assert stack.one(f"{V2}::LoadBalancer")["LoadBalancerAttributes"][-2]["Value"] == {"Ref": name}
    assert bucket["DeletionPolicy"] == "Retain"
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == 90
    policy = json.dumps(stack.of_type("AWS::S3::BucketPolicy"))
    assert '"aws:SecureTransport": "false"' in policy


def test_without_a_certificate_http_serves_with_a_json_503_by_default(stack: ControlStack) -> None:
    """Whatever the loop's rule does not take is answered, not dropped."""
    assert set(listeners(stack)) == {80}
    (action,) = listeners(stack)[80]["DefaultActions"]
    assert action["Type"] == "fixed-response"
    answer = action["FixedResponseConfig"]
    assert (answer["StatusCode"], answer["ContentType"]) == ("503", "application/json")
    assert len(answer["MessageBody"].encode()) <= 1024  # what a fixed response takes


def test_what_answers_while_nothing_serves_says_when_to_come_back(stack: ControlStack) -> None:
    """In the servers' words and shape: a client that knows theirs knows this one."""
    (action,) = listeners(stack)[80]["DefaultActions"]
    error = json.loads(action["FixedResponseConfig"]["MessageBody"])["error"]
    assert error.pop("retry_after_seconds") == 60
    assert error == error_body(503, error["message"], code="no_capacity")["error"]


def test_with_a_certificate_https_serves_and_http_only_redirects(tls: ControlStack) -> None:
    """With TLS 1.2 at least."""
    assert set(listeners(tls)) == {80, 443}
    (to_https,) = listeners(tls)[80]["DefaultActions"]
    assert to_https["Type"] == "redirect"
    assert to_https["RedirectConfig"]["StatusCode"] == "HTTP_301"
    serving = listeners(tls)[443]
    assert serving["Certificates"] == [{"CertificateArn": CERTIFICATE}]
    assert "TLS13-1-2" in serving["SslPolicy"]
    assert serving["DefaultActions"][0]["FixedResponseConfig"]["StatusCode"] == "503"
    assert tls.stack.resolve(tls.routing.listener.listener_arn) == {"Ref": ref_of(tls, 443)}


def ref_of(stack: ControlStack, port: int) -> str:
    """The logical id of the listener at that port."""
    found = stack.of_type(f"{V2}::Listener").items()
    return next(name for name, listener in found if listener["Properties"]["Port"] == port)


def test_adding_tls_keeps_the_listener_at_port_80(stack: ControlStack, tls: ControlStack) -> None:
    """A replacement would ask for a port that is still taken."""
    assert ref_of(stack, 80) == ref_of(tls, 80)


def test_every_unit_has_a_target_group_with_a_generated_name(stack: ControlStack) -> None:
    """Pods by address, the least busy one first, and gone within spot's two minutes."""
    groups = [group["Properties"] for group in stack.of_type(f"{V2}::TargetGroup").values()]
    assert len(groups) == len(stack.routing.target_groups) == 5
    for group in groups:
        assert "Name" not in group
        assert (group["TargetType"], group["Protocol"], group["Port"]) == ("ip", "HTTP", 8000)
        assert group["HealthCheckPath"] == "/health/ready"
        found = attributes(group, "TargetGroupAttributes")
        assert found["load_balancing.algorithm.type"] == "least_outstanding_requests"
        assert found["deregistration_delay.timeout_seconds"] == "75"
        assert found["stickiness.enabled"] == "false"


def test_the_only_rule_matches_nothing_and_carries_no_weight(stack: ControlStack) -> None:
    """It puts every target group in use; the rule with the weights is the loop's."""
    rule = stack.one(f"{V2}::ListenerRule")
    assert rule["Priority"] == names.STACK_RULE_PRIORITY
    assert rule["Conditions"] == [{"Field": "source-ip", "SourceIpConfig": {"Values": ["192.0.2.1/32"]}}]
    (action,) = rule["Actions"]
    groups = action["ForwardConfig"]["TargetGroups"]
    assert [set(group) for group in groups] == [{"TargetGroupArn"}] * 5
    assert {group["TargetGroupArn"]["Ref"] for group in groups} == set(stack.of_type(f"{V2}::TargetGroup"))


def test_the_embedded_listener_answers_as_the_template_says(stack: ControlStack) -> None:
    """Same priorities, conditions and default action: the twin stands for the stack."""
    with start() as cloud:
        listener = cloud.provision(settings_with().fleet)[names.LISTENER_ARN]
        rules = cloud.client("elbv2").describe_rules(ListenerArn=listener)["Rules"]
    embedded = {rule["Priority"]: rule for rule in rules}
    template = stack.one(f"{V2}::ListenerRule")
    (condition,) = embedded[str(template["Priority"])]["Conditions"]
    assert condition["SourceIpConfig"]["Values"] == template["Conditions"][0]["SourceIpConfig"]["Values"]
    default = embedded["default"]["Actions"][0]["FixedResponseConfig"]
    ours = listeners(stack)[80]["DefaultActions"][0]["FixedResponseConfig"]
    assert {key: default[key] for key in ours} == ours
    assert json.loads(embedded_stack.NO_CAPACITY) == json.loads(ours["MessageBody"])


def test_only_the_load_balancer_reaches_the_pods(stack: ControlStack) -> None:
    """On the port that they listen on, and it reaches nothing else."""
    balancer = {"Fn::GetAtt": [stack.logical_id(stack.routing.security_group), "GroupId"]}
    into_pods = stack.one("AWS::EC2::SecurityGroupIngress")
    assert (into_pods["FromPort"], into_pods["ToPort"]) == (8000, 8000)
    assert into_pods["SourceSecurityGroupId"] == balancer
    out = stack.one("AWS::EC2::SecurityGroupEgress")
    assert (out["GroupId"], out["FromPort"], out["ToPort"]) == (balancer, 8000, 8000)
    assert out["DestinationSecurityGroupId"] == into_pods["GroupId"]


@pytest.mark.parametrize(
    ("changes", "source", "ports"),
    [
        ({}, "10.42.0.0/16", {80}),
        ({"public": True}, "0.0.0.0/0", {80}),
        ({"certificate_arn": CERTIFICATE}, "10.42.0.0/16", {80, 443}),
    ],
)
def test_clients_reach_only_the_listeners_ports(
    changes: dict[str, object], source: str, ports: set[int]
) -> None:
    """From the VPC, or from anywhere where the load balancer is public."""
    made = control_stack(settings_with(**changes))
    group = made.template["Resources"][made.logical_id(made.routing.security_group)]["Properties"]
    assert {rule["CidrIp"] for rule in group["SecurityGroupIngress"]} == {source}
    assert {rule["FromPort"] for rule in group["SecurityGroupIngress"]} == ports
    scheme = made.one(f"{V2}::LoadBalancer")["Scheme"]
    assert scheme == ("internet-facing" if changes.get("public") else "internal")
