"""
The screens of `taskorch top`, drawn by textual.

One thread asks for the data of the top screen again and again. So no screen waits, and
if a service goes away, its screen keeps the old data with a note.

Decision: dashboard-and-views.
"""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from time import monotonic
from typing import Any, ClassVar, Final, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Input, OptionList, Static

from taskorch.core.runs._members import WILD
from taskorch.errors import TaskorchError
from taskorch.ext.client import Client, ServiceError
from taskorch.ext.command_line import _first_view as first
from taskorch.ext.command_line._first_view import SIGNS, Item, Picture
from taskorch.ext.command_line._runs import (
    ACTS,
    CALLS,
    RunAct,
    calls_row,
    do,
    error_of,
    explained,
    foreseen,
    in_lines,
    run_row,
    task_row,
    took,
)
from taskorch.ext.command_line._source import (
    Reader,
    RunsSource,
    ServiceReader,
    steps_of,
)
from taskorch.ext.command_line._terminal import (
    cause_of,
    in_commands,
    line,
    proves_name,
    table_of_steps,
    tracebacks,
    utc,
)
from taskorch.kit.visible import counted, visible, width
from taskorch.kit.words import in_words

#: The colour of each state.
_COLOURS: Final[Mapping[str, str]] = {
    "completed": "green",
    "mended": "green",
    "failed": "bold red",
    "cancelled": "red",
    "blocked": "bold yellow",
    "stuck": "yellow",
    "late": "bold yellow",
    "running": "cyan",
    "retrying": "cyan",
    "pending": "cyan",
    "queued": "cyan",
    "suspended": "magenta",
    "waiting": "blue",
    "skipped": "dim",
}
#: The number of last characters of the log of a task that are shown.
_LOG: Final = 20_000
#: The number of runs in the list.
_RUNS: Final = 100
#: The seconds without an answer after which a screen shows a note.
_SLOW: Final = 3.0


class TopSource:
    """
    The data of the screens, and their changes.

    Args:
        place: The journal or the service.
        reader: The reader of tasks.
        runs: The views of runs.
        days: The number of nights in the grid.
    """

    def __init__(
        self, place: str, reader: Reader, runs: RunsSource, *, days: int
    ) -> None:
        self.place = place
        self.reader = reader
        self.runs = runs
        self._days = days

    @property
    def client(self) -> Any:
        """The client for changes; None: a journal is only read."""
        return self.reader.client if isinstance(self.reader, ServiceReader) else None

    def look(self) -> Picture:
        """Return the first view as it is now."""
        return first.look(self.place, self.reader, self.runs, self._days)

    def said_of(self, error: Exception) -> str:
        """Return an error in words."""
        if isinstance(error, ServiceError) and error.status == 401:  # noqa: PLR2004
            return f"the token is refused: {error.message}"
        if isinstance(error, TaskorchError):
            return in_commands(str(error), self.place)
        if isinstance(error, OSError):
            return f"{self.place} cannot be reached: {error.strerror or error}"
        return f"{self.place} says what is not understood here: {error!r}"


def _signed(state: str, text: str | None = None) -> Text:
    """Return the sign of a state and a text, in its colour."""
    sign = first.sign_of(state)
    return Text(sign if text is None else f"{sign} {text}", _COLOURS.get(state, ""))


def _matches(pattern: str, *texts: str) -> bool:
    """Return whether one of *texts* matches the pattern, or contains it."""
    wanted = pattern.lower()
    if not WILD.isdisjoint(wanted):
        return any(fnmatchcase(text.lower(), wanted) for text in texts)
    return any(wanted in text.lower() for text in texts)


