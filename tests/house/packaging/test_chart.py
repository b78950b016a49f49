"""The README shows the figures of the page of benchmarks, and these are of late."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.house.packaging import _chart

ROOT = Path(__file__).parents[3]
#: So many commits that change the package make figures too old to be shown. What a task
#: costs in calls is compared at each commit (`fences/ways.txt`), so that these bound what
#: may have changed unseen; a commit is small, and measuring takes hours.
AT_MOST = 300


def test_the_chart_shows_what_the_page_of_benchmarks_says() -> None:
    assert _chart.CHART.read_text("utf-8") == _chart.chart(), (
        "python tests/house/packaging/_chart.py"
    )


def test_the_words_of_the_readme_are_those_of_the_chart() -> None:
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for sentence in _chart.in_words():
        assert sentence in readme


def test_the_figures_are_of_an_installation_without_a_compiler() -> None:
    # The first run of the page is that of `pip install .`; a compiled one stands beside it.
    assert re.search(r"```text\nCPython [\d.]+, ", _chart.PAGE.read_text("utf-8")), (
        "make bench PAGE=docs/reference/benchmarks.md"
    )


def test_the_figures_are_not_older_than_some_hundred_commits() -> None:
    named = re.findall(
        r", commit (\w+)( changed)?$", _chart.PAGE.read_text("utf-8"), re.MULTILINE
    )
    assert named, (
        "the page names no commit: make bench PAGE=docs/reference/benchmarks.md"
    )
    for commit, changed in named:
        assert not changed, "the figures are of a tree that no commit has"
        since = _git("rev-list", "--count", f"{commit}..HEAD", "--", "src/taskorch")
        assert int(since) <= AT_MOST, "the figures are old: make bench PAGE=…"


def _git(*words: str) -> str:
    """What git says; a tree without its history, as an sdist is, cannot be judged."""
    try:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the history of the repository is not here")
