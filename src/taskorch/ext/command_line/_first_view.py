"""
The first view of the dashboard as lines of a terminal, with a verdict on last night.

Its words and its rules are those of the dashboard. Each colour comes with a sign, for
people who see no colours.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import attrs

from taskorch.ext.command_line._runs import took
from taskorch.ext.command_line._source import Reader, RunsSource, ServiceReader, is_left
from taskorch.ext.command_line._terminal import error_line, line, utc
from taskorch.kit.address import without_password
from taskorch.kit.visible import counted, cut, width
from taskorch.kit.words import in_words
from taskorch.model import Stats

#: A text, and the state that gives its colour; "" has none.
Piece: TypeAlias = "tuple[str, str]"
Line: TypeAlias = "list[Piece]"

#: For each state: its sign, the sign for terminals with few letters, and its meaning.
SIGNS: Final[Mapping[str, tuple[str, str, str]]] = {
    "completed": ("●", "o", "completed"),
    "mended": ("◐", "m", "completed, once it was run again"),
    "failed": ("✗", "X", "failed"),
    "blocked": ("?", "?", "waits for a person or an event"),
    "running": ("►", ">", "runs"),
    "pending": ("○", "~", "waits to run"),
    "suspended": ("‖", "=", "on hold"),
    "cancelled": ("⊘", "-", "cancelled"),
    "waiting": ("…", ":", "waits for the run before it"),
    "skipped": ("·", ".", "skipped"),
    "late": ("!", "!", "late, slow or in trouble"),
}
#: States of tasks that have the sign of another one.
_LIKE: Final = {"queued": "pending", "retrying": "running", "stuck": "blocked"}
_NONE: Final = "-"
#: The width of the name of a schedule, and of a night.
_NAME: Final = 20
NIGHT: Final = 3


@attrs.frozen
class Item:
    """
    An entry of the list of things that need a person.

    Attributes:
        kind: `task`, `question`, `run` or `schedule`.
        id: Its id.
        state: The state whose sign it has.
        at: Since when, in seconds since 1970.
        text: Why.
    """

    kind: str
    id: str
    state: str
    at: float | None
    text: str


@attrs.frozen
class Picture:
    """
    The data of the first view at one moment.

    Attributes:
        place: The journal or the service.
        nights: See `RunViews.nights`.
        stats: The statistics.
        notes: Notes on the place itself.
        is_live: Whether it is a service.
        unfinished: How many tasks do not go on, as nobody has the journal open.
    """

    place: str
    nights: Mapping[str, Any]
    stats: Stats
    notes: tuple[str, ...]
    is_live: bool
    unfinished: int = 0


def look(place: str, reader: Reader, runs: RunsSource, days: int) -> Picture:
    """
    Look at a journal or a service, now.

    Raises:
        TaskorchError: It cannot be asked.
        OSError: It cannot be reached.
    """
    nights, stats = runs.nights(days=days), reader.get_stats()
    is_live = isinstance(reader, ServiceReader)
    notes: list[str] = []
    unfinished = 0
    if isinstance(reader, ServiceReader):
        checks = reader.health()["checks"]
        notes += [
            f"{each['component']} {each['status']}: {each['detail']}"
            for each in checks
            if each["status"] != "ok"
        ]
    elif is_left(reader):
        states = stats.state_machine
        unfinished = states.running + states.queued + states.retrying
        unfinished += states.pending
        notes.append("nobody has the journal open: nothing goes on by itself")
    if nights["is_reading"]:
        notes.append("the journal is still being read: earlier runs are to come")
    if nights["lost"]:
        lost = counted(nights["lost"], "event")
        notes.append(f"{lost} did not come here: what is shown of runs may be old")
    return Picture(
        without_password(place), nights, stats, tuple(notes), is_live, unfinished
    )


def verdict(picture: Picture) -> tuple[str, str]:
    """Return the verdict on all schedules: a state with its sign, and the words."""
    whole = picture.nights["verdict"]
    state, points = whole["state"], [each["text"] for each in whole["points"]]
    if picture.unfinished:
        state = "blocked" if state == "completed" else state
        verb = "is" if picture.unfinished == 1 else "are"
        tasks = f"{counted(picture.unfinished, 'task')} {verb} unfinished"
        points.append(f"{tasks}, and nobody has the journal open")
    return state, line(f"{whole['latest']} {'; '.join(points) or 'All is well'}.")


def load(stats: Stats) -> str:
    """Return how many tasks are unfinished, and the resources in use."""
    states = stats.state_machine
    names = ("running", "queued", "retrying", "pending", "blocked", "suspended")
    counts = [f"{n:,} {name}" for name in names if (n := getattr(states, name))]
    words = [", ".join(counts) or "nothing runs or waits"]
    words += [
        f"{name} {pool.used:g}/{pool.total:g}"
        for name, pool in stats.resources.items()
        if pool.used
    ]
    return "; ".join(words)


def short(at: float | None) -> str:
    """Return a moment of UTC, for a column."""
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M}"


# -- the grid --------------------------------------------------------------------------


def columns(nights: Mapping[str, Any]) -> list[str]:
    """Return the nights with any run, the latest first."""
    days = {cell["at"] for each in nights["schedules"] for cell in each["cells"]}
    return sorted(days, reverse=True)


def name_of(schedule: Mapping[str, Any]) -> str:
    """Return the name of a schedule, as far as there is room."""
    name = line(schedule["name"])
    return name if width(name) <= _NAME else f"{cut(name, _NAME - 1)}…"


def last_of(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """Return the state of the latest run of a schedule, and its duration."""
    run = schedule["latest"]
    return ("", _NONE) if run is None else (run["state"], took(run))


def standing(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """Return a state and words: when a schedule comes next, or why it does not."""
    if schedule["paused"]:
        return "suspended", "on hold"
    if schedule["late"]:
        return "late", f"late {in_words(schedule['late'])}"
    if schedule["waiting"]:
        return "waiting", f"{schedule['waiting']:,} wait"
    return "", short(schedule["next"]) or _NONE


def cells_of(schedule: Mapping[str, Any], days: Iterable[str]) -> list[Any]:
    """Return the cell of each of *days*; None: there was no run."""
    by_day = {cell["at"]: cell for cell in schedule["cells"]}
    return [by_day.get(day) for day in days]


def in_words_of(schedule: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """Return a cell of the grid in words."""
    run = cell["run"]
    many = ", ".join(f"{number:,} {state}" for state, number in cell["states"].items())
    state = str(cell["state"])
    parts = [
        f"{schedule['name']}, {cell['at']}: {SIGNS.get(state, ('', '', state))[2]}"
    ]
    parts += [many] * (sum(cell["states"].values()) > 1)
    if run is not None:
        parts += [f"at work {took(run)}"] * (run["seconds"] is not None)
        parts.append(f"begun by {run['began_by']}")
    parts += [cell["reason"], error_line(run and run["error"])]
    return line("; ".join(filter(None, parts)))


# -- entries for a person --------------------------------------------------------------


def items(picture: Picture) -> Iterator[Item]:
    """Yield failures, open questions, and schedules that are late or on hold."""
    nights = picture.nights
    for cause in nights["broken"]["causes"]:
        # Each cause has one row, in which its first task stands for the others.
        others = f" ({counted(cause['count'], 'task')})" * (cause["count"] > 1)
        text = f"{cause['error_type']}: {cause['message']}{others}"
        at = datetime.fromisoformat(cause["last"]).timestamp()
        yield Item("task", cause["tasks"][0], "failed", at, text)
    for asked in nights["questions"]["first"]:
        due = f" (until {short(asked['due'])} UTC)" if asked["due"] else ""
        text = f"{asked['text']}{due}"
        yield Item("question", asked["id"], "blocked", asked["asked"], text)
    for each in nights["late"]:
        yield Item(**each)


def left_out(picture: Picture) -> str:
    """Return how many entries `items` leaves out, in words."""
    nights = picture.nights
    shown = sum(cause["count"] for cause in nights["broken"]["causes"])
    tasks = nights["broken"]["count"] - shown
    questions = nights["questions"]["count"] - len(nights["questions"]["first"])
    # A service of an earlier version does not say how many there are.
    slow = nights.get("slow_runs", 0) - len(nights["slow"])
    more = [counted(tasks, "more failure")] * (tasks > 0)
    more += [counted(questions, "more question")] * (questions > 0)
    more += [counted(slow, "more slow run")] * (slow > 0)
    return ", ".join(more)


# -- plain text ------------------------------------------------------------------------


def has_letters() -> bool:
    """Return whether standard output can show the signs."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "".join(sign for sign, _, _ in SIGNS.values()).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def sign_of(state: str, *, letters: bool = True) -> str:
    """Return the sign of a state."""
    sign, plain, _ = SIGNS.get(_LIKE.get(state, state), (" ", " ", ""))
    return sign if letters else plain


