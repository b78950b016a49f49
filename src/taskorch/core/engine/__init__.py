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
- `_given`: what extensions give to the engine, as protocols.
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

from taskorch.core.engine._asyncio import (
    asyncio as asyncio,
    asyncio_loop as asyncio_loop,
    resolve_on as resolve_on,
    running_loop as running_loop,
)
from taskorch.core.engine._attempts import (
    ENDS_LOOPS as ENDS_LOOPS,
    Strategies as Strategies,
    WorkerRunner as WorkerRunner,
    machine_resources as machine_resources,
    outcome_of as outcome_of,
    tidy as tidy,
    usage_of as usage_of,
    with_gpus_found as with_gpus_found,
)
from taskorch.core.engine._batch import Entry as Entry
from taskorch.core.engine._committer import Commits as Commits, HeldBack as HeldBack
from taskorch.core.engine._context import (
    BUDGET as BUDGET,
    CURRENT as CURRENT,
    LOCAL as LOCAL,
    Added as Added,
    AttemptContext as AttemptContext,
    ask_at_home as ask_at_home,
    context_of as context_of,
    current_context as current_context,
    current_or_none as current_or_none,
    find_meters as find_meters,
    has_result as has_result,
    incarnation_of as incarnation_of,
    look_for_sdk as look_for_sdk,
    resolved as resolved,
    result_of as result_of,
    runtime_of as runtime_of,
    stop_if_asked as stop_if_asked,
    work_of as work_of,
    workflow_span as workflow_span,
)
from taskorch.core.engine._deciders import (
    PolicyDeciders as PolicyDeciders,
    copy_containers as copy_containers,
)
from taskorch.core.engine._directory import (
    Directory as Directory,
    Recollection as Recollection,
)
from taskorch.core.engine._documents import (
    document_of_end as document_of_end,
    keep_earlier as keep_earlier,
    keep_late as keep_late,
)
from taskorch.core.engine._lifecycle import (
    Lifecycle as Lifecycle,
    end_block_of_coroutine as end_block_of_coroutine,
    open_runtime as open_runtime,
)
from taskorch.core.engine._loops import (
    Coroutines as Coroutines,
    Latch as Latch,
    LoopHost as LoopHost,
)
from taskorch.core.engine._notices import (
    HYSTERESIS as HYSTERESIS,
    error_to_tell as error_to_tell,
    schedule_of as schedule_of,
)
from taskorch.core.engine._opening import (
    Folding as Folding,
    Rereading as Rereading,
    folded as folded,
)
from taskorch.core.engine._runtime import Runtime as Runtime, TaskEngine as TaskEngine
from taskorch.core.engine._stale import (
    Cause as Cause,
    Staleness as Staleness,
    goes_with as goes_with,
    is_due as is_due,
    is_earlier as is_earlier,
    is_left_out as is_left_out,
    is_outdated as is_outdated,
    may_run_without as may_run_without,
    named_above as named_above,
    runs_above as runs_above,
)
from taskorch.core.engine._translation import (
    BUILT_IN as BUILT_IN,
    drawing as drawing,
    executor_for as executor_for,
    is_coroutine_function as is_coroutine_function,
    is_simple as is_simple,
    needs_of as needs_of,
    refuse_arguments as refuse_arguments,
    spec_of as spec_of,
    terms_of as terms_of,
    when as when,
)
from taskorch.core.engine._waiting import (
    UNSTARTED as UNSTARTED,
    blockade as blockade,
    holders_of as holders_of,
    is_hopeless as is_hopeless,
    is_settled as is_settled,
    unresolvable_root as unresolvable_root,
)
from taskorch.core.engine._work import (
    ADDED as ADDED,
    LOOKS as LOOKS,
    NEVER as NEVER,
    NO_KWARGS as NO_KWARGS,
    Work as Work,
    add_above as add_above,
    added_by as added_by,
    adder_of as adder_of,
    after_of as after_of,
    allowed_error as allowed_error,
    capture as capture,
    ended_earlier as ended_earlier,
    error_of as error_of,
    extra_of as extra_of,
    failed_earlier as failed_earlier,
    give_error as give_error,
    gone_result as gone_result,
    is_cached as is_cached,
    is_gone as is_gone,
    is_skipped as is_skipped,
    is_to_be_redone as is_to_be_redone,
    names_above as names_above,
    note_given as note_given,
    question_in as question_in,
    row_of as row_of,
    set_error as set_error,
    set_result as set_result,
    since_of as since_of,
    size_of as size_of,
    task_of as task_of,
    told_row as told_row,
    unfinished as unfinished,
    works_above as works_above,
)
from taskorch.kit import load_late as _load_late
from taskorch.kit.interrupts import (
    SLICE as SLICE,
    restore_handlers as restore_handlers,
    takes_interrupts as takes_interrupts,
)

if TYPE_CHECKING:
    from taskorch.core.engine._given import Caching as Caching
    from taskorch.core.engine._listing import failures as failures, listed as listed
    from taskorch.core.engine._noted import (
        InsideAttempt as InsideAttempt,
        Noted as Noted,
    )
    from taskorch.core.engine._reports import (
        measure as measure,
        recoveries_of as recoveries_of,
        since_when as since_when,
        spent_by as spent_by,
        status_of as status_of,
        statuses_of as statuses_of,
        totals as totals,
    )

#: Names that are loaded when they are first asked for, and their modules.
_LATE = {
    "Caching": "_given",
    "InsideAttempt": "_noted",
    "Noted": "_noted",
    "failures": "_listing",
    "listed": "_listing",
    "measure": "_reports",
    "since_when": "_reports",
    "recoveries_of": "_reports",
    "spent_by": "_reports",
    "status_of": "_reports",
    "statuses_of": "_reports",
    "totals": "_reports",
}

if not TYPE_CHECKING:
    # Type checkers have the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
