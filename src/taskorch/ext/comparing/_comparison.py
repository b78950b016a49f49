"""
The differences of two runs, the one first that a person should look at first.

First come the tasks that failed by themselves in the later run alone. Then come the
causes, and the times that have none, by their scores: see `_causes`. Last come the
differences without a visible effect.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from taskorch.ext.comparing._causes import LEAST, NO_EFFECT, Blame, LikelyCause, reached
from taskorch.ext.comparing._chain import ChainPart, shares
from taskorch.ext.comparing._definitions import (
    changes,
    given,
    is_code_known,
    new_places,
    parameters,
    shown,
)
from taskorch.ext.comparing._facts import RunFacts, TaskFacts, facts_of, line_of
from taskorch.ext.comparing._surroundings import Around, Asked, Surroundings
from taskorch.kit.visible import counted, show
from taskorch.kit.words import duration, some
from taskorch.model import Agent, Missing, TaskState

#: Smaller differences count as chance: in seconds, and as shares of the earlier time of
#: a task, of the whole difference, of the earlier time of a run, and of a pool.
_LEAST: Final = 0.05
_OF_ITS_OWN: Final = 0.1
_OF_THE_WHOLE: Final = 0.05
_OF_A_RUN: Final = 0.05
_OF_A_POOL: Final = 0.01
#: The number of differences in a text.
_SHOWN: Final = 12
#: More tasks of one name than this are reported as one.
_FAN: Final = 8
_BAD: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


@attrs.frozen
class RunDifference:
    """
    One difference between two runs.

    Attributes:
        task: The task, by its id in the workflow; "" for a difference of the whole run.
        kind: `failed`, `changed` (its definition, data or machine), `slower`,
            `faster`, `waited`, `attempts`, `workers` (or slots, pools, starts on hold),
            `added`, `gone`, `parameters`, `state`.
        seconds: The seconds by which this difference moved the end of the run; 0 if
            it did not move the end, or the effect is not known.
        text: The difference in words.
        causes: The kinds of its causes, the likeliest first: `code`, `arguments`,
            `options`, `data` (sizes), `machine`.
    """

    task: str
    kind: str
    seconds: float
    text: str
    causes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.task}: {self.text}" if self.task else self.text


@attrs.frozen
class Comparison:
    """
    Two runs of one workflow beside each other; `str()` of it is a page of text.

    Attributes:
        earlier: The id of the run that is compared with.
        later: The id of the run that is asked about.
        seconds: How much longer the later one took, in seconds; less than 0: shorter;
            None: one has not ended, or its times are not known.
        took: How long the earlier and the later one took, in seconds, or None.
        states: The state of each, in words.
        differences: The differences, the most important first: a task that failed by
            itself in the later run alone; then what may be the cause (other code,
            arguments, options, sizes of data, machines; fewer workers, slots or
            resources), and each task that took or waited longer, or is new, on the
            chain of tasks that decided the end, by how much of it they explain, and how
            likely; then changes without a visible effect, other tasks that are new or
            gone, and parameters.
        unknown: The parts that could not be compared, and why.
    """

    earlier: str
    later: str
    seconds: float | None
    took: tuple[float | None, float | None]
    states: tuple[str, str]
    differences: tuple[RunDifference, ...]
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, which JSON can say, and as a text."""
        return {**attrs.asdict(self), "text": str(self)}

    def __str__(self) -> str:
        lines = [self.summary]
        lines += [f"  {each}" for each in self.differences[:_SHOWN]]
        rest = len(self.differences) - _SHOWN
        if rest > 0:
            lines.append(f"  and {counted(rest, 'difference')} more")
        lines += [f"Not known: {each}" for each in self.unknown]
        return "\n".join(lines)

    @property
    def summary(self) -> str:
        """The results of both runs, in a line."""
        ran = [
            state if took is None else f"{state} after {duration(took)}"
            for state, took in zip(self.states, self.took, strict=True)
        ]
        line = f"{self.later} {ran[1]}; {self.earlier} {ran[0]}"
        if self.seconds is not None and abs(self.seconds) >= _LEAST:
            word = "longer" if self.seconds > 0 else "shorter"
            line += f": {duration(abs(self.seconds))} {word}"
        if not self.differences:
            return f"{line}. No difference is known."
        return f"{line}."


