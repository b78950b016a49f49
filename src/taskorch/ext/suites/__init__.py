"""
Test suites: a configuration of phases and tasks, run by a fleet of workers.

    configuration = suite.load("orchestrator_config.yaml", "templates.yaml")
    report = suite.run(configuration, "out")

It needs PyYAML and jsonschema: `pip install 'taskorch[suite]'`; pytest and coverage.py
are needed where the tests run. `taskorch suite` is its command line. What runs when is
the orchestrator's decision: a suite is a workflow of it.

- `_reading`: files of a configuration, as one; all that is wrong there, or has no
  effect.
- `_keys`, `_words`: the names that it may have; its words, and what they are to us.
- `_tasks`, `_placeholders`: its tasks and phases; templates, and places for what
  differs.
- `_model`: the suite: what the configuration says, checked.
- `_sharding`, `_planning`: the files of a task in parts; the dry run.
- `_translation`: the suite as a workflow, and an orchestrator with its workers, as many
  as there is work for.
- `_running`, `_folder`: runs it, or goes on with it; where a run keeps its files.
- `_process`, `_worker`: a worker, and its process as we see it; that process.
- `_elsewhere`: workers of other processes.
- `_attempt`, `_plugin`, `_results`: one attempt, and what it came to.
- `_criteria`, `_judging`: what must hold; numbers, and whether it has.
- `_whole`: what the parts of a task, and all tasks, come to together.
- `_watching`: what is measured meanwhile, and the time of a phase.
- `_messages`, `_telling`, `_receiver`: what is said between us and workers; who is told
  of what happens, here and elsewhere; who did what when.
- `_report`, `_formats`: the final report, as a value and in its four forms.
- `_statement`: the in-toto statement on a run.
"""

from __future__ import annotations

from taskorch.ext.suites._criteria import Criteria
from taskorch.ext.suites._judging import Counts, CriteriaNotMetError
from taskorch.ext.suites._messages import check_message, message_schema
from taskorch.ext.suites._model import (
    Limits,
    Mode,
    Monitoring,
    Retries,
    Suite,
    SuitePhase,
    SuiteTask,
    Template,
)
from taskorch.ext.suites._planning import plan
from taskorch.ext.suites._process import AgentDiedError
from taskorch.ext.suites._reading import load
from taskorch.ext.suites._report import Slice, SuiteReport, TaskPart
from taskorch.ext.suites._results import ResultsError
from taskorch.ext.suites._running import read_report, run
from taskorch.ext.suites._telling import Ended

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
    "read_report",
    "run",
)
