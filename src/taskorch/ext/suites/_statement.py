"""
The in-toto statement on a run: the subject, the environment and the outcome.

Decision: waivers-and-audits.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import taskorch
from taskorch.errors import InvalidTaskError
from taskorch.ext.governance import sealed, statement_of
from taskorch.ext.governance._receipts import TEST_RESULT
from taskorch.ext.suites._folder import RunFolder, kept_in, write_json
from taskorch.ext.suites._model import Suite, Template, parts_of
from taskorch.ext.suites._report import SuiteReport
from taskorch.ext.suites._results import BAD
from taskorch.kit.canonical import canonical
from taskorch.kit.plain import plain, taken_apart
from taskorch.kit.staged import Staged

#: The most files that are hashed where no commit of git names the contents.
_MOST_FILES: Final = 20_000
#: Folders that runs and tools write, beside those that are hidden.
_WRITTEN: Final = ("__pycache__", "node_modules")
_WHY_NOT: Final = "no statement can say what was tested"
_ASK: Final = (
    "import json, platform; from importlib.metadata import distributions; "
    "print(json.dumps({'python': platform.python_version(), 'implementation': "
    "platform.python_implementation(), 'system': platform.platform(), 'packages': "
    "{d.name: d.version for d in distributions() if d.name}}))"
)


class Subject:
    """
    The subject of a run's statement: commits of git, or files with their hashes.

    It is taken before the run begins, kept in its folder, and compared at each process
    of the run and at its end: results of other files are no results of these.

    Args:
        suite: The suite, as it was loaded.
        folder: The folder of the run.

    Raises:
        InvalidTaskError: What is tested cannot be named: it has changed since the run
            began, the run began without a statement, or there are too many files.
    """

    def __init__(self, suite: Suite, folder: RunFolder) -> None:
        self._suite = suite
        self._own = folder.path.resolve()
        kept = kept_in(folder.subject)
        if not kept and folder.journal.exists():
            msg = f"the run in {folder.path} began without a statement: {_WHY_NOT}"
            raise InvalidTaskError(msg, hint="begin anew: --fresh")
        if not kept:
            folders = {template.cwd for template in _templates(suite).values()}
            parts = {
                path: digest for each in folders for path, digest in self._of(each)
            }
            kept = {"parts": sorted(parts.items(), key=lambda part: part[0])}
            if not parts:
                names = ", ".join(map(str, folders))
                msg = f"there are no files in {names}: {_WHY_NOT}"
                raise InvalidTaskError(msg)
            write_json(folder.subject, kept)
        #: Paths, with their digests.
        self._parts: list[tuple[str, dict[str, str]]] = list(kept["parts"])
        self.check()

    @property
    def descriptors(self) -> list[dict[str, Any]]:
        """Return the subject as the statement has it, with relative paths."""
        paths = [path for path, _ in self._parts]
        above = Path(os.path.commonpath(paths))
        above = above if len(paths) > 1 else above.parent
        return [
            {"name": Path(path).relative_to(above).as_posix(), "digest": digest}
            for path, digest in self._parts
        ]

    def check(self) -> None:
        """
        Refuse it if it is no longer what it was.

        Raises:
            InvalidTaskError: It is not.
        """
        for name, digest in self._parts:
            path = Path(name)
            if "gitCommit" in digest:
                is_so = _commit(path) == digest["gitCommit"] and not _edited(path)
            else:
                is_so = path.is_file() and _sha256(path) == digest["sha256"]
            if not is_so:
                msg = f"{name} has changed since the run began: {_WHY_NOT}"
                raise InvalidTaskError(msg, hint="begin anew: --fresh")

    def write(
        self, path: str | os.PathLike[str], report: SuiteReport, key: Any
    ) -> None:
        """
        Write the statement on a run that has ended; without a *key*, nothing signs it.

        Raises:
            InvalidTaskError: What was tested has changed meanwhile.
            OSError: The file cannot be written.
        """
        self.check()
        text = sealed(statement(self._suite, report, self.descriptors), key)
        Staged(path, text).commit()

    def _of(self, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the commit in *folder*, or its files if they differ from that."""
        root = _git(folder, "rev-parse", "--show-toplevel")
        commit = _commit(folder)
        if root and commit and not _edited(folder) and not any(self._added(Path(root))):
            yield root, {"gitCommit": commit}
            return
        for count, path in enumerate(self._files(folder.resolve())):
            if count >= _MOST_FILES:
                msg = f"{folder} has more than {_MOST_FILES:,} files: {_WHY_NOT}"
                raise InvalidTaskError(msg, hint="commit what is tested to git")
            yield str(path), {"sha256": _sha256(path)}

    def _added(self, root: Path) -> Iterator[str]:
        """Files that no commit has, and that git is not told to ignore."""
        names = _git(root, "ls-files", "-z", "--others", "--exclude-standard")
        for name in (names or "").split("\0"):
            if name and self._counts(root, root / name):
                yield name

    def _files(self, folder: Path) -> Iterator[Path]:
        for parent, names, files in os.walk(folder):
            here = Path(parent)
            names[:] = sorted(n for n in names if self._counts(folder, here / n))
            for name in sorted(files):
                path = here / name
                if self._counts(folder, path) and path.is_file():
                    yield path

    def _counts(self, root: Path, path: Path) -> bool:
        """Return whether people have written the file *path*."""
        is_own = path == self._own or self._own in path.parents
        parts = path.relative_to(root).parts
        return not is_own and not any(
            part.startswith(".") or part in _WRITTEN for part in parts
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commit(folder: Path) -> str | None:
    return _git(folder, "rev-parse", "HEAD")


def _edited(folder: Path) -> bool:
    """Return whether a file differs from the commit, or git cannot say."""
    return _git(folder, "status", "--porcelain", "--untracked-files=no") != ""


def _git(folder: Path, *words: str) -> str | None:
    """Return the answer of git, without the end of its line; None if it has none."""
    try:
        done = subprocess.run(  # noqa: S603 - git, by the user's path
            ["git", *words],  # noqa: S607
            cwd=folder,
            capture_output=True,
            check=False,
            text=True,
            errors="surrogateescape",
        )
    except OSError:
        return None
    return done.stdout.rstrip("\n") if not done.returncode else None


def _templates(suite: Suite) -> Mapping[str, Template]:
    used = {part.template for part in parts_of(suite)}
    return {name: each for name, each in suite.templates.items() if name in used}


def statement(
    suite: Suite, report: SuiteReport, descriptors: list[dict[str, Any]]
) -> dict[str, Any]:
    """
    The statement on a run that has ended, as JSON has it.

    Its type is https://in-toto.io/Statement/v1, and its predicate a test result. A run
    that passed although tests failed, or passed only in a later attempt, is `WARNED`.
    """
    flaky = {f"{task.id}: {name}" for task in report.tasks for name in task.flaky}
    passed, failed = [], []
    for task in report.tasks:
        if task.part_of:
            # The task that it is a part of has its tests.
            continue
        outcomes = [
            (f"{task.id}: {test['id']}", test["outcome"]) for test in task.tests
        ]
        passed += [name for name, outcome in outcomes if outcome in _PASSED]
        failed += [name for name, outcome in outcomes if outcome in (*BAD, "not_run")]
        if not outcomes or not task.has_passed:
            (passed if task.has_passed else failed).append(task.id)
    warned = [name for name in passed if name in flaky]
    is_clean = not failed and not warned
    predicate = {
        "result": ("PASSED" if is_clean else "WARNED") if report.passed else "FAILED",
        "configuration": [
            _descriptor("suite", _configuration(suite)),
            *(
                _descriptor(f"environment of {python}", _environment(python))
                for python in sorted({t.python for t in _templates(suite).values()})
            ),
        ],
        "passedTests": [name for name in passed if name not in flaky],
        "warnedTests": warned,
        "failedTests": failed,
    }
    return statement_of(descriptors, TEST_RESULT, predicate)


_PASSED: Final = ("passed", "xfailed", "xpassed")


def _descriptor(name: str, value: Any) -> dict[str, Any]:
    content = canonical(value)
    return {
        "name": name,
        "digest": {"sha256": hashlib.sha256(content).hexdigest()},
        "content": b64encode(content).decode(),
        "mediaType": "application/json",
    }


def _configuration(suite: Suite) -> dict[str, Any]:
    """Return commands, arguments and criteria, but no values of variables."""
    templates = {
        name: {
            **{
                key: plain(getattr(each, key))
                for key in ("pytest", "command", "results", "coverage", "python")
            },
            "cwd": str(each.cwd),
            "env": sorted(each.env),
        }
        for name, each in _templates(suite).items()
    }
    tasks = [
        {
            "id": part.id,
            "template": part.template,
            "arguments": plain(part.arguments),
            "timeout": part.timeout,
            "criteria": plain(taken_apart(part.criteria)),
        }
        for part in parts_of(suite)
    ]
    return {
        "name": suite.name,
        "version": suite.version,
        "templates": templates,
        "tasks": tasks,
    }


def _environment(python: str) -> dict[str, Any]:
    """Return the version of *python* and its packages; or that they are unknown."""
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter of the tests
            [python, "-c", _ASK], capture_output=True, check=True, text=True
        )
        environment: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        environment = {"unknown": f"{python} does not say what it is"}
    taskorch_is = f"{taskorch.__version__} on Python {sys.version.split()[0]}"
    return {**environment, "taskorch": taskorch_is}
