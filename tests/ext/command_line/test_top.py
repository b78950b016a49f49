"""`taskorch top`: the first view of the dashboard, once as text, and on a screen."""

from __future__ import annotations

import asyncio
import html
import io
import os
import pty
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import taskorch, told
from tests.ext.service.tools import recorded, shown

from taskorch import Task, TaskOrchestrator, Workflow, current_context
from taskorch.ext.command_line import main
from taskorch.ext.command_line._first_view import SIGNS
from taskorch.ext.service import create_app, serve
from taskorch.ext.views._nights import RunViews
from taskorch.kit.visible import width

SLOW = pytest.mark.slow("works a whole screen")

pytest.importorskip("cronsim")


def well(*_):
    return 1


def ill(*_):
    print("before it fails")
    if "~" not in current_context().task_id:
        raise ValueError("no page [red]\x1b[31m")
    return 1


def sick():
    raise OSError("the disk is full")


def lame():
    raise TimeoutError("nobody answers")


def pipeline():
    flow = Workflow("pipeline")
    fetch = flow.task(ill, flow.task(well, id="connect"), id="fetch")
    flow.task(well, fetch, id="load")
    return flow


def make(orch):
    """Three nights of a schedule that is well, of one that is not; a question."""
    now = datetime.now(UTC)
    since = now - timedelta(days=3)
    orch.schedules.add("alpha-is-well", "0 0 * * *", well)
    orch.schedules.add("beta", "0 0 * * *", pipeline())
    orch.schedules.add("gamma", "0 0 * * *", sick)
    # One after the other: what failed last stands first.
    for name in ("alpha-is-well", "beta", "gamma"):
        orch.schedules.backfill(name, since, now, limit=9)
        # Between two ticks of a backfill, no task is there.
        eventually(
            lambda: all(each.state == "done" for each in orch.schedules.backfills())
        )
        eventually(lambda: not under_way(orch))
    orch.submit_task(Task.question("Load it?", who=["ada"], id="sign-off"))


def under_way(orch):
    states = orch.get_stats().state_machine
    return states.running + states.queued + states.pending if states else 1


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    path = tmp_path_factory.mktemp("top") / "runs.db"
    with TaskOrchestrator(journal=path, rerun_failed=False) as orch:
        make(orch)
        orch.stop(drain=False)
    return path


@contextmanager
def world(**options):
    with shown(**options) as service:
        make(service.orch)
        yield service


# -- once ------------------------------------------------------------------------------


def test_a_journal_and_its_service_are_printed_once(journal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = taskorch(capsys, "top", journal)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].startswith("✗ The latest run of 1 of 3 schedules completed. ")
    assert "2 schedules did not end well; 6 tasks failed and are not mended" in lines[1]
    assert "1 question waits for a person" in lines[1]
    assert "nobody has the journal open" in lines[2]
    rows = {line.split()[0]: line for line in lines if line[:5] in ("alpha", "beta ")}
    assert rows["alpha-is-well"].count("●") == 4  # and its last
    assert rows["beta"].count("✗") == 4
    assert any(re.match(r"\? sign-off .* Load it\?", line) for line in lines)
    assert any("OSError: the disk is full" in line for line in lines)
    assert "\x1b" not in out
    with recorded(journal) as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        there = taskorch(capsys, "top", service.server.url, "--once")[1]
        # They are seen, and nobody takes an answer.
        (asked,) = service.get("/api/v1/questions")["questions"]
        body = {"choice": "approve", "by": "ada"}
        assert service.post("/api/v1/tasks/sign-off/answer", body).status == 404
    assert (asked["id"], asked["who"]) == ("sign-off", ["ada"])
    # What it was asked of, and what is known of that.
    assert there.splitlines()[1] == lines[1]
    assert there.splitlines()[-10:] == lines[-10:]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_the_grid_has_the_nights_for_which_there_is_room(
    journal, capsys, monkeypatch, columns
):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = taskorch(capsys, "top", journal)[1]
    begin = out.index("\nschedule") + 1
    grid = out[begin:].partition("\n\n")[0].splitlines()
    assert len(grid) == 4
    assert max(map(width, grid)) <= columns
    today = f"{datetime.now(UTC):%d}"
    assert today in grid[0].split() or "last" in grid[0]


def test_letters_stand_for_signs_where_there_are_none(journal, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    assert main(["top", str(journal)]) == 0
    out.seek(0)
    text = out.read()
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("beta")).count("X") == 4
    assert text.isascii()


