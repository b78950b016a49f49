"""
The verdict on all schedules, and the entries that are late, for every front end.

Decision: dashboard-and-views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from taskorch.ext.views._runs import BROKEN
from taskorch.kit.visible import counted
from taskorch.kit.words import in_words

_WELL: Final = frozenset({"completed", "mended"})
_GOES_ON: Final = frozenset({"running", "pending"})


def verdict_on(view: Mapping[str, Any], holds: Sequence[str]) -> dict[str, Any]:
    """
    Return the verdict on the first view: a `state` with its sign, and the words.

    The `points` are the things that need a person, each with the part of the view that
    it is `of`; without any, all is well. `latest` is a sentence on the latest runs.

    Args:
        view: See `RunViews.nights`.
        holds: Why starts are held back.
    """
    broken = view["broken"]["count"]
    schedules = [each for each in view["schedules"] if not each["removed"]]
    runs = [each["latest"] for each in schedules if each["latest"]]
    latest = [run["state"] for run in runs]
    waiting = sum(map(_waits, runs))
    bad = sum(
        bool(each["failing"] or _is_unwell(each["latest"] or {})) for each in schedules
    )
    counts = (
        ("schedules", bad, "schedule", "did not end well", "did not end well"),
        (
            *("broken", broken, "task"),
            *("failed and is not mended", "failed and are not mended"),
        ),
        (
            *("questions", view["questions"]["count"], "question"),
            *("waits for a person", "wait for a person"),
        ),
        (
            *("schedules", waiting, "schedule"),
            *("waits for an answer or an event", "wait for an answer or an event"),
        ),
        (
            *("late", sum(bool(each["late"] or each["trouble"]) for each in schedules)),
            *("schedule", "is late or in trouble", "are late or in trouble"),
        ),
        (
            *("slow", view["slow_runs"], "run"),
            *("takes much longer than usual", "take much longer than usual"),
        ),
    )
    points = [
        {
            "of": of,
            # Of failures, not more are kept.
            "text": f"{'at least ' * (of == 'broken' and many >= BROKEN)}"
            f"{counted(many, noun)} {one if many == 1 else several}",
        }
        for of, many, noun, one, several in counts
        if many
    ]
    points += [{"of": "holds", "text": each} for each in holds]
    state = "blocked" if points else "completed"
    if bad or holds or (broken and not latest):
        state = "failed"
    return {"state": state, "latest": _on_latest(latest), "points": points}


def _waits(run: Mapping[str, Any]) -> bool:
    """Return whether a run is blocked, and no failure of another task is the reason."""
    return bool(run["state"] == "blocked" and not run["stuck"])


def _is_unwell(run: Mapping[str, Any]) -> bool:
    """Return whether a latest run is bad although nothing in it failed."""
    state = run.get("state")
    return state == "cancelled" or (state == "blocked" and not _waits(run))


def _on_latest(states: Sequence[str]) -> str:
    """Return a sentence on the latest runs of all schedules; "": there is none."""
    if not states:
        return ""
    well = sum(state in _WELL for state in states)
    running = sum(state in _GOES_ON for state in states)
    text = f"The latest run of {well:,} of {counted(len(states), 'schedule')} completed"
    if running:
        text += f"; {running:,} {'runs' if running == 1 else 'run'} now"
    return f"{text}."


def late_in(view: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schedules and runs that are late, slow or on hold, and why."""

    def about(kind: str, name: str, state: str, text: str, at: Any = None) -> Any:
        return {"kind": kind, "id": name, "state": state, "at": at, "text": text}

    schedules = view["schedules"]
    for each in schedules:
        text = each["trouble"]
        if each["late"] and not text:
            text = f"is late by {in_words(each['late'])}"
        if text:
            yield about("schedule", each["name"], "late", text, each["next"])
    for run in view["slow"]:
        text = f"takes {in_words(run['seconds'])}; usual are {in_words(run['usual'])}"
        yield about("run", run["id"], "late", text)
    for each in schedules:
        if each["waiting"]:
            verb = "waits" if each["waiting"] == 1 else "wait"
            text = f"{counted(each['waiting'], 'tick')} {verb} for the run before"
            yield about("schedule", each["name"], "waiting", text)
    for each in schedules:
        if each["paused"]:
            text = f"is on hold: {each['paused']}"
            yield about("schedule", each["name"], "suspended", text)
