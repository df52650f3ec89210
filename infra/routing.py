"""The front door: one load balancer, one target group per unit, and no weights.

The rule with the weights is not here. The loop creates it at priority 1 and owns it, so that no deploy
sets the weights back to what a template says.
"""

import json
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

from aws_cdk import CfnOutput, Duration, RemovalPolicy
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_s3 as s3
from constructs import Construct

from control_lambda.core import names
from infra.network import Network
from infra.permissions import acknowledge
from infra.settings import Settings

POD_PORT: Final = 8000
ROUTER: Final = "router"
READY_PATH: Final = "/health/ready"
HTTP: Final = 80
HTTPS: Final = 443
# The slowest request and a cold target stay below it, and what the router holds comes on top; servers and
# router keep idle connections for longer, so that the load balancer is always the one that closes them.
IDLE_SECONDS: Final = 120
# Inside spot's two minutes, and longer than any request takes.
DEREGISTRATION_DELAY: Final = Duration.seconds(75)
ACCESS_LOG_DAYS: Final = 90
# A documentation address (RFC 5737) that no request comes from.
NOWHERE: Final = "192.0.2.1/32"
# The longest that OpenAI's clients wait for when they are told to. Whoever comes back is counted, which is
# what wakes a fleet that sleeps.
RETRY_AFTER_SECONDS: Final = 60
# As the servers and the router write their errors; the seconds stand in the body, since a fixed response can
# carry no header of one's own.
NO_CAPACITY: Final = json.dumps(
    {
        "error": {
            "message": "no node is ready yet; try again",
            "type": "server_error",
            "param": None,
            "code": "no_capacity",
            "retry_after_seconds": RETRY_AFTER_SECONDS,
        }
    }
)


