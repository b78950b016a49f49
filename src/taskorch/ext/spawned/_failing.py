"""
Templates whose workers keep failing, which are given up until a person decides.

Decision: workers-elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from taskorch.core.engine import question_in, task_of
from taskorch.core.kernel import PolicyFault, TaskRow
from taskorch.errors import InvalidTransitionError, NotRunningError
from taskorch.model import Task

if TYPE_CHECKING:
    from taskorch.core.engine import Runtime

#: So many failed workers within so many seconds end the spawning from a template.
_MOST_FAILURES: Final = 5
_PERIOD: Final = 60.0
_GIVEN_UP: Final = "what is given up is"
#: The answers to the question whether to spawn workers again.
_CHOICES: Final = ("spawn", "leave it")


class FailingTemplates:
    """
    Record of failures by template, and of the templates that are given up.

    A template that is given up is reported as a fault, and a question asks whether to
    go on. Its workers are spawned again after the answer, or once it is defined anew.
    """

    def __init__(self, runtime: Any, orchestrator: Any) -> None:
        self._rt: Runtime = runtime
        self._orch = orchestrator
        self._lock = threading.Lock()
        #: The reason for each template that is given up, by name.
        self._why: dict[str, str] = {}
        #: The ids of the questions about these templates.
        self._questions: dict[str, str] = {}
        self._failures: dict[str, deque[float]] = {}

    def why(self, name: str) -> str:
        """Return why a template spawns no workers; "" if it does."""
        return self._why.get(name, "")

    def names(self) -> list[str]:
        """The templates that are given up."""
        return list(self._why)

    def question(self, name: str) -> str:
        """Return the id of the question about a template that is given up, or ""."""
        return self._questions.get(name, "")

    def forget(self, name: str) -> None:
        """Forget the failures of a template, so that its workers are spawned again."""
        with self._lock:
            self._why.pop(name, None)
            self._failures.pop(name, None)

    def fault(self, name: str, why: str) -> bool:
        """Count a failure of a template; return whether the template is given up."""
        with self._lock:
            now = time.monotonic()
            times = self._failures.setdefault(name, deque(maxlen=_MOST_FAILURES))
            times.append(now)
            if len(times) < _MOST_FAILURES or now - times[0] > _PERIOD:
                return False
            if name in self._why:
                return True
            self._why[name] = (
                f"{_MOST_FAILURES} have failed in {_PERIOD:g} s; the last: {why}"
            )
        self._tell(name, self._why[name])
        return True

    def ended(self, name: str, agent_id: str, why: str) -> None:
        """Count an unexpected end of a worker that can start again."""
        if self.fault(name, why):
            why = f"{_draining(name)}{why}"
            with suppress(NotRunningError):
                self._rt.step(lambda now: self._rt.kernel.drain(agent_id, why, now))

    def _tell(self, name: str, why: str) -> None:
        """Report that a template is given up, and ask a person, if possible."""
        rt = self._rt
        error = RuntimeError(f"it is given up: {why}")
        fault = PolicyFault(f"workers of {name}", error)
        with suppress(NotRunningError):
            rt.step(lambda now: rt.kernel.note_fault(None, fault, now))
            question = Task.question(
                f"Workers of {name} keep failing: {why}. Spawn them again?",
                options=_CHOICES,
                no=(),
                metadata={"template": name},
            )
            handle = self._orch.submit_task(question)
            self._questions[name] = handle.task_id
            handle.add_done_callback(lambda handle: self._answered(name, handle))

    def withdraw(self, names: Iterable[str]) -> None:
        """Withdraw the questions about templates that were defined anew."""
        kernel = self._rt.kernel
        anew = [*names]
        if not anew:
            return

        def cancel(now: int) -> None:
            for row in [*kernel.asked]:
                name = _template_asked_about(row)
                if name in anew:
                    # A state machine of the user may forbid it.
                    with suppress(InvalidTransitionError):
                        kernel.cancel(row, now, f"template {name} was said anew")

        with suppress(NotRunningError):
            self._rt.step(cancel, keep=True)

    def _answered(self, name: str, handle: Any) -> None:
        """Spawn workers of a template again if the answer is yes."""
        if handle.exception(0) is None and handle.result(0).choice == _CHOICES[0]:
            self.forget(name)

            def restore(now: int) -> None:
                kernel = self._rt.kernel
                for agent_id, row in [*kernel.workers.items()]:
                    if row.draining.startswith(_draining(name)):
                        kernel.drain(agent_id, "", now)

            self._rt.step(restore)


def _draining(name: str) -> str:
    """Return the start of the reason for which workers of a template drain."""
    return f"{_GIVEN_UP} {name}: "


def _template_asked_about(row: TaskRow) -> object:
    """Return the given-up template of a question; None: it is about another matter."""
    question = question_in(row.cargo)
    is_one = question is not None and question.options == _CHOICES
    return (task_of(row).metadata or {}).get("template") if is_one else None
