"""
A program that uses all rooms, and all that can be told of it by public names.

The program is drawn from a seed. What is told is a flat mapping from names, such as
`task late.error.message`, to texts. The names are found by looking at the public
methods and properties of the classes: of a new one, this module asks by itself.

    python -m tests.house.tools.lives SEED JOURNAL FILE first|next

is a life of such a program: it writes what is told to a file, and dies by SIGKILL.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final

from taskorch import (
    Approval,
    RetryPolicy,
    Task,
    TaskHandle,
    TaskOrchestrator,
    Workflow,
    current_context,
)
from taskorch.errors import DependencyFailedError, TaskorchError, UsageError
from taskorch.ext.governance import ConstitutionalRuntime
from taskorch.ext.jobs import JobSystem
from taskorch.ext.recovery import RecoveryHandler
from taskorch.kit.raised import told_of
from taskorch.model import Cache, Quota, TaskStatus

PATIENCE: Final = 60.0
#: Classes of errors, as a task may raise them.
_ERRORS: Final[tuple[Callable[[str], Exception], ...]] = (
    ValueError,
    KeyError,
    ConnectionError,
    lambda text: UsageError(text, hint="say it another way"),
)
_POOLS: Final = ("compute_units", "memory_mb", "bandwidth_mbps")
#: Of memory, more than a process of tests takes: an alert would hold starts back.
_TOTAL: Final = 65_536
_POLICIES: Final = {
    "policies": [
        {
            "id": "no-danger",
            "principle": "safety",
            "severity": "critical",
            "at": "start",
            "rules": [
                {
                    "id": "type",
                    "condition": "task.type",
                    "operator": "not_equals",
                    "value": "danger",
                }
            ],
        },
        {
            "id": "names",
            "principle": "order",
            "severity": "low",
            "rules": [
                {
                    "id": "n",
                    "condition": "task.priority",
                    "operator": "less_than",
                    "value": 9,
                }
            ],
        },
    ]
}


# -- what the tasks do -----------------------------------------------------------------


def work(number: int) -> int:
    print("working on", number)
    context = current_context()
    context.progress(number)
    context.checkpoint({"at": number})
    return number


async def slow_work(number: int) -> int:
    await asyncio.sleep(0.001)
    return number + 1


def fails(kind: int, text: str) -> None:
    raise _ERRORS[kind](text)


def flaky(times: int) -> int:
    attempt = current_context().attempt
    if attempt <= times:
        msg = f"attempt {attempt} is one too early"
        raise ConnectionError(msg)
    return attempt


def spends(tokens: int) -> int:
    current_context().spent(tokens=tokens)
    return tokens


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def is_well(results: Mapping[str, Any]) -> bool:
    return all(each is not None for each in results.values())


def is_bad(_: Mapping[str, Any]) -> bool:
    return False


def numbers() -> list[int]:
    return [1, 2, 3]


def forge(task: Any, context: Any) -> str:
    context.progress("hammering")
    return f"forged {task.payload}"


def press(task: Any, _: Any) -> str:
    return f"pressed {task.payload}"


def nightly() -> str:
    return str(current_context().slot)


# -- the program -----------------------------------------------------------------------


def craft(unit: Any, job: Any) -> int:
    if job.job_id == "bad" and unit.index == 1:
        msg = "no clay"
        raise ValueError(msg)
    return int(unit.index)


@contextmanager
def incarnation(
    path: Path, *, stops: bool = True
) -> Iterator[tuple[TaskOrchestrator, JobSystem]]:
    """An incarnation of the program: all that it declares, each time the same."""
    document = {"resource_pools": {f"{name}_total": _TOTAL for name in _POOLS}}
    jobs = JobSystem(document)
    jobs.objective("craft")(craft)
    orch = jobs.orchestrator(
        journal=path,
        retry_handler=RecoveryHandler(max_retries=1, retry_delay_seconds=0.01),
        governance=ConstitutionalRuntime.from_dict(_POLICIES),
        unknown_capability="wait",
        concurrency=4,
        seed=1,
        stop_timeout=5,
    )
    orch.agent("smith", capabilities=["forge"])(forge)
    orch.agents.template("press", capabilities=["press"], handler=press)
    orch.resources.set_quotas(Quota(owner="ada", max_parallel=2))
    orch.alerts.rule("many", when="failed_tasks_count > 1000")
    orch.start()
    try:
        orch.agents.pool("press", max_agents=1, interval=0.02)
        orch.budget("release", tokens=100)
        orch.budget("part", parent="release", tokens=60)
        orch.schedules.add("nightly", "@yearly", nightly)
        orch.schedules.add("flow", "@yearly", _flow(Random(0)), catch_up="none")
        yield orch, jobs
    finally:
        if stops:
            orch.stop(drain=False, timeout=5)


def _flow(random: Random) -> Workflow:
    flow = Workflow("release")
    checks = flow.phase("checks", max_parallel=2, gate=[is_well])
    for name in ("asia", "europe"):
        checks.task(work, random.randrange(9), id=name)
    more = flow.phase("more", on_failure="continue", gate=[is_bad])
    more.task(fails, 0, "no map", id="map")
    last = flow.phase("last", gate=[Approval()])
    last.task(work, 3, id="publish")
    return flow


def live(orch: TaskOrchestrator, jobs: JobSystem, seed: int) -> None:
    """
    Do what the program does in its first incarnation, until nothing goes on by itself.
    """
    random = Random(seed)
    call = Task.call
    tasks: list[Any] = [
        call(work, random.randrange(100), id="fine", metadata={"of": "lives"}),
        call(work, 7, id="keyed", idempotency_key="k", priority=random.randrange(12)),
        call(slow_work, 7, id="aio", owner="ada"),
        call(spends, 20, id="spent", resources={"tokens": 30}, budget="part"),
        call(flaky, 1, id="flaky", retry=RetryPolicy(3, base=0.001)),
        call(sleeps, 0.5, id="late", timeout=0.02, retry=RetryPolicy(1)),
        call(work, 1, id="never", requires=["nobody"]),
        call(work, 1, id="expired", requires=["nobody"], deadline=0.05),
        call(work, 5, id="cached-1", cache=Cache(version="1")),
        call(numbers, id="numbers"),
        Task.program(["sh", "-c", "echo out; exit 0"], id="program"),
        Task.program(["sh", "-c", "echo bad >&2; exit 3"], id="bad-program"),
        call(work, 9, id="danger", type="danger"),
        call(work, 9, id="waived", type="danger"),
        Task("forge", "a sword", id="sword", requires=["forge"]),
        Task("press", "an apple", id="apple", requires=["press"]),
        Task.question("Ship it?", id="open", who=["ann", "bob"]),
        Task.question("Which?", options=["a", "b"], no=(), id="answered"),
        Task.wait_for("parcel", id="parcel"),
        Task.wait_for("letter", id="letter"),
    ]
    for number in range(random.randrange(2, 5)):
        kind, text = random.randrange(len(_ERRORS)), random.choice(["no title", "2 x"])
        tasks.append(call(fails, kind, text, id=f"bad-{number}", type="page"))
    tasks.append(call(work, 4, id="below", after=["bad-0"]))
    tasks.append(
        call(work, 4, id="fails-too", after=["bad-0"], on_parent_failure="fail")
    )
    random.shuffle(tasks)
    orch.submit_tasks(tasks)
    orch.submit_task(call(work, 5, id="cached-2", cache=Cache(version="1")))
    orch.workflows.start(_flow(random), id="monday")
    small = dict.fromkeys(_POOLS, 1)
    for name in ("good", "bad"):
        body = {"job_id": name, "objective": "craft", "tadpole_count": 2}
        jobs.assign_job({**body, "requested_resources": small})
    orch.emit("letter", {"from": "bob"})
    orch.emit("kept", 4, keep=86_400)
    orch.answer("answered", random.choice("ab"), by="ann", note="as said")
    orch.answer("open", "approve", by="ann")
    waiver = orch.governance.request_waiver(
        "no-danger", "waived", reason="a test", requested_by="ann", expires=86_400
    )
    orch.governance.approve_waiver(waiver.id, by="bob")
    orch.governance.request_waiver(
        "no-danger", "danger", reason="another", requested_by="ann", expires=86_400
    )
    orch.submit_task(call(work, 6, id="off", not_before=86_400))
    orch.cancel_task("off", reason="nobody wants it")
    orch.submit_task(call(work, 6, id="aside", not_before=86_400))
    orch.suspend_task("aside")
    orch.set_priority("never", 3)
    orch.wait(PATIENCE)
    for number in range(4):
        draws: Any = {"resources": {"tokens": 30}, "budget": "release"}
        orch.submit_task(call(spends, 30, id=f"draws-{number}", **draws))
    orch.schedules.trigger("nightly")
    orch.schedules.trigger("flow")
    orch.schedules.backfill("nightly", "2001-01-01", "2003-01-01", by="ann")
    orch.reward_task("fine", 0.5)
    orch.wait(PATIENCE)
    orch.rerun_task("fine")
    orch.rerun_task(f"job-good/{next(iter(jobs.status('good')['units']))}")
    # A job is rewarded once it has ended.
    orch.wait(PATIENCE)
    jobs.reward("good", 0.25)
    with suppress(TaskorchError):
        orch.decide("bad-1", "retry")
    orch.wait(PATIENCE)
    orch.resources.allocate({"memory_mb": 4}, owner="ann", id="by-hand")


# -- what is told of it ----------------------------------------------------------------

#: Methods that do something, or hand something out, instead of telling how it stands.
ACTS: Final = frozenset(
    """
    agent agents.drain agents.leave agents.keep agents.spawn agents.terminate
    agents.provision_new_agent agents.is_lost agents.check_made agents.program_of
    agents.awaits_end agents.bring_late agents.beat agents.join
    cancel_task suspend_task resume_task set_priority decide hold_starts release_starts
    answer notify reward_task emit rerun_task change_tasks expire_tasks handle wait
    prune simulate serve start stop stop_on show_progress events note_event schedule
    task options map recover budget from_config submit submit_task submit_tasks
    as_completed gather watch_alerts
    memo.clear resources.release resources.allocate resources.resize
    resources.raise_budget resources.set_quotas resources.set_saturation
    schedules.add schedules.add_document schedules.remove schedules.pause
    schedules.resume schedules.trigger schedules.backfill schedules.cancel_backfill
    schedules.pause_backfill schedules.resume_backfill schedules.restore
    workflows.start workflows.cancel workflows.pause workflows.resume
    workflows.restart workflows.approve workflows.reject
    run.wait_paused
    alerts.remove alerts.rule alerts.tick
    governance.approve_waiver governance.reject_waiver governance.revoke_waiver
    governance.request_waiver governance.replace governance.serve governance.join
    governance.changed governance.from_dict governance.from_yaml governance.replay
    governance.hear_waivers governance.restore_waivers governance.end_for_content
    jobs.assign_job jobs.cancel jobs.reset jobs.reward jobs.subscribe jobs.hook
    jobs.objective jobs.orchestrator jobs.from_yaml
    drivers.add drivers.begin drivers.close drivers.remove drivers.say drivers.wake
    """.split()  # noqa: SIM905 - to be read
)
#: Properties that lead to another room.
_ROOMS: Final = frozenset(
    """
    aio agents alerts drivers governance memo recovery resources schedules signals
    planner workflows journal memory
    """.split()  # noqa: SIM905 - as above
)
#: Deeper than this, nothing is looked at.
_DEEP: Final = 12


Names = dict[str, list[str]]


def names_of(orch: TaskOrchestrator, jobs: JobSystem) -> Names:
    """What there is to ask about, by the names of the arguments that say it."""
    return {
        "task_id": sorted(each.run_id for each in orch.tasks()),
        "run_id": sorted(each.workflow_id for each in orch.workflows.find()),
        "name": [each.name for each in orch.schedules.list()],
        "backfill_id": [each.backfill_id for each in orch.schedules.backfills()],
        "agent_id": ["smith", "local"],
        "job_id": sorted(jobs.all_jobs()),
        "waiver_id": [each.id for each in orch.governance.waivers()],
        "requirements": ["forge"],
    }


def tell(orch: TaskOrchestrator, jobs: JobSystem, names: Names) -> dict[str, str]:
    """All that can be told of what has these names, by what it is called."""
    told: dict[str, str] = {}
    rooms = {
        "": orch,
        **{
            f"{name}.": getattr(orch, name)
            for name in ("agents", "alerts", "drivers", "governance", "resources")
        },
        "schedules.": orch.schedules,
        "workflows.": orch.workflows,
        "jobs.": jobs,
    }
    # Those read the whole journal each time.
    few = {**names, "task_id": ["danger", "fine", "waived"]}
    for room, part in rooms.items():
        for name, call in _asked(room, part, few if part is orch.governance else names):
            _note(told, name, _outcome(call))
    for run_id in names["run_id"]:
        run = orch.workflows.get(run_id)
        for name, call in _asked("run.", run, {}):
            _note(told, f"{run_id} {name}", _outcome(call))
    for task_id in names["task_id"]:
        handle = orch.handle(task_id)
        if handle.done() and handle.exception(0) is None:
            _note(told, f"{task_id} result", handle.result(0))
    filters: Any = {"state": "failed"}, {"type": "page"}, {"owner": "ada"}
    for fields in filters:
        found = sorted(each.run_id for each in orch.tasks(**fields))
        _note(told, f"tasks({fields})", found)
    mended = sorted(each.run_id for each in orch.tasks("failed", mended=False))
    _note(told, "tasks(mended=False)", mended)
    return told


def _asked(
    room: str, part: Any, names: Mapping[str, list[str]]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What a public class tells: by each property, and each method that only tells."""
    for name in dir(type(part)):
        found = inspect.getattr_static(type(part), name)
        if name.startswith("_") or f"{room}{name}" in ACTS or name in _ROOMS:
            continue
        if isinstance(found, property) or not callable(getattr(part, name, None)):
            yield f"{room}{name}", partial(getattr, part, name)
            continue
        method = getattr(part, name)
        parameters = inspect.signature(method).parameters
        if "timeout" in parameters:
            method = partial(method, timeout=0)
        needed = [
            each.name
            for each in parameters.values()
            if each.default is each.empty and each.kind in (0, 1)
        ]
        if not needed:
            yield f"{room}{name}()", method
        elif len(needed) == 1 and needed[0] in names:
            for value in names[needed[0]]:
                yield (
                    f"{room}{name}({value})",
                    partial(method, value),
                )


