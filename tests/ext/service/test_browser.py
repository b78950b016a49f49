"""The page that shows an orchestrator, in a browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.service import suites
from tests.ext.service.tools import Service, recorded, shown

from taskorch import (
    Approval,
    Resources,
    Task,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.ext.people import Tokens
from taskorch.ext.service import new_token
from taskorch.model import Answer, NamedUnits, Quota, TaskFilter
from taskorch.protocols import RetryDecision

pytestmark = pytest.mark.slow("a browser")

HOSTILE = "<img src=x onerror=alert(1)>"
PAGES = (
    *("", "runs", "tasks", "schedules", "questions", "timeline", "agents"),
    "metrics",
)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("there is no chromium: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(browser, service, view="", **options):
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1_000)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.goto(service.server.page)
    go(page, service, view)
    yield page
    assert wrong == []
    context.close()


def go(page, service, view):
    """Open a page, and wait until it is there."""
    page.wait_for_selector("main[data-shown]")
    page.goto(f"{service.server.url}/#/{view}")
    page.wait_for_selector(f'main[data-shown="#/{view}"]')


def confirm(page, by="ada"):
    """Go on with an act that asks first: its text, as the service says it."""
    page.wait_for_selector("#act-go:enabled")
    words = page.text_content("#act-text")
    page.fill("#act-by", by)
    page.click("#act-go")
    return words


def text_is(page, selector, text):
    only = re.compile(f"^{re.escape(text)}$")
    page.locator(selector).filter(has_text=only).first.wait_for()


def rows_are(page, count):
    """The table has so many rows; what is said of one may have a line below it."""
    rows = "tbody tr:not(.error, .said)"
    last = f":nth-child({count} of {rows.removeprefix('tbody ')})"
    page.locator(f"tbody {last}:not(:has(~ tr:not(.error, .said)))").wait_for()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (360, "dark"),
        (1280, "dark"),
        (360, "light"),
    ],
)
def test_nobody_is_shut_out(browser, width, scheme):
    """Neither in the light nor in the dark, on the smallest of screens (or at 200 %)."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with shown() as service:
        flow = Workflow("flow")
        first = flow.task(int, id="first")
        flow.task(str, first, id="second")
        run = service.orch.workflows.start(flow)
        run.result(PATIENCE)
        with pytest.raises(ValueError, match="invalid"):
            service.orch.submit_task(Task.call(int, HOSTILE, id="wrong")).result()
        pages = (*PAGES, "events", "task/wrong", f"workflows/{run.workflow_id}")
        size = {"width": width, "height": 700}
        with opened(browser, service, color_scheme=scheme, viewport=size) as page:
            for view in pages:
                go(page, service, view)
                found = axe.run(page).response["violations"]
                assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
                # Nothing is wider than the screen but what scrolls by itself.
                assert page.evaluate(
                    "document.documentElement.scrollWidth <= innerWidth"
                ), view


def test_it_is_live_and_counts_what_get_stats_does(browser):
    with shown() as service, opened(browser, service) as page:
        text_is(page, "#count-completed", "0")
        list(service.orch.map(int, range(1_234)))
        assert service.orch.wait(PATIENCE)
        text_is(page, "#count-completed", "1,234")
        assert service.orch.get_stats().state_machine.completed == 1_234


#: Keeps what the server has said of each number of events.
RECORDS = """
const plain = window.fetch;
window.told = {};
window.fetch = async (...given) => {
  const answer = await plain(...given);
  if (String(given[0]).startsWith("/api/v1/board")) {
    const said = await answer.clone().json();
    (window.told[said.heard] ??= []).push(said.statistics.state_machine);
  }
  return answer;
};
"""
SHOWN = """() => {
  const tiles = document.querySelector(".tiles");
  const counts = [...(tiles?.querySelectorAll("b") ?? [])].map(
    (each) => [each.id.slice(6), Number(each.textContent.replaceAll(",", ""))]);
  return [window.told[tiles?.dataset.heard] ?? [], Object.fromEntries(counts)];
}"""


def test_the_counts_are_those_of_one_moment_while_much_happens(browser):
    over = threading.Event()

    def feed(orch):
        while not over.wait(0.01):
            list(orch.map(int, range(20)))

    with shown() as service, opened(browser, service) as page:
        page.add_init_script(RECORDS)
        page.reload()
        thread = threading.Thread(target=feed, args=(service.orch,))
        thread.start()
        seen = set()
        try:
            while len(seen) < 10:
                told, counts = page.evaluate(SHOWN)
                assert not counts or counts in told
                seen.add(counts.get("completed"))
        finally:
            over.set()
            thread.join()


def test_the_keyboard_alone_leads_to_the_content_and_to_every_page(browser):
    with shown() as service, opened(browser, service, "tasks") as page:
        page.evaluate("document.activeElement.blur()")
        page.reload()
        page.wait_for_selector("main[data-shown]")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        assert page.url.endswith("#/tasks")
        page.focus(".skip")
        for name in ("", *PAGES[1:], "events"):
            page.focus(".skip")
            while page.evaluate("document.activeElement.id") != f"to-{name}":
                page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.wait_for_selector(f'main[data-shown="#/{name}"]')


def test_its_buttons_do_what_they_say(browser):
    with shown(concurrency=1) as service:
        goes = threading.Event()
        service.orch.submit(goes.wait, PATIENCE)
        handle = service.orch.submit_task(Task.call(int, id="mine"))
        with opened(browser, service, "task/mine") as page:
            page.click("text=Suspend")
            page.wait_for_selector("text=Resume")
            assert handle.status.state == "suspended"
            page.click("text=Resume")
            page.wait_for_selector("#do-suspend")
            # By the keyboard alone.
            page.focus("#do-cancel")
            page.keyboard.press("Enter")
            page.wait_for_selector("#act-go:enabled")
            page.keyboard.type("ada")
            page.keyboard.press("Enter")
            page.wait_for_selector("#do-rerun")
            assert handle.status.state == "cancelled"
            assert "by ada" in handle.status.history[-1].detail
            goes.set()
            page.click("#do-rerun")
            assert confirm(page) == "Runs 1 task again."
            text_is(page, "dd .state", "completed")
            assert service.orch.handle("mine").result(PATIENCE) == 0