def test_each_state_has_a_sign_of_its_own():
    """Whoever sees no colours, or has no letters, tells them apart."""
    signs, letters, _ = zip(*SIGNS.values(), strict=True)
    assert len({*signs}) == len({*letters}) == len(SIGNS)
    assert all(map(str.isascii, letters))
    assert all(width(sign) == 1 for sign in signs)


def test_programs_get_what_the_dashboard_gets(journal, capsys):
    (nights,) = told(taskorch(capsys, "top", journal, "--json")[1])
    names = {each["name"] for each in nights["schedules"]}
    assert names == {"alpha-is-well", "beta", "gamma"}
    assert nights["questions"]["first"][0]["id"] == "sign-off"
    assert nights["statistics"]["state_machine"]["failed"] == 6


def test_all_is_well_if_all_is_well(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit(len, "abc").result(60)
    out = taskorch(capsys, "top", path)[1]
    assert out.splitlines()[1] == "● All is well."


def test_not_all_is_well_if_nobody_goes_on_with_a_task(tmp_path, capsys):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(print, id="open", not_before=9_000))
        orch.stop(drain=False)
    line = taskorch(capsys, "top", path)[1].splitlines()[1]
    assert "All is well" not in line
    assert "1 task is unfinished, and nobody has the journal open." in line


def test_the_journal_of_the_settings_is_shown(journal, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = taskorch(capsys, "top")
    assert (code, out) == (2, "")
    assert "which journal, or which service?" in err
    monkeypatch.setenv("TASKORCH_JOURNAL", str(journal))
    assert "Load it?" in taskorch(capsys, "top")[1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere.db",), "there is no journal"),
        (("http://127.0.0.1:9",), "cannot be reached"),
        (("runs.db", "--days", "0"), "a night is the least"),
    ],
)
def test_what_cannot_be_looked_at_is_said(capsys, words, why):
    code, out, err = taskorch(capsys, "top", *words)
    assert (code, out) == (2, "")
    assert why in err


def test_a_service_of_an_earlier_version_says_what_it_lacks(capsys, monkeypatch):
    """It has no verdict, and the origin of a run is a word; its runs are listed."""
    whole, page, run = RunViews.nights, RunViews.page, RunViews.run

    def without(document, *names):
        return {name: each for name, each in document.items() if name not in names}

    def earlier_page(self, *which, **options):
        found = page(self, *which, **options)
        return found | {"runs": [without(each, "began_by") for each in found["runs"]]}

    def earlier_run(self, *which):
        found = run(self, *which)
        return found | {"run": without(found["run"], "began_by")}

    def earlier_nights(self, *which):
        return without(whole(self, *which), "verdict", "late")

    with shown() as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        flow = Workflow("flow")
        flow.task(well)
        service.orch.workflows.start(flow, id="one")
        assert service.orch.wait(PATIENCE)
        monkeypatch.setattr(RunViews, "nights", earlier_nights)
        monkeypatch.setattr(RunViews, "page", earlier_page)
        monkeypatch.setattr(RunViews, "run", earlier_run)
        code, out, err = taskorch(capsys, "top", service.server.url)
        assert (code, out) == (2, "")
        assert "earlier version" in err
        assert "one" in taskorch(capsys, "runs", service.server.url)[1]
        assert (
            "one is completed"
            in taskorch(capsys, "runs", service.server.url, "show", "one")[1]
        )


# -- on a screen -----------------------------------------------------------------------


class Seen:
    """A screen, and who sits before it."""

    def __init__(self, app, pilot):
        self.app, self.pilot = app, pilot

    def text(self):
        svg = self.app.export_screenshot()
        rows: dict[str, str] = {}
        for x, y, text in re.findall(
            r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg
        ):
            begin = rows.get(y, "").ljust(round(float(x) / 12.2))
            rows[y] = begin + html.unescape(text).replace("\xa0", " ")
        return "\n".join(rows.values())

    async def until(self, *words, without=()):
        end = asyncio.get_running_loop().time() + PATIENCE
        while True:
            text = self.text()
            if all(w in text for w in words) and not any(w in text for w in without):
                return text
            assert asyncio.get_running_loop().time() < end, f"{words}, in:\n{text}"
            await self.pilot.pause(0.05)

    async def press(self, *keys):
        await self.pilot.press(*keys)


def on_screen(place, story, *, size=(80, 24), every=0.1, is_kept=False, between=None):
    """
    Let *story* see what is drawn of *place*.

    *is_kept*: of one look, at once. *between* gets each look that comes, and hands it on.
    """
    pytest.importorskip("textual")
    from taskorch.ext.command_line._source import reader_of, runs_of
    from taskorch.ext.command_line._top_screens import Top, TopSource

    async def sit():
        with reader_of(str(place)) as reader:
            source = TopSource(str(place), reader, runs_of(reader), days=30)
            if is_kept:
                picture = source.look()
                source.look = lambda: picture
            if between is not None:
                look = source.look
                source.look = lambda: between(look())
            app = Top(source, every=every)
            async with app.run_test(size=size, notifications=True) as pilot:
                await story(Seen(app, pilot))

    asyncio.run(sit())


