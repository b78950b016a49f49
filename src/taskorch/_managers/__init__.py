"""
The managers behind the orchestrator: `orch.workflows`, `orch.agents`, ….

1. A run is its tasks: their ids are that of the run, a slash, and their ids in the
   workflow. What is kept of a run beside them is convenience, and can be found again.
2. Many tasks are controlled in slices, so that the lock is held for milliseconds.
3. Here belongs what does something to runs; what a workflow is, and how it is read and
   drawn, is in `workflows`. There are two packages since these managers need the
   runtime, and a description needs none: `workflows` stands below it.
"""

from taskorch._managers._agents import AgentManager as AgentManager
from taskorch._managers._drivers import DriverManager as DriverManager
from taskorch._managers._drivers import SimulatedDrivers as SimulatedDrivers
from taskorch._managers._inside import AsyncWorkflowContext as AsyncWorkflowContext
from taskorch._managers._inside import WorkflowContext as WorkflowContext
from taskorch._managers._manager import WorkflowManager as WorkflowManager
from taskorch._managers._manager import manager_of as manager_of
from taskorch._managers._resources import HeldResources as HeldResources
from taskorch._managers._resources import ResourceManager as ResourceManager
from taskorch._managers._run import WorkflowRun as WorkflowRun
