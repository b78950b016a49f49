"""Finds the task files of a workspace, and checks them together."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import attrs

from taskorch.ext.task_files._config import WorkspaceConfig
from taskorch.ext.task_files._fields import Problem
from taskorch.ext.task_files._layout import WorkspaceLayout, by_numbers
from taskorch.ext.task_files._task_file import HeldByFile, TaskFile, read_task_file
from taskorch.kit.checks import find_ring
from taskorch.kit.located import FilePlace, Located
from taskorch.kit.vocabulary import guess
from taskorch.model.ids import (
    folder_of,
    has_segments,
    id_problem,
    split_first,
    without_last,
)

#: Files of other kinds in the folder of tasks.
_NO_TASKS: Final = frozenset({"README.md", "TEMPLATE.md"})
_SUFFIX: Final = ".md"
#: Suffixes of Markdown in other tools, in small letters.
_OTHER_SUFFIXES: Final = (_SUFFIX, ".markdown", ".mdown", ".mkd", ".mdx")
#: Ends that a folder may not have: files of other tasks have such names.
_TAKEN: Final = (".json", ".log", ".pid")
#: The most rings that are told at once.
_MAX_RINGS: Final = 20


@attrs.frozen(slots=False)
class WorkspacePlan:
    """
    The tasks of a workspace, as their files say it now.

    Attributes:
        tasks: All that can be used, by id, phase by phase.
        after: The tasks that each waits for: those it names, and makers of its inputs.
        phases: The names of the phases in their order, each with the ids of its tasks;
            those that cannot be used are among them.
        problems: All that is wrong.
    """

    tasks: Mapping[str, TaskFile]
    after: Mapping[str, tuple[str, ...]]
    phases: Mapping[str, tuple[str, ...]]
    problems: tuple[Problem, ...]

    @cached_property
    def known(self) -> frozenset[str]:
        """The ids of all task files."""
        return frozenset(self.ids)

    def in_order(self, ids: Iterable[str]) -> list[str]:
        """*ids*, each after what it waits for; those that wait for each other last."""
        wanted = dict.fromkeys(ids)
        order: list[str] = []
        stack: list[tuple[str, bool]] = [(name, False) for name in reversed(wanted)]
        seen: set[str] = set()
        while stack:
            name, is_done = stack.pop()
            if is_done:
                order.append(name)
            elif name not in seen:
                seen.add(name)
                stack.append((name, True))
                others = self.after.get(name, ())
                stack += [(other, False) for other in others if other in wanted]
        return order

    def waits(self, other: str) -> str:
        """Return the reason why a task that waits for *other* does not begin."""
        note = "" if other in self.known else ", which does not exist"
        return f"it waits for {other}{note}"

    @cached_property
    def _behind(self) -> dict[str, list[str]]:
        behind: dict[str, list[str]] = {}
        for name, others in self.after.items():
            for other in others:
                behind.setdefault(other, []).append(name)
        return behind

    def held_up_by(self, task_id: str) -> set[str]:
        """Return the tasks that wait for a task, directly or not, or by phase."""
        held_up: set[str] = set()
        to_visit = [task_id]
        while to_visit:
            for name in self._behind.get(to_visit.pop(), ()):
                if name not in held_up:
                    held_up.add(name)
                    to_visit.append(name)
        ours = folder_of(task_id)
        for phase, ids in self.phases.items():
            if ours and by_numbers(phase) > by_numbers(ours):
                held_up.update(ids)
        return held_up - {task_id}

    @property
    def ids(self) -> list[str]:
        """The ids of all task files, those that cannot be used included."""
        return [task_id for ids in self.phases.values() for task_id in ids]


class Scanner:
    """Reads the task files of a workspace; asked again, only those that changed."""

    def __init__(self, layout: WorkspaceLayout, config: WorkspaceConfig) -> None:
        self._layout = layout
        self._config = config
        #: Folders of phases in which there is no task yet.
        self._empty: list[str] = []
        #: By task id: a stamp that changes with the file, the task, and its problems.
        self._known: dict[
            str, tuple[tuple[int, ...], TaskFile | None, list[Problem]]
        ] = {}
        self._plan: WorkspacePlan | None = None

    def scan(self) -> WorkspacePlan:
        """The tasks as they are now: the same plan, if nothing has changed."""
        problems: list[Problem] = []
        earlier, empty = self._known, self._empty
        self._known, self._empty = {}, []
        for task_id, shown, entry in sorted(self._walk(problems), key=_place):
            try:
                info = entry.stat()
            except OSError as error:
                message = f"this file cannot be read: {error.strerror or error}"
                problems.append(Problem(shown, 1, 1, message))
                continue
            stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
            if task_id in earlier and earlier[task_id][0] == stamp:
                self._known[task_id] = earlier[task_id]
                continue
            task_problems: list[Problem] = []
            task = self._read(task_id, shown, entry, task_problems)
            self._known[task_id] = (stamp, task, task_problems)
        if (
            self._plan is None
            or problems
            or list(earlier) != list(self._known)
            or empty != self._empty
            or any(earlier[name] is not it for name, it in self._known.items())
        ):
            self._plan = self._together(problems)
        return self._plan

    def _walk(
        self, problems: list[Problem]
    ) -> Iterator[tuple[str, str, os.DirEntry[str]]]:
        """All task files: the id, the path that is shown, and the entry."""
        tasks = self._layout.tasks
        folders = [(self._layout.root / tasks, "")]
        while folders:
            folder, prefix = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError as error:
                shown = f"{tasks}/{prefix}".rstrip("/")
                message = f"this folder cannot be read: {error.strerror or error}"
                if isinstance(error, FileNotFoundError) and not prefix:
                    message = (
                        "there is no such folder: taskorch workspace init makes it"
                    )
                problems.append(Problem(shown, 1, 1, message))
                continue
            if "/" not in prefix.rstrip("/") and all(map(_is_no_task, entries)):
                self._empty += [prefix[:-1]] if id_problem(prefix[:-1]) is None else []
            for entry in entries:
                name = entry.name
                if _is_no_task(entry):
                    continue
                shown = f"{tasks}/{prefix}{name}"
                unusable = _unusable(entry)
                if unusable is not None:
                    problems.append(Problem(shown, 1, 1, unusable))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append((folder / name, f"{prefix}{name}/"))
                elif name.endswith(_SUFFIX):
                    yield f"{prefix}{name.removesuffix(_SUFFIX)}", shown, entry

    def _read(
        self,
        task_id: str,
        shown: str,
        entry: os.DirEntry[str],
        problems: list[Problem],
    ) -> TaskFile | None:
        problem = id_problem(task_id)
        if problem is None and not entry.is_file():
            problem = "this is no file"
        if problem is None and entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(os.path.realpath(self._layout.root)):
                problem = "this link leads out of the workspace: copy the file here"
        if problem is not None:
            shown = shown.encode(errors="replace").decode()
            problems.append(Problem(shown, 1, 1, problem))
            return None
        return read_task_file(Path(entry.path), task_id, shown, problems)

    # -- what they mean together ---------------------------------------------------

    def _together(self, problems: list[Problem]) -> WorkspacePlan:
        phases: dict[str, list[str]] = {name: [] for name in self._empty}
        tasks: dict[str, TaskFile] = {}
        for task_id, (_, task, task_problems) in self._known.items():
            phases.setdefault(folder_of(task_id), []).append(task_id)
            problems += task_problems
            if task is not None:
                tasks[task_id] = task
        stopped = set(self._alike(problems))
        after = {name: _after(task, self._known) for name, task in tasks.items()}
        for task in tasks.values():
            problems += self._check(task)
            problems += _check_edges(task, after[task.task_id], tasks, self._known)
        wrong = {problem.path for problem in problems if problem.stops}
        stopped |= {name for name, task in tasks.items() if task.path in wrong}
        stopped |= _rings(tasks, after, problems)
        return WorkspacePlan(
            {name: task for name, task in tasks.items() if name not in stopped},
            after,
            {phase: tuple(phases[phase]) for phase in sorted(phases, key=by_numbers)},
            tuple(sorted(problems)),
        )

    def _alike(self, problems: list[Problem]) -> Iterator[str]:
        """Ids that are one to a disk that does not tell capitals from small letters."""
        seen: dict[str, str] = {}
        for task_id in self._known:
            first = seen.setdefault(task_id.casefold(), task_id)
            if first != task_id:
                message = f"but for capital letters this is {first!r} too: rename one"
                path = self._layout.task_file(task_id)
                problems.append(Problem(path, 1, 1, message))
                yield from (first, task_id)

    def _check(self, task: TaskFile) -> Iterator[Problem]:
        """Check what a task asks for against what the workspace has."""
        config = self._config
        most = config.limits.max_cpu_per_agent
        if task.cpu > most:
            message = f"{task.cpu:g} CPUs: one agent has {most:g}"
            yield task.problem("resources", message)
        most = config.limits.max_memory_mb / 1024
        if task.memory_mb / 1024 > most:
            message = f"{task.memory_mb / 1024:g} GB of memory: one agent has {most:g}"
            yield task.problem("resources", message)
        if task.resources.disk_mb and not config.limits.enforce:
            message = "disk_mb is not held: limits: {enforce: true} holds it"
            yield task.problem("resources", message, stops=False)
        agents = config.programs
        if task.agent is not None and task.agent not in agents:
            choices = ", ".join(map(repr, agents))
            message = f"there is no agent {task.agent!r}, only {choices}"
            yield task.problem("agent", message + guess(task.agent, agents))
        else:
            named = agents.values() if task.agent is None else [agents[task.agent]]
            wanted = set(task.capability)
            if not any(wanted.issubset(agent.capabilities) for agent in named):
                names = ", ".join(task.capability)
                who = "no agent" if task.agent is None else f"agent {task.agent!r}"
                message = f"{who} in workspace.yaml has the capability {names}"
                yield task.problem("capability", message)
        yield from _check_budget(config, task)


def _check_budget(config: WorkspaceConfig, task: TaskFile) -> Iterator[Problem]:
    budgets, name = config.budgets, config.budget_of(task)
    if name is not None and name not in budgets.totals:
        # What the settings name was checked there.
        if name == task.budget:
            message = f"there is no budget {name!r} in workspace.yaml: "
            message += ", ".join(budgets.totals) or "declare it under budgets"
            yield task.problem("budget", message + guess(name, budgets.totals))
        return
    place = FilePlace(task.path, 1, 1)
    for word in task.resources.spends:
        problem = budgets.problem(Located(word, place), HeldByFile, name)
        if problem is not None:
            yield task.problem(f"resources/{word}", f"resources: {problem}")


def _is_no_task(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(".") or entry.name in _NO_TASKS


def _unusable(entry: os.DirEntry[str]) -> str | None:
    """Return why a file or folder among the tasks cannot be used, or None."""
    name = entry.name
    if entry.is_dir(follow_symlinks=False):
        is_taken = name.endswith(_TAKEN)
        return "the name of a folder may not end so: rename it" if is_taken else None
    if entry.is_symlink() and entry.is_dir():
        return "a link to a folder is not followed: copy its files here"
    if not name.endswith(_SUFFIX) and name.lower().endswith(_OTHER_SUFFIXES):
        return f"this is no task file: the name of one ends with {_SUFFIX}"
    return None


def _place(row: tuple[str, str, os.DirEntry[str]]) -> tuple[Any, Any]:
    """Phases in the order of their names, what is in none first."""
    first, rest = split_first(row[0])
    return by_numbers(folder_of(row[0])), by_numbers(rest or first)


def _after(task: TaskFile, task_ids: Mapping[str, object]) -> tuple[str, ...]:
    """Return the tasks that a task waits for: those it names, and makers of inputs."""
    makers = (maker_of(path, task_ids) for path in task.inputs)
    named = [*task.dependencies, *(maker for maker in makers if maker)]
    return tuple(dict.fromkeys(named))


def maker_of(path: str, task_ids: Container[str]) -> str | None:
    """The task in whose folder of outputs the file *path* is."""
    while has_segments(path):
        path = without_last(path)
        if path in task_ids:
            return path
    return None


def _check_edges(
    task: TaskFile,
    after: tuple[str, ...],
    tasks: Mapping[str, TaskFile],
    task_ids: Mapping[str, object],
) -> Iterator[Problem]:
    """Check what a task waits for."""
    for name, texts in task.rest.items():
        ids = (text.removesuffix(_SUFFIX) for text in sorted(texts))
        named = [each for each in ids if each in task_ids and each != task.task_id]
        if named:
            message = f"{name} names {', '.join(named)}, and is not looked at: what a "
            message += "task waits for stands under `dependencies`"
            yield task.problem(name, message, stops=False)
    for path in task.inputs:
        maker = tasks.get(maker_of(path, task_ids) or "")
        if maker is None or not maker.outputs:
            continue
        name = path.removeprefix(f"{maker.task_id}/")
        if name not in maker.outputs:
            message = f"{name!r} is none of the outputs of {maker.task_id}: "
            message += ", ".join(maker.outputs[:10])
            yield task.problem(f"inputs/{path}", message, stops=False)
    for other in after:
        place = f"dependencies/{other}"
        if other == task.task_id:
            yield task.problem(place, "a task cannot wait for itself")
        elif other not in task_ids:
            near = guess(other, task_ids) or "; it waits until there is"
            message = f"there is no task {other!r}{near}"
            yield task.problem(place, message, stops=False)
        elif _is_later(other, task.phase):
            message = f"{other!r} is in a later phase, which waits for this one"
            yield task.problem(place, message)


def _is_later(other: str, phase: str) -> bool:
    """Return whether the task *other* is in a phase after *phase*."""
    theirs = folder_of(other)
    is_in_phases = bool(phase and theirs)
    return is_in_phases and by_numbers(theirs) > by_numbers(phase)


def _rings(
    tasks: Mapping[str, TaskFile],
    after: Mapping[str, tuple[str, ...]],
    problems: list[Problem],
) -> set[str]:
    """Tasks that wait for each other; each ring is noted once."""
    waiting = {
        name: [other for other in after[name] if other in tasks and other != name]
        for name in tasks
    }
    stopped: set[str] = set()
    for _ in range(_MAX_RINGS):
        ring = find_ring(waiting)
        if not ring:
            break
        ring = (*ring, ring[0])
        message = f"these tasks wait for each other: {' → '.join(ring)}"
        place = f"dependencies/{ring[1]}"
        problems.append(tasks[ring[0]].problem(place, message))
        stopped.update(ring)
        for name in ring:
            waiting.pop(name, None)
    return stopped
