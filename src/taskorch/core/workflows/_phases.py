"""
Phases: named groups of a workflow, one after another, with a gate behind each.

Decision: workflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import attrs

from taskorch.core.workflows import _steps
from taskorch.errors import InvalidTaskError
from taskorch.kit.checks import check_count, check_seconds, check_word, to_seconds
from taskorch.kit.forms import (
    DocumentOf,
    Each,
    Either,
    Maybe,
    Number,
    Text,
    field,
    may_be,
    one_of,
)
from taskorch.kit.limits import MAX_SECONDS
from taskorch.kit.visible import show
from taskorch.model import (
    APPROVAL_OF,
    NO_RESOURCES,
    RAISE,
    Call,
    Question,
    Resources,
    Task,
    Wait,
    to_question,
)
from taskorch.model.ids import in_run, joined, split_last

#: The effect of a phase's failure on the next phases.
OnFailure: TypeAlias = Literal["stop", "continue", "skip"]
_ON_FAILURE: Final = get_args(OnFailure)
_COUNT: Final = Number(least=1, is_whole=True)
_SECONDS: Final = Maybe(Number(most=MAX_SECONDS, is_above=True))
_NAMES: Final = Each(Text(), needs="a list of texts", or_one=True)


def gate_of(phase: str) -> str:
    """Return the id of the gate of a phase."""
    return joined(phase, "gate")


def approval_of(phase: str) -> str:
    """Return the id of the approval that the gate of a phase may ask for."""
    return joined(phase, "approval")


#: The last part of the id of a gate.
_END: Final = gate_of("")


def is_gate_id(name: str) -> bool:
    """Return whether *name* is the id that the gate of a phase has."""
    return name.endswith(_END)


def phase_of(end: str) -> str:
    """Return the phase whose gate or approval has the id *end*; else *end* itself."""
    phase, step = split_last(end)
    return phase if phase and step in ("gate", "approval") else end


def is_same_end(name: str, end: str) -> bool:
    """Return whether *name* is *end*, also in a workflow that was included."""
    return in_run("", name).endswith(in_run("", end))


@attrs.frozen
class Approval:
    """
    A part of a gate: an approval by `orch.workflows.approve`.

    `orch.wait()` waits for it only if it has a timeout. A restart of the run asks
    again.

    Args:
        timeout: Seconds after which nobody having approved means no; None waits for
            ever.
        who: Who may approve or reject, by their names, or as `role:approver`; None is
            anybody.
        quorum: How many must approve. One who rejects is enough.
        not_by: The people who must not approve it.
        remind: Seconds between two reminders; None: there are none.
    """

    timeout: float | None = attrs.field(
        default=None, converter=to_seconds, metadata=may_be(_SECONDS)
    )
    who: Iterable[str] | None = attrs.field(
        default=None, kw_only=True, metadata=may_be(Maybe(_NAMES))
    )
    quorum: int = attrs.field(default=1, kw_only=True, metadata=may_be(_COUNT))
    not_by: Iterable[str] = attrs.field(
        default=(), kw_only=True, metadata=may_be(_NAMES)
    )
    remind: float | None = attrs.field(
        default=None, kw_only=True, converter=to_seconds, metadata=may_be(_SECONDS)
    )

    def __attrs_post_init__(self) -> None:
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, zero=False, none=True)
        self.question("it")

    @property
    def has_rules(self) -> bool:
        """Whether it has rules beyond its timeout."""
        rules = self.who, self.quorum, self.not_by, self.remind
        return rules != (None, 1, (), None)

    def question(self, phase: str, default: Any = RAISE) -> Question:
        """Return the question about *phase*."""
        asked = to_question(
            f"approve {phase}?",
            who=self.who,
            quorum=self.quorum,
            not_by=self.not_by,
            due=self.timeout,
            remind=self.remind,
            event=f"{APPROVAL_OF}{phase}",
        )
        return attrs.evolve(asked, default=default)


@attrs.frozen
class CheckEntry:
    """
    One condition of a gate, in a document.

    Attributes:
        file: A file that must exist.
        call: A function of the phase's results that must agree.
        approval: Somebody must approve; a number is its timeout in seconds.
    """

    file: str = field(Text())
    call: str = field(Text())
    approval: Approval | None = field(
        Maybe(Either(_SECONDS, DocumentOf(Approval, make=Approval)))
    )


@attrs.frozen
class PhaseEntry:
    """
    A group of tasks, and the gate behind it, in a document.

    Attributes:
        max_parallel: How many of its tasks run at once.
        gate: Further conditions for its end.
        gate_timeout: Seconds for each function in the gate.
        on_failure: The effect of a failure.
    """

    max_parallel: int | None = field(Maybe(_COUNT))
    gate: list[Any] = field(Each(DocumentOf(CheckEntry, is_one=True)), default=())
    gate_timeout: float | None = field(_SECONDS)
    on_failure: OnFailure = field(one_of(*_ON_FAILURE), default="stop")


#: Conditions for a gate to open: a file must exist, a function of the results of the
#: phase must agree, or a person must approve.
Check: TypeAlias = str | Path | Callable[[dict[str, Any]], Any] | Approval


class PhaseRules:
    """
    The options of a phase, without its workflow.

    Attributes:
        name: Its name.
        max_parallel: Tasks at once; None is without limit.
        checks: What must hold for its gate to open, beside that its tasks have
            completed.
        gate_timeout: Seconds that each function among them may take; None is for ever.
        on_failure: The effect of a failure.
        before: The phase before.
        tasks: The ids of its tasks, without its gate.
    """

    def __init__(
        self,
        name: str,
        *,
        max_parallel: int | None,
        checks: tuple[Check, ...],
        gate_timeout: float | timedelta | None,
        on_failure: OnFailure,
        before: Self | None,
    ) -> None:
        self.name: str = name
        self.max_parallel: int | None = max_parallel
        self.checks: tuple[Check, ...] = checks
        self.gate_timeout: float | None = to_seconds(gate_timeout)
        self.on_failure: OnFailure = on_failure
        self.before: Self | None = before
        self.tasks: list[str] = []

    @property
    def _approval(self) -> Approval | None:
        """The approval that the gate asks for, or None."""
        return next((c for c in self.checks if isinstance(c, Approval)), None)

    @property
    def end_id(self) -> str:
        """The id of the task that the next phase waits for: see `end`."""
        named = gate_of if self._approval is None else approval_of
        return named(self.name)

    @property
    def can_be_skipped(self) -> bool:
        """Whether an earlier phase skips the next ones if it fails."""
        phase = self.before
        while phase is not None:
            if phase.on_failure == "skip":
                return True
            phase = phase.before
        return False

    def gate_task(self) -> Task:
        """Return the gate as a task."""
        checks = [
            Call(check) if callable(check) else check
            for check in self.checks
            if not isinstance(check, Approval)
        ]
        goes_on = self.on_failure == "continue"
        skips = self.on_failure == "skip" or self.can_be_skipped
        return Task.call(
            _steps.gate,
            self.name,
            checks,
            self.on_failure,
            self.gate_timeout,
            None if self.before is None else self.before.end_id,
            type="gate",
            id=gate_of(self.name),
            after=() if self.before is None else [self.before.end_id],
            join="finished" if goes_on else "all",
            on_parent_failure="skip" if skips and not goes_on else "block",
        )

    def approval_task(self) -> Task | None:
        """Return the approval as a task, if the gate asks for one."""
        approval = self._approval
        if approval is None:
            return None
        default: Any = RAISE
        if approval.timeout is not None and self.on_failure == "continue":
            note = f"nobody has approved within {approval.timeout:g} s"
            default = verdict_of(self.name, "nobody", note, passed=False)
        skips = self.on_failure == "skip" or self.can_be_skipped
        # Without rules its payload stays as it was, since journals have it.
        payload = Wait(f"{APPROVAL_OF}{self.name}", approval.timeout, default)
        if approval.has_rules:
            payload = approval.question(self.name, default)
        return Task(
            "approval",
            payload,
            id=approval_of(self.name),
            after=[gate_of(self.name)],
            on_parent_failure="skip" if skips else "block",
        )


def approval_of_run(task: Task, task_id: str) -> Task:
    """Return *task*, an approval, under its id and with its event in a run."""
    event = f"{APPROVAL_OF}{phase_of(task_id)}"
    return attrs.evolve(task, payload=attrs.evolve(task.payload, event=event))


def is_approval(task: Task) -> bool:
    """Return whether *task* is the approval of a phase."""
    payload = task.payload
    return isinstance(payload, Wait) and str(payload.event).startswith(APPROVAL_OF)


def verdict_of(phase: str, by: str, note: str, *, passed: bool) -> dict[str, Any]:
    """Return the verdict of a person about a phase, as the result of a task."""
    return {"phase": phase, "passed": passed, "by": by, "note": note, "checks": []}


def checks_of(gate: object) -> tuple[Check, ...]:
    """
    Return the checks of a gate.

    Raises:
        InvalidTaskError: Something in it is no check.
    """
    if gate is None:
        return ()
    items = list(gate) if isinstance(gate, list | tuple) else [gate]
    checks: list[Check] = []
    for item in items:
        if isinstance(item, type) or not (
            isinstance(item, str | Path | Approval) or callable(item)
        ):
            msg = f"gate: {show(item)} is no path, no function and no Approval()"
            hint = "gate=[Path('report.json'), enough_have_passed, Approval()]"
            raise InvalidTaskError(msg, hint=hint)
        checks.append(Path(item) if isinstance(item, str) else item)
    if sum(isinstance(check, Approval) for check in checks) > 1:
        msg = "gate: one Approval() is enough"
        raise InvalidTaskError(msg)
    return tuple(checks)


def check_options(
    max_parallel: int | None,
    gate_timeout: float | timedelta | None,
    on_failure: object,
) -> None:
    """
    Check the options of a phase.

    Raises:
        InvalidTaskError: One is out of its range.
    """
    if max_parallel is not None:
        check_count("max_parallel", max_parallel, least=1)
    if gate_timeout is not None:
        check_seconds("gate_timeout", gate_timeout, zero=False, none=True)
    check_word("on_failure", on_failure, _ON_FAILURE)


def limited(task: Task, run_id: str, phase: str, max_parallel: int) -> Task:
    """
    Return *task* with a share of its phase's limit on tasks at once.

    A map mostly waits: its calls take one each.
    """
    pool = Resources(**{f"{in_run(run_id, phase)}:{max_parallel}": 1})
    payload = task.payload
    if isinstance(payload, Call) and payload.fn is _steps.mapped:
        call, over, options, *rest = payload.args
        options = {
            **options,
            "resources": options.get("resources", NO_RESOURCES) + pool,
        }
        payload = attrs.evolve(payload, args=(call, over, options, *rest))
        return attrs.evolve(task, payload=payload)
    return attrs.evolve(task, resources=task.resources + pool)
