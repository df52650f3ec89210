from functools import cache

from tests.infra.observability.alarmed import synthesize
from tests.infra.observability.dashboard_picture import Lines, lines_of, page, shipped_day, widgets_of

# What an evening without a failed request or a crash has nothing to show of.
WITHOUT_FAILURES = ("Failed requests per minute",)


@cache
def drawn() -> dict[str, Lines]:
    """Every graph's lines, by its title."""
    day = shipped_day()
    metrics = day.metrics()
    pools = [pool.name for pool in day.fleet.pools]
    return {
        widget["properties"]["title"]: lines_of(widget, metrics, pools)
        for widget in widgets_of(synthesize(day.fleet))
        if widget["type"] == "metric"
    }


def test_every_graph_has_something_to_show_in_an_evening_with_a_shortage() -> None:
    """Each of its lines has data: names, dimensions, statistics and expressions are right."""
    for title, lines in drawn().items():
        assert lines, title
        if title not in WITHOUT_FAILURES:
            assert all(lines.values()), title


def test_the_evening_shows_what_the_dashboard_is_for() -> None:
    """The mode changes, launches are refused, and the promise of 99.5 % is missed for some minutes."""
    mode = next(lines for title, lines in drawn().items() if title.startswith("Mode"))
    assert set(mode["mode"].values()) == {0, 1}
    refused = next(lines for title, lines in drawn().items() if title.startswith("Launches refused"))
    assert "inf2-neuron-on-demand shortage" in refused
    attained = next(lines for title, lines in drawn().items() if title.startswith("Requests answered"))
    assert min(attained["attained"].values()) < 99.5 < max(attained["attained"].values()) <= 100


def test_the_page_holds_every_widget() -> None:
    """Headings, graphs, alarms and decisions, each in its place."""
    day = shipped_day()
    template = synthesize(day.fleet)
    assert page(template, day).count("<div class=w ") == len(widgets_of(template))