def test_a_task_begins_again_at_a_step(browser):
    called = []

    def job():
        context = current_context()
        for name in ("load", "<b>sum</b>"):
            context.step(name, called.append, name)

    with shown() as service:
        service.orch.submit_task(Task.call(job, id="stepped")).result(PATIENCE)
        service.orch.submit_task(Task.call(len, "x", id="plain")).result(PATIENCE)
        with opened(browser, service, "task/stepped") as page:
            page.wait_for_selector("[id='do-fork-load#1']")
            page.click("[id='do-fork-<b>sum</b>#1']")
            words = confirm(page)
            assert "Keeps load#1. Calls anew <b>sum</b>#1, and" in words
            text_is(page, "h1 .name", "stepped~2")
            page.wait_for_selector("[id='do-fork-load#1']")
            assert called == ["load", "<b>sum</b>", "<b>sum</b>"]
            go(page, service, "task/plain")
            page.wait_for_selector("#do-rerun")
            assert page.locator("h2", has_text="Steps").count() == 0


def test_the_page_of_a_run_shows_the_steps_of_its_tasks(browser):
    def job():
        for name in ("load", "<b>sum</b>"):
            current_context().step(name, str, name)

    flow = Workflow("nightly")
    flow.task(job, id="stepped")
    flow.task(len, "x", id="plain")
    with shown() as service:
        service.orch.workflows.start(flow, id="v1").result(PATIENCE)
        with opened(browser, service, "runs/v1") as page:
            page.click("#show-steps-stepped")
            page.wait_for_selector("#steps-stepped li")
            steps = page.locator("#steps-stepped li").all_inner_texts()
            assert [each.partition(":")[0] for each in steps] == ["load", "<b>sum</b>"]
            assert all(each.endswith(", called") for each in steps)
            page.click("#show-steps-plain")
            page.wait_for_selector("#steps-plain")
            assert page.inner_text("#steps-plain") == "It has no steps."
            page.click("#show-steps-stepped")
            page.wait_for_selector("#steps-stepped", state="detached")


def test_it_is_asked_when_it_ends_and_what_helps_is_done(browser):
    goes = threading.Event()
    with shown(concurrency=1) as service:
        service.orch.submit_task(Task.call(goes.wait, PATIENCE, id="first", expected=9))
        name = "flow/last"
        for task_id in (*(f"t{number}" for number in range(20)), name):
            service.orch.submit_task(Task.call(int, id=task_id, expected=60))
        with opened(browser, service) as page:
            page.goto(f"{service.server.url}/#/task/flow%2Flast")
            page.click("#do-when")
            page.wait_for_selector("#ends:has-text('in nine of ten cases')")
            page.fill("#ends-by", "300")
            page.click("#do-in-time")
            page.wait_for_selector("#ends li:has-text('orch.set_priority')")
            assert "ends" in page.inner_text("#ends li")
            page.locator("#ends li:has-text('orch.set_priority') button").click()
            eventually(lambda: service.orch.get_task_status(name).priority > 0)
            page.fill("#ends-priority", "-3")
            page.click("#do-what-if")
            page.wait_for_selector("#ends pre:has-text('flow/last')")
            assert "later" in page.inner_text("#ends pre")
            page.click("#do-change-priority")
            eventually(lambda: service.orch.get_task_status(name).priority == -3)
            page.fill("#ends-by", "yesterday")
            page.click("#do-when")
            page.wait_for_selector("#notice:has-text('a time is needed')")
            go(page, service, "task/first")
            goes.set()
            page.wait_for_selector("#ends", state="detached")


def test_what_is_held_for_a_decision_is_decided(browser):
    mended = threading.Event()

    def fails():
        if not mended.is_set():
            raise BrokenProcessPool("the worker died")
        return "well"

    with shown() as service:
        orch = service.orch
        for name in ("one", "two"):
            orch.submit_task(Task.call(fails, id=name, idempotent=False))
            eventually(lambda name=name: orch.handle(name).status.state == "blocked")
        with opened(browser, service, "task/one") as page:
            mended.set()
            page.click("#do-retry")
            confirm(page)
            text_is(page, "dd .state", "completed")
            assert orch.handle("one").result() == "well"
            go(page, service, "task/two")
            page.click("#do-fail")
            confirm(page)
            text_is(page, "dd .state", "failed")


def test_questions_and_approvals_are_answered(browser):
    with shown() as service:
        orch = service.orch
        ask = Task.question("Ship it?", options=["yes", "no"], who=["ada"], id="ship")
        asked = orch.submit_task(ask)
        flow = Workflow("flow")
        flow.phase("first", gate=Approval()).task(int, id="a")
        run = orch.workflows.start(flow, id="run")
        with opened(browser, service) as page:
            page.click("text=2 questions wait for a person")
            ship = page.locator("section", has_text="Ship it?")
            # Who may not is told so, and nothing is lost of what was written.
            ship.get_by_label("Your name").fill("eve")
            ship.get_by_role("button", name="yes").click()
            page.wait_for_selector("#notice:has-text('ada')")
            ship.get_by_label("Your name").fill("ada")
            ship.get_by_label("Note").fill("at last")
            ship.get_by_role("button", name="yes").click()
            ship.wait_for(state="detached")
            assert asked.result(PATIENCE) == Answer("yes", ("ada",), "at last")
            # By the keyboard alone, and where the run is shown.
            go(page, service, "workflows/run")
            page.get_by_label("Your name").fill("ben")
            page.get_by_role("button", name="approve").focus()
            page.keyboard.press("Enter")
            page.wait_for_selector("text=passed")
            assert run.result(PATIENCE)
            page.wait_for_selector("#to-questions:text-is('Questions')")


