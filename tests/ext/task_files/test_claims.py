"""Several runners on one workspace: who does a task, and whose outcome counts."""

from __future__ import annotations

import collections
import errno
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.api.tools import Started, eventually
from tests.ext.task_files.tools import write

from taskorch.ext.budgets._declared import DeclaredBudgets
from taskorch.ext.task_files import Workspace, _claims
from taskorch.ext.task_files._claims import (
    Claims,
    FencedOffError,
    Held,
    LedgerEntry,
    TaskClaim,
)
from taskorch.ext.task_files._layout import WorkspaceLayout
from taskorch.ext.task_files._status import Status

PATIENCE = 60.0


@pytest.fixture
def claims(tmp_path):
    """Makes runners."""
    made = []

    def make() -> Claims:
        one = Claims(WorkspaceLayout(tmp_path), DeclaredBudgets())
        one.open()
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def running(task_id: str) -> Status:
    return Status(task_id, "running", started_at="2025-11-20T10:00:00Z")


def done(task_id: str) -> Status:
    return Status(task_id, "completed", exit_code=0)


def claim(one: Claims, task_id: str = "a/one") -> TaskClaim:
    found = one.claim(running(task_id))
    assert isinstance(found, TaskClaim)
    return found


def test_a_task_has_one_runner_and_one_outcome(claims):
    first, second = claims(), claims()
    mine = claim(first)

    assert second.claim(running("a/one")) == Held(first.runner)
    assert second.is_still("a/one", Held(first.runner))
    first.finish(mine, done("a/one"))
    assert not second.is_still("a/one", Held(first.runner))

    assert second.claim(running("a/one")) == done("a/one")
    with pytest.raises(FencedOffError, match="a/one was claimed by another"):
        first.finish(mine, done("a/one"))


def test_a_task_has_one_runner_however_many_threads_these_have(claims):
    """Threads of one runner share one lock of the system, which holds none back."""
    runners = [claims(), claims()]

    def win(name: str, one: Claims) -> bool:
        return isinstance(one.claim(running(name)), TaskClaim)

    wanted = [(f"a/t{n}", one) for n in range(500) for one in runners]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(win, *zip(*wanted, strict=True)))
    assert [sum(pair) for pair in by_task(won)] == [1] * 500


def by_task(won: list[bool]) -> Iterator[tuple[bool, bool]]:
    """Both runners' luck with each task."""
    return zip(won[::2], won[1::2], strict=True)


def test_what_is_given_back_goes_to_the_next_with_a_higher_fence(claims):
    first, second = claims(), claims()
    mine = claim(first)
    first.give_back(mine)
    assert first.status("a/one") is None

    theirs = claim(second)

    assert theirs.fence > mine.fence
    with pytest.raises(FencedOffError):
        first.give_back(mine)
    with pytest.raises(FencedOffError):
        first.finish(mine, done("a/one"))
    assert first.status("a/one") == running("a/one")
    second.finish(theirs, done("a/one"))
    assert first.status("a/one") == done("a/one")


def test_a_runner_that_has_gone_holds_nothing(claims):
    first, second = claims(), claims()
    mine = claim(first)
    assert second.holder("a/one") == first.runner
    first.close()

    assert second.holder("a/one") is None
    assert claim(second).fence > mine.fence
    with pytest.raises(FencedOffError):
        first.finish(mine, done("a/one"))


def test_a_claim_goes_when_the_last_program_of_its_runner_has_gone(claims):
    """Its number may not be written yet when the runner dies."""
    first, second = claims(), claims()
    claim(first)
    left = subprocess.Popen(["sleep", "60"], pass_fds=first.files)
    first.close()

    assert second.claim(running("a/one")) == Held(first.runner)
    assert second.is_still("a/one", Held(first.runner))

    left.kill()
    left.wait()
    claim(second)


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open none, as one that has its full number open."""
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@pytest.mark.parametrize("has_read", [False, True])
def test_who_cannot_look_takes_no_runner_for_dead(claims, has_read):
    first, second = claims(), claims()
    claim(first)
    if has_read:
        assert second.holder("a/one") == first.runner
    with no_more_files():
        with pytest.raises(OSError, match="Too many open files"):
            second.holder("a/one")
        with pytest.raises(OSError, match="Too many open files"):
            second.is_still("a/one", Held(first.runner))
    assert second.holder("a/one") == first.runner
    assert second.claim(running("a/one")) == Held(first.runner)


@contextmanager
def left_in(folder: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that the workspace in *folder* has written down for the task."""
    left = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, "TASK_ID": "a/one", **env}
    )
    write(folder, {"workspace/pids/a/one.pid": str(left.pid)})
    # A program that has just begun has no variables for an instant.
    eventually(lambda: b"TASK_ID" in Path(f"/proc/{left.pid}/environ").read_bytes())
    try:
        yield left
    finally:
        left.kill()
        left.wait()