def comparison_of(
    orch: Any, earlier: str, later: str, ask: Asked | None, agents: Iterable[Agent]
) -> Comparison:
    """
    Compare two runs of an orchestrator.

    Args:
        orch: The orchestrator, or a simulation.
        earlier: The run that is compared with.
        later: The run that is asked about.
        ask: See `Surroundings`.
        agents: The workers that are there now.

    Raises:
        UnknownTaskError: There is no such run.
        JournalError: The journal cannot be read.
    """
    around = Surroundings(ask, agents)
    return compared(facts_of(orch, earlier, around), facts_of(orch, later, around))


def compared(earlier: RunFacts, later: RunFacts) -> Comparison:
    """Compare two runs; the differences of *later*, the most telling first."""
    return _Comparing(earlier, later).compared()


def _is_notable(share: ChainPart, earlier: RunFacts, whole: float) -> bool:
    """Return whether the difference of a task is more than chance."""
    was = earlier.tasks.get(share.name)
    own = 0.0 if was is None else was.work
    return abs(share.seconds) > max(_LEAST, _OF_ITS_OWN * own, whole)


class _Comparing:
    """Two runs, and their differences."""

    def __init__(self, earlier: RunFacts, later: RunFacts) -> None:
        self._earlier, self._later = earlier, later
        took = earlier.seconds, later.seconds
        self._took = took
        self._seconds = None
        if took[0] is not None and took[1] is not None:
            self._seconds = took[1] - took[0]
        self._both = [name for name in later.tasks if name in earlier.tasks]
        self._moved = parameters(earlier, later)
        new = new_places(earlier, later)
        self._changed = {
            name: [*changes(earlier, later, name, self._moved, new)]
            for name in self._both
        }
        self._notable: dict[str, ChainPart] = {}
        self._little: dict[str, ChainPart] = {}
        self._turns = 0.0
        if self._seconds is not None:
            parts, turns = shares(earlier, later)
            whole = _OF_THE_WHOLE * abs(self._seconds)
            self._notable = {
                each.name: each for each in parts if _is_notable(each, earlier, whole)
            }
            least = max(_LEAST, whole, _OF_A_RUN * (took[0] or 0.0))
            self._turns = turns if abs(turns) > least else 0.0
            others = {each.name: each for each in parts if each.name in self._both}
            others = {n: each for n, each in others.items() if n not in self._notable}
            if abs(sum(each.seconds for each in others.values())) > least:
                self._little = others
        self._failed = sorted(
            (
                each
                for name, each in later.tasks.items()
                if each.is_cause and not _was_so(earlier.tasks.get(name), each)
            ),
            key=_end_of,
        )
        names = [each.name for each in self._failed]
        self._blame = Blame(
            earlier,
            later,
            self._changed,
            self._notable,
            self._little,
            self._turns,
            names,
        )
        #: The tasks of the chain whose seconds are told.
        self._told: set[str] = set(names)

    def compared(self) -> Comparison:
        """Return all of it, the most telling differences first."""
        earlier, later = self._earlier, self._later
        ranked: list[tuple[float, RunDifference]] = []
        causes = self._blame.causes()
        failures = [*self._failures(causes)]
        failed = {each.name for each in self._failed}
        sources = {
            change.source
            for cause in causes
            if self._is_felt(cause)
            for change in cause.changes
        }
        ranked += [
            self._cause(each)
            for each in causes
            if not ({*each.tasks} <= failed or self._follows(each, sources))
        ]
        ranked += self._workers()
        ranked += self._times()
        ranked.sort(key=lambda each: (-each[0], -abs(each[1].seconds)))
        differences = [
            *failures,
            *(each for _, each in ranked),
            *self._others(),
            *_members(earlier, later, self._notable),
            *_parameters(self._moved),
        ]
        return Comparison(
            earlier.run_id,
            later.run_id,
            self._seconds,
            self._took,
            (earlier.state, later.state),
            tuple(differences),
            (
                *_unknown(earlier, later, self._both),
                *_unknown_room(earlier, later, differences),
            ),
        )

    def _is_felt(self, cause: LikelyCause) -> bool:
        return cause.has_effect or any(each in self._notable for each in cause.tasks)

    def _follows(self, cause: LikelyCause, sources: Collection[str]) -> bool:
        """
        Return whether it is only more data, unfelt, that came from other tasks.

        So is a larger result of a task that is among *sources* already.
        """
        return not self._is_felt(cause) and all(
            each.source and (each.source not in cause.tasks or each.source in sources)
            for each in cause.changes
        )

    def _failures(self, causes: Sequence[LikelyCause]) -> Iterator[RunDifference]:
        """Yield the tasks that failed in the later run alone, the first one first."""
        for each in self._failed:
            state = each.status.state.value
            texts = [f"{state}: {each.error}" if each.error else state]
            was = self._earlier.tasks.get(each.name)
            if was is not None:
                texts[0] += f" (it {_became(was)} before)"
            own = [
                change
                for cause in causes
                if {*cause.tasks} <= {one.name for one in self._failed}
                and each.name in cause.tasks
                for change in cause.changes
            ]
            if own:
                texts.append(some([change.text for change in own]))
            seconds = 0.0
            kinds = tuple(dict.fromkeys(change.what for change in own))
            yield RunDifference(each.name, "failed", seconds, "; ".join(texts), kinds)

    def _cause(self, cause: LikelyCause) -> tuple[float, RunDifference]:
        """Return the score of a cause, and the difference that tells it."""
        names = [each for each in cause.tasks if each not in self._told]
        felt = [self._notable[each] for each in names if each in self._notable]
        little = [each for each in names if each in self._little]
        unexplained = sum(self._alone(each) for each in felt)
        unexplained += self._blame.unexplained(self._blame.little_of(little))
        has_effect = cause.has_effect and cause.score >= max(LEAST, unexplained)
        if felt and not has_effect and len(cause.tasks) == 1:
            # Its time is told, and the differences with it.
            text = some([each.text for each in cause.changes])
            return self._time(felt[0], text, cause.kinds)
        is_there = has_effect and not cause.is_above
        alone = [each.name for each in felt] if is_there else []
        alone = alone if len(alone) == 1 else [*cause.tasks]
        task = alone[0] if len(alone) == 1 else ""
        texts, kinds = [self._with_names(cause, task)], cause.kinds
        if not is_there:
            if has_effect:
                texts.append("the tasks after it took another time")
            text = "; ".join(texts)
            return cause.score, RunDifference(task, "changed", 0.0, text, kinds)
        beside = [each for each in names if each in self._blame.beside]
        self._told.update([each.name for each in felt], beside, little)
        words = [(each.name, self._in_words(each)) for each in felt]
        words += [(each, self._beside_words(each)) for each in beside]
        if words:
            texts.append(some([w if task else f"{name} {w}" for name, w in words]))
        if task and kinds[0] == "data" and (depends := self._depends(task)):
            texts.append(depends)
            kinds = (*kinds, "arguments")
        if little:
            texts.append(self._little_words(little))
        seconds = sum((each.seconds for each in felt), self._blame.little_of(little))
        text = "; ".join(texts)
        return cause.score, RunDifference(task, "changed", seconds, text, kinds)

    def _with_names(self, cause: LikelyCause, task: str) -> str:
        """Return the differences in words, with the names of the other tasks."""
        text = some([each.text for each in cause.changes])
        others = [each for each in cause.tasks if each != task]
        if not others:
            return text
        if len(cause.tasks) == len(self._both) > 1:
            return f"{text} (all {counted(len(self._both), 'task')})"
        return f"{text} ({some(others)}{', too' if task else ''})"

    def _beside_words(self, name: str) -> str:
        """Return how much longer a task took beside the chain, in words."""
        was, now = self._earlier.tasks[name], self._later.tasks[name]
        longer = _longer("took", now.work - was.work)
        text = (
            f"{longer} beside the chain of the end, and others waited for their turns"
        )
        return "; ".join(each for each in (_attempts(was, now), text) if each)

    def _little_words(self, names: Collection[str]) -> str:
        """Return the difference of tasks that each account for little, in words."""
        longer = _longer("took", self._blame.little_of(names))
        each = ", each by a little" if len(names) > 1 else ""
        return f"{counted(len(names), 'task')} {longer}{each}"

    def _workers(self) -> Iterator[tuple[float, RunDifference]]:
        """Yield changes of workers, slots and resources, and waits for turns."""
        waits = [
            each
            for each in self._notable.values()
            if each.waited and self._waits_for_room(each.name)
        ]
        waited = sum(each.waited for each in waits) + self._turns
        names = [each.name for each in waits]
        if self._turns:
            names = [*self._later.tasks]
        changes = [*_other_room(self._earlier, self._later, names)]
        rooms = [text for _, text in changes]
        # More room is no reason to wait longer.
        acts = any(each * waited < 0 for each, _ in changes)
        at_once = _at_once(self._earlier), _at_once(self._later)
        texts = [*rooms]
        # Fewer at once are a sign of less room only where nobody knows the room.
        is_known = _is_room_known(self._earlier, self._later)
        if (at_once[1] - at_once[0]) * waited < 0 and (acts or not is_known):
            most = f"at most {counted(at_once[1], 'task')} ran at once"
            texts.append(f"{most}, {at_once[0]} before")
            acts = True
        score = self._blame.part(waited) * (0.95 if rooms else 0.8)
        if acts and score >= LEAST:
            words = _longer("tasks waited", waited)
            yield (
                score,
                RunDifference("", "workers", waited, "; ".join([*texts, words])),
            )
            return
        if rooms:
            # A fleet often has some more workers, or others, each night.
            score = NO_EFFECT if any(each < 0 for each, _ in changes) else 0.0
            yield score, RunDifference("", "workers", 0.0, "; ".join(rooms))
        if self._turns:
            text = f"{_longer('tasks waited', self._turns)} for the turns of others"
            difference = RunDifference("", "waited", self._turns, text)
            yield self._blame.unexplained(self._turns, is_wait=True), difference

    def _waits_for_room(self, name: str) -> bool:
        """Return whether a task waits for workers and resources, and nobody else."""
        now, was = self._later.tasks[name], self._earlier.tasks.get(name)
        # One that was run again waited for somebody to do so.
        is_rerun = now.is_rerun or (was is not None and was.is_rerun)
        return not (is_rerun or now.awaits)

    def _times(self) -> Iterator[tuple[float, RunDifference]]:
        """Yield the tasks with other times, and new tasks, that have no known cause."""
        for share in [*self._notable.values()]:
            if share.name in self._told:
                continue
            if share.name in self._earlier.tasks:
                yield self._time(share)
            # A single task and a workflow have no tasks in common.
            elif share.name:
                self._told.add(share.name)
                awaits = self._later.tasks[share.name].awaits
                text = f"is new; {_in_words(share, awaits)}"
                score = self._blame.unexplained(share.seconds)
                yield score, RunDifference(share.name, "added", share.seconds, text)

        if little := self._little.keys() - self._told:
            seconds = self._blame.little_of(little)
            kind = "slower" if seconds > 0 else "faster"
            difference = RunDifference("", kind, seconds, self._little_words(little))
            yield self._blame.unexplained(seconds), difference
        for name in sorted(self._blame.beside.keys() - self._told):
            self._told.add(name)
            score = self._blame.unexplained(self._blame.kept_waiting([name]))
            was, now = self._earlier.tasks[name], self._later.tasks[name]
            kind = "attempts" if _attempts(was, now) else "slower"
            yield score, RunDifference(name, kind, 0.0, self._beside_words(name))

    def _time(
        self, share: ChainPart, differs: str = "", causes: tuple[str, ...] = ()
    ) -> tuple[float, RunDifference]:
        """Return the score of a task with another time, and the difference."""
        name = share.name
        self._told.add(name)
        was, now = self._earlier.tasks[name], self._later.tasks[name]
        texts = [self._in_words(share), *([differs] if differs else [])]
        if was.status.agent_id != now.status.agent_id and "machine" not in causes:
            texts.append(f"ran on {now.status.agent_id}, {was.status.agent_id} before")
        if depends := self._depends(name):
            texts.append(depends)
            causes = tuple(dict.fromkeys([*causes, "arguments"]))
        attempts = was.status.attempts, now.status.attempts
        kind = _kind_of(share, attempts)
        difference = RunDifference(name, kind, share.seconds, "; ".join(texts), causes)
        return self._alone(share), difference

    def _alone(self, share: ChainPart) -> float:
        """Return the score of the time of a task, without any other reason."""
        was, now = self._earlier.tasks[share.name], self._later.tasks[share.name]
        kind = _kind_of(share, (was.status.attempts, now.status.attempts))
        if kind == "attempts":
            return 0.9 * self._blame.part(share.seconds)
        return self._blame.unexplained(share.seconds, is_wait=kind == "waited")

    def _depends(self, name: str) -> str:
        """Return in words the changed parameters of a task, and of those before it."""
        if not self._moved:
            return ""
        needs = {each: task.needs for each, task in self._later.tasks.items()}
        names = {
            each
            for above in reached(name, needs)
            if above in self._earlier.tasks and above in self._later.tasks
            for each in given(self._earlier, self._later, above, self._moved)
        }
        values = [f"{each} {_change(self._moved[each])}" for each in sorted(names)]
        return f"it depends on {some(values)}" if values else ""

    def _in_words(self, share: ChainPart) -> str:
        """Return the difference of a task in words, with its attempts."""
        was, now = self._earlier.tasks[share.name], self._later.tasks[share.name]
        again = "was run again" if now.is_rerun and not was.is_rerun else ""
        texts = again, _attempts(was, now), _in_words(share, now.awaits)
        return "; ".join(each for each in texts if each)

    def _others(self) -> Iterator[RunDifference]:
        """Yield other differences of tasks, without a visible effect on the end."""
        for name in self._both:
            was, now = self._earlier.tasks[name], self._later.tasks[name]
            attempts = "" if was.has_left or now.has_left else _attempts(was, now)
            if attempts and name not in self._told:
                yield RunDifference(name, "attempts", 0.0, attempts)
            states = was.status.state, now.status.state
            if states[0] is not states[1] and states[1] not in _BAD:
                text = f"is {states[1].value}, was {states[0].value}"
                yield RunDifference(name, "state", 0.0, text)


