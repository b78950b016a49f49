"""
Test suites: a configuration of phases and tasks, run by a fleet of agents.

    configuration = suite.load("orchestrator_config.yaml", "templates.yaml")
    report = suite.run(configuration, "out")

It needs PyYAML and jsonschema: `pip install 'taskorch[suite]'`; pytest and coverage.py
are needed where the tests run. `taskorch suite` is its command line.
"""

from __future__ import annotations

from taskorch.frontends.suite._criteria import Criteria
from taskorch.frontends.suite._judging import CriteriaNotMetError
from taskorch.frontends.suite._measures import Counts
from taskorch.frontends.suite._messages import check_message, message_schema
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
from taskorch.frontends.suite._planning import plan
from taskorch.frontends.suite._process import AgentDiedError
from taskorch.frontends.suite._reading import load
from taskorch.frontends.suite._report import SuiteReport, TaskPart
from taskorch.frontends.suite._results import ResultsError
from taskorch.frontends.suite._running import Ended, run
from taskorch.frontends.suite._timeline import Slice

__all__ = (
    "AgentDiedError",
    "Counts",
    "Criteria",
    "CriteriaNotMetError",
    "Ended",
    "Limits",
    "Mode",
    "Monitoring",
    "ResultsError",
    "Retries",
    "Slice",
    "Suite",
    "SuitePhase",
    "SuiteReport",
    "SuiteTask",
    "TaskPart",
    "Template",
    "check_message",
    "load",
    "message_schema",
    "plan",
    "run",
)
