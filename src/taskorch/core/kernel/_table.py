"""The state machine as a table: which events may come in a state, and the next state.

Each entry names the function that applies the event. A command calls it once it has
decided, and a fold when it reads the event. Where the usual path is written out for
speed (`_quick`), the function named here is the definition. The docs show the table; a
test sees that the kernel makes each of these moves, by that function, and no other. It
is for readers, and nothing loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import attrs

from taskorch.core.kernel import _admission, _application, _control, _dependencies
from taskorch.events import (
    AllocationChanged,
    AnswerRefused,
    AttemptReturned,
    AttemptStopping,
    AttemptWaiting,
    BudgetSpent,
    Event,
    QuestionAnswered,
    QuestionReminded,
    SlotLeaked,
    SlotRecovered,
    TaskBlocked,
    TaskCancelled,
    TaskCompleted,
    TaskDue,
    TaskFailed,
    TaskOptionsChanged,
    TaskParentsAdded,
    TaskRecalled,
    TaskReleased,
    TaskRepointed,
    TaskReprioritised,
    TaskResumed,
    TaskRetrying,
    TaskStarted,
    TaskSubmitted,
    TaskSuspended,
    TaskUnblocked,
)
from taskorch.model import TERMINAL, TaskState

_PENDING: Final = TaskState.PENDING
_QUEUED: Final = TaskState.QUEUED
_RUNNING: Final = TaskState.RUNNING
_RETRYING: Final = TaskState.RETRYING
_SUSPENDED: Final = TaskState.SUSPENDED
_BLOCKED: Final = TaskState.BLOCKED
_COMPLETED: Final = TaskState.COMPLETED
_FAILED: Final = TaskState.FAILED
_CANCELLED: Final = TaskState.CANCELLED
_LIVE: Final = tuple(state for state in TaskState if state not in TERMINAL)

#: State of a task (None: there is none yet) → the states that may follow.
After = Mapping[TaskState | None, tuple[TaskState, ...]]


@attrs.frozen
class Moves:
    """State changes that one event about a task makes."""

    event: type[Event]
    function: Callable[..., Any]
    after: After
    #: True if the state is that of a dependent of the task of the event.
    of_dependent: bool = False


def _from(before: Iterable[TaskState], *after: TaskState) -> After:
    return dict.fromkeys(before, after)


def _stays(*states: TaskState) -> After:
    return {state: (state,) for state in states}


#: All moves.
MOVES: Final = (
    # Submission and release.
    Moves(TaskSubmitted, _admission.set_first_state, {None: (_PENDING, _QUEUED)}),
    Moves(
        TaskDue,
        _application.due,
        {
            # PENDING still: it is a wait, or has other parents, too.
            _PENDING: (_PENDING, _QUEUED),
            _RETRYING: (_QUEUED,),
            _BLOCKED: (_BLOCKED,),
        },
    ),
    Moves(
        TaskCompleted,
        _dependencies.release,
        {_PENDING: (_QUEUED,)},
        of_dependent=True,
    ),
    # A failure that is allowed.
    Moves(
        TaskFailed,
        _dependencies.release,
        {_PENDING: (_QUEUED,)},
        of_dependent=True,
    ),
    # PENDING still: it is too early, or it is a wait.
    Moves(TaskReleased, _application.released, {_PENDING: (_PENDING, _QUEUED)}),
    Moves(
        TaskRecalled,
        _application.recalled,
        {**_stays(_PENDING, _SUSPENDED), _QUEUED: (_PENDING,)},
    ),
    Moves(
        TaskParentsAdded,
        _control.extend,
        # CANCELLED: the parents are for its next run.
        _stays(_PENDING, _BLOCKED, _SUSPENDED, _CANCELLED),
    ),
    Moves(TaskRepointed, _control.turn, _stays(_FAILED, _CANCELLED)),
    # An attempt.
    Moves(TaskStarted, _application.begin, {_QUEUED: (_RUNNING,)}),
    Moves(AttemptStopping, _application.stopping, _stays(_RUNNING)),
    Moves(AttemptWaiting, _application.waiting, _stays(_RUNNING)),
    Moves(AttemptReturned, _application.returned, _stays(_RUNNING)),
    Moves(AllocationChanged, _application.allocation_changed, _stays(_RUNNING)),
    Moves(BudgetSpent, _application.spent, _stays(_RUNNING)),
    Moves(SlotLeaked, _application.slot_leaked, _stays(_RUNNING)),
    Moves(
        SlotRecovered,
        _application.slot_recovered,
        # The event is about an earlier attempt, so the task waits for no other.
        _stays(*[state for state in TaskState if state is not _PENDING]),
    ),
    Moves(
        TaskRetrying,
        _application.retrying,
        # QUEUED at once, if there is no delay; QUEUED before, if its attempt before a
        # restart had an unknown end.
        _from((_QUEUED, _RUNNING), _QUEUED, _RETRYING),
    ),
    # The end.
    Moves(
        TaskCompleted,
        _application.completed,
        _from((_RUNNING, _SUSPENDED, _BLOCKED), _COMPLETED),
    ),
    Moves(TaskFailed, _application.failed, _from(_LIVE, _FAILED)),
    Moves(TaskCancelled, _application.cancelled, _from(_LIVE, _CANCELLED)),
    # Holds and their ends.
    Moves(
        TaskBlocked,
        _application.blocked,
        _from((_PENDING, _QUEUED, _RUNNING, _SUSPENDED), _BLOCKED),
    ),
    Moves(TaskUnblocked, _application.unblocked, {_BLOCKED: (_PENDING, _QUEUED)}),
    Moves(QuestionAnswered, _application.answered, _stays(_BLOCKED)),
    Moves(QuestionReminded, _application.reminded, _stays(_BLOCKED)),
    Moves(AnswerRefused, _application.answer_refused, _stays(*TaskState)),
    # Commands of people.
    Moves(
        TaskSuspended,
        _application.suspended,
        _from([state for state in _LIVE if state is not _SUSPENDED], _SUSPENDED),
    ),
    Moves(
        TaskResumed,
        _application.resumed,
        # SUSPENDED still: its parents block it, and another event says so.
        {**_from((_SUSPENDED,), *_LIVE), **_stays(_RUNNING)},
    ),
    Moves(TaskReprioritised, _application.reprioritised, _stays(*_LIVE)),
    Moves(TaskOptionsChanged, _application.options_changed, _stays(*_LIVE)),
)
