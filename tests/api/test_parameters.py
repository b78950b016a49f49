"""Parameters of workflows: what a run is given, at every door, and what it knows."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings, strategies as st
from tests.api.tools import Started
from tests.house.tools.examples import examples

from taskorch import TaskOrchestrator, Workflow, current_context, task, workflow
from taskorch.errors import (
    DuplicateTaskError,
    InvalidTaskError,
    ValidationFailedError,
)
from taskorch.events import ScheduleSkipped as Skipped
from taskorch.ext import command_line as cli
from taskorch.ext.views import JournalReader

PATIENCE = 60
#: Two nights that have been.
FIRST, LAST = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, 12, tzinfo=UTC)


class Size(Enum):
    SMALL = 1
    LARGE = "l"


@task
def known() -> dict[str, Any]:
    return dict(current_context().parameters)


@workflow
def night(slot: date, shop: str = "all", parts: int = 1) -> None:
    for part in range(parts):
        known.options(id=f"{shop}-{slot}-{part}")()


@pytest.fixture
def orch():
    with TaskOrchestrator() as one:
        yield one


# -- what values may be ----------------------------------------------------------------

ZONES = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
VALUES = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(),
    date: st.dates(),
    datetime: st.datetimes(timezones=ZONES),
    Size: st.sampled_from(Size),
    Literal["a", 2]: st.sampled_from(["a", 2]),
    int | None: st.integers(),
    list[int]: st.lists(st.integers()),
}


def in_text(value):
    if isinstance(value, Enum):
        return value.name
    return value.isoformat() if isinstance(value, date) else str(value)


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_a_value_or_a_text_that_says_it_comes_as_it_is_of_its_type(data):
    kind = data.draw(st.sampled_from([*VALUES]))
    value = data.draw(VALUES[kind])
    came = []

    @workflow
    def one(x: kind) -> None:  # type: ignore[valid-type]
        came.append(x)

    one.fn.__annotations__["x"] = kind
    shown = [value] if kind == list[int] else [value, in_text(value)]
    with TaskOrchestrator() as orch:
        for each in shown:
            orch.workflows.start(one, parameters={"x": each})
            declared = Workflow("w", parameters={"x": kind})
            declared.task(known, id="k")
            run = orch.workflows.start(declared, parameters={"x": each})
            kept = value.value if isinstance(value, Enum) else value
            assert run.result(PATIENCE)["k"] == {"x": kept}
            assert run.status().parameters == {"x": kept}
    assert came == [value] * len(shown)
    assert {type(each) for each in came} == {type(value)}


BAD = [
    (int, ["1.5", "", "x", True, 1.0, None, "\u0661", "1_0"]),
    (float, ["x", True, None, "nan", math.inf, 10**400]),
    (bool, ["maybe", "", 1, None]),
    (str, [1, None, b"x", Size.LARGE]),
    (date, ["2026-13-01", "x", 3, datetime(2026, 1, 1, tzinfo=UTC)]),
    (datetime, ["x", 3, date(2026, 1, 1)]),
    (Size, ["HUGE", 2, None, "L"]),
    (Literal["a", 2], ["b", 3, None]),
    (list[int], ["12", [None], 3]),
    (tuple[int, str], [[1], [1, 2], "1a"]),
    (timedelta, ["1", 1]),
]


@pytest.mark.parametrize(("kind", "values"), BAD)
def test_another_value_is_refused_by_its_name_and_nothing_begins(orch, kind, values):
    declared = Workflow("w", parameters={"x": kind})
    for value in values:
        with pytest.raises(InvalidTaskError, match=r"parameters of w: x is .*, not "):
            orch.workflows.start(declared, parameters={"x": value})
    assert orch.workflows.find() == []


def test_a_default_says_the_type_and_a_text_annotation_that_of_its_name(orch):
    by_default = Workflow("w", parameters={"n": 3, "on": False, "any": None})
    by_default.task(known, id="k")
    values = {"n": "4", "on": "yes", "any": "4"}
    run = orch.workflows.start(by_default, parameters=values)
    assert run.result(PATIENCE)["k"] == {"n": 4, "on": True, "any": "4"}

    def late(n: int, gone: Gone = None):  # type: ignore[name-defined]  # noqa: F821
        known.options(id="k")()

    run = orch.workflows.start(workflow(late), parameters={"n": "4", "gone": "x"})
    assert run.result(PATIENCE)["k"] == {"n": 4, "gone": "x"}


def test_all_that_is_wrong_is_named_with_the_nearest_name(orch):
    says = "no parameter 'shp'; did you mean 'shop'.*slot is missing.*parts is a whole"
    with pytest.raises(InvalidTaskError, match=says) as error:
        orch.workflows.start(night, parameters={"shp": "x", "parts": "many"})
    assert "slot, shop, parts" in str(error.value.hint)
    for bad in ({1: 2}, [1], "x"):
        with pytest.raises(InvalidTaskError, match="mapping by names"):
            orch.workflows.start(night, parameters=bad)
        with pytest.raises(InvalidTaskError, match="mapping by names"):
            Workflow("w", parameters=bad)
    with pytest.raises(InvalidTaskError, match="with its parameters"):
        orch.workflows.start(night(FIRST.date()), parameters={"shop": "x"})


# -- what a run knows ------------------------------------------------------------------


def adds() -> dict[str, Any]:
    added = current_context().workflow.task(known, id="added")
    return {"added": added.result(PATIENCE), "own": known()}


def test_a_call_notes_its_arguments_as_a_start_with_parameters_does(orch):
    values = {"slot": date(2024, 3, 1), "shop": "oslo", "parts": 1}
    for run in (
        orch.workflows.start(night(date(2024, 3, 1), "oslo")),
        orch.workflows.start(night, parameters={"slot": "2024-03-01", "shop": "oslo"}),
    ):
        assert run.result(PATIENCE) == {"oslo-2024-03-01-0": values}
        assert "slot=2024-03-01, shop=oslo, parts=1" in str(run.status())


def test_what_a_task_adds_has_them_too_and_a_rerun_in_a_later_incarnation(tmp_path):
    flow = Workflow("flow", parameters={"day": date, "shop": "all"})
    flow.task(adds, id="adds")
    values = {"day": date(2026, 1, 2), "shop": "all"}
    both = {"added": values, "own": values}
    journal = str(tmp_path / "j.db")
    with TaskOrchestrator(journal=journal) as orch:
        run = orch.workflows.start(flow, "run", parameters={"day": "2026-01-02"})
        assert run.result(PATIENCE)["adds"] == both
    metadata = JournalReader(journal).get_task_status("run/adds").metadata
    assert metadata["taskorch.parameters"] == values
    with TaskOrchestrator(journal=journal) as orch:
        assert orch.workflows.get("run").status().parameters == values
        assert orch.rerun_task("run/adds").result(PATIENCE)["own"] == values


def test_under_one_id_a_run_has_one_set_of_parameters(tmp_path):
    flow = Workflow("flow", parameters={"day": date, "shop": "all"})
    flow.task(known, id="k")
    for _ in range(2):
        with TaskOrchestrator(journal=str(tmp_path / "j.db")) as orch:
            day = {"day": date(2026, 1, 2)}
            run = orch.workflows.start(flow, "run", parameters=day)
            assert run.result(PATIENCE)["k"] == {**day, "shop": "all"}
            for other in ({**day, "shop": "oslo"}, {"day": "2026-01-03"}):
                with pytest.raises(DuplicateTaskError, match="has other parameters"):
                    orch.workflows.start(flow, "run", parameters=other)


# -- of a schedule ---------------------------------------------------------------------


def test_a_schedule_calls_the_function_for_each_night_with_its_parameters(orch):
    orch.schedules.add(
        "nightly", "every 24h", night, parameters={"parts": "2"}, zone="Europe/Oslo"
    )
    made = orch.schedules.backfill("nightly", FIRST, LAST)
    assert orch.wait(PATIENCE)
    assert made == ["nightly-2024-03-01T0000Z", "nightly-2024-03-02T0000Z"]
    for run_id, day in zip(made, ("2024-03-01", "2024-03-02"), strict=True):
        results = orch.workflows.get(run_id).result(PATIENCE)
        assert [*results] == [f"all-{day}-0", f"all-{day}-1"]
        values = {"slot": date.fromisoformat(day), "shop": "all", "parts": 2}
        assert [*results.values()] == [values] * 2
    document = orch.schedules.status("nightly").document
    assert document["parameters"] == {"parts": 2}
    by_hand = orch.schedules.trigger("nightly", {"shop": "oslo"})
    (values,) = {json.dumps(v, default=str) for v in results_of(orch, by_hand)}
    assert json.loads(values)["shop"] == "oslo"
    assert orch.schedules.trigger("nightly", {"shop": "oslo"}) != by_hand


def results_of(orch, run_id):
    return orch.workflows.get(run_id).result(PATIENCE).values()


def test_a_tick_of_the_clock_has_them_too(orch):
    orch.schedules.add("often", "every 1s", night, parameters={"shop": "oslo"})
    status = orch.schedules.status("often")
    while not (runs := orch.workflows.find("often-*")):
        assert status.trouble == ""
    (values,) = runs[0].result(PATIENCE).values()
    assert (values["shop"], values["parts"]) == ("oslo", 1)
    orch.schedules.remove("often")


def test_a_backfill_with_other_parameters_is_another_run_and_the_same_is_not(orch):
    orch.schedules.add("n", "every 24h", night, parameters={"shop": "oslo"})
    first = orch.schedules.backfill("n", FIRST, LAST, limit=2)
    ids = {(): first}
    for parameters in ({"shop": "bergen"}, {"parts": 2}, {"slot": "2024-01-01"}):
        made = orch.schedules.backfill("n", FIRST, LAST, parameters=parameters, limit=2)
        assert made.already == ()
        assert all(
            each.startswith(f"{own}-") for each, own in zip(made, first, strict=True)
        )
        ids[tuple(parameters)] = made
        again = orch.schedules.backfill("n", FIRST, LAST, parameters=parameters)
        assert (again, again.already) == (made, tuple(made))
    assert len({each for made in ids.values() for each in made}) == 8
    same = orch.schedules.backfill("n", FIRST, LAST, parameters={"shop": "oslo"})
    assert same.already == tuple(first)
    (values,) = results_of(orch, ids["shop",][0])
    assert values == {"slot": FIRST.date(), "shop": "bergen", "parts": 1}
    rerun = orch.schedules.backfill(
        "n", FIRST, LAST, again=True, parameters={"shop": "bergen"}
    )
    assert rerun == ids["shop",]


def test_other_parameters_do_not_do_what_the_night_itself_is_for(tmp_path, clock):
    journal = tmp_path / "j.db"
    with TaskOrchestrator(journal=str(journal)) as orch:
        orch.schedules.add("n", "every 24h", night)
        orch.schedules.pause("n", "not yet")
        began = time.time()
        clock(3 * 86_400)
        span = (began, time.time())
        made = orch.schedules.backfill("n", *span, parameters={"shop": "x"})
        assert len(made) == 3
        orch.schedules.resume("n")
    skipped = [e for e in JournalReader(journal).happened() if type(e) is Skipped]
    assert [e.slots for e in skipped] == [3]


def test_one_function_with_other_parameters_is_no_schedule_by_an_old_name(tmp_path):
    names = {"a": "oslo", "b": "bergen"}
    for incarnation in (["a", "b"], ["b"]):
        with TaskOrchestrator(journal=str(tmp_path / "j.db")) as orch:
            for name in incarnation:
                shop = {"shop": names[name]}
                orch.schedules.add(name, "every 24h", night, parameters=shop)
            assert "makes the same" not in orch.schedules.status("a").trouble


class Place(Enum):
    HERE = (1, object())
    THERE = (2, object())


def test_what_no_id_can_say_is_no_other_run_by_chance(orch):
    @workflow
    def trip(to: list[Place], days: list[date], more: object = None) -> None:
        known.options(id="k")()

    values = {"to": ["HERE"], "days": ["2024-01-01"]}
    orch.schedules.add("n", "every 24h", trip, parameters=values)
    ids = list(orch.schedules.backfill("n", FIRST, FIRST))
    for other in ({"to": ["THERE"]}, {"days": ["2024-01-02"]}, {"days": []}):
        ids += orch.schedules.backfill("n", FIRST, FIRST, parameters=other)
    assert len(set(ids)) == 4
    (kept,) = results_of(orch, ids[1])
    assert kept == {"to": ["THERE"], "days": [date(2024, 1, 1)], "more": None}
    more = {"more": object()}
    (kept,) = results_of(orch, orch.schedules.trigger("n", more))
    assert "more" not in kept
    with pytest.raises(InvalidTaskError, match="parameters of a backfill are"):
        orch.schedules.backfill("n", FIRST, FIRST, parameters=more)


@pytest.mark.parametrize("is_function", [False, True])
def test_bad_parameters_are_refused_where_they_are_given(orch, is_function):
    flow: Any = night
    if not is_function:
        flow = Workflow("flow", parameters={"slot": date, "shop": "all", "parts": 1})
    schedules = orch.schedules
    with pytest.raises(InvalidTaskError, match="parts is a whole number"):
        schedules.add("n", "every 24h", flow, parameters={"parts": "x"})
    needs = Workflow("needs", parameters={"day": date})
    with pytest.raises(InvalidTaskError, match="day is missing"):
        schedules.add("n", "every 24h", needs)
    with pytest.raises(InvalidTaskError, match="are texts, numbers"):
        schedules.add("n", "every 24h", print, parameters={"x": object()})
    assert schedules.list() == []
    schedules.add("n", "every 24h", flow)
    for bad in ({"shp": 1}, {"parts": "x"}, {"slot": "today"}, {1: 2}):
        with pytest.raises(InvalidTaskError):
            schedules.trigger("n", bad)
        with pytest.raises(InvalidTaskError):
            schedules.backfill("n", FIRST, LAST, parameters=bad)
    assert orch.workflows.find() == []


def test_a_function_that_raises_refuses_the_trigger_and_says_why(orch):
    @workflow
    def broken(slot: date) -> None:
        message = f"no data of {slot}"
        raise LookupError(message)

    orch.schedules.add("n", "every 24h", broken)
    with pytest.raises(InvalidTaskError, match="broken raises LookupError: no data"):
        orch.schedules.trigger("n")


MODULE = """
from datetime import date
from taskorch import TaskOrchestrator, current_context, task, workflow