class Asks:
    def decide(self, failure, _):
        return RetryDecision(retry=False, ask="What now?", kind=failure.kind)


def fail(number):
    msg = f"no table {number}"
    raise LookupError(msg)


def test_a_question_and_a_failure_are_asked_alike(browser):
    """With the tasks that each decides, and those that wait for it."""
    with shown(retry_handler=Asks()) as service:
        orch = service.orch
        orch.submit_task(Task.question("Ship?", who=["ada"], id="ship"))
        orch.submit_task(Task.call(int, id="deploy", after=["ship"]))
        for number in range(2):
            orch.submit_task(Task.call(fail, number, id=f"load{number}"))
        after = orch.submit_task(Task.call(int, id="report", after=["load0"]))
        eventually(lambda: sum(len(each.tasks) for each in orch.questions()) == 3)
        with opened(browser, service, "questions") as page:
            ship = page.locator("section", has_text="Ship?")
            ship.get_by_text("ada may answer").wait_for()
            failure = page.locator("section", has_text="What now?")
            failure.get_by_text("LookupError: no table").wait_for()
            for part, names in (
                (ship, ["ship", "deploy"]),
                (failure, ["load0", "load1", "report"]),
            ):
                assert sorted(part.locator("a").all_inner_texts()) == sorted(names)
            failure.get_by_role("link", name="load1").click()
            # The form is where its tasks are, too.
            page.wait_for_selector('main[data-shown="#/task/load1"]')
            page.get_by_label("Your name").fill("ada")
            page.get_by_role("button", name="skip").click()
            text_is(page, "dd .state", "completed")
        assert after.result(PATIENCE) == 0


def test_what_somebody_writes_into_a_form_stays(browser):
    """While tasks run and fail, and other questions come and are answered."""
    with shown(retry_handler=Asks()) as service:
        orch = service.orch
        orch.submit_task(Task.call(fail, 0, id="load0"))
        orch.submit_task(Task.question("Ship?", id="ship"))
        eventually(lambda: len(orch.questions()) == 2)
        with opened(browser, service, "questions") as page:
            failure = page.locator("section", has_text="What now?")
            note = failure.get_by_label("Note")
            note.fill("it is because")
            orch.submit_task(Task.call(fail, 1, id="load1"))
            failure.get_by_role("link", name="load1").wait_for()
            orch.submit_task(Task.question("Sure?", id="sure"))
            page.locator("section", has_text="Sure?").wait_for()
            orch.answer("ship", "approve", by="ada")
            page.locator("section", has_text="Ship?").wait_for(state="detached")
            assert note.input_value() == "it is because"
            assert note.evaluate("each => each === document.activeElement")
            orch.answer("sure", "approve", by="ada")
            failure.get_by_label("Your name").fill("bob")
            failure.get_by_role("button", name="abort").click()
            page.wait_for_selector("text=Nobody is asked anything.")
        history = orch.get_task_status("load1").history
        assert any("it is because" in each.detail for each in history)


def test_a_form_that_shows_an_earlier_question_lets_nothing_in(browser):
    """Whoever has it before him since before it was asked again, with other data."""
    with shown() as service:
        orch = service.orch
        old = Task.question("Load it?", id="load", details={"total": 100})
        new = Task.question("Load it?", id="load", details={"total": 999_999})
        orch.submit_task(old)
        with opened(browser, service, "questions") as page:
            page.wait_for_selector("pre:has-text('100')")
            # The page hears of nothing new.
            page.route("**/api/v1/questions", lambda route: route.abort())
            assert orch.answer("load", "approve", by="ada")
            again = orch.submit_task(new, replace=True)
            page.get_by_label("Your name").fill("bob")
            page.get_by_role("button", name="approve").click()
            page.wait_for_selector("#notice:has-text('was run again since, as load~2')")
            page.wait_for_selector("#notice:has-text('999999')")
            (question,) = orch.questions()
            assert question.id == again.task_id == "load~2"
            page.unroute("**/api/v1/questions")
            # By the bare address of the task, too, it is the one that is open.
            go(page, service, "task/load")
            page.wait_for_selector("pre:has-text('999999')")
            page.get_by_label("Your name").fill("bob")
            page.get_by_role("button", name="approve").click()
            eventually(again.done)
            assert again.result(PATIENCE).by == ("bob",)


def test_runs_are_paused_cancelled_and_run_again(browser):
    goes = threading.Event()
    with shown(concurrency=1) as service:
        flow = Workflow("flow")
        flow.task(int, flow.task(goes.wait, PATIENCE, id="a"), id="b")
        run = service.orch.workflows.start(flow, id="run")
        with opened(browser, service, "workflows/run") as page:
            page.click("#do-pause")
            page.wait_for_selector("text=/run is paus/")
            page.click("#do-resume")
            page.wait_for_selector("text=/run is running/")
            page.click("#do-cancel")
            assert confirm(page) == "Cancels 2 tasks."
            eventually(lambda: run.status().state != "running")
            goes.set()
            eventually(lambda: run.status().state == "cancelled")
            page.click("#do-restart")
            assert confirm(page) == "Runs 2 tasks again."
            eventually(lambda: run.status().state == "completed")
            page.wait_for_selector("text=/run is completed/")
            go(page, service, "workflows")
            page.click("main a:text-is('run')")
            page.wait_for_selector("h1:has-text('Run run')")


