"""
The decisions, without I/O: public as the low-level interface, provisional.

1. No clock, id, random draw, thread, lock, file, socket, log line, environment or
   global mutable: time (whole nanoseconds, above 0), ids and draws come in. The
   same commands give the same facts under any `PYTHONHASHSEED`: nothing iterates a
   set.
2. The kernel owns all state. Deciding may consult the user's policies, through
   `Deciders`; applying a fact never does.
3. A command is accepted or refused whole. All that ends at one instant is applied
   before anything new is dispatched.
4. Every answer of a policy that matters stands in a fact, with its reason.
5. Payloads, results and exceptions never enter: a row, or what comes from outside,
   carries an opaque `cargo`, which the kernel hands back and does not read.
6. Facts are tuples `(event class, *fields)`; without a listener, none are made.
7. `check_invariants` holds after every command.

Threads belong in `runtime`, handles of users in `_handles`, and explanations to users
in `_explain`. The files, from the state up:

- `_rows`, `_state`: the parts of the state; the table of transitions.
- `_deciders`, `_history`: the policies as the kernel asks them; histories of tasks.
- `_queue`, `_limits`: the queue; the limits of starts.
- `_units`: the named units that an attempt holds.
- `_scopes`, `_budgets`: exclusive write paths; amounts that are spent for good.
- `_rates`, `_added`: rates of starts; limits that a program adds.
- `_dependencies`, `_breakers`: dependencies of tasks; workers that get no work.
- `_application`, `_ends`: the effects of facts about tasks; the ends of tasks.
- `_backfill`, `_standing`: backfill scheduling; settings that last until they change.
- `_shortages`: the reasons that keep a task from starting.
- `_attempts`, `_dispatch`: the ends of attempts; the choice of the next start.
- `_control`, `_admission`: commands of people and timers; submissions.
- `_quick`: the usual path of a task, written for speed.
- `_fold`, `_kernel`: the state rebuilt from facts; the class with all commands.
- `_invariants`, `_table`, `_explain`: the invariants; all moves; why tasks wait.
"""

from typing import TYPE_CHECKING

