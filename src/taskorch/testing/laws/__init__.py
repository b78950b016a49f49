"""
Law checks: whether a class of yours keeps the laws of its protocol.

    from taskorch.testing.laws import check_task_router

    def test_my_router():
        check_task_router(MyRouter())

1. The laws are those in the docstrings of `taskorch.protocols`, with their numbers.
2. A check asks many questions and raises a `LawViolation` for the first bad answer.
   An error of your class passes through, with a note of the question.
3. Give an object, or a callable without arguments that makes one, such as a class. An
   object is asked in all cases; of a class, each case gets an object of its own.
4. The same seed asks the same questions. `tasks=` and `agents=` ask about yours.
5. Plain Python: no test framework is needed.

- `_case`, `_worlds`: a question, and the error for a bad answer; tasks and workers to
  ask about.
- `_policies`, `_resource_allocator`, `_validator`: the seven policies.
- `_driver`: controllers.
- `_limit`: limits on starts.
- `_executor`, `_attempt_executor`, `_home`: executors; calls that phone home.
- `_journal`, `_durable_journal`: journals.
- `_told`: alerts, receivers of messages, recoveries.
"""

from taskorch.testing.laws._attempt_executor import (
    check_attempt_executor as check_attempt_executor,
)
from taskorch.testing.laws._case import LawViolation as LawViolation
from taskorch.testing.laws._driver import check_driver as check_driver
from taskorch.testing.laws._durable_journal import (
    check_durable_journal as check_durable_journal,
)
from taskorch.testing.laws._executor import check_executor as check_executor
from taskorch.testing.laws._journal import check_journal as check_journal
from taskorch.testing.laws._limit import check_limit as check_limit
from taskorch.testing.laws._policies import (
    check_agent_registry as check_agent_registry,
    check_retry_handler as check_retry_handler,
    check_state_machine as check_state_machine,
    check_task_queue as check_task_queue,
    check_task_router as check_task_router,
)
from taskorch.testing.laws._resource_allocator import (
    check_resource_allocator as check_resource_allocator,
)
from taskorch.testing.laws._told import (
    check_alert_rule as check_alert_rule,
    check_receiver as check_receiver,
    check_recovery as check_recovery,
)
from taskorch.testing.laws._validator import check_validator as check_validator