class SteadyTable(DataTable[Text]):
    """A table whose cursor follows the entry, not the row number."""

    def __init__(self, *, id: str, cursor: Any = "row", fixed: int = 0) -> None:  # noqa: A002 - as textual has it
        super().__init__(
            id=id,
            cursor_type=cursor,
            fixed_columns=fixed,
            zebra_stripes=False,
            cell_padding=0 if cursor == "cell" else 1,
        )
        self._begin = fixed
        self._shown: Any = None
        self._keys: list[str] = []

    def fill(
        self,
        heads: Sequence[str],
        rows: Sequence[tuple[str, list[Text]]],
        begin_at: str = "",
    ) -> None:
        """
        Show *rows*, each with the key of what it is about.

        The cursor begins at the row *begin_at*, or at the first one.
        """
        shown = (
            [*heads],
            [(key, [(c.plain, c.style) for c in cells]) for key, cells in rows],
        )
        if shown == self._shown:
            return
        key, at = self.key if self._keys else begin_at, self.cursor_coordinate
        # The cursor begins at the first column that scrolls.
        begin = heads[min(self._begin, len(heads) - 1)]
        head = self._shown[0][at.column] if self._keys else begin
        scroll = self.scroll_offset
        self._shown = shown
        self._keys = [each for each, _ in rows]
        self.clear(columns=True)
        for place, each in enumerate(heads):
            # The widths are given, because the table measures columns later, and not at
            # each change.
            widest = max((cells[place].cell_len for _, cells in rows), default=0)
            self.add_column(Text(each, "bold"), width=max(widest, width(each)))
        for _, cells in rows:
            self.add_row(*cells)
        row = self._keys.index(key) if key in self._keys else at.row
        column = heads.index(head) if head in heads else at.column
        if rows:
            self.move_cursor(
                row=min(row, len(rows) - 1),
                column=min(column, len(heads) - 1),
                animate=False,
                scroll=key == begin_at != "",
            )
            self.scroll_to(scroll.x, scroll.y, animate=False)
        # The table knows its height only after the next refresh.
        self.call_after_refresh(self.refresh, layout=True)

    @property
    def key(self) -> str:
        """The key of the entry under the cursor; "": there is none."""
        row = self.cursor_coordinate.row
        # In a table without rows, the arrows lead to the row -1.
        return self._keys[row] if 0 <= row < len(self._keys) else ""


