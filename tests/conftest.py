"""What all tests share."""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

# Runs of pytest inside tests, for the plugin that users get.
pytest_plugins = ["pytester"]

# A loaded machine is no reason to fail, so examples have no deadline. What CI finds
# must be found again on a developer's machine, so there the examples do not change.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# What other interpreters may find is not in the number of the examples.
settings.register_profile("others", settings.get_profile("ci"), max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_finish():
    """What is there by now stays: no test that collects garbage has to look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def caplog(caplog):
    """A log to which nothing of earlier tests is written, when its garbage is collected."""
    gc.collect()
    return caplog


@pytest.fixture
def unmeasured(monkeypatch):
    """
    Processes that this test starts are not measured for coverage.

    For those that are interrupted or killed: what measures them holds locks of its own,
    and one that is interrupted within these never ends.
    """
    for name in list(os.environ):
        if name.startswith("COVERAGE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def bound_by_modes(tmp_path):
    """For tests of what is read-only: skipped where that binds us not, as with root."""
    probe = tmp_path / "read-only"
    probe.touch(0o400)
    if os.access(probe, os.W_OK):
        pytest.skip("root may write everything")
    probe.unlink()
