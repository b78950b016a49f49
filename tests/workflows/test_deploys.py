"""A definition has versions: each kind of change, with each act on a failed night."""

from __future__ import annotations

import pytest
from tests.workflows.deploys import (
    DAY,
    KINDS,
    PATIENCE,
    PROGRAM,
    RUN,
    life,
)

from taskorch._verbs.table import foreseen
from taskorch.client import Client
from taskorch.errors import InvalidTaskError

pytest.importorskip("cronsim")


def restart(orch):
    orch.workflows.restart(RUN)


def rerun(orch):
    names = {*orch.workflows.get(RUN).handles}
    orch.rerun_task(f"{RUN}/{'load' if 'load' in names else 'report'}")


def again(orch):
    orch.schedules.backfill("night", *DAY, again=True)


def change(orch):
    orch.change_tasks("rerun", ids=f"{RUN}/*", state="failed")


def http(orch):
    pytest.importorskip("starlette")
    with orch.serve(port=0) as server:
        Client(server.url, token=server.token).restart_workflow(RUN)
        assert orch.wait(PATIENCE)


#: Kinds after which the task that failed is there no more.
GONE = {"a failed step that was removed", "a step that was renamed", "a phase before"}
ACTS = {
    "restart": restart,
    "rerun": rerun,
    "backfill again": again,
    "change": change,
    "HTTP": http,
}


def failed_night(folder, monkeypatch):
    """The program of before makes a night, which fails."""
    monkeypatch.setenv("DEPLOYED_BROKEN", "1")
    with life(folder, PROGRAM) as (orch, _):
        orch.schedules.backfill("night", *DAY)
        assert orch.wait(PATIENCE)
        assert orch.workflows.status(RUN).state.value == "failed"
    monkeypatch.delenv("DEPLOYED_BROKEN")


def new_run(folder, program):
    """What a run gives that begins now."""
    with life(folder, program, journal=None) as (orch, _):
        orch.schedules.backfill("night", *DAY)
        assert orch.wait(PATIENCE)
        return orch.workflows.get(RUN).result(PATIENCE)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_act_on_a_failed_night_gives_what_a_new_run_gives(
    kind, act, tmp_path, monkeypatch
):
    change = KINDS[kind]
    failed_night(tmp_path, monkeypatch)
    expected = new_run(tmp_path, change.program())
    with life(tmp_path, change.program()) as (orch, module):
        if act == "rerun" and kind in GONE:
            with pytest.raises(InvalidTaskError, match="not deployed any more"):
                ACTS[act](orch)
            return
        if act == "backfill again":
            touched = foreseen(
                orch,
                "schedules.backfill",
                {"name": "night", "since": DAY[0], "until": DAY[1], "again": True},
            )
        else:
            touched = foreseen(orch, "workflows.restart", {"run_id": RUN})
        assert change.says in touched.text
        ACTS[act](orch)
        assert orch.wait(PATIENCE)
        run = orch.workflows.get(RUN)
        assert run.result(PATIENCE) == expected
        assert run.status().state.value == "completed"
        if act == "restart":
            assert {*module.CALLS} == change.calls
