"""
Test suites: a configuration of phases and tasks, run by a fleet of agents.

    suite = suite.load("orchestrator_config.yaml", "templates.yaml")
"""

from __future__ import annotations

from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._model import (
    Limits,
    Mode,
    Monitoring,
    Retries,
    Suite,
    SuitePhase,
    SuiteTask,
    Template,
)
from taskorch.frontends.suite._reading import load

__all__ = (
    "Criteria",
    "Limits",
    "Mode",
    "Monitoring",
    "Retries",
    "Suite",
    "SuitePhase",
    "SuiteTask",
    "Template",
    "load",
)
