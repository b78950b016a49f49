"""A date of a server that names no zone is in UTC, wherever we are."""

import time

import pytest

from taskorch.policies._retry import _until


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set")
@pytest.mark.parametrize("zone", ["UTC0", "XXX-5", "XXX+7"])
def test_a_date_without_a_zone_is_in_utc(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        # The standard way to say that the zone is not known.
        assert _until("Thu, 01 Jan 1970 01:00:00 -0000", 0.0) == 3600.0
        assert _until("Thu, 01 Jan 1970 01:00:00 GMT", 0.0) == 3600.0
    finally:
        monkeypatch.undo()
        time.tzset()
