"""show_progress: what the line says, and how it is written where."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.tools import PATIENCE, Hold, eventually, fail, in_loop

from taskorch import (
    InvalidTaskError,
    Task,
    TaskOrchestrator,
    Workflow,
)
from taskorch.ext.notices import show_progress
from taskorch.kit.backoff import Backoff


class Terminal(io.StringIO):
    """One that has 80 columns, as far as anybody knows."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What has stood there, one after the other."""
        text = self.getvalue().replace("\x1b[K", "").replace("\n", "")
        return text.split("\r")[1:]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show_progress, "_LOOK", 0.01)
    monkeypatch.setattr(show_progress, "_LONG_LOOK", 0.01)
    monkeypatch.setattr(show_progress, "_WORTH", 0.0)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def orch() -> Iterator[TaskOrchestrator]:
    with TaskOrchestrator(concurrency=2) as orch:
        yield orch


def test_a_terminal_has_one_line_that_says_it_all(
    orch: TaskOrchestrator, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what there was before, what had not ended counts."""
    monkeypatch.setattr(show_progress, "_USUAL", 120)
    orch.submit(pow, 2, 3).result(PATIENCE)
    hold = Hold()
    held = orch.submit_task(Task.call(hold, id="the-slow-one"))
    with orch.show_progress(label="build", file=terminal):
        hold.wait()
        bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
        bad.exception(PATIENCE)
        orch.submit_task(Task.call(int, id="never", after=[bad]))
        eventually(lambda: "1 blocked" in (terminal.lines() or [""])[-1])
        before = terminal.lines()[-1]
        eventually(lambda: "the-slow-one for " in terminal.getvalue())
        hold.release()
        held.result(PATIENCE)
    bar = "[######..............]"
    assert before.startswith(f"{bar} build 1 of 3, 1 running, 1 failed, 1 blocked, ")
    assert "/s, about " in before
    last = terminal.getvalue().rpartition("\r")[2]
    assert last.startswith("build 2 of 3 in ")
    assert ", 1 failed, 1 blocked" in last
    assert last.endswith("\x1b[K\n")
    # Nothing is drawn any more.
    text = terminal.getvalue()
    orch.submit(pow, 2, 3).result(PATIENCE)
    assert terminal.getvalue() == text
    assert orch._rt.timer._repeated == []


def test_a_log_has_few_lines(
    orch: TaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_progress, "_PAUSES", Backoff(0.02, 0.03))
    file, hold = io.StringIO(), Hold()
    with orch.show_progress(file=file):
        handle = orch.submit(hold)
        eventually(lambda: file.getvalue().count("\n") >= 2)
        hold.release()
        handle.result(PATIENCE)
    first, *_, last = file.getvalue().splitlines()
    assert first.startswith("0 of 1, 1 running")
    assert last.startswith("1 of 1 in ")
    assert not set("\r\x1b") & set(file.getvalue())


def test_a_short_one_has_only_the_last(orch: TaskOrchestrator) -> None:
    file = io.StringIO()
    with orch.show_progress(file=file):
        assert list(orch.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    assert file.getvalue().count("\n") == 1
    assert file.getvalue().startswith("50 of 50 in ")


def test_a_dumb_terminal_is_a_log(
    terminal: Terminal, orch: TaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with orch.show_progress(file=terminal):
        pass
    assert terminal.getvalue() == "0 of 0 in 0 s\n"


@in_loop
async def test_in_a_coroutine_it_is_the_same() -> None:
    file = io.StringIO()
    async with TaskOrchestrator() as orch:
        with orch.show_progress(file=file):
            assert await (await orch.aio.submit(pow, 2, 3)) == 8
    assert file.getvalue().startswith("1 of 1 in ")


def test_what_failed_is_red(
    orch: TaskOrchestrator, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR")
    with orch.show_progress(file=terminal):
        orch.submit(fail, ValueError()).exception(PATIENCE)
    assert "\x1b[31m1 failed\x1b[0m" in terminal.getvalue()


def test_a_run_is_shown_with_its_estimate(
    orch: TaskOrchestrator, terminal: Terminal
) -> None:
    hold = Hold()
    orch.submit_task(Task.call(hold, id="warm", type="step"))
    hold.wait()
    hold.release()
    orch.wait(PATIENCE)
    hold.go.clear()
    wf = Workflow("w")
    wf.task(hold, wf.task(int, id="first"), id="second", type="step")
    run = orch.workflows.start(wf, id="r")
    with orch.show_progress(run, file=terminal):
        eventually(lambda: "1 of 2, 1 running" in terminal.getvalue())
        eventually(lambda: "r/second for " in terminal.getvalue())
        hold.release()
        run.result(PATIENCE)
    assert terminal.lines()[-1].startswith("2 of 2 in ")


def test_so_are_handles(orch: TaskOrchestrator, terminal: Terminal) -> None:
    hold = Hold()
    bad = orch.submit_task(Task.call(fail, ValueError(), id="bad"))
    other = orch.submit(hold)
    waits = orch.submit_task(Task.call(int, id="never", after=[bad]))
    with orch.show_progress([bad, other, waits], file=terminal):
        # It is not among them.
        orch.submit(int).result(PATIENCE)
        eventually(
            lambda: "1 of 3, 1 running, 1 failed, 1 blocked" in terminal.getvalue()
        )
        hold.release()
        other.result(PATIENCE)
    assert terminal.lines()[-1].startswith("2 of 3 in ")
    with orch.show_progress([], file=terminal):
        pass
    assert terminal.lines()[-1].startswith("0 of 0 in ")


@pytest.mark.parametrize("of", [5, "tasks", [object()], map(abs, [1])])
def test_of_nothing_else(of: Any) -> None:
    with pytest.raises(InvalidTaskError, match="show_progress is for a run") as got:
        TaskOrchestrator().show_progress(of)
    assert "as a map" in got.value.hint


def test_names_of_others_do_nothing_to_the_terminal(
    orch: TaskOrchestrator, terminal: Terminal
) -> None:
    hold = Hold()
    with orch.show_progress(label="a\nb\x1b[2J", file=terminal):
        handle = orch.submit_task(Task.call(hold, id="x" * 100))
        eventually(lambda: f"…{'x' * 31} for" in terminal.getvalue())
        hold.release()
        handle.result(PATIENCE)
    assert all(r"a b\x1b[2J " in line for line in terminal.lines())


@pytest.mark.parametrize("columns", [120, 40, 12, 0])
def test_a_line_is_no_longer_than_the_terminal(
    orch: TaskOrchestrator, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(Terminal):
        def fileno(self) -> int:
            return 99

    size = os.terminal_size((columns, 24))
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: size)
    file, hold = Narrow(), Hold()
    with orch.show_progress(label="label", file=file):
        handle = orch.submit_task(Task.call(hold, id="x" * 30))
        hold.wait()
        eventually(lambda: len(file.lines()) > 3)
        lines = file.lines()
        hold.release()
        handle.result(PATIENCE)
    assert max(map(len, lines)) < (columns or 80)
    assert ("[" in lines[-1]) == (columns == 120)
    if columns == 120:
        assert lines[-1].startswith("[....................] label 0 of 1, 1 running")


def test_letters_that_take_two_columns_are_counted_so(
    orch: TaskOrchestrator, terminal: Terminal
) -> None:
    with orch.show_progress(label="宽字符" * 20, file=terminal):
        eventually(terminal.lines)
    # 79 columns; a letter that has no room left is not written.
    assert terminal.lines()[0] == ("宽字符" * 20)[:39]


def test_what_is_printed_meanwhile_stands_above(
    orch: TaskOrchestrator, terminal: Terminal
) -> None:
    with orch.show_progress(label="build", file=terminal) as progress:
        eventually(terminal.lines)
        progress.print("page", 3, "\x1b[2J")
        progress.print("two\nlines")
    text = terminal.getvalue()
    assert "\rpage 3 \\x1b[2J\x1b[K\n" in text
    assert "\rtwo\x1b[K\nlines\n" in text
    assert text.rpartition("\r")[2].startswith("build 0 of 0")

    log = io.StringIO()
    with orch.show_progress(file=log) as progress:
        progress.print("said")
    assert log.getvalue().splitlines()[0] == "said"


def test_a_file_that_is_gone_harms_nobody(orch: TaskOrchestrator) -> None:
    file = Terminal()
    with orch.show_progress(file=file):
        file.close()
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8


def test_one_that_cannot_say_all_says_something(orch: TaskOrchestrator) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    with orch.show_progress(label="große", file=file):
        pass
    assert raw.getvalue().startswith(b"gro?e 0 of 0 in ")


def test_without_a_standard_error_there_is_nothing(
    orch: TaskOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with orch.show_progress():
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8


def test_a_file_that_blocks_does_not_hold_up_others(orch: TaskOrchestrator) -> None:
    """A terminal can be stopped: what has timeouts still has them."""
    go = threading.Event()

    class Stopped(Terminal):
        blocked = 0

        def write(self, text: str) -> int:
            self.blocked += 1
            assert go.wait(PATIENCE)
            return super().write(text)

    file = Stopped()
    heard: list[Any] = []
    orch.signals.task_completed.connect(heard.append)
    with orch.show_progress(file=file):
        eventually(lambda: file.blocked)
        assert orch.submit(pow, 2, 3).result(PATIENCE) == 8
        eventually(lambda: heard)
        # One line waits, and no other comes after it.
        assert file.blocked == 1
        go.set()
    assert file.lines()[-1].startswith("1 of 1 in ")


@pytest.mark.parametrize(
    ("rate", "text"), [(1234.5, "1,234/s"), (0.5, "30.0/min"), (0.01, "36.0/h")]
)
def test_rates_have_a_unit(rate: float, text: str) -> None:
    assert show_progress._per_second(rate) == text