# -- differences -----------------------------------------------------------------------


def _was_so(was: TaskFacts | None, now: TaskFacts) -> bool:
    return (
        was is not None
        and was.status.state is now.status.state
        and was.error == now.error
    )


def _end_of(task: TaskFacts) -> tuple[float, str]:
    ended = task.status.ended
    return (0.0 if ended is None else ended.timestamp(), task.name)


def _became(task: TaskFacts) -> str:
    state = task.status.state
    return state.value if state.is_terminal else f"was {state.value}"


def _attempts(was: TaskFacts, now: TaskFacts) -> str:
    """Return the other number of attempts of a task, and why it was tried again."""
    many = was.status.attempts, now.status.attempts
    if many[0] == many[1]:
        return ""
    text = f"{counted(many[1], 'attempt')}, {many[0]} before"
    errors = [*now.status.earlier_errors.values()]
    return f"{text} ({line_of(errors[-1])})" if errors and many[1] > many[0] else text


def _other_room(
    earlier: RunFacts, later: RunFacts, waiting: Collection[str]
) -> Iterator[tuple[float, str]]:
    """Yield by how many workers, slots or resources are more, and that in words."""
    was, now = earlier.around, later.around
    if was.slots and now.slots and was.slots != now.slots:
        more = now.slots - was.slots
        yield more, f"{counted(now.slots, 'slot')}, {was.slots} before"
    asked: set[str] | None = set()
    for name in waiting:
        task = later.tasks[name].task
        asked = None if task is None or asked is None else asked | set(task.resources)
    for name, total in now.pools.items():
        had = was.pools.get(name, total)
        # A task that asks for nothing holds what its worker, or the program, says: that
        # is seldom the free disk, which is another each day.
        is_asked = name in asked if asked else name != "disk_mb"
        if is_asked and abs(total - had) > _OF_A_POOL * had:
            text = f"the pool {name} has {total:.12g}, {had:.12g} before"
            yield total - had, text
    if was.workers is not None and now.workers is not None:
        yield from _other_workers(was, now)
    for reason in now.holds:
        # A hold that ended delays only tasks that wait meanwhile.
        if reason not in was.holds and (waiting or later.ended is None):
            yield -1, f"starts were on hold: {reason or 'without a reason'}"


