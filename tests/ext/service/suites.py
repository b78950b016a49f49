"""A suite that is served."""

from __future__ import annotations

from contextlib import contextmanager

from tests.ext.service.tools import Service

from taskorch.ext.service import new_token, serve
from taskorch.ext.service._suites import SuiteRuns, suite_app
from taskorch.ext.suites import load

EXECUTE = "/api/v1/execute-suite"
#: Each task notes that it ran, and then does what a file says, if there is one.
SUITE = """\
templates:
  sh:
    command: [sh, -c, 'echo $0 >> ran; if [ -e "$0.sh" ]; then . "./$0.sh"; fi', "{id}"]
orchestrator:
  name: shop
  task_definitions:
    unit_tests:
      - {id: A, template: sh, resources: {memory_mb: 512, cpu_cores: 1}}
      - {id: B, template: sh, dependencies: [A]}
    integration_tests: [{id: C, template: sh, dependencies: [A]}]
"""


@contextmanager
def served(folder, token="new", port=0):
    runs = SuiteRuns(load(folder / "suite.yaml"), folder / "out")
    given = new_token() if token == "new" else token
    with serve(suite_app(runs, token=given), port=port) as server:
        try:
            yield Service(runs, server, given)
        finally:
            (folder / "go").touch()
            runs.stop(drain=True)