def test_what_a_dead_runner_has_left_must_end_first(claims, tmp_path):
    first, second = claims(), claims()
    mine = claim(first)
    first.close()
    with left_in(tmp_path, first.mark(mine)) as left:
        assert second.claim(running("a/one")) == Held(None, left.pid)
    claim(second)


@pytest.mark.parametrize("whose", ["another claim", "another runner", "nobody"])
def test_a_program_of_another_claim_holds_no_task_of_its_id(claims, tmp_path, whose):
    """Its number is that of the one that has ended: it is not waited for, nor ended."""
    first, other, second = claims(), claims(), claims()
    mine = claim(first)
    first.close()
    mark = {
        "another claim": first.mark(TaskClaim("a/one", mine.fence + 1)),
        "another runner": other.mark(mine),
        "nobody": {},
    }[whose]
    with left_in(tmp_path, mark):
        claim(second)


def test_a_number_that_belongs_to_another_process_by_now_is_nobodys(claims, tmp_path):
    first, second = claims(), claims()
    claim(first)
    first.close()
    for number in (str(os.getpid()), "0", "-1", "x", "1" * 30):
        write(tmp_path, {"workspace/pids/a/one.pid": number})
        second.give_back(claim(second))
        second._ledger.add("a/one", LedgerEntry(9, "gone"))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        '{"task": "a/one", "fence": "x"}',
        '{"task": "a/one", "fence": -3}',
        '{"task": "a/one", "fence": true}',
    ],
)
def test_lines_of_the_ledger_that_are_broken_count_as_none(claims, tmp_path, line):
    one = claims()
    write(tmp_path, {"workspace/.taskorch/claims.jsonl": f"{line}\n"})
    mine = claim(one)
    assert mine.fence == 1
    one.give_back(mine)
    assert claim(claims()).fence == 2


def test_what_was_begun_to_be_written_is_written_over(claims, tmp_path):
    first, second = claims(), claims()
    first.give_back(claim(first))
    ledger = tmp_path / "workspace/.taskorch/claims.jsonl"
    with ledger.open("a") as file:
        file.write('{"task": "a/one", "fence": 7, "runner": "' + "x" * 200)
    assert claim(second).fence == 2
    assert first.holder("a/one") == second.runner
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [line["fence"] for line in lines] == [1, 1, 2]