class Looking(Screen[None]):
    """A screen whose data is asked for again and again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", show=False),
        Binding("slash", "filter", "filter"),
        Binding("question_mark", "app.help", "help"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(self, source: TopSource) -> None:
        super().__init__()
        self.source = source
        self.pattern = ""
        self._is_lost = False
        self._since = ""

    def look(self) -> Callable[[], None]:
        """Ask for data on a thread, and return a function that shows it."""
        raise NotImplementedError

    def body(self) -> ComposeResult:
        """The parts of the screen."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The head, the trouble if there is any, the parts, the filter, the keys."""
        yield Static(id="head")
        yield Static(id="trouble")
        yield from self.body()
        yield Input(placeholder="a part of a name, or a pattern: sales-*", id="filter")
        yield Footer(show_command_palette=False)

    def say(self, part: str, text: Text | str) -> None:
        """Show a text in one of the parts."""
        self.query_one(f"#{part}", Static).update(
            Text(text) if isinstance(text, str) else text
        )

    def lost(self, error: Exception) -> None:
        """Show that the data cannot be asked for and is old."""
        now = f"{datetime.now(UTC):%H:%M:%S} UTC"  # noqa: TID251 - for a person's eyes
        if not self._is_lost:
            self._since = now
        self._is_lost = True
        text = visible(self.source.said_of(error))
        trouble = f"! since {self._since}: {text}; what stands here is of before"
        self.say("trouble", trouble)
        self.query_one("#trouble").display = True

    def seen(self) -> None:
        """Show that the data is new again."""
        if self._is_lost:
            self._is_lost = False
            self.query_one("#trouble").display = False
            self.notify(f"{self.source.place} is back", markup=False)

    def action_back(self) -> None:
        """Leave the filter, or the screen."""
        box = self.query_one("#filter", Input)
        if box.display:
            box.value = ""
            self._close(box)
        elif len(self.app.screen_stack) > 2:  # noqa: PLR2004 - the blank one, and the first
            self.app.pop_screen()
            self.top.wake()

    def action_filter(self) -> None:
        """Ask for a filter."""
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Use another filter."""
        if event.input.id == "filter":
            self.pattern = event.value.strip()
            self.top.wake()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, unless it is empty."""
        if event.input.id == "filter":
            self._close(event.input)

    def _close(self, box: Input) -> None:
        box.display = bool(box.value)
        tables = self.query(SteadyTable)
        (tables.first() if tables else self).focus()

    @property
    def top(self) -> Top:
        """The app."""
        return cast("Top", self.app)

    # -- acts ----------------------------------------------------------------------

    def act(self, verb: str, run_id: str) -> None:
        """Show what an act would touch, ask a person, then do it."""
        self._act(ACTS[verb], verb, run_id, is_run=True)

    def act_on_task(self, verb: str, task_id: str) -> None:
        """Do the same for one task."""
        self._act(ACTS[verb], verb, task_id, is_run=False)

    def _reachable(self, instead: str) -> Client | None:
        """Return the client for changes, or say why there is none."""
        client: Client | None = self.source.client
        if client is None:
            self.notify(instead, severity="warning", markup=False)
        elif self._is_lost:
            # Once it is back, an answer would come to a person who has moved on.
            words = f"{self.source.place} cannot be reached: try again once it is back"
            self.notify(words, severity="warning", markup=False)
            return None
        return client

    def _act(self, act: RunAct, verb: str, subject: str, *, is_run: bool) -> None:
        client = self._reachable(
            "A journal is only read here: name the URL of its service, or use "
            f"taskorch runs {self.source.place} {verb}"
        )
        if client is None:
            return
        # A named token proves who acts.
        is_known = proves_name(self.source.place)
        reason = None if is_known else f"cancelled by {_user()}, in taskorch top"

        def preview() -> Callable[[], None]:
            which = act if is_run else RunAct(act.of_task, act.of_task, "", act.done)
            called, text, does = foreseen(client, which, subject)

            def ask() -> None:
                if not does:
                    self.notify(f"{line(subject)}: {text}", markup=False)
                    return
                if not act.asks:
                    change(called)
                    return
                act_name = "Run again" if verb == "restart" else verb.capitalize()
                question = f"{act_name}: {line(subject)}?\n\n{line(text)}"
                self.app.push_screen(
                    Confirm(question), lambda yes: change(called) if yes else None
                )

            return ask

        def change(called: str) -> None:
            def work() -> Callable[[], None]:
                changed = do(client, called, subject, reason=reason)
                words = act.done if changed else "was not changed"
                return lambda: self.notify(f"{line(subject)} {words}", markup=False)

            self.top.ask(work)

        self.top.ask(preview)

    def answer(self, question_id: str) -> None:
        """Answer a question, once a person has chosen."""
        client = self._reachable(
            "A journal takes no answers here: name the URL of its service"
        )
        if client is None:
            return

        def look() -> Callable[[], None]:
            asked = {each["id"]: each for each in client.questions()}
            question = asked.get(question_id)
            if question is None:
                return lambda: self.notify(
                    f"{line(question_id)} waits for no answer any more", markup=False
                )

            def show() -> None:
                is_known = proves_name(self.source.place)
                self.top.push_screen(AskPerson(question, is_known=is_known), reply)

            return show

        def reply(choice: tuple[str, str, str] | None) -> None:
            if choice is None:
                return
            task_id, option, by = choice
            signed = {"by": by} if by else {}

            def work() -> Callable[[], None]:
                decided = client.answer(task_id, option, **signed)
                words = "is decided" if decided else "needs more answers"
                return lambda: self.notify(f"{line(question_id)} {words}", markup=False)

            self.top.ask(work)

        self.top.ask(look)