def charging():
    current_context().step("charge", len, "abc")


def test_the_screen_of_a_task_shows_its_steps(tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(charging, id="x")).result(PATIENCE)

    async def story(seen):
        from taskorch.ext.command_line._top_screens import TaskScreen

        await seen.until("All is well")
        seen.app.open(TaskScreen(seen.app.screen.source, "x"))
        await seen.until("task x", "steps", "charge: done in", "called")

    on_screen(path, story, size=(100, 40))


@SLOW
def test_a_person_finds_the_failure_and_runs_it_again(monkeypatch, tmp_path):
    with world(journal=tmp_path / "runs.db") as service:
        orch = service.orch
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        run_id = f"beta-{day}T0000Z"

        async def story(seen):
            text = await seen.until("2 schedules did not end well", "beta", "Load it?")
            assert "✗" in text
            assert "sign-off" in text
            # The cursor stays on what it was on, whatever comes above it.
            await seen.press("tab", "down")
            text = await seen.until(": OSError: the disk is full")
            (second,) = re.findall(r"^ ?(\S+): OSError", text, re.MULTILINE)
            await orch.aio.submit_task(Task.call(lame, id="later"))
            await seen.until("✗  later", f"{second}: OSError")
            await seen.press("shift+tab")
            # The grid: the latest night of beta, its run, its task.
            await seen.press("down")
            await seen.until(f"beta, {day}: failed")
            await seen.press("enter")
            await seen.until(f"run {run_id}", "is failed", "scheduled", "fetch")
            # What failed first is what Enter opens.
            await seen.press("enter")
            await seen.until("task ", "is failed", r"no page [red]\x1b[31m")
            await seen.press("pagedown")
            await seen.until("before it fails")
            await seen.press("escape")
            await seen.until(f"run {run_id}")
            # It says what it touches, and does nothing by itself.
            await seen.press("r")
            await seen.until("Runs 1 task again. 1 task that waited goes on.")
            await seen.press("n")
            await seen.until(f"run {run_id}", without=("Runs 1 task again",))
            assert orch.get_task_status(f"{run_id}/fetch").rerun == ""
            await seen.press("r")
            await seen.until("Runs 1 task again.")
            await seen.press("y")
            await seen.until("was restarted", f"{run_id} is mended")
            await seen.press("escape")
            await seen.until("1 schedule did not end well")

        on_screen(service.server.url, story)
        assert orch.get_task_status(f"{run_id}/load").state == "completed"


@pytest.mark.slow("sixteen whole screens")
@pytest.mark.parametrize("pauses", range(4))
def test_it_can_be_left_in_the_midst_of_a_look(journal, pauses):
    """Whoever looks before a screen is there, or after it, does not fail."""

    async def story(seen):
        for _ in range(pauses):
            await seen.pilot.pause(0)

    for _ in range(4):
        on_screen(journal, story, every=0, is_kept=True)


def test_it_says_that_it_waits_and_goes_on_after_whatever_comes(journal):
    trouble = []
    comes = threading.Event()

    def between(picture):
        if "waits" in trouble:
            comes.wait(PATIENCE)
        if "nonsense" in trouble:
            # Its form is right up to the place that the cursor is on.
            cells = [{"at": "2026-01-01", "state": "odd", "states": 5, "run": []}]
            schedules = [
                {**each, "cells": cells} for each in picture.nights["schedules"]
            ]
            nights = {**picture.nights, "schedules": schedules}
            return attrs.evolve(picture, nights=nights)
        return picture

    async def story(seen):
        await seen.until("alpha-is-well")
        trouble.append("waits")
        await seen.until("! since")
        trouble[:] = ["nonsense"]
        comes.set()
        await seen.until("! since")
        # What is there can still be gone through.
        await seen.press("down", "right", "up", "tab", "down", "shift+tab", "left")
        await seen.until("! since")
        trouble.clear()
        await seen.until("alpha-is", without=("! since",))

    on_screen(journal, story, between=between)