@task
def known():
    return {n: str(v) for n, v in current_context().parameters.items()}

@workflow
def night(slot: date, shop: str = "all"):
    known.options(id=f"k-{slot}")()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "parametered.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "parametered"
    sys.modules.pop("parametered", None)


def command(capsys, *words):
    code = cli.main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_commands_take_them_as_texts_of_a_schedule_that_a_program_left(
    tmp_path, module, capsys
):
    journal = tmp_path / "j.db"
    with TaskOrchestrator(journal=str(journal)) as orch:
        orch.schedules.add("n", "every 24h", __import__(module).night)
    sys.modules.pop(module)
    of = ("schedules", journal)
    code, out, _ = command(capsys, *of, "trigger", "n", "--parameter", "shop=oslo")
    assert code == 0
    span = ("--since", "2024-03-01", "--until", "2024-03-01T12:00")
    words = ("backfill", "n", *span, "--parameter", "shop=a=b")
    filled = command(capsys, *of, *words)[1]
    assert filled.startswith("n-2024-03-01T0000Z-")
    assert "already done" in command(capsys, *of, *words)[1]
    for bad in ("shp=x", "slot=today", "shop"):
        code, _, err = command(capsys, *of, "trigger", "n", "--parameter", bad)
        assert code == 2
        assert bad.partition("=")[0] in err
    code, _, err = command(capsys, *of, *words, "--parameter", "shop=x")
    assert code == 2
    assert "twice" in err
    with TaskOrchestrator(journal=str(journal)) as orch:
        (values,) = results_of(orch, out.strip())
        assert values["shop"] == "oslo"
        assert {v["shop"] for v in results_of(orch, filled.strip())} == {"a=b"}