def test_schedules_are_paused_and_made_now(browser):
    pytest.importorskip("cronsim")
    with shown() as service:
        schedules = service.orch.schedules
        schedules.add("nightly", "0 3 * * *", Task.call(int))
        with opened(browser, service, "schedules") as page:
            page.click("text=Pause")
            page.wait_for_selector("button:text-is('Resume')")
            assert schedules.status("nightly").paused
            page.click("button:text-is('Resume')")
            page.wait_for_selector("button:text-is('Pause')")
            assert not schedules.status("nightly").paused
            page.click("text=Run now")
            confirm(page)
            page.wait_for_selector("#notice:has-text('Made: nightly/')")
            made = [each.task_id for each in service.orch.tasks(id="nightly/*")]
            assert len(made) == 1


def test_a_run_by_hand_asks_for_the_parameters_of_its_workflow(browser):
    pytest.importorskip("cronsim")
    with shown() as service:
        schedules = service.orch.schedules
        night = Workflow("night", parameters={"shop": "all", "rows": int})
        night.add(Task.call(int, id="load"))
        schedules.add("nightly", "0 3 * * *", night, parameters={"rows": 5})
        with opened(browser, service, "schedules/nightly") as page:
            page.click("text=Run now")
            page.wait_for_selector("#act-text")
            assert page.input_value("#parameter-rows") == "5"
            assert page.input_value("#parameter-shop") == "all"
            page.fill("#parameter-rows", "many")
            page.fill("#parameter-shop", "oslo")
            confirm(page)
            page.wait_for_selector("#notice:has-text('rows is a whole number')")
            page.click("text=Run now")
            page.wait_for_selector("#act-text")
            page.fill("#parameter-shop", "oslo")
            confirm(page)
            page.wait_for_selector("#notice:has-text('Made: nightly-')")
            (task,) = service.orch.tasks(id="nightly-*")
            run = service.orch.workflows.get(task.task_id.partition("/")[0])
            assert run.status().parameters == {"shop": "oslo", "rows": 5}


#: Finds words in cells of tables that stand on two lines; paths and ids may, and where
#: a word has a hyphen, it may go on below.
BROKEN_WORDS = """() => {
  const broken = [];
  for (const cell of document.querySelectorAll("td, th")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let node; (node = walker.nextNode());) {
      for (const { 0: word, index } of node.data.matchAll(/[^\\s-]+/g)) {
        if (word.length > 24) continue;
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + word.length);
        const tops = new Set([...range.getClientRects()].map((each) => Math.round(each.top)));
        if (tops.size > 1) broken.push(word);
      }
    }
  }
  return broken;
}"""


#: Tables that have a part beyond their edge; the grid of nights may be moved.
BEYOND = """() => [...document.querySelectorAll("main .scroll:not(:has(#grid))")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1)
  .map((each) => each.getAttribute("aria-label") || each.className)"""


def load_of(number):
    if number == 3:
        raise LookupError(HOSTILE)
    return number


def pipeline(name="sales"):
    flow = Workflow(name)
    first = flow.task(int, id="extract")
    parts = flow.map(load_of, flow.task(list, range(6), id="partition"), id="load")
    flow.task(len, parts, id="report", after=[first])
    return flow


@contextmanager
def nights(**options):
    """Nights of three schedules, one of which fails; somebody is asked something."""
    pytest.importorskip("cronsim")
    now = datetime.now(UTC)
    with shown(**options) as service:
        orch = service.orch
        for name, work in (
            ("sales", pipeline()),
            ("backup", Task.call(int)),
            ("x" * 60, Task.call(int)),
        ):
            orch.schedules.add(name, "0 3 * * *", work, zone="Europe/Berlin")
            orch.schedules.backfill(name, now - timedelta(days=4), now)
        orch.schedules.pause("backup", f"because {HOSTILE}")
        orch.submit_task(Task.question(f"Load {HOSTILE}?", id="ask"))
        eventually(lambda: orch.get_stats().state_machine.blocked >= 5)
        yield service


