"""What people say of failures is kept, and asked first."""

import builtins

import pytest
from tests.api.tools import PATIENCE

from taskorch import RetryPolicy, Task, TaskOrchestrator
from taskorch.errors import InvalidTaskError, UnknownTaskError
from taskorch.events import TaskFailed
from taskorch.ext.client import Client
from taskorch.ext.recovery import Corrections, RecoveryHandler, Rule
from taskorch.ext.views import JournalReader

ONCE = RetryPolicy(max_attempts=1)


def raises(kind, message):
    raise getattr(builtins, kind)(message)


def orchestrator(journal=None, **options):
    handler = RecoveryHandler(retry_delay_seconds=0, escalate=False, **options)
    return TaskOrchestrator(
        journal=journal, retry_handler=handler, extensions=[Corrections()]
    )


def fails(orch, name, message="row 5: the feed is stale", kind="ValueError"):
    task = Task.call(raises, kind, message, id=name, retry=ONCE)
    orch.submit_task(task).exception(PATIENCE)


def test_a_class_that_is_corrected_is_asked_first_in_later_incarnations_too(tmp_path):
    """Numbers and the task's id aside; before all rules; not for other errors."""
    journal = str(tmp_path / "j.db")
    with orchestrator(journal, classes=[Rule("memory", text="stale")]) as orch:
        fails(orch, "load-7", "load-7: row 5: the feed is stale")
        cause = orch.corrections.it_was("load-7", "network", by="ada")
        assert cause == "ValueError: TASK: row #: the feed is stale"
        fails(orch, "load-8", "load-8: row 77: the feed is stale")
    with orchestrator(journal) as orch:
        assert orch.corrections.known() == {
            cause: {"class": "network_error", "by": "ada"}
        }
        fails(orch, "night", "night: row 1: the feed is stale")
        fails(orch, "more", "more: row 1: the feed is stale, and more")
        fails(orch, "other", "other: row 1: the feed is stale", "KeyError")
        assert orch.corrections.forget(cause)
        assert not orch.corrections.forget(cause)
        fails(orch, "again", "again: row 1: the feed is stale")
    classes = {
        event.task_id: event.failure_class
        for event in JournalReader(journal).happened()
        if isinstance(event, TaskFailed)
    }
    assert classes == {
        "load-7": "memory_error",
        "load-8": "network_error",
        "night": "network_error",
        "more": "logic_error",
        "other": "logic_error",
        "again": "logic_error",
    }


def test_a_program_is_known_again_by_its_last_words():
    """One that said nothing is not: all that exit with 3 would be the same."""
    with orchestrator() as orch:
        for name, script in (
            ("a", "echo 'lp1: paper is out' >&2; exit 3"),
            ("b", "echo 'lp2: paper is out' >&2; exit 3"),
            ("c", "echo 'lp3: toner is out' >&2; exit 3"),
            ("silent", "exit 3"),
        ):
            task = Task.program(["sh", "-c", script], id=name, retry=ONCE)
            orch.submit_task(task).exception(PATIENCE)
            if name == "a":
                orch.corrections.it_was("a", "system")
        kinds = [
            orch.corrections.orch.recovery.classify(_failure(orch, n)) for n in "bc"
        ]
        assert kinds == ["system_error", "unknown"]
        with pytest.raises(InvalidTaskError, match="only its exit code") as caught:
            orch.corrections.it_was("silent", "system")
        assert "Rule('system_error'" in caught.value.hint


def _failure(orch, name):
    class Told:
        error = orch.handle(name).exception(PATIENCE)
        rules = None
        kind = "unknown"

    return Told()


def test_what_cannot_be_corrected_is_refused():
    """A class that is none, a task that has not failed, one that is unknown."""
    with orchestrator() as orch:
        fails(orch, "bad")
        orch.submit_task(Task.call(int, id="good")).result(PATIENCE)
        with pytest.raises(InvalidTaskError, match="no class of failures"):
            orch.corrections.it_was("bad", "nettwork")
        with pytest.raises(InvalidTaskError, match="good has not failed"):
            orch.corrections.it_was("good", "network")
        with pytest.raises(UnknownTaskError):
            orch.corrections.it_was("nobody", "network")
    with pytest.raises(InvalidTaskError, match="retry_handler"):
        TaskOrchestrator(extensions=[Corrections()])


def test_others_correct_over_http():
    with orchestrator() as orch, orch.serve(port=0) as server:
        fails(orch, "load")
        client = Client(server.url, token=server.token)
        cause = client.call(
            "corrections.it_was", task_id="load", failure="network", by="ada"
        )
        assert list(client.call("corrections.known")) == [cause]
        assert client.call("corrections.forget", cause=cause) is True


def test_a_document_that_is_none_of_its_own_is_left_out(caplog):
    """It is named in the log, and the others count."""
    with orchestrator() as orch:
        orch.kept("corrections").update(
            {
                "ValueError: one": {"class": "weather"},
                "ValueError: two": ["network"],
                "ValueError: three": {"class": "network_error"},
            }
        )
        fails(orch, "a", "three")
        assert orch.get_task_status("a").error is not None
        assert "ValueError: one is left out" in caplog.text
        assert "ValueError: two is left out" in caplog.text
        rules = list(orch.recovery.classes)
    assert [rule.name for rule in rules] == ["network_error"]
