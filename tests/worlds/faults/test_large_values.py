"""Payloads and results that are larger than a journal may keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.tools import PATIENCE

from taskorch import InvalidTaskError, RetryPolicy, Task, TaskOrchestrator
from taskorch.core.journal import _codec


def make(size: int) -> str:
    return "x" * size


def fail(size: int) -> str:
    raise ValueError("x" * size)


@pytest.fixture(name="_limit")
def fixture_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test needs no 100 MB; a submission alone takes less than this."""
    monkeypatch.setattr(_codec, "MAX_TEXT", 20_000)


@pytest.mark.usefixtures("_limit")
def test_a_result_that_is_too_large_fails_its_task_alone(tmp_path: Path) -> None:
    """
    With its size and what to do; it is not tried again, and the next incarnation
    agrees.
    """
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        again = RetryPolicy(3, base=0)
        large = orch.submit_task(Task.call(make, 30_000, id="large", retry=again))
        error = large.exception(PATIENCE)
        assert "result: it takes" in str(error)
        assert "keep it in a file" in str(error)
        assert orch.get_task_status("large").attempts == 1
        assert orch.submit(make, 100).result(PATIENCE) == "x" * 100
        assert orch.health().status == "ok"
    assert path.stat().st_size < 200_000
    with TaskOrchestrator(journal=path) as orch:
        again_told = orch.handle("large").exception(PATIENCE)
        assert "result: it takes" in str(again_told)


@pytest.mark.usefixtures("_limit")
def test_a_payload_that_is_too_large_is_refused_whole(tmp_path: Path) -> None:
    """By every way in; of a batch, nothing is taken."""
    large = "x" * 30_000
    with TaskOrchestrator(journal=tmp_path / "runs.db") as orch:
        for submit in (
            lambda: orch.submit(len, large),
            lambda: orch.submit_task(Task.call(len, large, id="one")),
            lambda: orch.submit_tasks([Task.call(len, "x"), Task.call(len, large)]),
            lambda: orch.map(len, ["x", large]),
        ):
            with pytest.raises(InvalidTaskError, match=r"payload.*it takes") as caught:
                submit()
            assert "keep it in a file" in caught.value.hint
        stats = orch.get_stats().state_machine
        assert stats.completed + stats.queued + stats.running <= 1
        assert orch.submit(len, "xyz").result(PATIENCE) == 3


@pytest.mark.usefixtures("_limit")
def test_the_words_of_an_error_are_bounded(tmp_path: Path) -> None:
    """However long they are, the failure is kept."""
    path = tmp_path / "runs.db"
    with TaskOrchestrator(journal=path) as orch:
        handle = orch.submit_task(Task.call(fail, 1_000_000, id="words"))
        assert isinstance(handle.exception(PATIENCE), ValueError)
    with TaskOrchestrator(journal=path) as orch:
        assert len(str(orch.handle("words").exception(PATIENCE))) < 30_000