def fill(orch):
    """Workers, quotas and budgets that say all that they can, with long names."""
    capacity = Resources(cpu=2, gpu=NamedUnits("GPU-5f1e2f0a", "GPU-77aa88bb"))

    @orch.agent("y" * 70, capabilities={"translate": 7, "x" * 40: 1}, capacity=capacity)
    def translate(task, context):
        return 1

    orch.agents.drain("y" * 70, "it needs a new disk")
    orch.resources.set_quotas(
        Quota(owner="\u00fcn\u00efcode-" * 6, resources={"cpu": 2}, max_parallel=1),
        Quota(type="download", starts_per_second=100, burst=3, max_parallel=2),
    )
    orch.budget("release", tokens=100_000, eur=15)
    orch.budget("a-part-of-the-release", parent="release", tokens=50_000)
    orch.submit_task(Task.call(int, budget="release", resources={"tokens": 99_999}))
    orch.alerts.rule("x" * 40, when="completed_tasks_count > 0", wait=0)
    orch.drivers.wake("alerts")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "dark"),
        (390, "dark"),
        (1280, "light"),
        (390, "light"),
    ],
)
def test_nights_are_for_all_and_no_word_is_broken(browser, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    size = {"width": width, "height": 800}
    resources = Resources(cpu=8, gpu=NamedUnits("GPU-0", "GPU-1"), disk_mb=123_456_789)
    with nights(resources=resources) as service:
        fill(service.orch)
        run = service.get("/api/v1/runs?schedule=sales")["runs"][0]["id"]
        views = ["", "?by=ticks", "runs", "schedules", "schedules/sales", "tasks"]
        views += [f"runs/{run}", f"task/{run}%2Fload%2F3", "questions", "agents"]
        views += ["metrics", "events", "timeline"]
        with opened(browser, service, color_scheme=scheme, viewport=size) as page:
            for view in views:
                go(page, service, view)
                if view == "":
                    page.wait_for_selector("#grid")
                # It takes its time: the other runs look at all pages.
                if (width, scheme) != (1280, "dark") or view in ("", "schedules/sales"):
                    found = axe.run(page).response["violations"]
                    faults = [(each["id"], each["nodes"][0]["html"]) for each in found]
                    assert faults == []
                assert page.locator("main img").count() == 0
                assert page.evaluate(
                    "document.documentElement.scrollWidth <= innerWidth"
                ), view
                # Fields of events are JSON, whose lines end where they may.
                if view != "events":
                    assert page.evaluate(BROKEN_WORDS) == [], view
                assert page.evaluate(BEYOND) == [], view


def test_a_morning(browser):
    """Is last night all right? What failed, why, and once more: four clicks."""
    with nights() as service, opened(browser, service) as page:
        began = time.perf_counter()
        page.goto(service.server.page)
        page.wait_for_selector("#verdict:has-text('1 schedule did not end well')")
        page.wait_for_selector("#verdict:has-text('1 question waits for a person')")
        page.click("#grid tr:has-text('sales') .cell.failed >> nth=0")  # 1
        page.wait_for_selector("h1:has-text('Run sales-')")
        page.click("section:has-text('What failed') a:text-is('load/3')")  # 2
        page.wait_for_selector("#traceback:has-text('LookupError')")
        assert time.perf_counter() - began < PATIENCE
        page.wait_for_selector("#arguments:has-text('3')")
        page.click("#do-rerun")  # 3
        words = confirm(page)  # 4
        # The map had its result, and what comes after the map waits.
        assert words.startswith("Runs 2 tasks again. The others had its earlier")
        # The map asks for it once more.
        page.wait_for_selector("h1:has-text('load/3~')")
        page.wait_for_selector("td a:has-text('load/3~1')")


def test_a_night_is_looked_at_in_many_ways(browser):
    with nights() as service, opened(browser, service) as page:
        orch = service.orch
        page.wait_for_selector("#grid")
        # The grid has one stop for the Tab key; arrows lead on.
        page.focus("#grid a.cell[tabindex='0']")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowRight")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label.startswith("sales, ")
        assert "failed" in label
        assert HOSTILE in label
        page.click("text=Show the latest runs")
        page.wait_for_selector("#grid th:text-is('last')")
        assert page.url.endswith("#/?by=ticks")
        # The list of runs: the address says which, of the earlier ones, too.
        go(page, service, f"runs?schedule={'x' * 60}&limit=3")
        page.click("text=Earlier ones")
        rows_are(page, 1)
        go(page, service, "runs")
        page.select_option("#by-state", "broken")
        page.click("button:text-is('Find')")
        rows_are(page, 4)
        page.reload()
        rows_are(page, 4)
        page.click("tbody a >> nth=0")
        # The calls of a map are folded; those that failed stand first.
        page.wait_for_selector("#calls-of-load:has-text('Show 6 calls')")
        assert page.locator(".graph a").count() == 4
        page.click("#calls-of-load")
        page.wait_for_selector("tr:has-text('load/3')")
        calls = page.locator("#tasks-of-run tr.below td:first-child a")
        assert calls.all_inner_texts()[0] == "load/3"
        assert calls.count() == 6
        # With a good run beside it.
        good = pipeline()
        orch.workflows.start(good, id="good-run")
        page.fill("#compare-with", "good-run")
        page.click("#do-compare")
        page.wait_for_selector("#compared")
        assert "with=good-run" in page.url


def test_a_schedule_is_run_filled_changed_and_removed(browser):
    with nights() as service, opened(browser, service, "schedules/sales") as page:
        schedules = service.orch.schedules
        page.wait_for_selector("section:has-text('History') tbody tr:nth-child(4)")
        page.fill("#backfill-since", "2026-01-01T00:00")
        page.fill("#backfill-until", "2026-01-03T12:00")
        page.click("#do-backfill")
        page.wait_for_selector("#act-go:enabled")
        # Nothing is made that nobody has gone on with.
        page.click("#act-not")
        assert not service.get("/api/v1/runs?id=sales-2026-01-*")["runs"]
        page.click("#do-backfill")
        assert confirm(page) == "Makes 3 of 3 ticks."
        eventually(
            lambda: len(service.get("/api/v1/runs?id=sales-2026-01-*")["runs"]) == 3
        )
        page.fill("#edit-when", "30 4 * * *")
        page.click("#do-edit")
        page.wait_for_selector("code:text-is('30 4 * * *')")
        page.fill("#edit-when", "whenever")
        page.click("#do-edit")
        page.wait_for_selector("#notice:has-text('whenever')")
        page.click("#do-pause-sales")
        page.wait_for_selector("#do-resume-sales")
        assert "by ada" in schedules.status("sales").paused
        page.click("#do-remove-sales")
        assert "Removes the schedule" in confirm(page)
        page.wait_for_selector('main[data-shown="#/schedules"]')
        assert "sales" not in [each.name for each in schedules.list()]


def test_the_keyboard_has_commands_and_says_which(browser):
    with nights() as service, opened(browser, service) as page:
        page.wait_for_selector("#grid")
        page.keyboard.press("?")
        page.wait_for_selector("#help:has-text('Ctrl')")
        page.keyboard.press("Escape")
        page.wait_for_selector("#help", state="detached")
        page.keyboard.press("Control+k")
        page.keyboard.type("sales-20")
        page.wait_for_selector("#commands li[aria-selected='true']:has-text('run,')")
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:has-text('Run sales-20')")
        page.keyboard.press("g")
        page.keyboard.press("s")
        page.wait_for_selector('main[data-shown="#/schedules"]')
        # What the page can do is a command, too, and asks as its button does.
        page.keyboard.press("Control+k")
        page.keyboard.type("run now: sales")
        page.wait_for_selector("#commands li[aria-selected='true']:has-text('act')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#act-text:has-text('Starts sales once')")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "wanted"


def test_workers_say_why_they_get_nothing_and_alerts_what_they_do(browser):
    with shown() as service:
        orch = service.orch
        orch.alerts.rule("many", when="completed_tasks_count > 0", wait=0)
        orch.drivers.wake("alerts")

        @orch.agent("odd", capabilities={"say"}, max_concurrency=2)
        def say(task, context):
            return 1

        orch.submit_task(Task("say")).result(PATIENCE)
        orch.agents.drain("odd", "it needs a new disk")
        with opened(browser, service, "agents") as page:
            page.wait_for_selector("td:has(.draining):has-text('it needs a new disk')")
            orch.drivers.wake("alerts")
            page.wait_for_selector("td .firing")
            go(page, service, "metrics")
            page.wait_for_selector("td:text-is('1 attempt: 1 completed, 0 failed')")


def test_budgets_say_what_is_spent(browser):
    with shown() as service:
        budget = service.orch.budget("release", tokens=100, eur=9)
        service.orch.budget("review", parent="release", eur=2)
        task = Task.call(int, resources={"tokens": 90}, budget=budget.name)
        service.orch.submit_task(task).result(PATIENCE)
        with opened(browser, service, "agents") as page:
            page.wait_for_selector("meter[aria-label='release: tokens spent']")
            page.wait_for_selector("td:text-is('10')")
            # Of two resources, and its name and state once.
            budgets = page.locator("section:has(h2:text-is('Budgets'))")
            names = budgets.locator("td:first-child .name").all_inner_texts()
            assert names == ["release", "review", "part of release"]
            states = budgets.locator("td .state").all_inner_texts()
            assert [each.strip() for each in states] == ["low", "ok"]


def test_tasks_are_found_and_the_address_says_which(browser):
    with shown() as service:
        for number in range(3):
            service.orch.submit_task(Task.call(int, number, id=f"few/{number}"))
        service.orch.submit_task(Task.call(int, id="other")).result(PATIENCE)
        with opened(browser, service, "tasks") as page:
            page.fill("#by-id", "few/*")
            page.click("text=Find")
            rows_are(page, 3)
            page.wait_for_function("location.hash === '#/tasks?id=few%2F*'")
            page.reload()
            rows_are(page, 3)
            page.click("text=few/1")
            page.wait_for_selector("h1:has-text('few/1')")
            # A part of an id is found, and an id leads to its task.
            page.fill("#wanted", "ew/")
            page.keyboard.press("Enter")
            rows_are(page, 3)
            page.fill("#wanted", "other")
            page.keyboard.press("Enter")
            page.wait_for_selector("h1:has-text('Task other')")


def test_a_search_that_is_answered_late_leads_nowhere(browser):
    with shown() as service:
        service.orch.submit_task(Task.call(int, id="slow")).result(PATIENCE)
        service.orch.submit_task(Task.call(int, id="other")).result(PATIENCE)
        with opened(browser, service, "tasks") as page:
            held = []
            page.route("**/api/v1/tasks/slow", lambda route: held.append(route))  # noqa: PLW0108 - by its parameters it is called
            for text, is_answered in (("slow", False), ("other", True)):
                page.fill("#wanted", text)
                with page.expect_request(f"**/api/v1/tasks/{text}"):
                    page.keyboard.press("Enter")
                if is_answered:
                    page.wait_for_selector("h1:has-text('Task other')")
            with page.expect_response("**/api/v1/tasks/slow"):
                held[0].continue_()
            page.click("#to-runs")
            page.wait_for_selector("h1:has-text('Runs')")
            page.go_back()
            page.wait_for_selector("h1:has-text('Task other')")


def test_all_that_tasks_can_be_found_by_is_on_the_page(browser):
    with shown() as service:
        wanted = {"customer": "acme"}
        service.orch.submit_task(Task.call(int, id="it", metadata=wanted, owner="ada"))
        service.orch.submit_task(Task.call(int, id="not")).result(PATIENCE)
        assert service.orch.wait(PATIENCE)
        values = {
            "state": "completed",
            "id": "it*",
            "type": "int",
            "agent": "local",
            "owner": "ada",
            "metadata": json.dumps(wanted),
            "since": "3600",
            "older_than": "0",
            "mended": "false",
        }
        assert set(values) == set(TaskFilter.FIELDS)
        with opened(browser, service, "tasks") as page:
            for name, value in values.items():
                field = page.locator(f"#by-{name}")
                if name in ("state", "mended"):
                    field.select_option(value)
                else:
                    field.fill(value)
            page.click("text=Find")
            rows_are(page, 1)
            page.reload()
            rows_are(page, 1)
            page.click("tbody a")
            page.wait_for_selector("h1:has-text('Task it')")
            page.go_back()
            page.fill("#by-since", "long ago")
            page.click("text=Find")
            page.wait_for_selector("p:has-text('a number of seconds is needed')")


def test_hostile_names_are_only_texts(browser):
    names = [HOSTILE, "\N{RIGHT-TO-LEFT OVERRIDE}txt.exe", "x" * 10_000]
    with shown() as service:

        @service.orch.agent("any", capabilities={"say"})
        def say(task, context):
            raise ValueError(task.payload)

        for number, name in enumerate(names):
            service.orch.submit_task(Task("say", name, id=f"t{number}", owner="ada"))
        assert service.orch.wait(PATIENCE)
        with opened(browser, service, "tasks") as page:
            rows_are(page, 3)
            assert page.locator("main img").count() == 0
            for number in range(3):
                go(page, service, f"task/t{number}")
                page.wait_for_selector("text=ValueError")
                assert page.locator("main img").count() == 0


def test_a_page_without_the_token_asks_for_it(browser):
    with shown() as service:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{service.server.url}/")
        page.fill("#token", service.token)
        page.click("text=Open")
        page.wait_for_selector("#count-completed")
        assert service.token not in page.url
        context.close()


def test_a_token_in_a_field_that_seeks_is_in_no_address(browser):
    """Nothing but the token can be typed before the login; and it is not sent later."""
    with shown() as service:
        service.orch.submit_task(Task.call(int, "7", id="x" * 50))
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1_000)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{service.server.url}/")
        page.wait_for_selector("#token")
        for part in ("#nav", "#search", "#open-palette"):
            assert page.locator(part).is_hidden()
        page.keyboard.press("Control+k")
        assert page.locator("#palette").count() == 0
        page.fill("#token", service.token)
        page.click("text=Open")
        page.wait_for_selector("#count-completed")
        page.fill("#wanted", service.token)
        page.press("#wanted", "Enter")
        page.wait_for_selector("#notice:has-text('looks like a token')")
        page.keyboard.press("Control+k")
        page.fill("#palette input", service.token)
        page.press("#palette input", "Enter")
        page.fill("#wanted", "x" * 50 + "*")
        page.press("#wanted", "Enter")
        page.wait_for_selector(f"a:text-is('{'x' * 50}')")
        assert not [url for url in asked if service.token in url]
        assert service.token not in page.url
        context.close()


