"""What several of these tests need."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def clock(monkeypatch):
    """The system's clock, which may be set: seconds by which it differs."""
    shift, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + shift[0]) * 1e9))

    def put(seconds):
        shift[0] = seconds

    return put
