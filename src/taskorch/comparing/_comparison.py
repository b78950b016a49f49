"""
The differences of two runs, the one first that a person should look at first.

First comes what failed by itself in the later run alone. Then comes what was made of
other things (code, arguments, options) and accounts for the end, or stands above what
does; then what took or waited longer, without a reason that is known; and last what
was made of other things, and changed nothing that can be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import attrs

from taskorch.comparing._chain import ChainPart, shares
from taskorch.comparing._definitions import (
    changes,
    given,
    is_code_known,
    parameters,
    shown,
)
from taskorch.comparing._facts import RunFacts, TaskFacts
from taskorch.kit.visible import counted
from taskorch.kit.words import duration, some
from taskorch.model import TaskState

#: Seconds, and shares of what it took before and of the whole difference, below which
#: a difference is as likely as not chance.
_LEAST: Final = 0.05
_OF_ITS_OWN: Final = 0.1
_OF_THE_WHOLE: Final = 0.05
#: Differences that a text shows.
_SHOWN: Final = 12
#: Tasks of one name that are told as one.
_FAN: Final = 8
_BAD: Final = frozenset({TaskState.FAILED, TaskState.CANCELLED})


@attrs.frozen
class RunDifference:
    """
    One difference between two runs.

    Attributes:
        task: The task, by its id in the workflow; "" if it is of the whole run.
        kind: `failed`, `changed` (code, arguments, options), `slower`, `faster`,
            `waited`, `attempts`, `workers`, `added`, `gone`, `parameters`, `state`.
        seconds: How much of the difference in the end it accounts for; 0: of none, or
            it is not known.
        text: What differs, in words.
    """

    task: str
    kind: str
    seconds: float
    text: str

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
        differences: In what they differ: the first one is to be looked at first.
        unknown: What could not be compared, and why.
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
        """What came of both, in a line."""
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


def compared(earlier: RunFacts, later: RunFacts) -> Comparison:
    """Compare two runs: what differs in *later*, the most telling first."""
    took = earlier.seconds, later.seconds
    seconds = None
    if took[0] is not None and took[1] is not None:
        seconds = took[1] - took[0]
    both = [name for name in later.tasks if name in earlier.tasks]
    moved = parameters(earlier, later)
    texts_of = {name: [*changes(earlier, later, name, moved)] for name in both}
    changed = {name: some(texts) for name, texts in texts_of.items() if texts}
    parts = shares(earlier, later) if seconds is not None else []
    notable = {
        each.name: each for each in parts if _is_notable(each, earlier, seconds or 0.0)
    }
    below = _accounts(later, changed, notable)
    differences = [
        *_failures(earlier, later, changed),
        *_causes(changed, notable, below),
        *_workers(earlier, later, notable.values()),
        *_times(earlier, later, changed, notable, moved),
        *_others(earlier, later, changed, notable, below),
        *_members(earlier, later, notable),
        *_parameters(moved),
    ]
    return Comparison(
        earlier.run_id,
        later.run_id,
        seconds,
        took,
        (earlier.state, later.state),
        tuple(differences),
        tuple(_unknown(earlier, later, both)),
    )


def _is_notable(share: ChainPart, earlier: RunFacts, whole: float) -> bool:
    """Whether what a task accounts for is more than chance."""
    was = earlier.tasks.get(share.name)
    own = 0.0 if was is None else was.work
    return abs(share.seconds) > max(
        _LEAST, _OF_ITS_OWN * own, _OF_THE_WHOLE * abs(whole)
    )


# -- the differences, by what they are -------------------------------------------------


def _failures(
    earlier: RunFacts, later: RunFacts, changed: Mapping[str, str]
) -> Iterator[RunDifference]:
    """What failed by itself in the later run alone; what failed first comes first."""
    failed = [
        each
        for name, each in later.tasks.items()
        if each.is_cause and not _was_so(earlier.tasks.get(name), each)
    ]
    for each in sorted(failed, key=_end_of):
        state = each.status.state.value
        text = f"{state}: {each.error}" if each.error else state
        was = earlier.tasks.get(each.name)
        if was is not None:
            text += f" (it {_became(was)} before)"
        if each.name in changed:
            text += f"; {changed[each.name]}"
        yield RunDifference(each.name, "failed", 0.0, text)


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


def _causes(
    changed: Mapping[str, str],
    notable: Mapping[str, ChainPart],
    below: Mapping[str, float],
) -> Iterator[RunDifference]:
    """What was made of other things, and accounts for the end itself or below it."""
    causes = [name for name in changed if below[name]]
    for name in sorted(causes, key=lambda each: -abs(below[each])):
        share = notable.get(name)
        text = changed[name]
        if share is not None:
            text += f"; {_in_words(share)}"
        else:
            text += "; what comes after it took another time"
        yield RunDifference(
            name, "changed", 0.0 if share is None else share.seconds, text
        )


def _accounts(
    later: RunFacts, names: Collection[str], notable: Mapping[str, ChainPart]
) -> dict[str, float]:
    """Seconds that each of these tasks, with all that comes after it, accounts for."""
    after: dict[str, list[str]] = {}
    for task in later.tasks.values():
        for above in task.needs:
            after.setdefault(above, []).append(task.name)
    return {
        name: sum(
            notable[each].seconds for each in _reached(name, after) if each in notable
        )
        for name in names
    }


def _reached(name: str, edges: Mapping[str, Collection[str]]) -> set[str]:
    """A task, and all that *edges* lead to from it, however indirectly."""
    todo, seen = [name], {name}
    while todo:
        fresh = [each for each in edges.get(todo.pop(), ()) if each not in seen]
        seen.update(fresh)
        todo += fresh
    return seen


def _workers(
    earlier: RunFacts, later: RunFacts, notable: Collection[ChainPart]
) -> Iterator[RunDifference]:
    """Fewer or other workers, where waiting accounts for the most."""
    waited = sum(each.waited for each in notable)
    if not notable or abs(waited) < sum(abs(e.worked + e.between) for e in notable):
        return
    was, now = (
        {each.status.agent_id for each in run.tasks.values()} - {None}
        for run in (earlier, later)
    )
    at_once = _at_once(earlier), _at_once(later)
    if len(was) == len(now) and at_once[0] == at_once[1]:
        return
    parts = [f"at most {counted(at_once[1], 'task')} ran at once, {at_once[0]} before"]
    if was != now:
        parts.append(f"on {counted(len(now), 'worker')}, {len(was)} before")
    yield RunDifference("", "workers", waited, "; ".join(parts))


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


def _times(
    earlier: RunFacts,
    later: RunFacts,
    changed: Collection[str],
    notable: Mapping[str, ChainPart],
    moved: Mapping[str, tuple[Any, Any]],
) -> Iterator[RunDifference]:
    """What took or waited another time, and was made of the same, or is new."""
    needs = {name: task.needs for name, task in later.tasks.items()}
    for share in sorted(notable.values(), key=lambda each: -abs(each.seconds)):
        name = share.name
        if name in changed:
            continue
        if name not in earlier.tasks:
            # A task on its own beside a workflow: they have nothing in common.
            if name:
                text = f"is new; {_in_words(share)}"
                yield RunDifference(name, "added", share.seconds, text)
            continue
        was, now = earlier.tasks[name], later.tasks[name]
        texts = [_in_words(share)]
        attempts = was.status.attempts, now.status.attempts
        if attempts[0] != attempts[1]:
            texts.insert(0, f"{counted(attempts[1], 'attempt')}, {attempts[0]} before")
        if was.status.agent_id != now.status.agent_id:
            texts.append(f"ran on {now.status.agent_id}, {was.status.agent_id} before")
        names = {
            each
            for above in _reached(name, needs)
            if above in earlier.tasks and above in later.tasks
            for each in given(earlier, later, above, moved)
        }
        if names:
            values = [f"{each} {_change(moved[each])}" for each in sorted(names)]
            texts.append(f"it depends on {some(values)}")
        yield RunDifference(
            name, _kind_of(share, attempts), share.seconds, "; ".join(texts)
        )


def _kind_of(share: ChainPart, attempts: tuple[int, int]) -> str:
    if attempts[0] != attempts[1]:
        return "attempts"
    if abs(share.waited) > abs(share.worked + share.between):
        return "waited"
    return "slower" if share.seconds > 0 else "faster"


def _others(
    earlier: RunFacts,
    later: RunFacts,
    changed: Mapping[str, str],
    notable: Mapping[str, ChainPart],
    below: Mapping[str, float],
) -> Iterator[RunDifference]:
    """What differs, and accounts for nothing that can be seen."""
    for name, text in changed.items():
        if not below[name]:
            yield RunDifference(name, "changed", 0.0, text)
    for name, now in later.tasks.items():
        was = earlier.tasks.get(name)
        if was is None or name in notable:
            continue
        if was.status.attempts != now.status.attempts:
            many = counted(now.status.attempts, "attempt")
            text = f"{many}, {was.status.attempts} before"
            yield RunDifference(name, "attempts", 0.0, text)
        if was.status.state is not now.status.state and now.status.state not in _BAD:
            text = f"is {now.status.state.value}, was {was.status.state.value}"
            yield RunDifference(name, "state", 0.0, text)


def _members(
    earlier: RunFacts, later: RunFacts, notable: Collection[str]
) -> Iterator[RunDifference]:
    """What is new in the later run, and what is not in it any more."""
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
    """The names of one kind: those of a map, or that differ by a number alone."""
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


def _in_words(share: ChainPart) -> str:
    """What a task accounts for, in words; its largest part first."""
    parts = [
        (share.worked, "took", "longer", "less"),
        (share.waited, "waited", "longer", "less"),
        (share.between, "was between attempts", "longer", "less"),
    ]
    texts = [
        f"{verb} {duration(abs(seconds))} {more if seconds > 0 else less}"
        for seconds, verb, more, less in sorted(parts, key=lambda each: -abs(each[0]))
        if abs(seconds) >= max(_LEAST, 0.1 * abs(share.seconds))
    ]
    return ", ".join(texts) or f"{duration(abs(share.seconds))} in all"


def _change(both: tuple[Any, Any]) -> str:
    return " → ".join(map(shown, both))


def _unknown(
    earlier: RunFacts, later: RunFacts, both: Collection[str]
) -> Iterator[str]:
    """What nobody knows, so that nothing is said of it."""
    for run in (earlier, later):
        if run.seconds is None:
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
    ):
        if lost:
            whose = "all tasks" if len(lost) == len(both) else some(lost)
            yield f"{subject} of {whose}, which are not kept here"