def test_a_run_of_a_file_takes_them_and_goes_on_under_its_own_id(
    tmp_path, capsys, monkeypatch
):
    file = tmp_path / "parametered_file.py"
    file.write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    journal = tmp_path / "j.db"

    def run(*parameters, only=None):
        sys.modules.pop("parametered_file", None)
        words = [word for each in parameters for word in ("--parameter", each)]
        words += ["--only", only] if only else []
        target = (f"{file}:night", "--journal", journal)
        return command(capsys, "run", *target, *words)

    assert run("slot=2026-01-02")[0] == 0
    assert run("slot=2026-01-02", "shop=oslo")[0] == 0
    code, out, _ = run("slot=2026-01-02")
    assert (code, "had completed before" in out) == (0, True)
    code, _, err = run("slot=2026-01-02", "shp=x")
    assert (code, "did you mean 'shop'" in err) == (2, True)
    assert run("slot=2026-01-03", only="k-2026-01-03")[0] == 0
    statuses = [*JournalReader(journal).tasks()]
    runs = {status.task_id.partition("/")[0] for status in statuses}
    assert len(runs) == len(statuses) == 3
    kept = [status.metadata["taskorch.parameters"] for status in statuses]
    days = [f"{values['slot']} {values['shop']}" for values in kept]
    assert sorted(days) == ["2026-01-02 all", "2026-01-02 oslo", "2026-01-03 all"]
    sys.modules.pop("parametered_file", None)