def test_who_is_logged_in_is_shown_and_is_offered_what_they_may_do(browser, tmp_path):
    tokens = Tokens(tmp_path / "tokens.json")
    holders = {
        "lou": tokens.add("lou", ["look"]),
        "ada": tokens.add("ada", ["operate"]),
        "acme": tokens.add("acme", ["operate"], tenants=["acme"]),
    }
    with shown(tokens=tokens) as service:
        for tenant in ("acme", "beta"):
            ask = Task.question("Ship it?", id=f"ask-{tenant}", owner=tenant)
            service.orch.submit_task(ask)
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1_000)
        for name, token in holders.items():
            page.goto(f"{service.server.url}/#/task/ask-acme")
            page.fill("#token", token)
            page.click("text=Open")
            page.wait_for_selector(f"#who:has-text('{name} (')")
            page.wait_for_selector("h2:has-text('Ship it?')")
            may = name != "lou"
            assert page.locator("#do-cancel").count() == may
            assert page.locator("button:text-is('approve')").count() == may
            assert page.locator("label:has-text('Your name')").count() == 0
            titles = page.locator("#nav a").all_inner_texts()
            assert ("Metrics" in titles) == (name != "acme")
            kept = page.evaluate(
                "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
            )
            session = context.cookies()[0]["value"]
            assert token not in kept
            assert session not in kept
            assert page.evaluate("history.length") > 0
            assert token not in page.url
            if name == "acme":
                go(page, service, "tasks")
                page.wait_for_selector("a:text-is('ask-acme')")
                assert page.locator("a:text-is('ask-beta')").count() == 0
                page.goto(f"{service.server.url}/#/task/ask-acme")
                page.click("button:text-is('approve')")
                eventually(lambda: service.orch.handle("ask-acme").done())
            page.click("#log-out")
            page.wait_for_selector("#token")
        context.close()
        assert service.orch.handle("ask-acme").result().by == ("acme",)