def _outcome(call: Callable[[], Any]) -> Any:
    """What *call* returns; or what it raises, as a text."""
    try:
        found = call()
    except Exception as error:
        return error
    return list(found) if inspect.isgenerator(found) else found


def _note(told: dict[str, str], name: str, value: Any, depth: int = 0) -> None:
    """Note *value* and all its parts."""
    if depth > _DEEP:
        told[name] = "…"
    elif isinstance(value, Exception):
        told[name] = _words_of(value)
    elif isinstance(value, TaskHandle):
        told[name] = value.task_id
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _note(told, f"{name}[{key}]", part, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        parts = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        for number, part in enumerate(parts):
            key = _key_of(part, number)
            _note(told, f"{name}[{key}]", part, depth + 1)
        told[f"{name}#"] = str(len(value))
    elif isinstance(value, TaskStatus) and not name.startswith("get_task_status"):
        told[name] = value.run_id
    elif _is_plain(value):
        told[name] = f"{value:.9g}" if isinstance(value, float) else str(value)
    else:
        _note_parts(told, name, value, depth)


def _words_of(error: Exception) -> str:
    """What is said of an error, without its hint, which is of one incarnation."""
    if isinstance(error, DependencyFailedError):
        return f"{type(error).__name__}: {error.message}"
    return ": ".join(told_of(error))


def _key_of(part: Any, number: int) -> Any:
    """By what a part of a list is called: by its name, so that the order is free."""
    for key in ("run_id", "workflow_id", "id", "name", "component", "subject"):
        named = part.get(key) if isinstance(part, Mapping) else getattr(part, key, None)
        if isinstance(named, str) and named:
            return named
    return number


def _is_plain(value: object) -> bool:
    plain = (str, bytes, int, float, bool, date, datetime, timedelta, Path)
    return value is None or isinstance(value, plain)


def _note_parts(told: dict[str, str], name: str, value: Any, depth: int) -> None:
    """Note the public fields and properties of an object of a class of ours."""
    cls: Any = type(value)
    if not cls.__module__.startswith(("taskorch", "tests")):
        told[name] = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
        return
    public = _public(cls)
    if not public:
        told[name] = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    for key in public:
        _note(told, f"{name}.{key}", _outcome(partial(getattr, value, key)), depth + 1)


@cache
def _public(cls: type) -> list[str]:
    """The public fields and properties of a class."""
    fields = [each.name for each in getattr(cls, "__attrs_attrs__", ())]
    fields += [
        key
        for key in dir(cls)
        if isinstance(inspect.getattr_static(cls, key), property)
    ]
    return [key for key in dict.fromkeys(fields) if not key.startswith("_")]


def main(seed: str, journal: str, file: str, which: str) -> None:
    """Live once, write what is told, and die."""
    path = Path(file)
    with incarnation(Path(journal), stops=False) as (orch, jobs):
        if which == "first":
            live(orch, jobs, int(seed))
            names = names_of(orch, jobs)
        else:
            orch.wait(PATIENCE)
            names = json.loads(path.read_text())["names"]
        told = tell(orch, jobs, names)
        path.write_text(json.dumps({"names": names, "told": told}))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