DOCUMENT = """
workflow: nightly
parameters:
  day: {type: date}
  shop: {choices: [oslo, all], default: all}
  parts: {type: int, default: 2}
schedule: {when: every 24h}
tasks:
  k: {call: known}
"""


def test_a_document_declares_them_and_comes_back_as_it_was(orch):
    pytest.importorskip("yaml")
    functions = {"known": known.fn if hasattr(known, "fn") else known}
    flow = Workflow.from_yaml(DOCUMENT, functions)
    again = Workflow.from_dict(flow.to_dict(functions), functions)
    for each in (flow, again):
        run = orch.workflows.start(each, parameters={"day": "2026-01-02"})
        values = {"day": date(2026, 1, 2), "shop": "all", "parts": 2}
        assert run.result(PATIENCE)["k"] == values
        with pytest.raises(InvalidTaskError, match="shop is one of oslo, all, not"):
            orch.workflows.start(each, parameters={"day": "2026-01-02", "shop": "x"})
    parameters = {"day": "2026-01-02"}
    orch.schedules.add("n", None, flow, parameters=parameters)
    (values,) = results_of(orch, orch.schedules.trigger("n", {"shop": "oslo"}))
    assert values["shop"] == "oslo"
    wrong = Workflow("w", parameters={"x": timedelta})
    with pytest.raises(InvalidTaskError, match="which no document says"):
        wrong.to_dict()


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{type: dat}", r"parameters\.x\.type.*date"),
        ("{type: int, default: many}", r"x\.default: a whole number is needed"),
        ("{type: int, choices: [a]}", "one of the two"),
        ("{choices: []}", r"parameters\.x\.choices"),
        ("{kind: int}", "kind"),
        ("3", r"parameters\.x"),
    ],
)
def test_a_document_that_declares_them_wrongly_is_refused_at_its_place(entry, says):
    pytest.importorskip("yaml")
    text = f"parameters:\n  x: {entry}\ntasks: {{}}\n"
    with pytest.raises(ValidationFailedError, match=says):
        Workflow.from_yaml(text)
    with pytest.raises(ValidationFailedError, match="one word"):
        Workflow.from_dict({"parameters": {"a b": {}}, "tasks": {}})


