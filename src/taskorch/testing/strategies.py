"""
Hypothesis strategies for what taskorch works with.

Each draws what an orchestrator accepts, and shrinks towards the plainest. A keyword
fixes one part: it is a value, or a strategy of values.

    @given(batches(task=tasks(type="build", resources=resources(cpu=2))))
"""

from __future__ import annotations

import functools
import operator
import string
from typing import Any, Final

import attrs

from taskorch.kit.described import Form, Option
from taskorch.kit.limits import MAX_PRIORITY
from taskorch.model import OPTIONS, Agent, Breaker, Cache, Resources, RetryPolicy, Task
from taskorch.model.ids import id_problem

try:
    from hypothesis import strategies as st
except ImportError as _missing:
    _MSG = (
        "taskorch.testing.strategies needs hypothesis: pip install 'taskorch[testing]'"
    )
    raise ImportError(_MSG, name="hypothesis") from _missing

__all__ = (
    "agents",
    "batches",
    "payloads",
    "priorities",
    "resources",
    "retry_policies",
    "task_ids",
    "tasks",
)

Strategy = st.SearchStrategy

#: The types of tasks, which are also the capabilities of workers.
_TYPES: Final = ("build", "review", "test")
#: Whole numbers that every reader of JSON keeps.
_MAX_JSON_INT: Final = 2**53 - 1
#: Seconds of limits and delays.
_DURATIONS: Final = (0.0, 1.0, 2.0, 10.0, 60.0, 3_600.0, 0.5, 0.001)
#: Amounts of a resource are multiples of this share of the largest.
_STEPS: Final = 20
_NOTHING: Final = st.none()
_WORD: Final = string.ascii_letters + string.digits + "_"


def task_ids() -> Strategy[str]:
    """Ids that a user may give to a task: safe paths, without "~"."""
    segment = st.builds(
        lambda first, rest: first + rest,
        st.sampled_from(_WORD),
        st.text(_WORD + "-.", max_size=12),
    )
    ids = st.lists(segment, min_size=1, max_size=3).map("/".join)
    return ids.filter(lambda text: id_problem(text) is None)


def priorities(
    min_value: int = -MAX_PRIORITY, max_value: int = MAX_PRIORITY
) -> Strategy[int]:
    """Priorities, most of them near 0, where ties are."""
    low, high = max(min_value, -3), min(max_value, 3)
    anywhere = st.integers(min_value, max_value)
    return st.integers(low, high) | anywhere if low <= high else anywhere


def payloads(max_leaves: int = 5) -> Strategy[Any]:
    """
    JSON values: None, truth values, numbers, texts, lists, and dicts with text keys.

    Args:
        max_leaves: Values in all, about.
    """
    text = st.text(max_size=20)
    plain = (
        st.none()
        | st.booleans()
        | st.integers(-_MAX_JSON_INT, _MAX_JSON_INT)
        | st.floats(allow_nan=False, allow_infinity=False)
        | text
    )
    return st.recursive(
        plain,
        lambda inner: st.lists(inner) | st.dictionaries(text, inner),
        max_leaves=max_leaves,
    )


def resources(**most: float) -> Strategy[Resources]:
    """
    Resources, each at most so much: `resources(cpu=4, licence=1)`.

    Amounts are multiples of a twentieth of that.

    Args:
        most: The resources by name, and the largest amounts; cpu=4 and
            memory_mb=4096 if none is named.

    Raises:
        InvalidTaskError: An amount is out of its range.
    """
    limits = Resources(**(most or {"cpu": 4, "memory_mb": 4_096}))
    amounts = {
        name: st.integers(0, _STEPS).map(functools.partial(_share, units))
        for name, units in limits.units
    }
    return st.fixed_dictionaries(amounts).map(
        lambda units: Resources.from_units(
            tuple((name, n) for name, n in sorted(units.items()) if n)
        )
    )


def retry_policies(**parts: Any) -> Strategy[RetryPolicy]:
    """
    Policies of up to five attempts, with every named wait and every kind of jitter.

    Args:
        parts: The fixed parts, by the names of `RetryPolicy`.

    Raises:
        TypeError: A policy has no such part.
    """
    drawn = {
        "max_attempts": st.integers(1, 5),
        "wait": st.sampled_from(("exponential", "linear", "fixed")),
        "base": _seconds(),
        "max_delay": _seconds(),
        "jitter": st.sampled_from((0.0, 0.5, 1.0, "full")),
        "retry_on": st.just(Exception),
        "stop_after": st.none() | _seconds(),
        "delays": st.none(),
        "retry_if_result": st.none(),
    }
    fixed = _fixed("RetryPolicy", drawn, parts)
    if parts.get("delays") is not None:
        # `delays` has these parameters already, so that they must keep their defaults.
        for name in ("max_attempts", "wait", "base", "max_delay", "jitter"):
            if name not in parts:
                del fixed[name]
    return st.builds(RetryPolicy, **fixed)