def _user() -> str:
    """Return the user of this terminal, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"


class FirstView(Looking):
    """The first view: the verdict, the grid of nights, and the list of entries."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "act('restart')", "run again"),
        Binding("c", "act('cancel')", "cancel"),
        Binding("a", "answer", "answer"),
        Binding("l", "list", "list"),
    ]

    def __init__(self, source: TopSource) -> None:
        super().__init__(source)
        #: The words of each cell of the grid, and the id of its run, if it has one.
        self._cells: dict[tuple[str, str], tuple[str, str]] = {}
        self._items: dict[str, Item] = {}
        self._lists_runs = False
        self._days: list[str] = []

    def body(self) -> ComposeResult:
        """See `Looking.body`."""
        yield Static(id="verdict")
        yield Static(id="notes")
        yield SteadyTable(id="grid", cursor="cell", fixed=3)
        yield Static(id="cell")
        yield Static(id="what")
        yield SteadyTable(id="todo")

    def look(self) -> Callable[[], None]:
        """See `Looking.look`."""
        picture = self.source.look()
        rows: list[Mapping[str, Any]] = []
        if self._lists_runs:
            pattern = self.pattern
            is_part = pattern and WILD.isdisjoint(pattern)
            wanted = f"*{pattern}*" if is_part else pattern
            page = self.source.runs.page(id=wanted, limit=_RUNS)
            rows = [] if page is None else page["runs"]
        return lambda: self._show(picture, rows)

    def _show(self, picture: Picture, rows: Sequence[Mapping[str, Any]]) -> None:
        now, under_way = utc(picture.nights["now"]), first.load(picture.stats)
        self.say("head", f"{line(picture.place)}  {now}  {under_way}")
        state, words = first.verdict(picture)
        self.say("verdict", _signed(state, words))
        notes = "\n".join(f"! {line(note)}" for note in picture.notes)
        self.say("notes", Text(notes, _COLOURS["late"]))
        self.query_one("#notes").display = bool(notes)
        self._show_grid(picture)
        if self._lists_runs:
            self._show_runs(rows, f"latest runs: {len(rows):,}")
        elif not self.pattern and not any(first.items(picture)):
            words = "nothing to look at; the latest runs:"
            self._show_runs(picture.nights["runs"], words)
        else:
            self._show_items(picture)
        self._show_cell()

    def _show_grid(self, picture: Picture) -> None:
        days = first.columns(picture.nights)
        self._days = days
        schedules = [
            each
            for each in picture.nights["schedules"]
            if _matches(self.pattern, each["name"])
        ]
        self._cells = {
            (each["name"], cell["at"]): (
                first.in_words_of(each, cell),
                "" if cell["run"] is None else str(cell["run"]["id"]),
            )
            for each in schedules
            for cell in each["cells"]
        }
        rows: list[tuple[str, list[Text]]] = []
        for each in schedules:
            last, text = first.last_of(each)
            coming = first.standing(each) if picture.is_live else ("", "")
            cells = [Text(f"{first.name_of(each)} "), _signed(last, f"{text} ")]
            cells.append(Text(f"{coming[1]} ", _COLOURS.get(coming[0], "")))
            cells += [
                Text("   ")
                if cell is None
                else Text("  ").append(_signed(cell["state"]))
                for cell in first.cells_of(each, days)
            ]
            rows.append((each["name"], cells))
        grid = self.query_one("#grid", SteadyTable)
        grid.display = bool(picture.nights["schedules"])
        if not grid.display and self.focused in (None, grid):
            self.query_one("#todo").focus()
        heads = ["schedule", "  last", "next (UTC) " if picture.is_live else ""]
        grid.fill([*heads, *(f" {day[-2:]}" for day in days)], rows)

    def _show_items(self, picture: Picture) -> None:
        todo = [
            each
            for each in first.items(picture)
            if _matches(self.pattern, each.id, each.text)
        ]
        more = first.left_out(picture)
        words = f"to look at: {len(todo):,}{f', and {more}' * bool(more)}"
        self.say("what", words)
        rows = [
            (
                f"{each.kind}:{each.id}",
                [
                    _signed(each.state),
                    Text(line(each.id)),
                    Text(first.short(each.at)),
                    Text(line(each.text)),
                ],
            )
            for each in todo
        ]
        self._items = {f"{each.kind}:{each.id}": each for each in todo}
        self.query_one("#todo", SteadyTable).fill(
            ["", "what", "since (UTC)", "why"], rows
        )

    def _show_runs(self, runs: Sequence[Mapping[str, Any]], words: str) -> None:
        self.say("what", words)
        rows = [(f"run:{each['id']}", _run_cells(each)) for each in runs]
        self._items = {
            f"run:{each['id']}": Item(
                *("run", str(each["id"]), each["state"], None),
                f"{each['state']}; begun by {each['began_by']}",
            )
            for each in runs
        }
        heads = ["", "run", "started (UTC)", "took", "tasks", "error"]
        self.query_one("#todo", SteadyTable).fill(heads, rows)

    # -- the cursor ----------------------------------------------------------------

    def _cell(self) -> tuple[str, str]:
        """Return the words and the run of the cell under the cursor."""
        grid = self.query_one("#grid", SteadyTable)
        column = grid.cursor_coordinate.column - 3
        name = grid.key
        if column >= 0:
            day = self._days[column] if column < len(self._days) else ""
            return self._cells.get((name, day), ("", ""))
        days = [day for each, day in self._cells if each == name]
        return self._cells.get((name, max(days, default="")), ("", ""))

    def _show_cell(self) -> None:
        """Describe the cell under the cursor."""
        if self.query_one("#grid", SteadyTable).has_focus:
            words, _ = self._cell()
        else:
            item = self._item()
            words = "" if item is None else f"{line(item.id)}: {line(item.text)}"
        self.say("cell", words)

    def on_data_table_cell_highlighted(self, _: DataTable.CellHighlighted) -> None:
        """Describe the new cell under the cursor."""
        self._show_cell()

    def on_data_table_row_highlighted(self, _: DataTable.RowHighlighted) -> None:
        """Note the new row of the list."""
        self._show_cell()

    def on_descendant_focus(self) -> None:
        """Note that another part has the keys."""
        with suppress(NoMatches):
            self._show_cell()

    def on_data_table_cell_selected(self, _: DataTable.CellSelected) -> None:
        """Open a run of the grid."""
        run_id = self._cell()[1]
        if run_id:
            self.top.open(RunScreen(self.source, run_id))

    def on_data_table_row_selected(self, _: DataTable.RowSelected) -> None:
        """Open the entry of the list."""
        item = self._item()
        if item is None:
            return
        if item.kind == "run":
            self.top.open(RunScreen(self.source, item.id))
        elif item.kind == "schedule":
            self.notify(f"{line(item.id)} {line(item.text)}", markup=False)
        elif item.kind == "question" and self.source.client is not None:
            self.answer(item.id)
        else:
            self.top.open(TaskScreen(self.source, item.id))

    def _item(self) -> Item | None:
        return self._items.get(self.query_one("#todo", SteadyTable).key)

    def action_list(self) -> None:
        """Show the latest runs, or the list of entries."""
        self._lists_runs = not self._lists_runs
        self.query_one("#todo", SteadyTable).move_cursor(row=0)
        self.top.wake()

    def action_act(self, verb: str) -> None:
        """Run the entry under the cursor again, or cancel it."""
        if self.query_one("#grid", SteadyTable).has_focus:
            run_id = self._cell()[1]
            if run_id:
                self.act(verb, run_id)
            return
        item = self._item()
        if item is not None and item.kind == "run":
            self.act(verb, item.id)
        elif item is not None and item.kind == "task":
            self.act_on_task(verb, item.id)

    def action_answer(self) -> None:
        """Answer the question under the cursor, or the first one."""
        item = self._item()
        if item is None or item.kind != "question":
            item = next((i for i in self._items.values() if i.kind == "question"), None)
        if item is None:
            self.notify("No question is in the list.", markup=False)
        else:
            self.answer(item.id)