def test_a_service_takes_them_and_shows_them(orch):
    service = pytest.importorskip("taskorch.ext.service")
    client_of = pytest.importorskip("taskorch.ext.client")
    token = service.new_token()
    orch.schedules.add("n", "every 24h", night)
    app = service.create_app(orch, token=token, functions={"known": known})
    with service.serve(app, port=0) as api:
        client = client_of.Client(api.url, token=token)
        (by_hand,) = client.trigger_schedule("n", {"shop": "oslo"})
        span = ("2024-03-01", "2024-03-01T12:00")
        filled = client.backfill_schedule("n", *span, parameters={"slot": "2024-01-01"})
        results_of(orch, by_hand)
        assert client.workflow_status(by_hand)["parameters"]["shop"] == "oslo"
        status = client.workflow_status(filled[0])
        assert status["parameters"]["slot"] == "2024-01-01"
        document = {
            "workflow": "flow",
            "parameters": {"day": {"type": "date"}},
            "tasks": {"k": {"call": "known"}},
        }
        run_id = client.start_workflow(document, parameters={"day": date(2026, 1, 2)})
        assert client.workflow_status(run_id)["parameters"] == {"day": "2026-01-02"}
        asked = [
            lambda: client.trigger_schedule("n", {"shp": "oslo"}),
            lambda: client.backfill_schedule("n", *span, parameters={"parts": "x"}),
            lambda: client.start_workflow(document),
        ]
        for ask in asked:
            with pytest.raises(InvalidTaskError, match="parameters of"):
                ask()


