"""Alarms are tested by a clock that only moves when asked, so that no result depends on the machine."""

import pytest
import watched


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The clock of every Watch, and the size of its blocks."""
    clock = watched.clock()
    monkeypatch.setattr("diagnose.watch.time", clock)
    monkeypatch.setattr("diagnose.watch.LARGEST", 8)  # alarms look every 8 recorded steps
    return clock