def _run_cells(run: Mapping[str, Any]) -> list[Text]:
    run_id, _, began, lasted, _, tasks, error = run_row(run, first.short)
    cells = map(Text, (run_id, began, lasted, tasks, error))
    return [_signed(run["state"]), *cells]


class RunScreen(Looking):
    """One run: its state and its tasks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "act('restart')", "run again"),
        Binding("c", "act('cancel')", "cancel"),
        Binding("p", "act('pause')", "pause"),
        Binding("u", "act('resume')", "resume"),
    ]

    def __init__(self, source: TopSource, run_id: str) -> None:
        super().__init__(source)
        self._subject = run_id
        #: Maps whose calls are all shown.
        self._open: set[str] = set()

    def body(self) -> ComposeResult:
        """See `Looking.body`."""
        yield Static(id="about")
        yield SteadyTable(id="tasks")
        yield Static(id="why")

    def look(self) -> Callable[[], None]:
        """See `Looking.look`."""
        whole = self.source.runs.run(self._subject)
        lines = in_lines(self.source.reader, whole)
        why = [text for _, text in explained(self.source.reader, whole)][:1]
        calls = {
            name: self.source.runs.run(self._subject, name)["tasks"]
            for name in self._open
            if name in whole["maps"]
        }
        return lambda: self._show(whole, lines, why, calls)

    def _show(
        self,
        whole: Mapping[str, Any],
        lines: Iterable[str],
        why: Iterable[str],
        calls: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> None:
        self.say("head", f"run {line(self._subject)}  {line(self.source.place)}")
        head, *rest = "\n".join(lines).split("\n")
        state = whole["run"].get("state", "")
        about = Text.assemble(
            _signed(state, head), "\n", "\n".join(_in_two(rest, self.size.width - 4))
        )
        self.say("about", about)
        self.say("why", visible(in_commands("\n".join(why), self.source.place)))
        heads = ["", "task", "state", "tries", "started (UTC)", "took", "error"]
        rows = [*self._rows(whole, calls)]
        tasks = self.query_one("#tasks", SteadyTable)
        tasks.fill(heads, rows, begin_at=_first_failed(whole))

    def _rows(
        self,
        whole: Mapping[str, Any],
        calls: Mapping[str, Sequence[Mapping[str, Any]]],
    ) -> Iterable[tuple[str, list[Text]]]:
        for task in whole["tasks"]:
            name = task["name"]
            if _matches(self.pattern, name, error_of(task)):
                yield f"task:{task['id']}", _cells(task_row(task, name, first.short))
            numbers = whole["maps"].get(name)
            if numbers is None or not _matches(self.pattern, name):
                continue
            fold = "▾" if name in calls else "▸"
            many, *others = calls_row(numbers, first.short)
            yield f"map:{name}", _cells([f"  {fold} {many.lstrip()}", *others])
            # Failed calls are visible even if the map is folded.
            for call in calls.get(name) or _failed_calls(numbers):
                row = task_row(call, f"    {call['name']}", first.short)
                yield f"task:{call['id']}", _cells(row)

    def on_data_table_row_selected(self, _: DataTable.RowSelected) -> None:
        """Open a task, or the calls of a map."""
        kind, _colon, name = self.query_one("#tasks", SteadyTable).key.partition(":")
        if kind == "task":
            self.top.open(TaskScreen(self.source, name))
        elif kind == "map":
            self._open ^= {name}
            self.top.wake()

    def action_act(self, verb: str) -> None:
        """Change the run."""
        self.act(verb, self._subject)


def _failed_calls(numbers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the first failed calls of a map."""
    return [c for c in numbers["first"] if c["state"] == "failed"][:CALLS]