class Routing(Construct):
    """The load balancer, its listeners and the units' target groups.

    Requests that no rule of the loop takes get a JSON 503 that says when to come back. The last rule matches
    no request; it stands because the load balancer checks the health of those target groups only that some
    rule uses, and pods wait for that check before they count as ready. With `routing: router` a first rule
    sends every request to `router_target_group` (else None). `listener` is the one that serves: HTTPS where
    there is a certificate, and then HTTP only redirects to it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        network: Network,
        pod_security_group: ec2.ISecurityGroup,
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._vpc = network.vpc
        self.security_group = self._create_security_group(pod_security_group)
        self.load_balancer = self._create_load_balancer()
        self.listener = self._create_listeners()
        self.target_groups: Mapping[str, elbv2.ApplicationTargetGroup] = {
            unit.name: self._create_target_group(unit.name) for unit in settings.fleet.units
        }
        self.health_check_rule = self._create_health_check_rule()
        self.router_target_group = self._create_router() if settings.fleet.routing == "router" else None
        scheme = "https" if settings.certificate_arn else "http"
        CfnOutput(self, "Url", value=f"{scheme}://{self.load_balancer.load_balancer_dns_name}")

    def _create_security_group(self, pods: ec2.ISecurityGroup) -> ec2.SecurityGroup:
        """What reaches the load balancer, and that it alone reaches the pods."""
        group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=self._vpc,
            description="Fulcrum load balancer: clients in, pods out",
            allow_all_outbound=False,
        )
        clients = (
            ec2.Peer.any_ipv4() if self._settings.public else ec2.Peer.ipv4(str(self._settings.vpc_cidr))
        )
        for port in (HTTP, HTTPS) if self._settings.certificate_arn else (HTTP,):
            group.add_ingress_rule(clients, ec2.Port.tcp(port), "clients")
        group.add_egress_rule(pods, ec2.Port.tcp(POD_PORT), "requests and health checks to the pods")
        # In this scope, not in the group's: that one is EKS's and stands in another construct.
        ec2.CfnSecurityGroupIngress(
            self,
            "PodsFromLoadBalancer",
            group_id=pods.security_group_id,
            source_security_group_id=group.security_group_id,
            ip_protocol="tcp",
            from_port=POD_PORT,
            to_port=POD_PORT,
            description="requests and health checks from the load balancer",
        )
        if self._settings.public:
            acknowledge(
                group,
                "AwsSolutions-EC23",
                "An internet-facing load balancer serves any client; it opens its listeners' ports alone. "
                "The context key `public` makes it internal.",
            )
        return group

    def _create_load_balancer(self) -> elbv2.ApplicationLoadBalancer:
        public = self._settings.public
        subnets = ec2.SubnetType.PUBLIC if public else ec2.SubnetType.PRIVATE_WITH_EGRESS
        balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._vpc,
            internet_facing=public,
            vpc_subnets=ec2.SubnetSelection(subnet_type=subnets),
            security_group=self.security_group,
            idle_timeout=Duration.seconds(IDLE_SECONDS + ceil(self._settings.fleet.hold_seconds)),
            drop_invalid_header_fields=True,
            deletion_protection=self._settings.deletion_protection,
        )
        balancer.log_access_logs(self._create_log_bucket())
        return balancer

    def _create_log_bucket(self) -> s3.Bucket:
        """Access logs outlive the stack: they expire by themselves, and then the bucket costs nothing."""
        bucket = s3.Bucket(
            self,
            "AccessLogs",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,  # the only one that access logs can be written with
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(ACCESS_LOG_DAYS),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,
        )
        acknowledge(
            bucket,
            "AwsSolutions-S1",
            "This bucket holds access logs; logging the access to it would need another such bucket.",
        )
        return bucket

    def _create_listeners(self) -> elbv2.ApplicationListener:
        """The listener that serves.

        The listener at port 80 keeps its identity when a certificate comes or goes: it only changes its
        default action, because two listeners cannot share a port while one replaces the other.
        """
        if self._settings.certificate_arn is None:
            return self.load_balancer.add_listener(
                "Http",
                port=HTTP,
                protocol=elbv2.ApplicationProtocol.HTTP,
                open=False,
                default_action=_no_capacity(),
            )
        to_https = elbv2.ListenerAction.redirect(protocol="HTTPS", port=str(HTTPS), permanent=True)
        self.load_balancer.add_listener(
            "Http",
            port=HTTP,
            protocol=elbv2.ApplicationProtocol.HTTP,
            open=False,
            default_action=to_https,
        )
        certificate = acm.Certificate.from_certificate_arn(
            self, "Certificate", self._settings.certificate_arn
        )
        return self.load_balancer.add_listener(
            "Https",
            port=HTTPS,
            protocol=elbv2.ApplicationProtocol.HTTPS,
            open=False,
            certificates=[certificate],
            ssl_policy=elbv2.SslPolicy.RECOMMENDED_TLS,
            default_action=_no_capacity(),
        )

    def _create_target_group(self, name: str) -> elbv2.ApplicationTargetGroup:
        """The pods of a unit, or of the router, which the AWS Load Balancer Controller registers.

        Its name is generated: a group that has to be replaced stands beside its successor for a while.
        """
        return elbv2.ApplicationTargetGroup(
            self,
            f"TargetGroup-{name}",
            vpc=self._vpc,
            target_type=elbv2.TargetType.IP,
            protocol=elbv2.ApplicationProtocol.HTTP,
            port=POD_PORT,
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=DEREGISTRATION_DELAY,
            health_check=elbv2.HealthCheck(
                path=READY_PATH,
                healthy_http_codes="200",
                interval=Duration.seconds(10),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=2,
            ),
        )

    def _create_router(self) -> elbv2.ApplicationTargetGroup:
        """The query router's target group, and the rule ahead of the loop's that sends it every request."""
        group = self._create_target_group(ROUTER)
        every = elbv2.CfnListenerRule.PathPatternConfigProperty(values=["/*"])
        self._create_rule(
            "RouterRule",
            names.ROUTER_RULE_PRIORITY,
            elbv2.CfnListenerRule.RuleConditionProperty(field="path-pattern", path_pattern_config=every),
            [group],
        )
        return group

    def _create_health_check_rule(self) -> elbv2.CfnListenerRule:
        nowhere = elbv2.CfnListenerRule.SourceIpConfigProperty(values=[NOWHERE])
        return self._create_rule(
            "HealthCheckRule",
            names.STACK_RULE_PRIORITY,
            elbv2.CfnListenerRule.RuleConditionProperty(field="source-ip", source_ip_config=nowhere),
            list(self.target_groups.values()),
        )

    def _create_rule(
        self,
        id: str,
        priority: int,
        condition: elbv2.CfnListenerRule.RuleConditionProperty,
        target_groups: Sequence[elbv2.ApplicationTargetGroup],
    ) -> elbv2.CfnListenerRule:
        """Made without the CDK's own class for rules, which would write a weight beside every group."""
        groups = [
            elbv2.CfnListenerRule.TargetGroupTupleProperty(target_group_arn=group.target_group_arn)
            for group in target_groups
        ]
        return elbv2.CfnListenerRule(
            self,
            id,
            listener_arn=self.listener.listener_arn,
            priority=priority,
            conditions=[condition],
            actions=[
                elbv2.CfnListenerRule.ActionProperty(
                    type="forward",
                    forward_config=elbv2.CfnListenerRule.ForwardConfigProperty(target_groups=groups),
                )
            ],
        )


def _no_capacity() -> elbv2.ListenerAction:
    return elbv2.ListenerAction.fixed_response(503, content_type="application/json", message_body=NO_CAPACITY)
