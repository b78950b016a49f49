"""What these tests share."""

import pytest


@pytest.fixture(autouse=True)
def _unmeasured(unmeasured):
    """They all interrupt and kill."""
