"""
Explanations: why tasks wait, when they may run, and which are stuck for good.

These functions explain a task with the predicates that schedule it. They may not change
the state, apply an event or record one, and no command of the kernel may call them: the
modules below decide whether a task starts.

- `_explanation`: why a task does not run, or how it ended.
- `_words`, `_parents`: its obstacles: shortages and holds in words, parents.
- `_people`: questions to people, and the calls that answer them.
- `_holders`, `_estimate`: holders, position in the queue, and time of the start.
- `_stuck`: tasks that can never proceed; a check of the order of starts.
"""

from taskorch.core.kernel._explain._explanation import explain as explain
from taskorch.core.kernel._explain._holders import holders_of as holders_of
from taskorch.core.kernel._explain._people import (
    asked_by_rules as asked_by_rules,
    call_of_answer as call_of_answer,
    escalation_of as escalation_of,
    times_asked as times_asked,
)
from taskorch.core.kernel._explain._stuck import (
    Search as Search,
    Waits as Waits,
    passed_over as passed_over,
)
from taskorch.core.kernel._explain._words import (
    NOT_STARTED as NOT_STARTED,
    hold_of_starts as hold_of_starts,
    words_of_hold as words_of_hold,
    words_of_holds as words_of_holds,
)