def _other_workers(earlier: Around, later: Around) -> Iterator[tuple[float, str]]:
    """Yield the workers that are gone, lost, or run fewer or more at once."""
    was, now = earlier.workers or {}, later.workers or {}
    gone = sorted(was.keys() - now.keys())
    if len(was) != len(now):
        text = f"{counted(len(now), 'worker')}, {len(was)} before"
        if 0 < len(gone) < len(was):
            text += f" (without {some(gone)})"
        yield len(now) - len(was), text
    for name in sorted((later.lost.keys() - earlier.lost.keys()) & was.keys()):
        if len(was) == len(now):
            yield -1, f"{name} was lost: {later.lost[name]}"
    for name in sorted(was.keys() & now.keys()):
        if was[name] != now[name]:
            most = [show(each[name]) for each in (now, was)]
            text = f"{name} runs {most[0]} at once, {most[1]} before"
            yield (now[name] or math.inf) - (was[name] or math.inf), text


def _at_once(run: RunFacts) -> int:
    """The most tasks of a run that ran at one time."""
    steps: list[tuple[float, int]] = []
    for each in run.tasks.values():
        if each.begun is not None and each.ended is not None:
            steps += [(each.begun, 1), (each.ended, -1)]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _kind_of(share: ChainPart, attempts: tuple[int, int]) -> str:
    if attempts[0] != attempts[1]:
        return "attempts"
    if abs(share.waited) > abs(share.worked + share.between):
        return "waited"
    return "slower" if share.seconds > 0 else "faster"