def agents(**parts: Any) -> Strategy[Agent]:
    """
    Workers that can do some of what `tasks` need.

    Several have names of their own in a
    `st.lists(agents(), unique_by=lambda agent: agent.name)`.

    Args:
        parts: The fixed parts, by the names of `Agent`.

    Raises:
        TypeError: A worker has no such part.
    """
    drawn = {
        "name": task_ids(),
        "capabilities": _some_types(),
        "max_concurrency": st.none() | st.integers(1, 8),
        "capacity": st.none() | resources(),
        "request": st.just(Resources()) | resources(cpu=1, memory_mb=512),
        "lease": st.none() | _seconds(zero=False),
        "breaker": st.none()
        | st.builds(
            Breaker,
            failures=st.integers(1, 5),
            open=_seconds(zero=False),
            probes=st.integers(1, 3),
        ),
        "labels": st.just(()) | st.just(("platform:linux", "python:3.12")),
        "host": st.just("") | st.just("db1"),
    }
    return st.builds(Agent, **_fixed("Agent", drawn, parts)).filter(
        lambda worker: (
            worker.capacity is None or worker.request.fits_in(worker.capacity)
        )
    )


def tasks(**parts: Any) -> Strategy[Task]:
    """
    Tasks of a few types, with JSON payloads, and nothing to wait for.

    They have no id, no key, no budget and no metadata, unless you say so.

    Args:
        parts: The fixed parts, by the names of `Task`.

    Raises:
        TypeError: A task has no such part.
    """
    drawn = {name: _drawn(each) for name, each in OPTIONS.items()}
    drawn["payload"] = payloads()
    # An orchestrator has the resources that it was given, and no others.
    drawn["budget"] = _NOTHING
    return st.builds(Task, **_fixed("Task", drawn, parts)).filter(_is_in_time)


def batches(
    task: Strategy[Task] | None = None,
    *,
    ids: Strategy[str] | None = None,
    min_size: int = 1,
    max_size: int = 5,
    max_after: int = 2,
) -> Strategy[list[Task]]:
    """
    Lists for `submit_tasks`: some tasks wait for others, before or after them.

    No dependencies form a ring. The list shrinks to one in which each task stands
    after those that it waits for, and then to fewer dependencies.

    Args:
        task: The strategy of the tasks; `tasks()` if it is left out.
        ids: Their ids, none of which comes twice; t0, t1, … if it is left out.
        min_size: At least.
        max_size: How many there are at most.
        max_after: How many one task waits for, at most.
    """
    places = st.integers(0, max(0, max_size - 1))
    member = st.tuples(
        _NOTHING if ids is None else ids,
        tasks() if task is None else task,
        st.lists(places, max_size=max_after, unique=True),
        places,
    )
    unique = None if ids is None else operator.itemgetter(0)
    members = st.lists(member, min_size=min_size, max_size=max_size, unique_by=unique)
    return members.map(_batch)


def _batch(members: list[tuple[str | None, Task, list[int], int]]) -> list[Task]:
    """
    The batch that *members* make.

    Each is an id, a task, how far back in *members* those stand that it waits for, and
    before how many of the batch so far it goes. It says all of itself, so that
    hypothesis can leave any of them out.
    """
    names = [f"t{i}" if name is None else name for i, (name, *_) in enumerate(members)]
    batch: list[Task] = []
    for i, (_, task, back, early) in enumerate(members):
        after = tuple(names[i - 1 - k] for k in back if k < i)
        place = max(0, len(batch) - early)
        batch.insert(place, attrs.evolve(task, id=names[i], after=after))
    return batch


def _drawn(option: Option) -> Strategy[Any]:
    """Values that any task may have; the default where only one task has others."""
    form: Form = option.form
    seconds = {"duration": False, "duration_or_zero": True}
    seconds |= {"moment": False, "moment_or_zero": True}
    if form in seconds:
        return _NOTHING | _seconds(zero=seconds[form])
    table: dict[str, Strategy[Any]] = {
        "type": st.sampled_from(_TYPES),
        "priority": priorities(),
        "ids": st.just(()),
        # The other joins are for tasks with parents.
        "join": st.sampled_from(("all", "finished")),
        "on_parent_failure": st.sampled_from(("block", "skip", "fail", "run")),
        "names": _NOTHING | _some_types(),
        "paths": _NOTHING | st.sampled_from((("src/**",), ("src/a", "docs/**"))),
        "resources": st.just(Resources()) | resources(),
        "retry": st.just(RetryPolicy()) | retry_policies(),
        # The default comes first, because a failing example shrinks to it.
        "flag": st.sampled_from((option.default, not option.default)),
        "cache": _NOTHING | st.just(Cache()),
        "name": _NOTHING | st.sampled_from(("ann", "bob")),
    }
    return table.get(form, _NOTHING)


def _share(units: int, steps: int) -> int:
    return units * steps // _STEPS


def _seconds(*, zero: bool = True) -> Strategy[float]:
    # There are few moments, because faults show when events coincide.
    return st.sampled_from(_DURATIONS if zero else _DURATIONS[1:])


def _some_types() -> Strategy[tuple[str, ...]]:
    names = st.lists(st.sampled_from(_TYPES), unique=True)
    return names.map(lambda some: tuple(sorted(some)))


def _is_in_time(task: Task) -> bool:
    """Return whether *task* may start before its deadline, as far as known."""
    start, end = task.not_before, task.deadline
    if isinstance(start, int | float) and isinstance(end, int | float):
        return start < end
    return True


def _fixed(
    name: str, drawn: dict[str, Strategy[Any]], parts: dict[str, Any]
) -> dict[str, Strategy[Any]]:
    """Return the strategies of *drawn*, with *parts* in their places."""
    for part, value in parts.items():
        if part not in drawn:
            msg = f"{name} has no part {part!r}; there are {', '.join(drawn)}"
            raise TypeError(msg)
        drawn[part] = value if isinstance(value, Strategy) else st.just(value)
    return drawn