def in_text(
    picture: Picture, room: int, *, letters: bool, cuts: bool
) -> Iterator[Line]:
    """
    The first view as lines.

    Args:
        picture: The data.
        room: Columns of the terminal.
        letters: Whether it has more than ASCII.
        cuts: Whether long lines are cut.
    """

    def sign(state: str) -> Piece:
        return state, sign_of(state, letters=letters)

    yield [("", f"{line(picture.place)}  {utc(picture.nights['now'])}")]
    state, words = verdict(picture)
    yield [sign(state), ("", f" {words}")]
    for note in picture.notes:
        yield [("late", _fitting(f"! {line(note)}", room if cuts else None))]
    schedules = picture.nights["schedules"]
    if schedules:
        yield []
        yield from _grid_lines(picture, room, sign)
    todo = [*items(picture)]
    if todo:
        yield []
        most = max(width(line(each.id)) for each in todo)
        for each in todo:
            name = line(each.id)
            padded = f" {name}{' ' * (most - width(name))}  {short(each.at):12}  "
            rest = max(20, room - width(padded) - 1)
            text = _fitting(line(each.text), rest if cuts else None)
            yield [sign(each.state), ("", f"{padded}{text}".rstrip())]
    if more := left_out(picture):
        yield [("", f"  and {more}")]
    runs = picture.nights["runs"]
    if runs and not schedules:
        yield []
        for run in runs:
            text = f" {line(run['id'])}  {short(run['started'])}  {took(run)}"
            yield [sign(run["state"]), ("", text.rstrip())]
    yield []
    yield [("", f"load: {load(picture.stats)}")]


