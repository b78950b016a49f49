"""
The runtime drives the kernel: the only room with threads, locks and a clock.

1. One lock, held for microseconds; of the user's code, only fast policies run under it.
2. Decisions of a step are carried out outside the lock.
3. Events are published in order, on a thread of their own.
4. A part has the runtime, whose class it imports for its annotations alone, and
   imports nothing else that stands above it.

It decides nothing, and reports nothing to users but errors. A task comes in by
`_passage` and `_batch`, and ends in `_passage`: see docs/explanation/way-of-a-task.md.
From the bottom up:

- `_asyncio`, `_loops`: event loops.
- `_written`, `_output`: output and log records; the files that keep them.
- `_reruns`, `_deciders`, `_work`: ids of runs, the policies guarded, a task here.
- `_documents`, `_translation`: documents of a journal; the meaning of options.
- `_context`, `_timer`, `_publisher`: contexts of attempts; timers; listeners.
- `_noted`: notes that extensions keep with a task, and their view of an attempt.
- `_projections`: followers of events, of the past and then as they come, without a gap.
- `_governs`: the protocol of policies as data.
- `_notices`, `_waiting`: troubles that no caller is told of; waits.
- `_committer`, `_attempts`: commits of events; attempts under way.
- `_identity`, `_directory`, `_stale`: identity of tasks, meaning of ids, stale results.
- `_batch`, `_submission`, `_passage`: tasks on their way in, accepted, to their end.
- `_succession`: a later run takes the place of an earlier one.
- `_end`, `_opening`: the end of an incarnation, and the beginning of the next.
- `_runtime`: the lock, the steps, and all parts; the engine, as a simulation is, too.
- `_lifecycle`, `_reports`: start and stop; status and health.
- `_listing`: lists of tasks.
"""

from typing import TYPE_CHECKING