# -- through crashes -------------------------------------------------------------------

PROGRAM = MODULE + textwrap.dedent(
    """
    import json, sys

    print("begun", flush=True)
    with TaskOrchestrator(journal=sys.argv[1]) as orch:
        print("open", flush=True)
        orch.schedules.add("n", "every 24h", night, parameters={"shop": "oslo"})
        print("added", flush=True)
        span = ("2024-03-01", "2024-03-03T12:00")
        own = orch.schedules.backfill("n", *span)
        print("filled", flush=True)
        other = orch.schedules.backfill("n", *span, parameters={"shop": "x"})
        print("others", flush=True)
        values = {"slot": "2024-03-01"}
        hand = orch.workflows.start(night, id="hand", parameters=values)
        print("started", flush=True)
        assert orch.wait(60)
        runs = [hand, *map(orch.workflows.get, [*own, *other])]
        results = {run.workflow_id: run.result(60) for run in runs}
        print(json.dumps(results), flush=True)
    """
)
STEPS = ("begun", "open", "added", "filled", "others", "started")


@pytest.mark.parametrize(
    "step",
    [
        each
        if each == "filled"
        else pytest.param(each, marks=pytest.mark.slow("kills at the other steps"))
        for each in STEPS
    ],
)
def test_killed_between_two_steps_each_run_has_its_own_parameters(tmp_path, step):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, "program.py", "j.db"]
    how: Any = {"cwd": tmp_path, "stdout": subprocess.PIPE, "text": True}
    with Started(words, **how) as incarnation:
        assert incarnation.stdout is not None
        while incarnation.stdout.readline().strip() != step:
            assert incarnation.poll() is None
        os.kill(incarnation.pid, signal.SIGKILL)
    ended = subprocess.run(words, **how, check=True, timeout=PATIENCE)
    results = json.loads(ended.stdout.splitlines()[-1])
    assert len(results) == 7
    for run_id, by_task in results.items():
        ((name, values),) = by_task.items()
        shop = "all" if run_id == "hand" else "x" if run_id.count("-") == 4 else "oslo"
        day = "2024-03-01" if run_id == "hand" else run_id[2:12]
        assert (name, values) == (f"k-{day}", {"slot": day, "shop": shop})
    assert len([*JournalReader(tmp_path / "j.db").tasks()]) == 7


# -- defaults and annotations ----------------------------------------------------------


def test_a_default_is_of_the_type_that_a_given_value_would_have():
    @workflow
    def night(
        day: date = "2026-11-01",  # type: ignore[assignment]
        count: Annotated[int, "how many"] = "3",  # type: ignore[assignment]
        shops: list[Annotated[str, "ids"]] | None = None,
    ):
        told.options(id="told")()

    with TaskOrchestrator() as orch:
        for given, expected in (
            ({}, {"day": date(2026, 11, 1), "count": 3, "shops": None}),
            (
                {"count": "4", "shops": ["a"]},
                {"day": date(2026, 11, 1), "count": 4, "shops": ["a"]},
            ),
        ):
            run = orch.workflows.start(night, parameters=given)
            assert run.result(60)["told"] == expected
        with pytest.raises(InvalidTaskError, match="count is a whole number, not 'x'"):
            orch.workflows.start(night, parameters={"count": "x"})


def test_a_default_of_another_type_is_refused_where_it_is_declared():
    with pytest.raises(InvalidTaskError, match="the default of day is 'soon'"):

        @workflow
        def night(day: date = "soon"):  # type: ignore[assignment]
            told.options(id="told")()


@task
def told():
    return dict(current_context().parameters)
