"""
The decisions, without I/O: public as the low-level interface, provisional.

1. No clock, id, random draw, thread, lock, file, socket, log line, environment or
   global mutable: time (whole nanoseconds, above 0), ids and draws come in. The
   same commands give the same events under any `PYTHONHASHSEED`: nothing iterates a
   set.
2. The kernel owns all state. Deciding may consult the user's policies, through
   `Deciders`; applying an event never does.
3. A command is accepted or refused whole. All that ends at one instant is applied
   before anything new is dispatched.
4. Every answer of a policy that matters stands in an event, with its reason.
5. Payloads, results and exceptions never enter: a row, or what comes from outside,
   carries an opaque `cargo`, which the kernel hands back and does not read.
6. Events are tuples `(event class, *fields)`; without a listener, none are made.
7. `check_invariants` holds after every command.

Threads belong in `engine`, handles of users in `handles`, and explanations to users
in `_explain`. The files, from the state up:

- `_rows`, `_state`: the parts of the state; the table of transitions.
- `_deciders`, `_history`: the policies as the kernel asks them; histories of tasks.
- `_queue`, `_limits`: the queue; the limits of starts.
- `_units`: the named units that an attempt holds.
- `_scopes`: exclusive write paths.
- `_rates`, `_added`: rates of starts; limits that a program adds.
- `_dependencies`, `_breakers`: dependencies of tasks; workers that get no work.
- `_application`, `_ends`: the effects of events about tasks; the ends of tasks.
- `_reservation`, `_standing`: who passes one that waits; settings until they change.
- `_shortages`: the reasons that keep a task from starting.
- `_attempts`, `_dispatch`: the ends of attempts; the choice of the next start.
- `_control`, `_admission`: commands of people and timers; submissions.
- `_quick`: the usual path of a task, written for speed.
- `_fold`, `_kernel`: the state rebuilt from events; the class with all commands.
- `_invariants`, `_table`, `_explain`: the invariants; all moves; why tasks wait.
"""

from typing import TYPE_CHECKING

from taskorch.core.kernel._admission import (
    Change as Change,
    assumed as assumed,
    latest_finish_first as latest_finish_first,
)
from taskorch.core.kernel._application import (
    DENIED as DENIED,
    is_under_way as is_under_way,
    rules_ask as rules_ask,
)
from taskorch.core.kernel._attempts import awaits_end as awaits_end
from taskorch.core.kernel._breakers import shut_out as shut_out
from taskorch.core.kernel._control import (
    can_wait as can_wait,
    is_unresolvable as is_unresolvable,
    refuse_rerun as refuse_rerun,
)
from taskorch.core.kernel._deciders import (
    Again as Again,
    PolicyFault as PolicyFault,
    PolicyGone as PolicyGone,
    Ruling as Ruling,
)
from taskorch.core.kernel._dependencies import (
    awaits as awaits,
    hangs_on as hangs_on,
    is_broken as is_broken,
    is_delayed as is_delayed,
    is_forgiven as is_forgiven,
    is_lost as is_lost,
    is_waiting as is_waiting,
    may_wait_for as may_wait_for,
)
from taskorch.core.kernel._ends import describe as describe
from taskorch.core.kernel._fold import (
    Restoration as Restoration,
    differences as differences,
    fold as fold,
    has_effect as has_effect,
    recover as recover,
    take_snapshot as take_snapshot,
    without_tasks as without_tasks,
)
from taskorch.core.kernel._history import (
    Effect as Effect,
    HoldAttempt as HoldAttempt,
    ReleaseAttempt as ReleaseAttempt,
    ReturnSlot as ReturnSlot,
    StopAttempt as StopAttempt,
    TellAllocation as TellAllocation,
    moves_of as moves_of,
    past_of as past_of,
    remember as remember,
    row_extra as row_extra,
    typical_ns as typical_ns,
)
from taskorch.core.kernel._kernel import Kernel as Kernel
from taskorch.core.kernel._limits import (
    exceeded as exceeded,
    pool_shortage as pool_shortage,
    shortage as shortage,
    wanted as wanted,
)
from taskorch.core.kernel._queue import RETAINED as RETAINED, is_alive as is_alive
from taskorch.core.kernel._rows import (
    BLOCKED_BY as BLOCKED_BY,
    DEPENDENCY as DEPENDENCY,
    GOING as GOING,
    LEFT_RUNNING as LEFT_RUNNING,
    LESS as LESS,
    LOCAL as LOCAL,
    QUOTA as QUOTA,
    SKIPPED as SKIPPED,
    AllocationRow as AllocationRow,
    AttemptOutcome as AttemptOutcome,
    Bucket as Bucket,
    BudgetRow as BudgetRow,
    Candidates as Candidates,
    Claim as Claim,
    PoolRow as PoolRow,
    Record as Record,
    Share as Share,
    Shortage as Shortage,
    Spec as Spec,
    Stop as Stop,
    TaskRow as TaskRow,
    Terms as Terms,
    TypeRow as TypeRow,
    WorkerRow as WorkerRow,
    budgeting as budgeting,
    without_quotas as without_quotas,
)
from taskorch.core.kernel._scopes import held_in as held_in
from taskorch.core.kernel._shortages import shortages as shortages
from taskorch.core.kernel._standing import (
    limits_of as limits_of,
    meaning_of as meaning_of,
)
from taskorch.core.kernel._state import (
    DIGEST_BITS as DIGEST_BITS,
    LEASE as LEASE,
    TRANSITIONS as TRANSITIONS,
    DecisionContext as DecisionContext,
    FaultPoints as FaultPoints,
    KernelConfig as KernelConfig,
    ShareView as ShareView,
    diagram as diagram,
)
from taskorch.core.kernel._units import (
    declared as declared,
    names_of as names_of,
    would_fit as would_fit,
)
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.core.kernel._added import AddedLimit as AddedLimit
    from taskorch.core.kernel._explain import (
        NOT_STARTED as NOT_STARTED,
        Search as Search,
        Waits as Waits,
        asked_by_rules as asked_by_rules,
        call_of_answer as call_of_answer,
        escalation_of as escalation_of,
        explain as explain,
        hold_of_starts as hold_of_starts,
        holders_of as holders_of,
        passed_over as passed_over,
        times_asked as times_asked,
        words_of_hold as words_of_hold,
        words_of_holds as words_of_holds,
    )
    from taskorch.core.kernel._invariants import check_invariants as check_invariants

#: The names that are loaded on first use, each with its module.
_LATE = {
    "AddedLimit": "_added",
    "NOT_STARTED": "_explain",
    "Search": "_explain",
    "Waits": "_explain",
    "asked_by_rules": "_explain",
    "call_of_answer": "_explain",
    "check_invariants": "_invariants",
    "escalation_of": "_explain",
    "explain": "_explain",
    "hold_of_starts": "_explain",
    "holders_of": "_explain",
    "passed_over": "_explain",
    "times_asked": "_explain",
    "words_of_hold": "_explain",
    "words_of_holds": "_explain",
}

if not TYPE_CHECKING:
    # Type checkers know the names from the imports above, and no others.
    __getattr__, __dir__ = _load_late(__name__, _LATE)