def test_a_claim_that_the_disk_has_no_room_for_is_none(claims, monkeypatch):
    one, other = claims(), claims()
    one.give_back(claim(one))
    write_all = os.pwrite
    half = lambda file, data, at: write_all(file, data[: len(data) // 2], at)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(OSError, match="No space left") as caught:
            one.claim(running("a/one"))
    assert caught.value.errno == errno.ENOSPC
    assert claim(other).fence == 2


def test_a_ledger_that_is_removed_or_cut_begins_anew(claims, tmp_path):
    one = claims()
    ledger = tmp_path / "workspace/.taskorch/claims.jsonl"
    one.give_back(claim(one))
    one.give_back(claim(one))
    ledger.unlink()
    assert one.holder("a/one") is None
    one.give_back(claim(one))
    assert len(ledger.read_text().splitlines()) == 2
    os.truncate(ledger, 0)
    assert claim(one).fence == 1


def test_a_ledger_is_shortened_by_who_comes_alone_and_keeps_its_fences(
    claims, tmp_path, monkeypatch
):
    monkeypatch.setattr(_claims, "_FEW_LINES", 4)
    ledger = tmp_path / "workspace/.taskorch/claims.jsonl"
    first = claims()
    for _ in range(6):
        first.give_back(claim(first))
    first.give_back(claim(first, "a/two"))
    claims().close()
    assert len(ledger.read_text().splitlines()) == 14
    first.close()
    second = claims()
    assert len(ledger.read_text().splitlines()) == 2
    # Who only looks has the old file open.
    assert first.holder("a/one") is None
    mine = claim(second)
    assert mine.fence == 7
    assert first.holder("a/one") == second.runner
    claim(second, "a/two")


def test_nobody_is_blocked_who_runs_or_has_ended(claims):
    one = claims()
    mine = claim(one)
    one.block("a/one", "a/two")
    assert one.status("a/one") == running("a/one")
    one.finish(mine, done("a/one"))
    one.block("a/one", "a/two")
    assert one.status("a/one") == done("a/one")

    one.block("a/three", "a/two")
    one.block("a/three", "a/four")
    assert one.status("a/three") == Status("a/three", "blocked", blocked_by="a/four")
    assert not one.reset("a/three", "failed")
    assert one.reset("a/three", "blocked")
    assert not one.reset("a/three", "blocked")


def _claim_all(root, count, start, won):
    one = Claims(WorkspaceLayout(root), DeclaredBudgets())
    one.open()
    start.wait(PATIENCE)
    names = [f"a/{n}" for n in range(count)]
    random.shuffle(names)
    for name in names:
        if isinstance(one.claim(running(name)), TaskClaim):
            won.put((name, os.getpid()))
    won.put(None)
    start.wait(PATIENCE)  # all live until all have tried


@pytest.mark.slow("four processes claim at once")
def test_of_many_who_claim_at_once_one_wins(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(4), context.Queue()
    many = [
        context.Process(target=_claim_all, args=(tmp_path, 50, start, won))
        for _ in range(4)
    ]
    for process in many:
        process.start()
    got, ended = [], 0
    while ended < len(many):
        item = won.get(timeout=PATIENCE)
        ended += item is None
        got += [item] if item else []
    for process in many:
        process.join(PATIENCE)

    assert sorted(name for name, _ in got) == sorted(f"a/{n}" for n in range(50))


@pytest.mark.slow("two runners in processes")
def test_two_runners_share_the_work_and_agree_on_its_end(runs):
    runs.write(
        **{f"a_{n}": "outputs: [x]" for n in range(8)},
        b_bad="do: exit 1",
        b_next="dependencies: [b/bad]",
        c_last="x: 1",
    )
    two = [_start(runs.root, runs.agent) for _ in range(2)]

    ends = [process.communicate(timeout=PATIENCE) for process in two]

    assert [process.returncode for process in two] == [1, 1], ends
    assert sorted(runs.began()) == sorted([*(f"a/{n}" for n in range(8)), "b/bad"])
    assert runs.status("c/last") == {
        "task_id": "c/last",
        "status": "blocked",
        "blocked_by": "b/bad",
    }
    printed = "".join(out for out, _ in ends)
    assert printed.count("ALERT: ") == 1
    assert printed.count("8 of 11 tasks are complete. The rest:") == 2


def _start(root, agent) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "taskorch", "workspace", "run", str(root)]
    return Started([*command, "--agent", agent], stdout=subprocess.PIPE, text=True)


#: Notes who begins what, and whether another one is at it.
_WITNESS = """#!/bin/sh
exec 9> "$LEDGER.d/$TASK_ID"
flock --nonblock 9 || echo "double $TASK_ID $TASK_FENCE $PPID" >> "$LEDGER"
echo "begin $TASK_ID $TASK_FENCE $PPID" >> "$LEDGER"
echo x > "$TASK_OUTPUTS/x"
"""


#: Two thousand take minutes: they are for whoever changes what holds a claim.
_MANY = pytest.mark.skipif("TASKORCH_MANY" not in os.environ, reason="takes minutes")


@pytest.mark.slow("sixteen runners, twelve kills")
@pytest.mark.skipif(shutil.which("flock") is None, reason="the witnesses need flock")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "kills"), [(200, 12), pytest.param(2_000, 24, marks=_MANY)]
)
def test_sixteen_runners_that_are_killed_do_all_tasks(
    tmp_path, monkeypatch, count, kills
):
    """
    Two living claims never exist, and what is run again had a runner that died.

    The programs are witnesses: each says by whose hand, and under which fence, it runs.
    """
    runners = 16
    root, ledger = tmp_path / "ws", tmp_path / "ledger"
    write(root, {f"tasks/a/{n}.md": "outputs: [x]" for n in range(count)})
    (tmp_path / "ledger.d/a").mkdir(parents=True)
    ledger.write_text("")
    agent = tmp_path / "agent"
    agent.write_text(_WITNESS)
    agent.chmod(0o755)
    monkeypatch.setenv("LEDGER", str(ledger))
    out = (tmp_path / "out").open("w")
    command = [sys.executable, "-m", "taskorch", "workspace", "run", str(root)]

    started: set[str] = set()

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*command, "--agent", str(agent)], stdout=out)
        started.add(str(process.pid))
        return process

    dice = random.Random(17)
    alive = [start() for _ in range(runners)]
    killed: set[str] = set()
    status = root / "workspace/status/a"
    for number in range(1, kills + 1):
        # Evenly over the work, at any moment of it.
        while len(list(status.glob("*.json"))) < (number * count // (kills + 2)):
            time.sleep(0.01)
        victim = alive.pop(dice.randrange(len(alive)))
        time.sleep(dice.random() / 20)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        killed.add(str(victim.pid))
        alive.append(start())
    codes = [process.wait(600) for process in alive]
    out.close()

    assert set(codes) == {0}
    assert Workspace(root).check_all_complete()
    begun = collections.defaultdict(list)
    for line in ledger.read_text().splitlines():
        what, task_id, fence, runner = line.split()
        assert what == "begin", line
        begun[task_id].append((int(fence), runner))
    assert len(begun) == count
    again = {task_id: them for task_id, them in begun.items() if len(them) > 1}
    for task_id, them in again.items():
        assert [fence for fence, _ in them] == sorted({fence for fence, _ in them})
        # All but the last had a runner that was killed; before it could be told which,
        # if the program belonged to another process by then.
        had = {runner for _, runner in them[:-1]}
        assert had & started <= killed, (task_id, them)
    lines = (tmp_path / "out").read_text().splitlines()
    told = collections.Counter(line for line in lines if line.startswith("Completed:"))
    names = collections.Counter(line.split()[1] for line in told.elements())
    assert max(names.values()) == 1
    assert len(killed) == kills