def _first_failed(whole: Mapping[str, Any]) -> str:
    """Return the key of the first failed row; of a map, the call's."""
    calls = [c for each in whole["maps"].values() for c in _failed_calls(each)]
    tasks = [task for task in whole["tasks"] if task["state"] == "failed"]
    return next((f"task:{each['id']}" for each in [*calls, *tasks]), "")


def _in_two(fields: Sequence[str], room: int) -> list[str]:
    """Put short lines in two columns where there is room."""
    half = (len(fields) + 1) // 2
    firsts, seconds = fields[:half], [*fields[half:], ""]
    most = max(map(width, firsts), default=0)
    if most + 2 + max(map(width, seconds), default=0) > room:
        return [*fields]
    pairs = zip(firsts, seconds, strict=False)
    return [f"{a}{' ' * (most - width(a))}  {b}".rstrip() for a, b in pairs]


def _cells(row: Sequence[str]) -> list[Text]:
    """Return the cells of a task of a run, with the sign and colour of its state."""
    name, state, *others = row
    colour = _COLOURS.get(state, "")
    return [_signed(state), Text(name), Text(state, colour), *map(Text, others)]


class TaskScreen(Looking):
    """One task: its state and the reason, its error, and its log."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "act('restart')", "run again"),
        Binding("c", "act('cancel')", "cancel"),
        Binding("a", "answer", "answer"),
    ]

    def __init__(self, source: TopSource, task_id: str) -> None:
        super().__init__(source)
        self._subject = task_id

    def body(self) -> ComposeResult:
        """See `Looking.body`."""
        with VerticalScroll(id="scroll"):
            yield Static(id="task")

    def look(self) -> Callable[[], None]:
        """See `Looking.look`."""
        reader = self.source.reader
        status = reader.get_task_status(self._subject)
        if isinstance(reader, ServiceReader):
            status = reader.with_traceback(status)
        why = str(reader.explain(self._subject))
        try:
            log = reader.log(self._subject).text[-_LOG:]
        except (TaskorchError, OSError) as error:
            log = f"(it cannot be read: {error})"
        steps = steps_of(reader, status)
        earlier = self.source.runs.earlier(self._subject)["runs"]
        return lambda: self._show(status, why, steps, log, earlier)

    def _show(
        self,
        status: Any,
        why: str,
        steps: Sequence[Mapping[str, Any]],
        log: str,
        earlier: Iterable[Mapping[str, Any]],
    ) -> None:
        self.say("head", f"task {line(self._subject)}  {line(self.source.place)}")
        state = status.state.value
        words = f"{line(status.run_id)} is {state}"
        parts = [
            f"attempts {status.attempts}",
            f"started {utc(status.started)}" if status.started else "",
            f"took {in_words(status.duration)}" if status.duration is not None else "",
            f"worker {line(status.agent_id)}" if status.agent_id else "",
        ]
        text = Text.assemble(
            _signed(state, words), "\n  ", "; ".join(filter(None, parts))
        )
        sections = {
            "error": line(cause_of(status)),
            "why it is so": visible(in_commands(why, self.source.place)),
            "steps": table_of_steps(steps) if steps else "",
            "traceback": "\n".join(tracebacks(status)),
            "log": visible(log).rstrip() or "nothing was logged",
        }
        for name, body in sections.items():
            if body:
                text.append(f"\n\n{name}\n", "bold").append(body)
        text.append("\n\nits latest runs\n", "bold")
        for each in earlier:
            row = f" {line(each['run_id'])}  {utc(each['started'])}  {took(each)}\n"
            text.append(_signed(each["state"])).append(row)
        self.say("task", text)

    def action_act(self, verb: str) -> None:
        """Change the task."""
        self.act_on_task(verb, self._subject)

    def action_answer(self) -> None:
        """Answer, if it is a question."""
        self.answer(self._subject)


# -- questions -------------------------------------------------------------------------


class Confirm(ModalScreen[bool]):
    """A question whether something is to be done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,q", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question, and the keys."""
        with Vertical(classes="box"):
            yield Static(
                Text(f"{self._question}\n\ny: do it    n: leave it"), id="question"
            )


