"""
The first view of the dashboard as lines of a terminal: is last night all right?

Its words and its rules are those of the dashboard. What is coloured has a sign of its
own, too, for whoever sees no colours.

Decision: 0218.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import attrs

from taskorch.cli._runs import began_by, took
from taskorch.cli._source import Reader, RunsSource, ServiceReader
from taskorch.cli._terminal import line
from taskorch.kit.address import without_password
from taskorch.kit.visible import counted, cut, width
from taskorch.kit.words import in_words
from taskorch.model import Stats

#: A text, and the state whose colour it has; "" has none.
Piece: TypeAlias = "tuple[str, str]"
Line: TypeAlias = "list[Piece]"

#: Of each state its sign, the same for terminals with few letters, and what it means.
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
_WELL: Final = frozenset({"completed", "mended"})
#: States of a latest run that is not well though nothing in it failed.
_UNWELL: Final = frozenset({"blocked", "cancelled"})
_GOES_ON: Final = frozenset({"running", "pending"})
_NONE: Final = "-"
#: The widest name of a schedule; columns of a night.
_NAME: Final = 20
NIGHT: Final = 3


@attrs.frozen
class Item:
    """
    What a person is to look at.

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
    What there is to see at one moment.

    Attributes:
        place: The journal or the service.
        nights: See `RunViews.nights`.
        stats: The statistics.
        notes: What is to be known of the place itself.
        is_live: Whether it is a service.
    """

    place: str
    nights: Mapping[str, Any]
    stats: Stats
    notes: tuple[str, ...]
    is_live: bool


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
    if isinstance(reader, ServiceReader):
        checks = reader.health()["checks"]
        notes += [
            f"{each['component']} {each['status']}: {each['detail']}"
            for each in checks
            if each["status"] != "ok"
        ]
    elif reader.owner.lives is False:
        notes.append("nobody has the journal open: nothing goes on by itself")
    if nights["is_reading"]:
        notes.append("the journal is still being read: earlier runs are to come")
    if nights["lost"]:
        lost = counted(nights["lost"], "event")
        notes.append(f"{lost} did not come here: what is shown of runs may be old")
    return Picture(without_password(place), nights, stats, tuple(notes), is_live)


def verdict(picture: Picture) -> tuple[str, str]:
    """Whether all is right: the state whose sign it has, and the words."""
    nights = picture.nights
    latest = [
        schedule["latest"]["state"]
        for schedule in nights["schedules"]
        if schedule["latest"]
    ]
    bad = sum(
        bool(each["failing"] or (each["latest"] or {}).get("state") in _UNWELL)
        for each in nights["schedules"]
    )
    running = sum(state in _GOES_ON for state in latest)
    late = sum(bool(each["late"] or each["trouble"]) for each in nights["schedules"])
    holds = [str(each) for each in picture.stats.holds]
    counts = (
        (bad, "schedule", "did not end well", "did not end well"),
        (
            nights["broken"]["count"],
            *("task", "failed and is not mended", "failed and are not mended"),
        ),
        (
            nights["questions"]["count"],
            *("question", "waits for a person", "wait for a person"),
        ),
        (late, "schedule", "is late or in trouble", "are late or in trouble"),
        (
            len(nights["slow"]),
            *("run", "takes much longer than usual", "take much longer than usual"),
        ),
    )
    points = [
        f"{counted(number, noun)} {one if number == 1 else many}"
        for number, noun, one, many in counts
        if number
    ]
    points += holds
    words = ""
    if latest:
        well = sum(state in _WELL for state in latest)
        words = f"The latest run of {well:,} of {counted(len(latest), 'schedule')} "
        words += "completed"
        if running:
            words += f"; {running:,} {'runs' if running == 1 else 'run'} now"
        words += ". "
    words += f"{'; '.join(points) or 'All is well'}."
    if bad or holds or (nights["broken"]["count"] and not latest):
        return "failed", line(words)
    return ("blocked" if points else "completed"), line(words)


def load(stats: Stats) -> str:
    """How much is under way, and what of the resources is in use."""
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
    """A moment of UTC, for a column."""
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M}"


# -- the grid --------------------------------------------------------------------------


def columns(nights: Mapping[str, Any]) -> list[str]:
    """The nights on which anything came, the latest first."""
    days = {cell["at"] for each in nights["schedules"] for cell in each["cells"]}
    return sorted(days, reverse=True)


def name_of(schedule: Mapping[str, Any]) -> str:
    """The name of a schedule, as far as there is room."""
    name = line(schedule["name"])
    return name if width(name) <= _NAME else f"{cut(name, _NAME - 1)}…"


def last_of(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """The state of the latest run of a schedule, and how long that took."""
    run = schedule["latest"]
    return ("", _NONE) if run is None else (run["state"], took(run))


def standing(schedule: Mapping[str, Any]) -> tuple[str, str]:
    """When a schedule comes next, or why it does not: a state, and the words."""
    if schedule["paused"]:
        return "suspended", "on hold"
    if schedule["late"]:
        return "late", f"late {in_words(schedule['late'])}"
    if schedule["waiting"]:
        return "waiting", f"{schedule['waiting']:,} wait"
    return "", short(schedule["next"]) or _NONE


def cells_of(schedule: Mapping[str, Any], days: Iterable[str]) -> list[Any]:
    """What came on each of *days*; None: nothing."""
    by_day = {cell["at"]: cell for cell in schedule["cells"]}
    return [by_day.get(day) for day in days]


def in_words_of(schedule: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """What a place of the grid says."""
    run = cell["run"]
    many = ", ".join(f"{number:,} {state}" for state, number in cell["states"].items())
    state = str(cell["state"])
    parts = [
        f"{schedule['name']}, {cell['at']}: {SIGNS.get(state, ('', '', state))[2]}"
    ]
    parts += [many] * (sum(cell["states"].values()) > 1)
    if run is not None:
        parts += [f"took {took(run)}"] * (run["seconds"] is not None)
        parts.append(f"begun by {began_by(run)}")
    parts.append(cell["reason"])
    if run is not None and run["error"] is not None:
        parts.append(f"{run['error']['type']}: {run['error']['message']}")
    return line("; ".join(filter(None, parts)))


# -- what to look at -------------------------------------------------------------------


def items(picture: Picture) -> Iterator[Item]:
    """What failed, what waits for a person, what is late, slow or on hold."""
    nights = picture.nights
    for cause in nights["broken"]["causes"]:
        # One row a cause: its first task stands for the others.
        others = f" ({counted(cause['count'], 'task')})" * (cause["count"] > 1)
        text = f"{cause['error_type']}: {cause['message']}{others}"
        at = datetime.fromisoformat(cause["last"]).timestamp()
        yield Item("task", cause["tasks"][0], "failed", at, text)
    for asked in nights["questions"]["first"]:
        due = f" (until {short(asked['due'])} UTC)" if asked["due"] else ""
        text = f"{asked['text']}{due}"
        yield Item("question", asked["id"], "blocked", asked["asked"], text)
    for each in nights["schedules"]:
        name, coming = each["name"], each["next"]
        if each["trouble"]:
            yield Item("schedule", name, "late", coming, each["trouble"])
        elif each["late"]:
            text = f"is late by {in_words(each['late'])}"
            yield Item("schedule", name, "late", coming, text)
    for run in nights["slow"]:
        text = f"takes {in_words(run['seconds'])}; usual are {in_words(run['usual'])}"
        yield Item("run", run["id"], "late", None, text)
    for each in nights["schedules"]:
        if each["paused"]:
            text = f"is on hold: {each['paused']}"
            yield Item("schedule", each["name"], "suspended", None, text)


def left_out(picture: Picture) -> str:
    """How much more there is than `items` names."""
    nights = picture.nights
    tasks = nights["broken"]["count"] - len(nights["broken"]["tasks"])
    questions = nights["questions"]["count"] - len(nights["questions"]["first"])
    more = [counted(tasks, "more failure")] * (tasks > 0)
    more += [counted(questions, "more question")] * (questions > 0)
    return ", ".join(more)


# -- once, as text ---------------------------------------------------------------------


def has_letters() -> bool:
    """Whether standard output has the signs."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "".join(sign for sign, _, _ in SIGNS.values()).encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def sign_of(state: str, *, letters: bool = True) -> str:
    """The sign of a state."""
    sign, plain, _ = SIGNS.get(_LIKE.get(state, state), (" ", " ", ""))
    return sign if letters else plain


def in_text(
    picture: Picture, room: int, *, letters: bool, cuts: bool
) -> Iterator[Line]:
    """
    The first view as lines.

    Args:
        picture: What there is to see.
        room: Columns of the terminal.
        letters: Whether it has more than ASCII.
        cuts: Whether what is too long is cut.
    """

    def sign(state: str) -> Piece:
        return state, sign_of(state, letters=letters)

    now = f"{datetime.fromtimestamp(picture.nights['now'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield [("", f"{line(picture.place)}  {now}")]
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
