"""The smoke test with real servers: pictures are made on this machine's CPU, and compared."""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

from control_lambda.core import names
from infra.after_deploy import command
from infra.after_deploy.deployed import find
from tests.containers.serving.running import eventually, free_port, is_ready, process
from tests.infra.after_deploy.balancer import Balancer, balancing
from tests.infra.after_deploy.simulated import FLEET, account

EQUAL = FLEET.model_copy(update={"policy": "equal"})
POOLS = {"inf2-neuron": "inf2-neuron-spot", "g5-eager": "g5-eager-on-demand"}


def test_units_that_make_the_same_picture_pass_the_smoke_test(tmp_path: Path) -> None:
    """Through the load balancer's own weights, by the servers' own answers and the consistency tool."""
    with ExitStack() as running:
        urls = {}
        for unit, pool in POOLS.items():
            port = free_port()
            urls[unit] = f"http://127.0.0.1:{port}"
            log = tmp_path / f"{unit}.log"
            environment = {
                "PORT": str(port),
                "UNIT": unit,
                "POOL": pool,
                "CACHE_DIRECTORY": str(tmp_path / unit),
            }
            running.enter_context(process(log, "containers.serving", environment=environment))
        made = running.enter_context(account(200, dict.fromkeys(POOLS.values(), 2), warm_up=2, fleet=EQUAL))
        eventually(lambda: all(map(is_ready, urls.values())))
        deployed = find(made.client, "Fulcrum")
        servers = {str(deployed.units[unit]["target_group_arn"]): url for unit, url in urls.items()}
        listener = made.steering.environ[names.LISTENER_ARN]
        balancer = running.enter_context(balancing(Balancer(made.client("elbv2"), listener, servers)))
        given = Namespace(
            command="smoke",
            stack=None,
            region=None,
            endpoint=balancer.url,
            timeout=600.0,
            out=tmp_path / "out",
        )
        lines: list[str] = []
        code = command.run(given, lambda _: "Fulcrum", lines.append, command.Hands(made.client, made))
    assert code == 0, lines
    assert any("first picture: from " in line for line in lines)
    assert lines[-1] == f"Fulcrum serves at {balancer.url}"
    compared = [path.name for path in (tmp_path / "out").iterdir()]
    assert any(name.endswith(".html") for name in compared)
    assert not any("nothing to compare" in line for line in lines)