class AskPerson(ModalScreen["tuple[str, str, str] | None"]):
    """A question to a person, with the name of the person if it is unknown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "leave it")
    ]

    def __init__(self, question: Mapping[str, Any], *, is_known: bool) -> None:
        super().__init__()
        self._is_known = is_known
        asked, blocked, who = question, question["blocking_tasks"], question["who"]
        words = f"{line(asked['id'])}: {line(asked['text'])}\n{line(asked['whom'])}"
        if blocked:
            words += f"\n{counted(len(blocked), 'task')} wait for it"
        self._words = words
        self._user = _user() if who is None or _user() in who else ""
        self._hint = "who answers" if who is None else f"who answers: {', '.join(who)}"
        self._options = [*map(str, asked["options"])]
        self._subject = str(asked["answer_to"])

    def compose(self) -> ComposeResult:
        """Yield the text, a field for the name of the person, and the choices."""
        with Vertical(classes="box"):
            yield Static(Text(self._words), id="question")
            if not self._is_known:
                yield Input(self._user, placeholder=self._hint, id="by")
            yield OptionList(
                *(Text(line(each)) for each in self._options), id="options"
            )
            keys = "" if self._is_known else "Tab: name or choice   "
            yield Static(Text(f"{keys}Enter: answer   Esc: leave it"))

    def on_mount(self) -> None:
        """Put the cursor on the choices."""
        self.query_one(OptionList).focus()

    def on_input_submitted(self) -> None:
        """Go on from the name to the choices."""
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Return the choice, with a name."""
        boxes = self.query("#by").results(Input)
        by = "".join(box.value.strip() for box in boxes)
        if not by and not self._is_known:
            self.notify("Who answers?", severity="warning")
            self.query_one("#by").focus()
            return
        self.dismiss((self._subject, self._options[event.option_index], by))


