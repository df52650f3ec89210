"""The table of metrics: what holds of every row."""

from collections import Counter

from control_lambda.core.metrics import OF_LOAD_BALANCER, OF_TARGET_GROUP, Metric, Owner


def test_no_two_rows_are_the_same_series() -> None:
    """Namespace, name and dimensions tell one metric from another."""
    series = Counter(
        (one.owner is Owner.LOAD_BALANCER, one.metric_name, one.dimensions)
        for one in Metric.__members__.values()
    )
    assert set(series.values()) == {1}


def test_the_load_balancers_dimensions_are_its_own() -> None:
    """And nobody else's: they tell its namespace from ours."""
    for one in Metric:
        assert (one.dimensions in {OF_LOAD_BALANCER, OF_TARGET_GROUP}) == (one.owner is Owner.LOAD_BALANCER)


def test_the_router_stands_in_for_the_units_target_groups_under_their_names() -> None:
    """The loop asks for the same names, whoever counts; targets' health stays the load balancer's."""
    counted = {one.metric_name for one in Metric if one.dimensions == OF_TARGET_GROUP}
    routed = {one.metric_name for one in Metric if one.owner is Owner.ROUTER}
    assert counted - routed == {Metric.HEALTHY_HOST_COUNT.metric_name}
    assert routed - counted == {Metric.REFUSED_REQUEST_COUNT.metric_name}
