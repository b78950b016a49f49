"""Shards: the files of a task in parts of about the same length."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heapreplace
from pathlib import Path
from statistics import mean
from typing import Any, Final

import attrs

from taskorch.errors import InvalidTaskError
from taskorch.ext.suites._criteria import Criteria
from taskorch.ext.suites._folder import History, RunFolder, kept_in, write_json
from taskorch.ext.suites._judging import Counts, CriteriaNotMetError, judge
from taskorch.ext.suites._model import Suite, SuiteTask, Template, template_of
from taskorch.ext.suites._placeholders import ARGUMENTS, arguments_of, filled
from taskorch.ext.suites._process import SuiteProcess
from taskorch.ext.suites._results import ResultsError, read_pytest
from taskorch.ext.suites._tasks import shard_ids
from taskorch.ext.suites._whole import combine, measures_of
from taskorch.kit.words import fill

#: pytest's exit code where it finds no tests.
_NO_TESTS: Final = 5
#: The options with which pytest only collects tests.
_COLLECT: Final = ("--collect-only", "-qq")
#: Files in the folder of the tests, or above, that say what pytest collects.
_SAYS: Final = (
    *("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"),
    *("pyproject.toml", "tox.ini", "setup.cfg", "conftest.py"),
)


def sharded(suite: Suite, folder: RunFolder) -> Suite:
    """
    The suite with the shards of its tasks as their subtasks.

    Which files are in which shard is kept in the folder, so that a run that goes on
    has the same shards. Durations that earlier runs have recorded decide; without
    them, the number of tests in a file.

    Raises:
        InvalidTaskError: pytest cannot say which files there are.
    """
    if all(task.shards == 1 for task in suite.tasks):
        return suite
    kept: dict[str, Any] = kept_in(folder.shards)
    history = History.read(folder.history)
    processes: dict[str, SuiteProcess] = {}

    def split(task: SuiteTask, template: Template) -> SuiteTask:
        if not isinstance(kept.get(task.id), dict):
            python = template.python
            process = processes.setdefault(python, SuiteProcess(python))
            shards = _dealt(task, template, folder, history, process)
            # Version 0.1.0 has kept the files alone.
            kept[task.id] = shards | {"files": kept.get(task.id, shards["files"])}
        return _split(task, **kept[task.id])

    try:
        suite = _with_each(suite, split)
    finally:
        for process in processes.values():
            process.close()
    write_json(folder.shards, kept)
    return suite


def shards_of(suite: Suite) -> Suite:
    """Return *suite* with its tasks as shards, before files are dealt to them."""
    return _with_each(suite, lambda task, _: _split(task, [[]] * task.shards, []))


def _with_each(
    suite: Suite, split: Callable[[SuiteTask, Template], SuiteTask]
) -> Suite:
    """Return *suite* with each task that has shards replaced by *split*."""

    def changed(task: SuiteTask) -> SuiteTask:
        template = template_of(suite, task)
        if task.shards == 1 or template is None:
            return task
        return split(task, template)

    phases = (
        attrs.evolve(phase, tasks=tuple(map(changed, phase.tasks)))
        for phase in suite.phases
    )
    return attrs.evolve(suite, phases=tuple(phases))


def _split(
    task: SuiteTask, files: Sequence[list[str]], options: list[str]
) -> SuiteTask:
    """The task with a subtask for each list of *files*; all have the *options*."""
    # The rate is that of all shards together: see `judged`.
    criteria = attrs.evolve(
        task.criteria,
        pass_rate=None if task.criteria.pass_rate is None else 0.0,
        coverage=None,
        execution_time_max=None,
    )
    parts = tuple(
        attrs.evolve(
            task,
            id=name,
            name=f"{task.name} {name}",
            dependencies=(),
            criteria=criteria,
            arguments=(*pile, *options),
            shards=1,
        )
        for name, pile in zip(shard_ids(task), files, strict=False)
    )
    return attrs.evolve(task, subtasks=parts)


def _dealt(
    task: SuiteTask,
    template: Template,
    folder: RunFolder,
    history: History,
    process: SuiteProcess,
) -> dict[str, list[Any]]:
    """
    The files of a task in as many lists as it has shards, of about one length.

    Returns:
        These `files`, and the `options`: the other words among its arguments.

    Raises:
        InvalidTaskError: It names no files, or single tests.
    """
    collected = _collected(task, template, folder, process)
    words = arguments_of(task, template)
    before = template.pytest or ()
    first = before.index(ARGUMENTS) if ARGUMENTS in before else len(before)
    # As pytest itself has read the command: an option's value may be a path, too.
    places = [place - first - len(_COLLECT) for place in collected["paths"]]
    if not places or any(
        place not in range(len(words)) or "::" in words[place] for place in places
    ):
        msg = f"{task.id} has shards, and its arguments name no files and folders alone"
        raise InvalidTaskError(
            msg, hint="arguments: [tests], and no path in the template"
        )
    times: dict[str, float] = {}
    for name, seconds in history.tests.items():
        file = name.partition("::")[0]
        times[file] = times.get(file, 0.0) + seconds
    usual = mean(history.tests.values()) if history.tests else 1.0
    collected_files: Mapping[str, tuple[str, int]] = collected["files"]
    weights = {
        os.path.relpath(path, template.cwd): times.get(name, usual * count)
        for name, (path, count) in collected_files.items()
        if count
    }
    files = dealt(weights, task.shards)
    # No shard has these alone: it would have no tests.
    files[0] += [
        os.path.relpath(path, template.cwd)
        for path, count in collected_files.values()
        if not count
    ]
    options = [word for place, word in enumerate(words) if place not in places]
    return {"files": files, "options": options}


def dealt(weights: Mapping[str, float], count: int) -> list[list[str]]:
    """
    Deal the names in *weights* to at most *count* piles of about the same weight.

    The heaviest come first, each onto the lightest pile; in a pile, they stand as
    they are named.
    """
    piles: list[tuple[float, int]] = [(0.0, n) for n in range(count)]
    heapify(piles)
    of: dict[str, int] = {}
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        weight, number = piles[0]
        of[name] = number
        heapreplace(piles, (weight + weights[name], number))
    ordered = [[name for name in weights if of[name] == n] for n in range(count)]
    return [pile for pile in ordered if pile]


def _collected(
    task: SuiteTask, template: Template, folder: RunFolder, process: SuiteProcess
) -> dict[str, Any]:
    """The `files` that pytest finds for a task, or did last time, and their `paths`."""
    results = (folder.artifacts / f"{task.id}.collected.jsonl").resolve()
    log = folder.logs / f"{task.id}.collected.log"
    names = {"id": task.id, "name": task.name, "artifacts": str(folder.artifacts)}
    words = arguments_of(task, template)
    job: dict[str, Any] = {
        "kind": "pytest",
        "args": [*_COLLECT, *filled(template.pytest or (), names, words)],
        "is_to_split": True,
        "cwd": str(template.cwd),
        "env": {name: fill(text, names) for name, text in template.env.items()},
        "log": str(log.resolve()),
        "results": str(results),
        "coverage": [],
    }
    mark = _mark(job, template, words)
    kept = kept_in(folder.collected)
    collected = kept.get(task.id)
    if not isinstance(collected, dict) or collected.get("mark") != mark:
        collected = {"mark": mark, **_collect(task, job, process)}
        write_json(folder.collected, {**kept, task.id: collected})
    return collected


def _mark(job: Mapping[str, Any], template: Template, words: Iterable[str]) -> str:
    """
    Stands for all that decides which tests there are, as far as files say it.

    That is what is asked, every file below what the arguments name, the settings of
    pytest, and when something was installed last.
    """
    python = Path(template.python)
    variables = {n: text for n, text in os.environ.items() if n.startswith("PYTEST")}
    asked = [job["args"], job["cwd"], job["env"], str(python), variables]
    places = [
        *(
            (up / name)
            for up in (template.cwd, *template.cwd.parents)
            for name in _SAYS
        ),
        *python.parent.parent.glob("lib/python*/site-packages"),
    ]
    for word in words:
        place = template.cwd / word
        if place.is_file():
            places.append(place)
        for at, folders, files in os.walk(place):
            folders[:] = sorted(
                f for f in folders if f[0] != "." and f != "__pycache__"
            )
            places += [Path(at, file) for file in sorted(files)]
    seen = hashlib.sha256(json.dumps(asked).encode())
    for place in places:
        with suppress(OSError):
            status = place.stat()
            seen.update(os.fsencode(place))
            seen.update(f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def _collect(
    task: SuiteTask, job: Mapping[str, Any], process: SuiteProcess
) -> Mapping[str, Any]:
    """
    Have pytest collect the tests of a task.

    Raises:
        InvalidTaskError: It finds none, or fails.
    """
    results = Path(job["results"])
    ended = process.run(job, hear=lambda _: None, is_to_end=lambda: False, grace=1.0)
    collected: dict[str, Any] = {"files": {}, "paths": []}
    with suppress(ResultsError):
        pytest_results = read_pytest(results, 0.0)
        collected = {"files": pytest_results.files, "paths": pytest_results.paths}
    results.unlink(missing_ok=True)
    if not any(count for _, count in collected["files"].values()):
        none = ended["exit_code"] in (0, _NO_TESTS)
        why = "finds no tests" if none else f"exits with {ended['exit_code']}"
        msg = f"{task.id} cannot be split: pytest {why}"
        raise InvalidTaskError(msg, hint=f"see {job['log']}")
    return collected


def judged(parts: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """
    Return the results of a task, put together from the results of its shards.

    Raises:
        CriteriaNotMetError: That does not meet the criteria of the task.
    """
    measured = [Path(part["coverage_data"]) for part in parts]
    files = [path for path in measured if path.exists()]
    covered = None
    if files:
        target = files[0].with_name(f"{about['id']}_coverage.json")
        covered = combine(files, target, about["python"], Path(about["cwd"]))
    measures = attrs.evolve(measures_of(parts, covered), is_pytest=True)
    findings = judge(Criteria(**about["criteria"]), measures)
    bad = [finding.said for finding in findings if not finding.holds]
    if bad:
        raise CriteriaNotMetError("; ".join(bad))
    return {
        "task_id": about["id"],
        "counts": attrs.asdict(measures.counts or Counts()),
        "pass_rate": measures.pass_rate,
        "coverage": measures.coverage,
        "duration_seconds": measures.seconds,
    }


def about_of(task: SuiteTask, template: Template | None) -> dict[str, Any]:
    """Return the facts about a task that `judged` needs."""
    criteria = attrs.evolve(task.criteria, speedup_min=None, memory_efficiency=None)
    return {
        "id": task.id,
        "criteria": criteria.said(),
        "python": sys.executable if template is None else template.python,
        "cwd": "." if template is None else str(template.cwd),
    }