class Help(ModalScreen[None]):
    """The keys, and the signs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss(None)", "close")
    ]
    KEYS: ClassVar = (
        ("arrows", "from run to run, from line to line"),
        ("Tab", "to the grid, to the list"),
        ("Enter", "open a run, a task, the calls of a map; answer a question"),
        ("Esc", "back"),
        ("/", "a filter of names"),
        ("l", "the latest runs, or what to look at"),
        ("r, c", "run again, cancel: asks first"),
        ("p, u", "of a run: pause, resume"),
        ("a", "answer a question"),
        ("q", "end"),
    )

    def compose(self) -> ComposeResult:
        """The keys, and the signs."""
        text = Text()
        for key, words in self.KEYS:
            text.append(f"{key:>8}  ", "bold").append(f"{words}\n")
        for state, (_, _, words) in SIGNS.items():
            text.append("\n       ").append(_signed(state)).append(f"  {words}")
        with VerticalScroll(classes="box"):
            yield Static(text)


class Top(App[None]):
    """
    `taskorch top`.

    Args:
        source: The data to show.
        every: Seconds between two looks.
    """

    TITLE = "taskorch top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #trouble, #verdict, #notes, #cell, #what, #about, #why { padding: 0 1; }
    #task { padding: 0 1; }
    #head, #notes, #what { text-wrap: nowrap; text-overflow: ellipsis; }
    #head, #what { height: 1; }
    #notes { max-height: 3; }
    #head { background: $primary-background; }
    #what { text-style: bold; }
    #trouble { display: none; background: $error; color: $text; max-height: 3; }
    #verdict { max-height: 5; }
    #cell { max-height: 2; color: $text-muted; }
    #grid { height: auto; max-height: 50%; margin: 0 1; }
    SteadyTable { scrollbar-size: 1 1; }
    #todo, #tasks { height: 1fr; min-height: 3; }
    #about { height: auto; max-height: 50%; }
    #why { max-height: 30%; color: $text-muted; }
    #filter { display: none; height: 3; }
    #options { height: auto; max-height: 8; }
    Confirm, AskPerson, Help { align: center middle; }
    .box { width: 72; max-width: 96%; height: auto; max-height: 90%; padding: 1 2; }
    .box { border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", "quit", show=False, priority=True)
    ]

    def __init__(self, source: TopSource, *, every: float) -> None:
        super().__init__()
        self._source = source
        self._every = every
        self._wake = threading.Event()
        self._has_ended = False
        #: The time since which the present look waits for its answer; 0: it does not.
        self._asked = 0.0
        self._thread = threading.Thread(
            target=self._follow, name="taskorch-top", daemon=True
        )

    def on_mount(self) -> None:
        """Begin to ask for data."""
        self.push_screen(FirstView(self._source))
        self._thread.start()
        self.set_interval(1, self._say_slow)

    def on_unmount(self) -> None:
        """End; a thread that waits for a service ends with the process."""
        self._has_ended = True
        self._wake.set()

    def open(self, screen: Looking) -> None:
        """Show another screen."""
        self.push_screen(screen)
        self.wake()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def ask(self, work: Callable[[], Callable[[], None]]) -> None:
        """Do *work* on a thread of its own; call its result here."""

        def run() -> None:
            try:
                self._call(work())
            except Exception as error:  # noqa: BLE001 - whatever comes is shown
                words = visible(self._source.said_of(error))
                self._call(lambda: self.notify(words, severity="error", markup=False))
            self.wake()

        threading.Thread(target=run, name="taskorch-top-act", daemon=True).start()

    def _follow(self) -> None:
        while not self._has_ended:
            self._wake.clear()
            screen = self._looking()
            if screen is not None:
                self._look(screen)
            self._wake.wait(self._every)

    def _looking(self) -> Looking | None:
        """Return the highest screen that shows data."""
        return next(
            (s for s in reversed(self.screen_stack) if isinstance(s, Looking)), None
        )

    def _look(self, screen: Looking) -> None:
        self._asked = monotonic()
        try:
            show = screen.look()
        except Exception as error:  # noqa: BLE001 - what goes on is shown, whatever comes
            lost = error
            self._on(screen, lambda: screen.lost(lost))
            return
        finally:
            self._asked = 0.0

        def see() -> None:
            try:
                show()
            except Exception as error:  # noqa: BLE001 - as above
                screen.lost(error)
            else:
                screen.seen()

        self._on(screen, see)

    def _say_slow(self) -> None:
        """Show on the top screen that it waits, if it does."""
        since, screen = self._asked, self._looking()
        if not since or monotonic() - since < _SLOW:
            return
        if screen is not None and screen.is_mounted and self.is_running:
            screen.lost(TimeoutError("it has not answered yet"))

    def _on(self, screen: Looking, show: Callable[[], None]) -> None:
        """Call *show* once the screen has its parts, and while it has them."""

        def see() -> None:
            # The screen may have closed meanwhile; at the end, its parts close before
            # it.
            if not self.is_running or screen not in self.screen_stack:
                return
            if screen.is_mounted:
                show()
            else:
                screen.call_later(see)

        self._call(see)

    def _call(self, show: Callable[[], None]) -> None:
        """Call *show* on the thread of the screens, unless these have ended."""
        if not self._has_ended:
            with suppress(RuntimeError):
                self.call_from_thread(show)