def test_neither_the_token_nor_a_way_in_stays_in_the_profile(browser, tmp_path):
    """What a browser keeps of the address, in any of its files, lets in nobody."""
    with shown() as service:
        link = service.server.page
        code = link.partition("#code=")[2]
        context = browser.browser_type.launch_persistent_context(
            tmp_path, executable_path=BROWSER, args=["--no-sandbox"]
        )
        page = context.new_page()
        page.goto(link)
        page.wait_for_selector("#count-completed")
        assert "#code" not in page.url
        page.reload()
        page.wait_for_selector("#count-completed")
        session = context.cookies()[0]["value"]
        page.close()
        context.close()
        kept = b"".join(
            path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        )
        assert service.token.encode() not in kept
        assert session.encode() not in kept
        sent = {"Content-Type": "application/json"}
        said = json.dumps({"code": code}).encode()
        assert service.send("POST", "/api/v1/page/key", said, sent).status == 401


def test_a_link_changes_nothing_in_a_tab_that_is_let_in(browser):
    with shown() as service, opened(browser, service) as page:
        for link in ("#token=of-a-stranger", "#code=of-a-stranger"):
            page.goto(f"{service.server.url}/{link}")
            page.wait_for_url(f"{service.server.url}/#/")
            go(page, service, "tasks")
            page.reload()
            page.wait_for_selector('main[data-shown="#/tasks"] h1:has-text("Tasks")')
            assert page.locator("#token").count() == 0
        # Nor is one let in by it that is not.
        other = page.context.browser.new_context().new_page()
        other.goto(f"{service.server.url}/#code=of-a-stranger")
        other.wait_for_selector("#token")
        # And the page lives on, whatever is asked of it.
        for odd in ("__proto__", "constructor", "task/%", "toString/%zz"):
            page.goto(f"{service.server.url}/#/{odd}")
            page.wait_for_selector(f'main[data-shown="#/{odd}"]')


