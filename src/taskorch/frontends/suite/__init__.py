"""
Test suites: a configuration of phases and tasks, run by a fleet of agents.

    configuration = suite.load("orchestrator_config.yaml", "templates.yaml")
    report = suite.run(configuration, "out")

It needs PyYAML and jsonschema: `pip install 'taskorch[suite]'`; pytest and coverage.py
are needed where the tests run. `taskorch suite` is its command line. What runs when is
the orchestrator's decision: a suite is a workflow of it.

- `_reading`, `_merge`: files of a configuration, as one, and all that is wrong there.
- `_keys`, `_words`: the names that it may have; its words, and what they are to us.
- `_without_effect`: what it says that has no effect: told, not refused.
- `_tasks`, `_placeholders`: its tasks and phases; templates, and places for what
  differs.
- `_model`: the suite: what the configuration says, checked.
- `_sharding`, `_planning`: the files of a task in parts; the dry run.
- `_translation`: the suite as a workflow, and an orchestrator with its agents.
- `_running`, `_folder`: runs it, or goes on with it; where a run keeps its files.
- `_agent`, `_worker`, `_process`: an agent; its process; that process as we see it.
- `_elsewhere`, `_pool`: agents of other processes; as many as there is work for.
- `_messages`, `_json_lines`: what is said between us and agents; a log of it.
- `_attempt`, `_plugin`, `_measures`, `_results`: one attempt, and what it came to.
- `_criteria`, `_judging`, `_failing`: what must hold; whether it has; what kind of
  failure.
- `_phase_clock`, `_watching`: the time of a phase; what is measured meanwhile.
- `_telling`, `_receiver`: who is told of what happens, here and elsewhere.
- `_history`, `_timeline`: what earlier runs have taught; who did what when.
- `_coverage`, `_whole`: what the parts of a task, and all tasks, come to together.
- `_report`, `_html`, `_junit`, `_markdown`: the final report, as a value and in three
  forms.
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