from taskorch.kernel._admission import Change as Change
from taskorch.kernel._admission import assumed as assumed
from taskorch.kernel._admission import latest_finish_first as latest_finish_first
from taskorch.kernel._application import DENIED as DENIED
from taskorch.kernel._application import is_under_way as is_under_way
from taskorch.kernel._application import rules_ask as rules_ask
from taskorch.kernel._attempts import awaits_end as awaits_end
from taskorch.kernel._breakers import shut_out as shut_out
from taskorch.kernel._control import can_wait as can_wait
from taskorch.kernel._control import is_unresolvable as is_unresolvable
from taskorch.kernel._control import refuse_rerun as refuse_rerun
from taskorch.kernel._deciders import Again as Again
from taskorch.kernel._deciders import Deciders as Deciders
from taskorch.kernel._deciders import PolicyFault as PolicyFault
from taskorch.kernel._deciders import PolicyGone as PolicyGone
from taskorch.kernel._deciders import Ruling as Ruling
from taskorch.kernel._dependencies import awaits as awaits
from taskorch.kernel._dependencies import hangs_on as hangs_on
from taskorch.kernel._dependencies import is_broken as is_broken
from taskorch.kernel._dependencies import is_delayed as is_delayed
from taskorch.kernel._dependencies import is_forgiven as is_forgiven
from taskorch.kernel._dependencies import is_lost as is_lost
from taskorch.kernel._dependencies import is_waiting as is_waiting
from taskorch.kernel._dependencies import may_wait_for as may_wait_for
from taskorch.kernel._ends import describe as describe
from taskorch.kernel._fold import Restoration as Restoration
from taskorch.kernel._fold import differences as differences
from taskorch.kernel._fold import fold as fold
from taskorch.kernel._fold import has_effect as has_effect
from taskorch.kernel._fold import recover as recover
from taskorch.kernel._fold import take_snapshot as take_snapshot
from taskorch.kernel._fold import without_tasks as without_tasks
from taskorch.kernel._history import Effect as Effect
from taskorch.kernel._history import HoldAttempt as HoldAttempt
from taskorch.kernel._history import ReleaseAttempt as ReleaseAttempt
from taskorch.kernel._history import ReturnSlot as ReturnSlot
from taskorch.kernel._history import StopAttempt as StopAttempt
from taskorch.kernel._history import TellAllocation as TellAllocation
from taskorch.kernel._history import moves_of as moves_of
from taskorch.kernel._history import past_of as past_of
from taskorch.kernel._history import remember as remember
from taskorch.kernel._history import row_extra as row_extra
from taskorch.kernel._history import typical_ns as typical_ns
from taskorch.kernel._kernel import Kernel as Kernel
from taskorch.kernel._limits import exceeded as exceeded
from taskorch.kernel._limits import pool_shortage as pool_shortage
from taskorch.kernel._limits import shortage as shortage
from taskorch.kernel._limits import wanted as wanted
from taskorch.kernel._queue import RETAINED as RETAINED
from taskorch.kernel._queue import is_alive as is_alive
from taskorch.kernel._rows import BLOCKED_BY as BLOCKED_BY
from taskorch.kernel._rows import DEPENDENCY as DEPENDENCY
from taskorch.kernel._rows import GOING as GOING
from taskorch.kernel._rows import LEFT_RUNNING as LEFT_RUNNING
from taskorch.kernel._rows import LESS as LESS
from taskorch.kernel._rows import LOCAL as LOCAL
from taskorch.kernel._rows import QUOTA as QUOTA
from taskorch.kernel._rows import SKIPPED as SKIPPED
from taskorch.kernel._rows import AgentRow as AgentRow
from taskorch.kernel._rows import AllocationRow as AllocationRow
from taskorch.kernel._rows import AttemptOutcome as AttemptOutcome
from taskorch.kernel._rows import Bucket as Bucket
from taskorch.kernel._rows import BudgetRow as BudgetRow
from taskorch.kernel._rows import Candidates as Candidates
from taskorch.kernel._rows import Claim as Claim
from taskorch.kernel._rows import PoolRow as PoolRow
from taskorch.kernel._rows import Record as Record
from taskorch.kernel._rows import Share as Share
from taskorch.kernel._rows import Shortage as Shortage
from taskorch.kernel._rows import Spec as Spec
from taskorch.kernel._rows import Stop as Stop
from taskorch.kernel._rows import TaskRow as TaskRow
from taskorch.kernel._rows import Terms as Terms
from taskorch.kernel._rows import TypeRow as TypeRow
from taskorch.kernel._rows import without_quotas as without_quotas
from taskorch.kernel._scopes import held_in as held_in
from taskorch.kernel._shortages import shortages as shortages
from taskorch.kernel._standing import limits_of as limits_of
from taskorch.kernel._standing import meaning_of as meaning_of
from taskorch.kernel._state import DIGEST_BITS as DIGEST_BITS
from taskorch.kernel._state import LEASE as LEASE
from taskorch.kernel._state import TRANSITIONS as TRANSITIONS
from taskorch.kernel._state import DecisionContext as DecisionContext
from taskorch.kernel._state import FaultPoints as FaultPoints
from taskorch.kernel._state import KernelConfig as KernelConfig
from taskorch.kernel._state import KernelState as KernelState
from taskorch.kernel._state import ShareView as ShareView
from taskorch.kernel._state import diagram as diagram
from taskorch.kernel._units import declared as declared
from taskorch.kernel._units import names_of as names_of
from taskorch.kernel._units import would_fit as would_fit
from taskorch.kit import load_late as _load_late

if TYPE_CHECKING:
    from taskorch.kernel._added import AddedLimit as AddedLimit
    from taskorch.kernel._budgets import change_budget as change_budget
    from taskorch.kernel._budgets import declare_budget as declare_budget
    from taskorch.kernel._budgets import drawn_from as drawn_from
    from taskorch.kernel._budgets import questions_of as questions_of
    from taskorch.kernel._budgets import recall_spent as recall_spent
    from taskorch.kernel._budgets import reserved_of as reserved_of
    from taskorch.kernel._explain import NOT_STARTED as NOT_STARTED
    from taskorch.kernel._explain import Search as Search
    from taskorch.kernel._explain import Waits as Waits
    from taskorch.kernel._explain import asked_by_rules as asked_by_rules
    from taskorch.kernel._explain import call_of_answer as call_of_answer
    from taskorch.kernel._explain import escalation_of as escalation_of
    from taskorch.kernel._explain import explain as explain
    from taskorch.kernel._explain import hold_of_starts as hold_of_starts
    from taskorch.kernel._explain import holders_of as holders_of
    from taskorch.kernel._explain import passed_over as passed_over
    from taskorch.kernel._explain import times_asked as times_asked
    from taskorch.kernel._explain import words_of_hold as words_of_hold
    from taskorch.kernel._explain import words_of_holds as words_of_holds
    from taskorch.kernel._invariants import check_invariants as check_invariants

#: The names that are loaded on first use, each with its module.
_LATE = {
    "AddedLimit": "_added",
    "change_budget": "_budgets",
    "declare_budget": "_budgets",
    "reserved_of": "_budgets",
    "recall_spent": "_budgets",
    "questions_of": "_budgets",
    "drawn_from": "_budgets",
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

    def __getattr__(name: str) -> object:
        return _load_late(__name__, _LATE, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
