"""What the cycles of self-improvement do: what waits asks anew, learning is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import attrs

from taskorch.adaptive import SNAPSHOTS, LearnedValue
from taskorch.frontends.jobs._book import JobBook
from taskorch.frontends.jobs._choices import Choices
from taskorch.frontends.jobs._config import JobConfig
from taskorch.frontends.jobs._cycles import DOCUMENTS, Act, Cycles
from taskorch.frontends.jobs._hearing import Hearing
from taskorch.frontends.jobs._record import PREFIX, JobRecord, unit_task_id
from taskorch.model import TERMINAL, Task
from taskorch.model.ids import in_run

_DIARY: Final = "agent_state.metadata_diary"
_KEEPS: Final = "self_improvement.metadata_capture.persistence_targets"
#: Waiting jobs that a cycle looks at, at the most.
_LOOKED_AT: Final = 200


def keeps_snapshots(config: JobConfig) -> bool:
    """Whether what was learnt is kept in the journal."""
    return config.has(_KEEPS, SNAPSHOTS)


class Improvement:
    """
    The acts of the three cycles, and the diary that they write.

    Args:
        config: Names the cycles, and what is kept.
        book: The jobs; those that wait ask anew.
        choices: What is chosen for them.
        hearing: Learns a better dictionary.
        tasks_of: The tasks of a job, by its record.
        page: What the diary says of some jobs.
    """

    def __init__(
        self,
        config: JobConfig,
        book: JobBook,
        choices: Choices,
        hearing: Hearing,
        tasks_of: Callable[[JobRecord], list[Task]],
        page: Callable[[list[JobRecord]], dict[str, Any]],
    ) -> None:
        self._config = config
        self._book = book
        self._choices = choices
        self._hearing = hearing
        self._tasks_of = tasks_of
        self._page = page
        self._written: dict[str, int] = {}
        #: What was kept last; None: nothing was.
        self.diary: dict[str, Any] | None = None

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Read the diary of an earlier life."""
        diary = kept(DOCUMENTS).get(_DIARY)
        # A program may have written others under our name.
        self.diary = diary if isinstance(diary, dict) else None

    def cycles(self, keep: Callable[[], Iterable[Act]]) -> Cycles:
        """What runs the cycles that the configuration names, and has *keep* called."""
        hooks = self._config.get("self_improvement.optimisation_hooks")
        acts: dict[str, Callable[[], Iterable[Act]]] = {
            "micro_cycle": self._adjust_thread_weights,
            "macro_cycle": self._reallocate_resources,
            "meta_cycle": self._evolve_protocol,
        }
        named = {n: act for n, act in acts.items() if hooks is None or n in hooks}
        return Cycles({**named, "followed": keep})

    def _adjust_thread_weights(self) -> list[Act]:
        """What waits asks for as many threads as are best by now."""
        return self._ask_again(self._choices.threads)

    def _reallocate_resources(self) -> list[Act]:
        """What waits has the weight that is best by now; what was learnt is kept."""
        commands = self._ask_again(self._choices.weights)
        learnt = self._choices.known()
        if learnt != self._written:
            self._written = learnt
            commands += [Act(part.save) for part in self._choices.learners]
            if self._config.has(_KEEPS, _DIARY):
                commands.append(Act(self._write_diary))
        return commands

    def _write_diary(self, orchestrator: Any) -> None:
        # The jobs of earlier lives are not read for it: that may take seconds.
        page = self._page(self._book.of_this_life())
        orchestrator.kept(DOCUMENTS)[_DIARY] = page
        self.diary = page

    def _evolve_protocol(self) -> list[Act]:
        """A new dictionary, which both ends agree on."""
        return [Act(lambda _: self._hearing.learn())] if self._hearing.learns else []

    def _ask_again(self, part: LearnedValue) -> list[Act]:
        """Commands that have jobs that wait ask for what *part* has learnt since."""
        if not self._choices.adapts(part):
            return []
        with self._book.lock:
            job_ids = [
                job_id
                for job_id, rewards in self._book.waiting.items()
                if rewards[part.name] != part.rewards
            ]
        return [
            Act(partial(self._asked_again, part, job_id))
            for job_id in job_ids[:_LOOKED_AT]
        ]

    def _asked_again(self, part: LearnedValue, job_id: str, orch: Any) -> None:
        book = self._book
        with book.lock:
            rewards, record = book.waiting.get(job_id), book.records.get(job_id)
            if rewards is None or record is None:
                return
            first = orch.get_task_status(unit_task_id(job_id, 0))
            if first.attempts or first.state in TERMINAL:
                return
            rewards[part.name] = part.rewards
            if not self._choices.renew(part, record):
                return
            for task in self._tasks_of(record):
                task_id = in_run(PREFIX + job_id, str(task.id))
                orch.submit_task(attrs.evolve(task, id=task_id))