def _members(
    earlier: RunFacts, later: RunFacts, notable: Collection[str]
) -> Iterator[RunDifference]:
    """Yield the new tasks of the later run, and the removed ones."""
    for kind, run, other, word in (
        ("added", later, earlier, "is new"),
        ("gone", earlier, later, "is not there any more"),
    ):
        left_out = {"", *notable, *other.tasks}
        alone = [name for name in run.tasks if name not in left_out]
        for stem, names in _by_stem(alone).items():
            if len(names) > _FAN:
                text = f"{counted(len(names), 'task')} of {stem}: each {word}"
                yield RunDifference("", kind, 0.0, text)
            else:
                for name in names:
                    yield RunDifference(name, kind, 0.0, word)


def _by_stem(names: Collection[str]) -> dict[str, list[str]]:
    """Return the names by kind: of a map, or different by a number only."""
    stems: dict[str, list[str]] = {}
    for name in names:
        stem = name.rstrip("0123456789").rstrip("/-") or name
        stems.setdefault(stem, []).append(name)
    return stems


def _parameters(moved: Mapping[str, tuple[Any, Any]]) -> Iterator[RunDifference]:
    """The parameters: most nights have another day, which is why they come last."""
    if moved:
        texts = [f"{name} {_change(each)}" for name, each in moved.items()]
        yield RunDifference("", "parameters", 0.0, f"parameters: {some(texts)}")


