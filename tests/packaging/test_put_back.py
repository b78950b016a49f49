"""The faults of before can still be put back, whatever has become of the code."""

import pytest
from tests.stress.put_back import BUGS


@pytest.mark.parametrize("name", BUGS)
def test_a_fault_can_be_put_back(name, monkeypatch):
    BUGS[name](monkeypatch)
