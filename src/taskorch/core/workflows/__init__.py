"""
Workflows: tasks with dependencies, built and checked as one, and run as one.

1. A workflow is a description. It knows no orchestrator, no time and no state; a run
   submits plain tasks, whose ids begin with the id of the run. Code that starts and
   controls runs is in `runs`, above the runtime, and never here.
2. Mistakes are refused where they are made: an unknown name, a name that is taken, a
   ring.
3. The same calls give the same ids, so that a program that is run again means the same
   tasks.
4. Nothing recurses, however long a chain is. networkx is imported for rings and
   conversions only.

- `_workflow`, `_building`, `_phases`: the workflow; how it is built; groups with gates.
- `_functions`: functions that write down workflows, `@taskorch.workflow`.
- `_parameters`: the parameters of a run, and checks of their values.
- `_steps`, `_arguments`: functions of tasks that are added; tasks among arguments.
- `_names`: ids of tasks, names of workflows.
- `_dependencies`, `_graph`: dependencies as they grow; questions about them, and the
  tasks of a graph's nodes.
- `_documents`, `_task_documents`: workflows and tasks as documents.
- `_reading`, `_writing`: from a document to tasks, and back.
- `_status`, `_report`: the progress of a run; its final report.
- `_pictures`: for Mermaid and notebooks.
"""

from taskorch.core.workflows._functions import (
    WorkflowFunction as WorkflowFunction,
    current_workflow as current_workflow,
    workflow as workflow,
)
from taskorch.core.workflows._phases import Approval as Approval
from taskorch.core.workflows._reading import document_schema as document_schema
from taskorch.core.workflows._report import (
    PhaseReport as PhaseReport,
    TaskReport as TaskReport,
    Verdict as Verdict,
    WorkflowReport as WorkflowReport,
)
from taskorch.core.workflows._status import (
    PhaseStatus as PhaseStatus,
    WorkflowStatus as WorkflowStatus,
)
from taskorch.core.workflows._workflow import (
    Node as Node,
    Phase as Phase,
    Workflow as Workflow,
)
