"""Acts of the cycles of self-improvement, and their diary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import attrs

from taskorch.ext.jobs._book import JobBook
from taskorch.ext.jobs._choices import Choices
from taskorch.ext.jobs._config import JobConfig
from taskorch.ext.jobs._cycles import DOCUMENTS, Act, Cycles
from taskorch.ext.jobs._hearing import Hearing
from taskorch.ext.jobs._record import JobRecord
from taskorch.ext.learning import SNAPSHOTS, LearnedValue
from taskorch.model import TERMINAL, Task

_DIARY: Final = "agent_state.metadata_diary"
_KEEPS: Final = "self_improvement.metadata_capture.persistence_targets"
#: The most waiting jobs that a cycle changes.
_LOOKED_AT: Final = 200


def keeps_snapshots(config: JobConfig) -> bool:
    """Return whether the journal keeps what was learnt."""
    return config.has(_KEEPS, SNAPSHOTS)


class Improvement:
    """
    Acts of the three cycles, and their diary.

    Args:
        config: The cycles, and the targets of the journal.
        book: The jobs, of which waiting ones get new values.
        choices: The values for jobs.
        hearing: The channel, which learns a better dictionary.
        tasks_of: Returns the tasks of some units of a job, by its record.
        page: Returns the page of the diary for some jobs.
    """

    def __init__(
        self,
        config: JobConfig,
        book: JobBook,
        choices: Choices,
        hearing: Hearing,
        tasks_of: Callable[[JobRecord, range], list[Task]],
        page: Callable[[list[JobRecord]], dict[str, Any]],
    ) -> None:
        self._config = config
        self._book = book
        self._choices = choices
        self._hearing = hearing
        self._tasks_of = tasks_of
        self._page = page
        self._written: dict[str, int] = {}
        #: The last stored page; None: there is none.
        self.diary: dict[str, Any] | None = None

    def restore(self, kept: Callable[[str], Mapping[str, Any]]) -> None:
        """Read the diary of an earlier run of the program."""
        diary = kept(DOCUMENTS).get(_DIARY)
        # Another program may have written this document.
        self.diary = diary if isinstance(diary, dict) else None

    def cycles(self, keep: Callable[[], Iterable[Act]]) -> Cycles:
        """Return the controller of the configured cycles, which also calls *keep*."""
        hooks = self._config.get("self_improvement.optimisation_hooks")
        acts: dict[str, Callable[[], Iterable[Act]]] = {
            "micro_cycle": self._adjust_thread_weights,
            "macro_cycle": self._reallocate_resources,
            "meta_cycle": self._evolve_protocol,
        }
        named = {n: act for n, act in acts.items() if hooks is None or n in hooks}
        return Cycles({**named, "followed": keep})

    def _adjust_thread_weights(self) -> list[Act]:
        """Have waiting units ask for the number of threads that is best by now."""
        return self._ask_again(self._choices.threads)

    def _reallocate_resources(self) -> list[Act]:
        """Give waiting units the weight that is best by now, and save the learners."""
        commands = self._ask_again(self._choices.weights)
        learnt = self._choices.known()
        if learnt != self._written:
            self._written = learnt
            commands += [Act(part.save) for part in self._choices.learners]
            if self._config.has(_KEEPS, _DIARY):
                commands.append(Act(self._write_diary))
        return commands

    def _write_diary(self, orchestrator: Any) -> None:
        # It leaves out jobs of earlier runs, since reading them may take seconds.
        page = self._page(self._book.of_this_incarnation())
        orchestrator.kept(DOCUMENTS)[_DIARY] = page
        self.diary = page

    def _evolve_protocol(self) -> list[Act]:
        """Make a new dictionary, on which both ends agree."""
        return [Act(lambda _: self._hearing.learn())] if self._hearing.learns else []

    def _ask_again(self, part: LearnedValue) -> list[Act]:
        """Return commands that have waiting jobs use what *part* has learnt since."""
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
            first = orch.get_task_status(record.unit_ids[0])
            if first.attempts or first.state in TERMINAL:
                return
            rewards[part.name] = part.rewards
            if not self._choices.renew(part, record):
                return
            (task,) = self._tasks_of(record, range(1))
            orch.submit_task(attrs.evolve(task, id=record.unit_ids[0]))
