"""What the tests of suites share."""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def _quick_pytest():
    """
    What suites run loads no plugins of others' that it does not need.

    That would take half of the time of most of them.
    """
    before = os.environ.get("PYTEST_ADDOPTS")
    os.environ["PYTEST_ADDOPTS"] = "-p no:hypothesispytest -p no:anyio"
    yield
    if before is None:
        del os.environ["PYTEST_ADDOPTS"]
    else:
        os.environ["PYTEST_ADDOPTS"] = before