def test_it_says_that_the_server_is_gone_and_goes_on_with_the_next(browser):
    with TaskOrchestrator() as orch:
        token = new_token()
        with orch.serve(port=0, token=token) as server:
            port = server.port
            service = Service(orch, server, token)
            context = browser.new_context()
            page = context.new_page()
            page.goto(service.server.page)
            page.wait_for_selector("#count-completed")
        page.wait_for_selector("text=The server does not answer")
        orch.submit(int).result(PATIENCE)
        with orch.serve(port=port, token=token):
            text_is(page, "#count-completed", "1")
            page.wait_for_selector("#notice:has-text('started anew')")
        context.close()


def test_a_failed_run_is_shown_though_it_was_run_again(browser):
    """By its row, with the runs before and after it, and what mended it."""
    is_mended = threading.Event()

    def unless():
        if not is_mended.is_set():
            raise ValueError("not yet")

    with shown() as service, opened(browser, service) as page:
        orch = service.orch
        for name in ("a/0", "b"):
            orch.submit_task(Task.call(unless, id=name)).exception(PATIENCE)
        is_mended.set()
        orch.rerun_task("a/0").result(PATIENCE)
        orch.hold_starts("deploy freeze")
        page.wait_for_selector(
            "#verdict:has-text('Starts are held by user: deploy freeze.')"
        )
        page.wait_for_selector("#health:text-is('degraded')")
        text_is(page, "#broken", "1 task failed and is not mended")
        page.click("#tile-failed")
        page.wait_for_selector("text=mended since by")
        page.click("td:has-text('a/0~1') a")
        page.wait_for_selector("h1:has-text('Task a/0~1')")
        page.wait_for_selector("dd .state.failed")
        page.wait_for_selector("pre:has-text('not yet')")
        page.click("dd a:text-is('~2')")
        page.wait_for_selector("h1:has-text('Task a/0~2')")
        page.wait_for_selector("dd .state.completed")
        page.click("dd a:text-is('~1')")
        page.wait_for_selector("dd .state.failed")
        go(page, service, "tasks")
        page.select_option("#by-state", "failed")
        page.select_option("#by-mended", "false")
        page.click("button:text-is('Find')")
        rows_are(page, 1)
        page.wait_for_selector("td a:text-is('b')")
        # What events name is the run of which they are.
        go(page, service, "events?task=a%2F0")
        page.click("tr:has-text('task_failed') a")
        page.wait_for_selector("h1:has-text('Task a/0~1')")
        go(page, service, "timeline")
        page.wait_for_selector("th:text-is('suspended')")
        cells = page.locator("tbody tr td.number").all_text_contents()
        assert cells == ["0", "1", "0", "0", "0", "0", "2"]
        orch.release_starts()
        go(page, service, "")
        page.wait_for_selector("#health:text-is('ok')")


def test_it_says_of_what_it_does_not_know_that_it_does_not(browser):
    """A task that has left memory has no result that is null; and events get lost."""
    with shown(keep_finished=1) as service:
        for name in ("old", "newer", "newest"):
            service.orch.submit_task(Task.call(int, id=name)).result(PATIENCE)
        with opened(browser, service, "task/old") as page:
            page.wait_for_selector("p:has-text('its result has left memory')")
            assert page.locator("pre:text-is('null')").count() == 0
            go(page, service, "events")

            def lose(route):
                answer = route.fetch()
                route.fulfill(json=answer.json() | {"missed": True}, response=answer)

            page.route("**/api/v1/events?*", lose)
            service.orch.submit_task(Task.call(int, id="last")).result(PATIENCE)
            page.wait_for_selector("#notice:has-text('Some events came faster')")
            page.wait_for_selector("td a:text-is('last') >> nth=0")


def test_a_page_that_slept_says_so_and_shows_what_there_is(browser):
    with shown() as service, opened(browser, service) as page:
        page.clock.install()
        page.reload()
        text_is(page, "#count-completed", "0")
        page.clock.fast_forward("03:00:00")
        service.orch.submit(int).result(PATIENCE)
        text_is(page, "#count-completed", "1")
        page.wait_for_selector("#notice:has-text('asleep for 180 minutes')")


def test_a_suite_is_run_and_looked_at_in_a_browser(browser, tmp_path):
    (tmp_path / "suite.yaml").write_text(suites.SUITE)
    with suites.served(tmp_path) as service:
        service.server.token = service.token
        with opened(browser, service) as page:
            page.click("#do-run")
            page.wait_for_selector("text=suite")
            eventually(lambda: service.get("/api/v1/status")["status"] == "completed")
            page.wait_for_selector("#health:text-is('ended')")
            go(page, service, "workflows/suite")
            page.wait_for_selector("a:text-is('C')")
            go(page, service, "timeline")
            page.wait_for_selector("td:text-is('0')")
            # The next run takes its place, and that is said.
            service.post("/api/v1/execute-suite", {"fresh": True})
            page.wait_for_selector("#notice:has-text('a new run has begun')")


def test_a_journal_is_looked_at_in_a_browser(browser, tmp_path):
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        orch.submit_task(Task.call(int, id="before")).result(PATIENCE)
        with recorded(path) as service, opened(browser, service, "tasks") as page:
            rows_are(page, 1)
            orch.submit_task(Task.call(int, id="after")).result(PATIENCE)
            rows_are(page, 2)
            orch.workflows.start(pipeline(), id="run")
            page.wait_for_selector("td a:has-text('run/load')")
            views = ("", "timeline", "metrics", "events", "runs", "runs/run")
            for view in (*views, "task/after"):
                go(page, service, view)
                assert page.locator("h1:has-text('That did not')").count() == 0
            page.wait_for_selector("code:has-text('taskorch rerun runs.db after')")
            # What it has not is not offered, and nothing can be changed.
            assert page.locator("nav a:text-is('Schedules')").count() == 0
            assert page.locator("main button").count() == 0