def _fitting(text: str, room: int | None) -> str:
    if room is None or width(text) <= room:
        return text
    return f"{cut(text, room - 1)}…"


def _grid_lines(picture: Picture, room: int, sign: Any) -> Iterator[Line]:
    schedules = picture.nights["schedules"]
    days = columns(picture.nights)
    names = [name_of(each) for each in schedules]
    lasts, nexts = [*map(last_of, schedules)], [*map(standing, schedules)]
    heads = ("schedule", "last", "next (UTC)" if picture.is_live else "")
    wide = max(map(width, (heads[0], *names)))
    wide_last = max(width(text) + 2 for _, text in (*lasts, ("", heads[1])))
    is_known = any(text != _NONE for _, text in nexts)
    wide_next = (
        max(len(text) for _, text in (*nexts, ("", heads[2]))) if is_known else 0
    )
    used = wide + wide_last + wide_next + 6
    days = days[: max(1, (room - used) // NIGHT)]
    head = f"{heads[0]:{wide}}  {heads[1]:{wide_last}}  {heads[2]:{wide_next}} "
    if not is_known:
        head = f"{heads[0]:{wide}}  {heads[1]:{wide_last}} "
    yield [("", head + "".join(f"{day[-2:]:>{NIGHT}}" for day in days))]
    for schedule, name, last, coming in zip(
        schedules, names, lasts, nexts, strict=True
    ):
        pieces: Line = [("", f"{name}{' ' * (wide - width(name))}  "), sign(last[0])]
        pieces.append(("", f" {last[1]:{wide_last - 2}}  "))
        if is_known:
            pieces.append((coming[0], f"{coming[1]:{wide_next}} "))
        else:
            pieces[-1] = ("", pieces[-1][1][:-1])
        for cell in cells_of(schedule, days):
            state = "" if cell is None else cell["state"]
            pieces += [("", " " * (NIGHT - 1)), sign(state)]
        yield pieces