from taskorch.kit import load_late as _load_late
from taskorch.kit.interrupts import INTERRUPTS as INTERRUPTS
from taskorch.kit.interrupts import SLICE as SLICE
from taskorch.kit.interrupts import defers_interrupts as defers_interrupts
from taskorch.kit.interrupts import restore_handlers as restore_handlers
from taskorch.kit.interrupts import takes_interrupts as takes_interrupts
from taskorch.runtime._asyncio import asyncio as asyncio
from taskorch.runtime._asyncio import asyncio_loop as asyncio_loop
from taskorch.runtime._asyncio import resolve_on as resolve_on
from taskorch.runtime._asyncio import running_loop as running_loop
from taskorch.runtime._attempts import ENDS_LOOPS as ENDS_LOOPS
from taskorch.runtime._attempts import AgentRunner as AgentRunner
from taskorch.runtime._attempts import Strategies as Strategies
from taskorch.runtime._attempts import machine_resources as machine_resources
from taskorch.runtime._attempts import outcome_of as outcome_of
from taskorch.runtime._attempts import tidy as tidy
from taskorch.runtime._attempts import usage_of as usage_of
from taskorch.runtime._attempts import with_gpus_found as with_gpus_found
from taskorch.runtime._batch import Entry as Entry
from taskorch.runtime._committer import Commits as Commits
from taskorch.runtime._committer import HeldBack as HeldBack
from taskorch.runtime._context import BUDGET as BUDGET
from taskorch.runtime._context import CURRENT as CURRENT
from taskorch.runtime._context import LOCAL as LOCAL
from taskorch.runtime._context import Added as Added
from taskorch.runtime._context import AttemptContext as AttemptContext
from taskorch.runtime._context import ask_at_home as ask_at_home
from taskorch.runtime._context import context_of as context_of
from taskorch.runtime._context import current_context as current_context
from taskorch.runtime._context import current_or_none as current_or_none
from taskorch.runtime._context import find_meters as find_meters
from taskorch.runtime._context import has_result as has_result
from taskorch.runtime._context import look_for_sdk as look_for_sdk
from taskorch.runtime._context import resolved as resolved
from taskorch.runtime._context import result_of as result_of
from taskorch.runtime._context import workflow_span as workflow_span
from taskorch.runtime._deciders import PolicyDeciders as PolicyDeciders
from taskorch.runtime._deciders import copy_containers as copy_containers
from taskorch.runtime._directory import Directory as Directory
from taskorch.runtime._directory import Recollection as Recollection
from taskorch.runtime._documents import document_of_end as document_of_end
from taskorch.runtime._documents import keep_earlier as keep_earlier
from taskorch.runtime._documents import keep_late as keep_late
from taskorch.runtime._lifecycle import Lifecycle as Lifecycle
from taskorch.runtime._lifecycle import end_block_of_coroutine as end_block_of_coroutine
from taskorch.runtime._lifecycle import open_runtime as open_runtime
from taskorch.runtime._loops import Coroutines as Coroutines
from taskorch.runtime._loops import Latch as Latch
from taskorch.runtime._loops import LoopHost as LoopHost
from taskorch.runtime._notices import HYSTERESIS as HYSTERESIS
from taskorch.runtime._notices import error_to_tell as error_to_tell
from taskorch.runtime._notices import schedule_of as schedule_of
from taskorch.runtime._opening import Folding as Folding
from taskorch.runtime._opening import Rereading as Rereading
from taskorch.runtime._opening import apply_in_order as apply_in_order
from taskorch.runtime._runtime import Runtime as Runtime
from taskorch.runtime._runtime import TaskEngine as TaskEngine
from taskorch.runtime._stale import Cause as Cause
from taskorch.runtime._stale import Kept as Kept
from taskorch.runtime._stale import Staleness as Staleness
from taskorch.runtime._stale import goes_with as goes_with
from taskorch.runtime._stale import is_due as is_due
from taskorch.runtime._stale import is_earlier as is_earlier
from taskorch.runtime._stale import is_left_out as is_left_out
from taskorch.runtime._stale import is_outdated as is_outdated
from taskorch.runtime._stale import may_run_without as may_run_without
from taskorch.runtime._stale import named_above as named_above
from taskorch.runtime._stale import runs_above as runs_above
from taskorch.runtime._submission import Submission as Submission
from taskorch.runtime._translation import BUILT_IN as BUILT_IN
from taskorch.runtime._translation import drawing as drawing
from taskorch.runtime._translation import executor_for as executor_for
from taskorch.runtime._translation import is_coroutine_function as is_coroutine_function
from taskorch.runtime._translation import is_simple as is_simple
from taskorch.runtime._translation import needs_of as needs_of
from taskorch.runtime._translation import refuse_arguments as refuse_arguments
from taskorch.runtime._translation import spec_of as spec_of
from taskorch.runtime._translation import terms_of as terms_of
from taskorch.runtime._translation import when as when
from taskorch.runtime._waiting import UNSTARTED as UNSTARTED
from taskorch.runtime._waiting import blockade as blockade
from taskorch.runtime._waiting import holders_of as holders_of
from taskorch.runtime._waiting import is_hopeless as is_hopeless
from taskorch.runtime._waiting import is_settled as is_settled
from taskorch.runtime._waiting import unresolvable_root as unresolvable_root
from taskorch.runtime._work import ADDED as ADDED
from taskorch.runtime._work import LOOKS as LOOKS
from taskorch.runtime._work import NEVER as NEVER
from taskorch.runtime._work import NO_KWARGS as NO_KWARGS
from taskorch.runtime._work import Emitted as Emitted
from taskorch.runtime._work import Work as Work
from taskorch.runtime._work import add_above as add_above
from taskorch.runtime._work import added_by as added_by
from taskorch.runtime._work import adder_of as adder_of
from taskorch.runtime._work import after_of as after_of
from taskorch.runtime._work import allowed_error as allowed_error
from taskorch.runtime._work import capture as capture
from taskorch.runtime._work import ended_earlier as ended_earlier
from taskorch.runtime._work import error_of as error_of
from taskorch.runtime._work import extra_of as extra_of
from taskorch.runtime._work import failed_earlier as failed_earlier
from taskorch.runtime._work import give_error as give_error
from taskorch.runtime._work import gone_result as gone_result
from taskorch.runtime._work import is_cached as is_cached
from taskorch.runtime._work import is_gone as is_gone
from taskorch.runtime._work import is_skipped as is_skipped
from taskorch.runtime._work import is_to_be_redone as is_to_be_redone
from taskorch.runtime._work import names_above as names_above
from taskorch.runtime._work import note_given as note_given
from taskorch.runtime._work import question_in as question_in
from taskorch.runtime._work import result_of_wait as result_of_wait
from taskorch.runtime._work import since_of as since_of
from taskorch.runtime._work import size_of as size_of
from taskorch.runtime._work import task_of as task_of
from taskorch.runtime._work import unfinished as unfinished
from taskorch.runtime._work import whom as whom
from taskorch.runtime._work import works_above as works_above

if TYPE_CHECKING:
    from taskorch.runtime._listing import failures as failures
    from taskorch.runtime._listing import listed as listed
    from taskorch.runtime._noted import Inside as Inside
    from taskorch.runtime._noted import Noted as Noted
    from taskorch.runtime._reports import measure as measure
    from taskorch.runtime._reports import recoveries_of as recoveries_of
    from taskorch.runtime._reports import since_when as since_when
    from taskorch.runtime._reports import spent_by as spent_by
    from taskorch.runtime._reports import status_of as status_of
    from taskorch.runtime._reports import totals as totals

#: Names that are loaded when they are first asked for, and their modules.
_LATE = {
    "Inside": "_noted",
    "Noted": "_noted",
    "failures": "_listing",
    "listed": "_listing",
    "measure": "_reports",
    "since_when": "_reports",
    "recoveries_of": "_reports",
    "spent_by": "_reports",
    "status_of": "_reports",
    "totals": "_reports",
}

if not TYPE_CHECKING:
    # Type checkers have the names from the imports above, and no others.

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
