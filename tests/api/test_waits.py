"""Tasks that wait for what comes from outside: events, time, a person's word."""

from pathlib import Path
from typing import Any

import pytest
from tests.api.tools import PATIENCE, in_loop

from taskorch import (
    InvalidTaskError,
    Task,
    TaskFailedError,
    TaskOrchestrator,
    current_context,
)
from taskorch.core.engine import _committer
from taskorch.errors import InvalidTransitionError


def found() -> dict[str, Any]:
    """The results that a task finds of those that it waited for."""
    return dict(current_context().results)


# -- a person's word ---------------------------------------------------------------


def test_a_person_decides_about_a_wait() -> None:
    """With a reason that stands in the history."""
    with TaskOrchestrator() as orch:
        yes = orch.submit_task(Task.wait_for("approval", id="yes"))
        no = orch.submit_task(Task.wait_for("approval", id="no"))
        orch.decide("yes", "complete", {"ok": True}, reason="ada signed it")
        orch.decide("no", "fail", reason="bob did not")
        assert yes.result(PATIENCE) == {"ok": True}
        with pytest.raises(TaskFailedError, match="bob did not"):
            no.result(PATIENCE)
        assert orch.get_task_status("yes").history[-1].detail == "ada signed it"
        assert "bob did not" in orch.get_task_status("no").history[-1].detail
        again = orch.rerun_task("no")
        with pytest.raises(InvalidTransitionError, match="does not run"):
            orch.decide(again.task_id, "retry")
        orch.cancel_task(again.task_id)
        with pytest.raises(InvalidTaskError, match="a reason is a text"):
            orch.decide("yes", "fail", reason=5)  # type: ignore[arg-type]


# -- what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        (("",), {}, "an event has a name"),
        ((" x",), {}, "an event has a name"),
        (("a\nb",), {}, "an event has a name"),
        (("x" * 501,), {}, "at most 500"),
        ((5,), {}, "an event has a name"),
        ((None,), {}, "needs a timeout and a default"),
        ((None,), {"timeout": 5}, "needs a timeout and a default"),
        (("x",), {"default": 1}, "give it a timeout"),
        (("x",), {"timeout": -1}, "timeout"),
        (("x",), {"timeout": "5"}, "timeout"),
    ],
)
def test_what_makes_no_sense(
    args: tuple[Any, ...], options: dict[str, Any], says: str
) -> None:
    """Refused where it is written down."""
    with pytest.raises(InvalidTaskError, match=says):
        Task.wait_for(*args, **options)


# -- a journal ---------------------------------------------------------------------


@pytest.fixture(name="path", params=["snapshot", "facts"])
def fixture_path(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A journal; the next incarnation begins with a snapshot, or reads all events."""
    if request.param == "facts":
        monkeypatch.setattr(_committer.Snapshots, "save_last", lambda *_: None)
    return tmp_path / "runs.db"


def open_at(path: Path, **options: Any) -> TaskOrchestrator:
    return TaskOrchestrator(journal=path, durability="process", **options)


@in_loop
async def test_a_durable_event_from_a_coroutine(tmp_path: Path) -> None:
    """It is kept before this returns, and the loop is not blocked."""
    async with open_at(tmp_path / "runs.db") as orch:
        waits = await orch.aio.submit_task(Task.wait_for("go"))
        assert await orch.aio.emit("go", 1) == 1
        assert await waits == 1
