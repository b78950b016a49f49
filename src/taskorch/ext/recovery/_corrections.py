"""
Corrections of the classes of failures by people, which come before all rules.

Decision: failures-and-recovery.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from taskorch.errors import InvalidTaskError, ProgramFailedError
from taskorch.ext.recovery._classes import Rule, class_of
from taskorch.kit.extension import Extension
from taskorch.kit.fence import log_of
from taskorch.kit.raised import told_of
from taskorch.kit.verbs import verb
from taskorch.model import ProgramResult

_LOG: Final = log_of(__name__)
#: The most characters of an error's message that identify its cause.
_MOST: Final = 200
#: Parts of a message that differ between failures of one cause.
_VARYING: Final = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)


class Corrections(Extension):
    """
    Extension by which people correct the classes of failures.

    `orch.corrections.it_was("load", "network")` holds for each later failure of the
    same cause, before all rules: the same class of error, which says the same, numbers
    and the id of the task aside. It needs a `RecoveryHandler`. The journal keeps it.
    """

    name = "corrections"

    def attach(self, orch: Any) -> None:
        """See `Extension.attach`."""
        self._rules: list[Rule] | None = None
        handler = orch.recovery
        handler.classes = _Corrected(self, handler.classes)

    @verb(
        "Say of what class the failure of a task was; later ones are of it, too.",
        "commit",
        "POST /tasks/{task_id}",
        needs="operate",
    )
    def it_was(self, task_id: str, failure: str, by: str = "") -> str:
        """
        Record that the latest failure of a task was of the class *failure*.

        It does not run the task again: `orch.rerun_task(task_id)` does.

        Args:
            task_id: The id of the task.
            failure: The class, or a synonym.
            by: Who says so.

        Returns:
            The cause, as `known` names it.

        Raises:
            InvalidTaskError: There is no such class, the task has no failure, or
                its error has no text by which to recognise the cause.
            UnknownTaskError: No task has this id.
        """
        name, error = class_of(failure), self.orch.get_task_status(task_id).error
        if error is None:
            msg = f"task {task_id} has not failed"
            hint = "name one of orch.tasks('failed')"
            raise InvalidTaskError(msg, hint=hint)
        cause = _cause_of(error, task_id)
        if cause is None:
            msg = f"of task {task_id}, only its exit code is known"
            hint = f"RecoveryHandler(classes=[Rule({name!r}, text='…', exit_code=…)])"
            raise InvalidTaskError(msg, hint=hint)
        self.kept[cause] = {"class": name, "by": by}
        self._rules = None
        return cause

    @verb("What people have said of failures, by cause.", "not", "GET /causes")
    def known(self) -> dict[str, Any]:
        """Return the class of each corrected cause, and who set it."""
        return dict(self.kept)

    @verb(
        "Forget what was said of failures of a cause.",
        "commit",
        "POST /forget",
        needs="operate",
    )
    def forget(self, cause: str) -> bool:
        """
        Remove the correction of a cause.

        Args:
            cause: As `known` names it.

        Returns:
            Whether there was a correction.
        """
        self._rules = None
        return self.kept.pop(cause, None) is not None

    def rules(self) -> list[Rule]:
        """Return a rule for each corrected cause."""
        if self._rules is None:
            self._rules = []
            for cause, document in self.kept.items():
                try:
                    rule = Rule(document["class"], when=_is_like(cause))
                except (LookupError, TypeError, InvalidTaskError) as error:
                    _LOG.warning("what is said of %s is left out: %r", cause, error)
                    continue
                self._rules.append(rule)
        return self._rules


class _Corrected(Collection[Rule]):
    """Rules from corrections, followed by the handler's own."""

    def __init__(self, corrections: Corrections, own: Collection[Rule]) -> None:
        self._corrections = corrections
        self._own = own

    def __iter__(self) -> Iterator[Rule]:
        yield from self._corrections.rules()
        yield from self._own

    def __len__(self) -> int:
        return len(self._corrections.rules()) + len(self._own)

    def __contains__(self, rule: object) -> bool:
        return rule in list(self)


def _cause_of(error: BaseException, task_id: str = "") -> str | None:
    """Return class and message of *error*, without variable parts; None: too little."""
    kind, message = told_of(error)
    if isinstance(error, ProgramFailedError):
        result = getattr(error, "result", None)
        written = ""
        if isinstance(result, ProgramResult):
            written = result.stderr_tail.strip() or result.stdout_tail.strip()
        if not written:
            return None
        message = written.splitlines()[-1]
    if task_id:
        message = re.sub(rf"(?<!\w){re.escape(task_id)}(?!\w)", "TASK", message)
    # A key of a document can be printed.
    words = " ".join(_VARYING.sub("#", f"{kind}: {message}").split())
    return "".join(filter(str.isprintable, words))[:_MOST]


def _is_like(cause: str) -> Any:
    """Return a test for errors of *cause*, which may differ in the id of the task."""
    words = re.escape(cause).replace("TASK", r"\S{1,200}")
    # A cause of full length was cut, so an error may go on after it.
    like = re.compile(words if len(cause) == _MOST else rf"{words}\Z")

    def holds(error: BaseException) -> bool:
        cause_now = _cause_of(error)
        return cause_now is not None and like.match(cause_now) is not None

    return holds
