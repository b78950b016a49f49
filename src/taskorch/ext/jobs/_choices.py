"""Learnt values for jobs: the threads, the weight and the specialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import attrs

from taskorch.ext.jobs._config import JobConfig
from taskorch.ext.jobs._contract import Job
from taskorch.ext.jobs._record import JobRecord, unit_task_id
from taskorch.ext.jobs._unit import Unit
from taskorch.ext.learning import LearnedValue, Learning
from taskorch.kit.visible import counted

#: The part of units that is added under pressure.
_MORE: Final = 0.25
_SPECIALIZATION: Final = "specialization_selection"
_ADAPTS: Final = "self_improvement.reward_processing.adaptation_targets"
_MITIGATES: Final = (
    "job_intake_pipeline.classification_engine.escalation_policy.mitigation_actions"
)


@attrs.define
class Objective:
    """Handlers of an objective's units, and its settings."""

    handlers: dict[str, Callable[[Unit, Job], Any]] = attrs.Factory(dict)
    complexity: float | None = None
    counts_own: bool = False
    #: The learner of the best specialisation, if there are several.
    specialist: LearnedValue | None = None


class Choices:
    """
    Values that jobs ask for, learnt from rewards.

    Args:
        config: The usual values, and which of them are learnt.
        objectives: The objectives by their names.
        learns: Arguments of each `LearnedValue`.
        random: The source of random numbers.
    """

    def __init__(
        self,
        config: JobConfig,
        objectives: Mapping[str, Objective],
        learns: Mapping[str, Any],
        random: Random,
    ) -> None:
        self._config = config
        self._objectives = objectives
        self._learns = learns
        self._random = random
        usual, most = config.threads, self.most_threads
        threads = sorted({max(1, usual // 2), usual, min(most, 2 * usual)})
        self.threads: LearnedValue = LearnedValue(
            threads if len(threads) > 1 else [usual, most + usual],
            baseline=threads.index(usual) if len(threads) > 1 else 0,
            context=("type",),
            reward="given",
            name="thread_pool_configuration",
            **learns,
        )
        self.weights: LearnedValue = LearnedValue(
            [1.0, 2.0, 0.5],
            context=("type",),
            reward="given",
            name="resource_allocation_weights",
            **learns,
        )

    @property
    def most_threads(self) -> int:
        """Largest number of threads that a unit may have."""
        path = "tadpole_execution.multithreading.max_threads_per_tadpole"
        return int(self._config.get(path, 16))

    @property
    def rebalances(self) -> bool:
        """True if units get half the threads under pressure."""
        return self._config.has(_MITIGATES, "rebalance_thread_pools")

    @property
    def learners(self) -> tuple[LearnedValue, ...]:
        """All parts that learn."""
        return self.weights, self.threads, *self._specialists

    @property
    def _specialists(self) -> list[LearnedValue]:
        every = [objective.specialist for objective in self._objectives.values()]
        return [one for one in every if one is not None]

    def specialise(self, name: str) -> LearnedValue | None:
        """Learn who does an objective best; return the learner if it is new."""
        objective = self._objectives[name]
        kinds = sorted(objective.handlers)
        if len(kinds) < 2 or not self._config.has(_ADAPTS, _SPECIALIZATION):  # noqa: PLR2004 - something to choose
            return None
        if objective.specialist is not None:
            objective.specialist.change(kinds)
            return None
        # None of them is a static default, so there is no floor. One without a reward
        # is drawn by chance, whatever the order of registration.
        objective.specialist = LearnedValue(
            kinds,
            context=("type",),
            reward="given",
            name=f"{_SPECIALIZATION}/{name}",
            **{**self._learns, "floor": 1.0},
        )
        return objective.specialist

    def record(
        self, job: Job, asked: Job, score: Mapping[str, float], *, is_pressed: bool
    ) -> JobRecord:
        """Make the record of a new job, with the values chosen for it."""
        has = self._config.has
        threads, weight = self._config.threads, 1.0
        first = unit_task_id(job.job_id, 0)
        if self.adapts(self.threads):
            picked = self._picked(self.threads, job, first)
            threads = int(min(picked, self.most_threads))
        if self.adapts(self.weights):
            weight = float(self._picked(self.weights, job, first))
        units, is_halved = job.tadpole_count, False
        if is_pressed:
            if has(_MITIGATES, "spawn_additional_tadpoles"):
                # More, smaller units fit into the free rest of the pools.
                units += max(1, math.ceil(units * _MORE))
            if self.rebalances:
                threads, is_halved = max(1, threads // 2), True
        kind = job.worker_id
        specialist = self._objectives[job.objective].specialist
        if kind is None and specialist is not None:
            kind = self._picked(specialist, job, first)
        record = JobRecord(job, asked, units, threads, weight, score, kind)
        record.is_halved = is_halved
        record.why = self._why(record)
        return record

    def adapts(self, part: LearnedValue) -> bool:
        """Return whether jobs ask for the value that *part* has learnt."""
        return self._config.has(_ADAPTS, part.name)

    def renew(self, part: LearnedValue, record: JobRecord) -> bool:
        """Choose the value of *part* for a job anew; return whether it differs."""
        picked = float(self._picked(part, record.job, record.unit_ids[0]))
        before = record.threads, record.weight
        if part is self.threads:
            record.threads = int(min(picked, self.most_threads))
            record.is_halved = False
        else:
            record.weight = picked
        if before == (record.threads, record.weight):
            return False
        record.why = self._why(record)
        return True

    def _why(self, record: JobRecord) -> str:
        """Explain the threads, weight and specialisation of a job."""
        first, objective = record.unit_ids[0], record.job.objective
        specialist = self._objectives[objective].specialist
        kind = record.specialization
        unlearnt = "the job names it" if record.job.worker_id else "there is no other"
        parts = (
            (counted(record.threads, "thread"), self.threads, record.threads, "usual"),
            (f"weight {record.weight:g}", self.weights, record.weight, "usual"),
            (f"specialisation {kind}", specialist, kind, unlearnt),
        )
        phrases: list[str] = []
        for phrase, part, value, otherwise in parts:
            why = otherwise
            chosen = None if part is None else part.learner.begin(first, 1)
            if part is not None and chosen is not None:
                pulls, mean = part.learner.record(chosen)
                why = f"mean reward {mean:.2f} of {pulls:.0f}" if pulls else "untried"
                why = f"{why}, chance {chosen.propensity:.2f}"
                if chosen.arm != (f"{value:g}" if part is not specialist else value):
                    why = f"{chosen.arm} was learnt ({why}), and pressure or a limit"
            if value is not None:
                phrases.append(f"{phrase} ({why})")
        return ", ".join(phrases)

    def _picked(self, part: LearnedValue, job: Job, first: str) -> Any:
        """Pick a value of *part* for a job; the *first* unit brings its reward."""
        return part.pick(first, job.objective, self._random)

    def known(self) -> dict[str, int]:
        """Return how many rewards each part has learnt from."""
        return {part.name: part.rewards for part in self.learners}

    def learned(self) -> dict[str, tuple[Learning, ...]]:
        """Return the rewards learnt for each target of adaptation."""
        return {
            self.weights.name: self.weights.learned(),
            _SPECIALIZATION: tuple(
                one for part in self._specialists for one in part.learned()
            ),
            self.threads.name: self.threads.learned(),
        }

    def reset(self) -> None:
        """Forget all that was learnt."""
        for part in self.learners:
            part.reset()