# -- words -----------------------------------------------------------------------------


def _in_words(share: ChainPart, awaits: str = "") -> str:
    """Return the difference of a task in words, its largest part first."""
    parts = [
        (share.worked, "took"),
        (share.waited, "waited"),
        (share.between, "was between attempts"),
    ]
    texts = [
        _longer(verb, seconds)
        for seconds, verb in sorted(parts, key=lambda each: -abs(each[0]))
        if abs(seconds) >= max(_LEAST, 0.1 * abs(share.seconds))
    ]
    text = ", ".join(texts) or f"{duration(abs(share.seconds))} in all"
    return f"{text} for {awaits}" if awaits else text


def _longer(verb: str, seconds: float) -> str:
    return f"{verb} {duration(abs(seconds))} {'longer' if seconds > 0 else 'less'}"


def _change(both: tuple[Any, Any]) -> str:
    return " → ".join(map(shown, both))


def _unknown_room(
    earlier: RunFacts, later: RunFacts, differences: Iterable[RunDifference]
) -> Iterator[str]:
    """Yield that nobody knows why tasks waited, if it is so."""
    is_known = _is_room_known(earlier, later)
    if not is_known and any(each.kind == "waited" for each in differences):
        yield "whether workers or resources were fewer, which only a journal keeps"


def _is_room_known(earlier: RunFacts, later: RunFacts) -> bool:
    return all(run.around.workers is not None for run in (earlier, later))


def _has_lost_result(task: TaskFacts) -> bool:
    """Return whether a task has a result that nobody can look at here."""
    # A large value is elsewhere, and its size is known.
    return task.sizes is None and issubclass(type(task.status.result), Missing)


def _unknown(
    earlier: RunFacts, later: RunFacts, both: Collection[str]
) -> Iterator[str]:
    """Yield the parts of the comparison that nobody knows."""
    for run in (earlier, later):
        lost_names = [name for name, task in run.tasks.items() if task.has_left]
        if lost_names:
            which = (
                "all its tasks"
                if len(lost_names) == len(run.tasks)
                else some(lost_names)
            )
            yield f"how long {run.run_id} took: {which} left memory (keep_finished)"
        elif run.seconds is None:
            yield f"how long {run.run_id} takes: it has not ended, or did not begin"
    if not both:
        yield "what they have in common: no task of the one has the name of another's"
    pairs = [(name, earlier.tasks[name], later.tasks[name]) for name in both]
    for subject, lost in (
        (
            "arguments and options",
            [name for name, was, now in pairs if was.task is None or now.task is None],
        ),
        (
            "code",
            [name for name, was, now in pairs if not is_code_known(was, now)],
        ),
        (
            "data sizes",
            [name for name, *both in pairs if any(map(_has_lost_result, both))],
        ),
    ):
        if lost:
            whose = "all tasks" if len(lost) == len(both) else some(lost)
            yield f"{subject} of {whose}, which are not kept here"
