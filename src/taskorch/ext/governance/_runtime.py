"""
The constitutional runtime: a set of policies, the past, and the verdicts.

Decision: policies-as-data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.governance._audit import Audits
from taskorch.ext.governance._history import Memory, event_of
from taskorch.ext.governance._operators import UnfitError, fenced
from taskorch.ext.governance._policies import (
    Moment,
    Operation,
    Policy,
    Verdict,
    Violation,
)
from taskorch.ext.governance._reading import (
    FilePath,
    PolicyCase,
    policies_of,
    read_policies,
)
from taskorch.ext.governance._set import Covers, PolicySet, changed
from taskorch.ext.governance._waivers import WaiverRequest
from taskorch.kit.visible import show
from taskorch.model import Task

_NS = 1_000_000_000
#: Decisions, the strictest last.
_STRICT = ("allow", "ask", "deny")


class ConstitutionalRuntime(Audits):
    """
    A judge of submissions, starts and commands, by policies.

    `TaskOrchestrator(governance=…)` asks it. It also works alone: see
    `validate_operation`. It belongs to one orchestrator at most.

    Args:
        policies: The policies.

    Raises:
        InvalidTaskError: Two policies have the same id, or one is no policy.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        super().__init__()
        self._set = PolicySet(policies)
        self._memory = Memory(self._set.histories)
        #: Called when waivers have changed; and called to let other policies judge.
        self._tell: Callable[[], object] | None = None
        self._renew: Callable[[Memory, Callable[[], object]], object] | None = None
        #: The clock of the orchestrator that asks it: ns since the epoch.
        self._now: Callable[[], int] | None = None

    @classmethod
    def from_yaml(cls, *paths: FilePath) -> Self:
        """
        Make a runtime of the policies in files, or in all files of folders.

        Args:
            paths: Files of YAML or JSON, or folders of such.

        Raises:
            ValidationFailedError: It is malformed; all faults are named, with lines.
            OSError: A file cannot be read.
        """
        return cls(read_policies(paths))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """
        Make a runtime of the policies in a document, as a file has it.

        Raises:
            ValidationFailedError: It is not well formed; all faults are named.
        """
        return cls(policies_of(document))

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies, in their order."""
        return self._set.policies

    @property
    def policies_hash(self) -> str:
        """The hash of this set of policies: a SHA-256 of its content."""
        return self._set.hash

    def replace(self, policies: Iterable[Policy] | FilePath) -> None:
        """
        Judge by other policies from now on.

        Tasks that are on hold are judged again. New history rules read the past in the
        journal; without one, they begin with the present.

        Args:
            policies: The policies, or the path of a file of them.

        Raises:
            InvalidTaskError: As for the class; then nothing has changed.
            ValidationFailedError: A file is not well formed; then nothing has changed.
            OSError: The file cannot be read.
        """
        is_path = isinstance(policies, str) or hasattr(policies, "__fspath__")
        read: Any = read_policies((policies,)) if is_path else policies  # type: ignore[arg-type]
        ready = PolicySet(read)
        memory = Memory(ready.histories, self._memory)

        def install() -> None:
            self._set, self._memory = ready, memory

        if self._renew is None:
            install()
        else:
            self._renew(memory, install)

    def changed(self) -> None:
        """Judge all held tasks again, because waivers have changed."""
        if self._tell is not None:
            self._tell()

    # -- for the orchestrator ----------------------------------------------------------

    def join(
        self,
        now: Callable[[], int],
        tell: Callable[[], object],
        renew: Callable[[Memory, Callable[[], object]], object],
    ) -> None:
        """
        Belong to an orchestrator: for its runtime.

        Args:
            now: Its clock: ns since the epoch.
            tell: Called when waivers have changed.
            renew: Lets other policies judge, given the memory of their history rules,
                and a function that puts them in force.

        Raises:
            InvalidTaskError: It belongs to another.
        """
        if self._tell is not None:
            msg = "this ConstitutionalRuntime belongs to another orchestrator"
            raise InvalidTaskError(msg, hint="make one for each")
        self._now, self._tell, self._renew = now, tell, renew

    @property
    def memory(self) -> Memory:
        """The events that history rules keep, for the runtime."""
        return self._memory

    # -- judging -----------------------------------------------------------------------

    def validate_operation(
        self, operation: Task[Any] | Operation, *, now: float | None = None
    ) -> Verdict:
        """
        Return the verdict on a task that would be submitted, or on an operation.

        The verdict has no effect, and is not kept.

        Args:
            operation: A task, or an `Operation`.
            now: The time in seconds since the epoch; None: now.

        Raises:
            InvalidTaskError: It is neither.
        """
        unchecked: object = operation
        if isinstance(unchecked, Task):
            judged = Operation.of_task(unchecked)
        elif isinstance(unchecked, Operation):
            judged = unchecked
        else:
            msg = f"a Task or an Operation is judged, not {show(operation)}"
            raise InvalidTaskError(msg)
        now_ns = self._clock() if now is None else int(now * _NS)
        return self.judge(judged, now_ns)

    def before_start(self, operation: Task[Any] | Operation) -> Verdict | None:
        """
        Return the verdict on a task that would be submitted and started now.

        Args:
            operation: A task, or an `Operation`.

        Returns:
            The stricter verdict of the two moments; None if nothing is violated.
        """
        judged = operation
        if isinstance(judged, Task):
            judged = Operation.of_task(judged)
        verdicts: list[Verdict] = []
        for moment in ("submit", "start"):
            if self.is_asked(moment, judged.type):
                at = attrs.evolve(judged, moment=moment)
                verdicts.append(self.judge(at, self._clock()))
        violated = [one for one in verdicts if one.violations]
        return max(violated, key=lambda one: _STRICT.index(one.decision), default=None)

    def judge_case(self, case: PolicyCase, *, now: float = 0.0) -> Verdict:
        """
        Return the verdict on a case, after its events.

        Args:
            case: The case: see `read_cases`.
            now: When: seconds since the epoch.

        Raises:
            InvalidTaskError: An event of it is not well formed.
        """
        now_ns = int(now * _NS)
        memory = Memory(self._set.histories)
        items = [event_of(each, now_ns, seq) for seq, each in enumerate(case.before, 1)]
        memory.hear(
            sorted(items, key=lambda item: item[0].at_ns),
            lambda _, judged: judged.type,
            lambda _, judged: judged,
        )
        for event, judged in items:
            if not judged.id:
                # Without an id, no later event could report its end.
                memory.ended(event.task_id)
        return self._judge(case.operation, now_ns, memory, self.covers)

    def _clock(self) -> int:
        if self._now is not None:
            return self._now()
        # Without an orchestrator, there is no other clock.
        return time.time_ns()  # noqa: TID251

    def is_request(self, payload: object) -> bool:
        """Return whether *payload* asks for a waiver, which no policy judges."""
        return type(payload) is WaiverRequest

    def is_asked(self, moment: Moment, name: str) -> bool:
        """
        Return whether a policy judges tasks of a type, or a verb.

        Args:
            moment: The moment.
            name: The type, or the verb.
        """
        return self._set.is_asked(moment, name)

    def judge(
        self, operation: Operation, now_ns: int, covers: Covers | None = None
    ) -> Verdict:
        """
        Return the verdict on *operation*, with the changes.

        A changed operation is judged once more.

        Args:
            operation: The operation.
            now_ns: The time in ns since the epoch.
            covers: Returns the waiver for a violation; None: the present waivers.
        """
        return self._judge(operation, now_ns, self._memory, covers or self.covers)

    def _judge(
        self, operation: Operation, now_ns: int, memory: Memory, covers: Covers
    ) -> Verdict:
        ready = self._set
        verdict = ready.judge(operation, now_ns, covers, memory)
        if not verdict.changes:
            return verdict
        try:
            mended = fenced(changed, operation, verdict.changes)
        except UnfitError as error:
            return _unchanged(verdict, str(error))
        after = ready.judge(mended, now_ns, covers, memory)
        if after.changes:
            return _unchanged(verdict, "a change calls for another")
        both = {(one.policy_id, one.rule_id): one for one in verdict.violations}
        both |= {(one.policy_id, one.rule_id): one for one in after.violations}
        return attrs.evolve(
            after,
            changes=verdict.changes,
            violations=tuple(both.values()),
            operation=mended,
        )


def joined(policies: Iterable[Policy], governance: Any) -> Any:
    """
    Return a runtime of *policies* and of the policies of the setting *governance*.

    Raises:
        InvalidTaskError: Two different policies have the same id.
        ValidationFailedError: A file is not well formed.
        OSError: It cannot be read.
    """
    ours = tuple(policies)
    if not ours:
        return governance
    if governance is None:
        return ConstitutionalRuntime(ours)
    runtime = governance
    if not isinstance(governance, ConstitutionalRuntime):
        runtime = ConstitutionalRuntime.from_yaml(governance)
    runtime.replace(dict.fromkeys((*ours, *runtime.policies)))
    return runtime


def _unchanged(verdict: Verdict, why: str) -> Verdict:
    """Return *verdict* as a refusal, because its changes cannot be made."""
    ids = {one.policy_id for one in verdict.changes}

    def denied(one: Violation) -> Violation:
        return attrs.evolve(one, decision="deny") if one.policy_id in ids else one

    return attrs.evolve(
        verdict,
        decision="deny",
        compliant=False,
        reason=f"{verdict.reason}; it cannot be changed: {why}",
        violations=tuple(map(denied, verdict.violations)),
        changes=(),
    )
