"""The chart of the README shows the figures of the page of benchmarks."""

from tests.packaging import _chart


def test_the_chart_shows_what_the_page_of_benchmarks_says() -> None:
    assert _chart.CHART.read_text("utf-8") == _chart.chart(), (
        "python tests/packaging/_chart.py"
    )
