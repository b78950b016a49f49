"""One of a thing is said as one, wherever people read it."""

from __future__ import annotations

import re
import threading

import pytest
from tests.api.tools import PATIENCE, eventually
from tests.ext.command_line.tools import taskorch

from taskorch import Task, TaskOrchestrator, Workflow, as_completed

#: A one, and a word that looks like a plural and is no verb.
MORE = re.compile(
    r"(?<![\d.,:-])1 (?:more |other )?(?!is\b|was\b|has\b|goes\b|holds\b)[a-z]+s\b"
)


def test_of_one_task_nothing_says_tasks(tmp_path, capsys):
    path, gate = tmp_path / "runs.db", threading.Event()
    texts = []
    with TaskOrchestrator(journal=path, concurrency=1) as orch:
        flow = Workflow("flow")
        phase = flow.phase("p")
        phase.task(int, id="a")
        texts += [repr(phase), repr(flow)]
        run = orch.workflows.start(flow, id="r")
        run.result(PATIENCE)
        texts += [repr(run), str(run.status()), str(run.report())]
    one = tmp_path / "one.db"
    with TaskOrchestrator(journal=one, concurrency=1) as orch:
        handle = orch.submit_task(Task.call(divmod, 1, 0, id="bad"))
        assert handle.exception(PATIENCE)
        texts += [str(orch.get_stats()), str(orch.health())]
    for words in (("inspect",), ("prune", "--keep", "0", "--dry-run"), ("doctor",)):
        name, *rest = words
        for place in (path, one):
            _, out, err = taskorch(capsys, name, place, *rest)
            texts += [out, err]
    with TaskOrchestrator(concurrency=1) as orch:
        held = orch.submit_task(Task.call(gate.wait, PATIENCE, id="held"))
        orch.submit_task(Task.call(int, id="next"))
        eventually(lambda: orch.get_task_status("held").attempts)
        texts.append(str(orch.explain("next")))
        with pytest.raises(TimeoutError) as late:
            next(iter(as_completed([held], timeout=0)))
        texts.append(str(late.value))
        gate.set()
    said = "\n".join(texts)
    assert "The one slot is taken" in said
    assert "1 of 1 task has not ended" in said
    assert "1 task would be removed" in said
    assert MORE.findall(said) == []
