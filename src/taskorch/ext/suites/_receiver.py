"""
Messages to a webhook about final failures, also of earlier processes of the run.

Decision: test-suites.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from taskorch.api._orchestrator import TaskOrchestrator
from taskorch.core.inside import Inside
from taskorch.errors import InvalidTaskError
from taskorch.ext.notices.notifying import Notifier, sender_of
from taskorch.ext.suites._attempt import name_of, with_stop
from taskorch.ext.suites._folder import JsonLines, RunFolder
from taskorch.ext.suites._model import RUN, Suite, parts_of
from taskorch.kit.fence import log_of
from taskorch.kit.visible import counted
from taskorch.model import FailureCause

#: The messages besides failures: things that hold the run up, or wait for a person.
_TROUBLES: Final = ("alert", "blocked", "question", "escalation", "reminder")
#: The `issue_type` of tasks that policies keep from starting.
_BY_POLICIES: Final = "policy"
_LOG: Final = log_of("taskorch.suites")
#: Seconds that one attempt to deliver a message may take, and how many there are.
_TIMEOUT: Final = 10.0
_ATTEMPTS: Final = 5
#: The name of the error of a task that was out of time.
_OUT_OF_TIME: Final = "TaskTimeoutError"
#: The message on tasks that used more memory than they were granted.
_OVER_MEMORY: Final = "over_memory"
_NOTHING_FAILED: Final = "It waits for no answer: what else runs has less memory"
_NOT_ASKED: Final = (
    "It has failed, and waits for no answer: taskorch suite run --failed runs it again"
)


class SuiteWebhook:
    """
    The webhook of a suite: it is told once for each cause.

    What it has taken stands in a file of the run, so that a run that goes on tells what
    a crash kept from being told, and nothing twice. A task that was out of time is a
    cause of its own: where it hangs is seldom where others do.
    """

    def __init__(
        self,
        orchestrator: TaskOrchestrator,
        suite: Suite,
        folder: RunFolder,
    ) -> None:
        watch = suite.monitoring
        url = watch.human_notification_webhook
        assert url is not None  # noqa: S101 - else nobody is told
        self._orchestrator, self._suite, self._folder = orchestrator, suite, folder
        self._failed_tasks = Inside(orchestrator).failed_tasks()
        self._names = frozenset(part.id for part in parts_of(suite))
        self._taken = JsonLines(folder.told)
        #: The causes that were told, or are being told.
        self._causes: set[str] = {
            line["cause"] for line in self._taken.read() if "cause" in line
        }
        name, self._send = sender_of(
            url,
            secret=_secret(watch.webhook_secret_env),
            allow_private=watch.webhook_may_be_private,
            timeout=_TIMEOUT,
        )
        self.notifier: Notifier = Notifier(
            orchestrator, name, self._deliver, _ATTEMPTS, ("failure", _OVER_MEMORY)
        )
        Inside(orchestrator).add_check(self.notifier.check)
        self._troubles = Notifier(
            orchestrator, name, self._deliver_trouble, _ATTEMPTS, _TROUBLES
        )
        orchestrator._teller("a suite").add(self._troubles)  # noqa: SLF001 - as above

    def tell_failure(
        self, task_id: str, attempt: int, error_type: str, message: str, kind: str
    ) -> None:
        """
        Tell that a task has failed for good.

        Args:
            task_id: Its id in the run.
            attempt: The number of its latest attempt.
            error_type: The name of its error.
            message: What that says.
            kind: The class of the failure.
        """
        if error_type == _OUT_OF_TIME:
            cause = [error_type, task_id]
        else:
            cause = [*FailureCause.common(task_id, error_type, message)]
        about = self._failed_tasks.about(task_id)
        if about is not None:
            name = name_of(task_id)
            results = self._folder.results_of(name, task_id, attempt)
            details = with_stop(message, results)
            context = {**about["context"], "error_message": details}
            self._tell({**about, "issue_type": kind, "context": context}, cause)

    def tell_over(self, name: str, why: str, tasks: Iterable[str]) -> None:
        """Tell that a phase, or the run, was out of time, and *tasks* are cancelled."""
        ids = list(tasks)
        about = self._failed_tasks.about(ids[0]) if ids else None
        if about is None:
            return
        self._tell(
            {
                **about,
                "escalation_id": f"timeout/{name}",
                "task_id": name,
                "issue_type": "timeout_error",
                "severity": "high",
                "context": {
                    **about["context"],
                    "error_type": _OUT_OF_TIME,
                    "error_message": why,
                },
                "recommended_actions": ["Give it more time", "See what takes so long"],
                "tasks": ids,
            },
            [_OUT_OF_TIME, name],
        )

    def tell_memory(self, tasks: Sequence[str]) -> None:
        """
        Tell, at the end of the run, which *tasks* used more memory than was granted.

        That is no failure, and has one cause: what the configuration grants.
        """
        if not tasks:
            return
        many = counted(len(tasks), "task")
        self._tell_once(
            {
                "message_type": _OVER_MEMORY,
                "id": _OVER_MEMORY,
                "text": f"{many} used more memory than was granted: {tasks[0]}",
                "severity": "low",
                "tasks": list(tasks),
                "recommended_actions": ["Grant them more memory", "See what takes it"],
                "how_to_answer": _NOTHING_FAILED,
            },
            [_OVER_MEMORY],
        )

    def flush(self, seconds: float) -> None:
        """Wait until all is told; what is not, after these seconds, is logged."""
        until = monotonic() + seconds
        for notifier in (self.notifier, self._troubles):
            if not notifier.flush(max(0.0, until - monotonic())):
                why = notifier.trouble or "it does not answer"
                _LOG.warning("taskorch: %s was not told: %s", notifier.name, why)

    def _tell(self, about: Mapping[str, Any], cause: list[str]) -> None:
        """Tell of a failure, unless its cause was told."""
        message = {
            "message_type": "failure",
            "how_to_answer": _NOT_ASKED,
            **about,
            # The list leaves out gates and other tasks of ours.
            "blocking_tasks": [
                each for each in about["blocking_tasks"] if name_of(each) in self._names
            ],
            "system_state": {**about["system_state"], **self._counts()},
        }
        self._tell_once(message, cause)

    def _tell_once(self, message: Mapping[str, Any], cause: list[str]) -> None:
        key = json.dumps(cause)
        if key in self._causes:
            return
        self._causes.add(key)
        about = {"suite": self._suite.title, "run": str(self._folder.path.resolve())}
        self.notifier.tell({**message, **about, "cause": key})

    def _counts(self) -> dict[str, int]:
        """Return the number of tasks in each state."""
        states = self._orchestrator.workflows.status(RUN).tasks
        counts = Counter(states[name].value for name in self._names if name in states)
        return {
            f"{name}_tasks": counts[name]
            for name in ("queued", "running", "blocked", "failed", "completed")
        }

    def _deliver_trouble(self, message: dict[str, Any], number: str, at: float) -> None:
        """Send *message*, which is of the whole run."""
        if (
            message["message_type"] == "blocked"
            and message.get("issue_type") != _BY_POLICIES
        ):
            # The run goes on by itself with tasks that a crash interrupted.
            return
        run = str(self._folder.path.resolve())
        self._send({**message, "suite": self._suite.title, "run": run}, number, at)

    def _deliver(self, message: dict[str, Any], number: str, at: float) -> None:
        """Send *message*, and note that it was taken."""
        key = message.pop("cause", None)
        try:
            self._send(message, number, at)
        except BaseException:
            # It is tried again, and is the same then.
            message["cause"] = key
            raise
        self._taken.write({"cause": key})


def _secret(variable: str | None) -> str | None:
    secret = None if variable is None else os.environ.get(variable)
    if variable is not None and secret is None:
        msg = f"webhook_secret_env: there is no variable {variable}"
        raise InvalidTaskError(msg, hint="set it, or leave the key out")
    return secret
