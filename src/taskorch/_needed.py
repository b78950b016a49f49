"""
What an orchestrator is made of, loaded with the first one.

Most of what the import of the library would take is here: a program that only names
the class, in an annotation or for one of its commands, does not wait for it.
"""

from taskorch._ahead import map_calls as map_calls
from taskorch._ahead import submit_rest as submit_rest
from taskorch._at_need import everything as __lazy_modules__  # noqa: F401
from taskorch._contexts import TaskContext as TaskContext
from taskorch._following import EventStream as EventStream
from taskorch._handles import TaskHandle as TaskHandle
from taskorch._settings import SETTINGS as SETTINGS
from taskorch._settings import Settings as Settings
from taskorch._with_options import CallOptions as CallOptions
from taskorch._with_options import WithOptions as WithOptions
from taskorch._with_options import refuse_options as refuse_options
from taskorch.errors import InvalidTaskError as InvalidTaskError
from taskorch.errors import InvalidTransitionError as InvalidTransitionError
from taskorch.errors import UnknownTaskError as UnknownTaskError
from taskorch.events import TaskRewarded as TaskRewarded
from taskorch.journal import MemoryJournal as MemoryJournal
from taskorch.kernel import KernelConfig as KernelConfig
from taskorch.model import Agent as Agent
from taskorch.model import Explanation as Explanation
from taskorch.model import Health as Health
from taskorch.model import Resources as Resources
from taskorch.model import Stats as Stats
from taskorch.model import StopReport as StopReport
from taskorch.model import Stuck as Stuck
from taskorch.model import Task as Task
from taskorch.model import TaskFilter as TaskFilter
from taskorch.model import TaskState as TaskState
from taskorch.model import TaskStatus as TaskStatus
from taskorch.model import check_capabilities as check_capabilities
from taskorch.model import check_count as check_count
from taskorch.model import check_emitted as check_emitted
from taskorch.model import check_id as check_id
from taskorch.model import check_seconds as check_seconds
from taskorch.model import to_patience as to_patience
from taskorch.model._show import show as show
from taskorch.policies import PriorityQueue as PriorityQueue
from taskorch.protocols import AttemptExecutor as AttemptExecutor
from taskorch.protocols import Journal as Journal
from taskorch.runtime import _explaining as _explaining
from taskorch.runtime import _listing as _listing
from taskorch.runtime import _reports as _reports
from taskorch.runtime import _stop_signals as _stop_signals
from taskorch.runtime._asyncio import asyncio as asyncio
from taskorch.runtime._asyncio import asyncio_loop as asyncio_loop
from taskorch.runtime._attempts import AgentRunner as AgentRunner
from taskorch.runtime._deciders import parts_of as parts_of
from taskorch.runtime._lifecycle import Lifecycle as Lifecycle
from taskorch.runtime._machine import MEASURED as MEASURED
from taskorch.runtime._machine import machine_resources as machine_resources
from taskorch.runtime._measuring import look_for_meters as look_for_meters
from taskorch.runtime._questions import OpenQuestion as OpenQuestion
from taskorch.runtime._questions import answer as answer
from taskorch.runtime._questions import open_questions as open_questions
from taskorch.runtime._questions import refuse_bypass as refuse_bypass
from taskorch.runtime._runtime import Runtime as Runtime
from taskorch.runtime._tracing import look_for_sdk as look_for_sdk
from taskorch.runtime._translation import executor_for as executor_for
from taskorch.runtime._translation import is_coroutine_function as is_coroutine_function
from taskorch.runtime._translation import refuse_arguments as refuse_arguments
from taskorch.runtime._work import capture as capture
