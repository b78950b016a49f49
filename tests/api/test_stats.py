"""Numbers: statistics and health."""

import re
from datetime import UTC, datetime

from tests.api.tools import PATIENCE

from taskorch import Task, TaskOrchestrator
from taskorch.ext import command_line as cli
from taskorch.ext.client import Client
from taskorch.ext.service import new_token
from taskorch.ext.views import JournalReader
from taskorch.model import Breaker


def test_health_before_during_and_after() -> None:
    """Live and ready only while it takes work."""
    orch = TaskOrchestrator()
    health = orch.health()
    assert (health.status, health.live, health.ready) == ("failed", False, False)
    assert health.checks[0].detail == "not started"
    with orch:
        health = orch.health()
        assert (health.status, health.live, health.ready) == ("ok", True, True)
        assert [c.component for c in health.checks] == [
            "scheduler",
            "slots",
            "receivers",
            "queue",
            "agents",
            "journal",
        ]
    health = orch.health()
    assert (health.status, health.ready) == ("failed", False)
    assert health.checks[0].detail == "stopped"


def test_health_names_the_policy_that_fails() -> None:
    """A router that breaks on every task is not ok, though everything else is."""

    class Broken:
        def route(self, task: object, candidates: object, context: object) -> None:
            msg = "no such map"
            raise LookupError(msg)

    with TaskOrchestrator(router=Broken()) as orch:
        for _ in range(3):
            orch.submit(int).exception(PATIENCE)
        health = orch.health()
        assert health.status == "degraded"
        check = next(c for c in health.checks if c.component == "router")
        assert check.status == "degraded"
        assert "it has failed 3 times" in check.detail
        assert "LookupError: no such map" in check.detail


def test_metrics_have_the_coverage_that_results_tell_of():
    """Of each type the latest: a share as suites have it, or a percentage."""
    with TaskOrchestrator() as orch:

        @orch.agent("tests", capabilities={"unit", "whole", "shop"})
        def do(task, context):
            return task.payload

        for kind, result in (
            ("unit", {"coverage": 0.5}),
            ("unit", {"coverage": 0.75}),
            ("whole", {"coverage_percentage": 96.5}),
            ("shop", {"coverage": 1_200}),
            ("shop", {"coverage": True}),
        ):
            orch.submit_task(Task(kind, result)).result(PATIENCE)
        measured = orch.metrics()["test_coverage_percentage"]
        assert measured == {"unit": 75.0, "whole": 96.5}


def test_whose_breakers_are_open_is_in_health():
    with TaskOrchestrator() as orch:

        @orch.agent("good", capabilities={"do"}, breaker=Breaker(failures=1))
        def good(task, context):
            return 1

        @orch.agent("bad", capabilities={"do"}, breaker=Breaker(failures=1))
        def bad(task, context):
            raise ValueError

        def check():
            return next(c for c in orch.health().checks if c.component == "agents")

        assert check().status == "ok"
        while check().status == "ok":
            orch.submit_task(Task("do", None)).exception(PATIENCE)
        assert (check().status, check().detail) == (
            *("degraded", "breakers are open of bad"),
        )


MENDED = []


def lack(what, number):
    if what in MENDED:
        return
    raise LookupError(f"no {what} for part {number}")


def test_two_causes_of_one_class_are_two(tmp_path, capsys):
    """By Python, over HTTP, in a journal, and at a command line; what was mended is none."""
    path, token = tmp_path / "runs.db", new_token()
    # One after the other: they fail in the order in which they are submitted.
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        for number in range(5):
            orch.submit_task(Task.call(lack, "table", number, id=f"t{number}"))
        for number in range(3):
            orch.submit_task(Task.call(lack, "disk", number, id=f"d{number}"))
        orch.submit_task(Task.call(int, "x", id="odd"))
        orch.wait(PATIENCE)
        assert [(e.error_type, e.pattern, e.count) for e in orch.failures()] == [
            ("LookupError", "no table for part #", 5),
            ("LookupError", "no disk for part #", 3),
            ("ValueError", "invalid literal for int() with base #: 'x'", 1),
        ]
        expected = orch.failures()
        assert expected[1].tasks == ("d0", "d1", "d2")
        assert expected[1].first < expected[1].last <= datetime.now(UTC)
        assert JournalReader(path).failures() == orch.failures()
        with orch.serve(port=0, token=token) as server:
            told = Client(server.url, token=token).failures()
        for cause, document in zip(expected, told, strict=True):
            assert document["tasks"] == [*cause.tasks]
            assert document["count"] == cause.count
            assert datetime.fromisoformat(document["last"]) == cause.last
        assert cli.main(["inspect", str(path)]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"5 +LookupError: no table for part 0\n3 +LookupErr", shown)
        orch.rerun_task("t4")
        orch.wait(PATIENCE)
        assert orch.failures()[0].tasks[-2:] == ("t4~1", "t4~2")
        MENDED.append("table")
        orch.rerun_task("t4")
        orch.wait(PATIENCE)
        assert orch.failures()[0].count == 4