@SLOW
def test_the_first_night_comes_while_it_is_looked_at(monkeypatch):
    with shown() as service:
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        orch = service.orch
        orch.schedules.add("new", "0 0 * * *", sick)

        async def story(seen):
            await seen.until("new  ")
            # Nothing has this name: there is nothing to go to.
            await seen.press("slash", *"xyz", "enter")
            await seen.until("xyz", without=("new  ",))
            for _ in range(3):
                await seen.press("up", "down", "left", "up", "enter", "r", "tab")
            await seen.press("slash", "escape")
            await seen.until("new  ")
            # There is no night to go to.
            await seen.press("right", "right", "down", "left", "right", "right")
            now = datetime.now(UTC)
            orch.schedules.backfill("new", now - timedelta(days=1), now, limit=9)
            await seen.until("✗", "did not end well", without=("! since",))
            await seen.press("left", "right", "enter")
            await seen.until("run new/", "is failed")

        on_screen(service.server.url, story)


@SLOW
def test_a_question_is_answered_by_who_may(monkeypatch):
    with world() as service:
        orch = service.orch
        monkeypatch.setenv("TASKORCH_TOKEN", service.token)
        monkeypatch.setenv("LOGNAME", "ada")

        async def story(seen):
            await seen.until("1 question waits", "Load it?")
            await seen.press("slash", *"sign", "enter")
            await seen.until("to look at: 1", without=("alpha-is-well",))
            await seen.press("escape")
            await seen.press("slash", "escape")
            await seen.until("alpha-is-well")
            await seen.press("a")
            await seen.until("ada may answer", "approve", "reject")
            await seen.press("escape")
            await seen.until("Load it?", without=("ada may answer",))
            assert orch.get_task_status("sign-off").state == "blocked"
            await seen.press("a")
            await seen.until("ada may answer")
            await seen.press("enter")
            await seen.until("is decided", without=("1 question waits",))

        on_screen(service.server.url, story)
        assert orch.get_task_status("sign-off").state == "completed"
        assert "ada" in str(orch.get_task_status("sign-off").history)


@SLOW
def test_a_journal_is_only_read(journal):
    async def story(seen):
        await seen.until("1 question waits", "nobody has the journal open")
        await seen.press("question_mark")
        await seen.until("run again, cancel: asks first", "completed, once it was")
        await seen.press("escape")
        await seen.press("r")
        await seen.until("A journal is only read here")
        await seen.press("l")
        await seen.until("latest runs: 9")
        await seen.press("slash", *"beta")
        await seen.until("latest runs: 3")
        await seen.press("q")

    before = journal.read_bytes()
    on_screen(journal, story)
    assert journal.read_bytes() == before


@SLOW
def test_a_service_that_goes_away_and_comes_back_is_told(monkeypatch):
    with TaskOrchestrator() as orch:
        make(orch)
        token = "a-token-that-stays-the-same"
        monkeypatch.setenv("TASKORCH_TOKEN", token)
        first = serve(create_app(orch, token=token, page=True), port=0)
        port = first.port

        async def story(seen):
            await seen.until("Load it?")
            await asyncio.to_thread(first.stop)
            text = await seen.until(
                "cannot be reached", "what stands here is of before"
            )
            assert "Load it?" in text
            await seen.press("r")
            await seen.press("down", "enter")
            await seen.until("cannot be reached")
            await seen.press("escape")
            with serve(create_app(orch, token=token, page=True), port=port):
                await seen.until("is back", "Load it?", without=("cannot be reached",))

        on_screen(f"http://127.0.0.1:{port}", story)


# -- a real terminal -------------------------------------------------------------------


def in_terminal(*command, keys=b"", until=b""):
    """What a program writes to a terminal, and its exit code."""
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=env
    )
    os.close(follower)
    written = b""
    try:
        while True:
            try:
                written += os.read(leader, 65_536)
            except OSError:
                break
            if keys and until in written:
                os.write(leader, keys)
                keys = b""
        return process.wait(PATIENCE), written.decode(errors="replace")
    finally:
        os.close(leader)


def test_without_textual_it_says_what_to_install(journal):
    code = "import sys; sys.modules['textual'] = None; from taskorch.ext.command_line import main; "
    code += f"sys.exit(main(['top', {str(journal)!r}]))"
    status, text = in_terminal(sys.executable, "-c", code)
    assert status == 2
    assert "pip install 'taskorch[tui]'" in text
    assert "Traceback" not in text


@pytest.mark.slow("a process in a terminal")
def test_it_is_drawn_in_a_terminal_until_q(journal):
    pytest.importorskip("textual")
    command = (sys.executable, "-m", "taskorch", "top", str(journal), "--every", "0.1")
    status, text = in_terminal(*command, keys=b"q", until=b"Load it?")
    assert status == 0
    assert "did not end well" in text
